//! The two published programs in `compat/java/seeds`, unchanged. They know one address, `localhost:9092`, so they and
//! their node get a network of their own where that port is free.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::node::{Node, Settings, binary};
use crate::program::{Running, Scratch, exists, within};
use crate::toolchain::{Toolchain, compile_java};

const ADDRESS: &str = "127.0.0.1:9092";
const PROGRAM_SECONDS: u64 = 90;
const WANTED: &str = "K = key1, V = value1";

/// This program again, inside such a network if one can be made.
pub(crate) fn toolchain() -> Result<Toolchain> {
    let project = crate::root().join("compat/java/seeds");
    if let Some(missing) = compile_java(&project, &[])? {
        return Ok(Toolchain::Missing(missing));
    }
    // Built out here, where there is a network.
    binary()?;
    let this = std::env::current_exe()?.display().to_string();
    let inside = "ip link set lo up && exec \"$0\" seeds-in-this-network";
    for options in [&["--net"][..], &["--user", "--map-root-user", "--net"]] {
        if exists("unshare") && exists("ip") && has_network(options)? {
            let mut command = vec!["unshare".to_owned()];
            command.extend(options.iter().map(|&option| option.to_owned()));
            command.extend(["sh", "-c", inside, &this].map(str::to_owned));
            return Ok(Toolchain::Ready(command));
        }
    }
    if TcpListener::bind(ADDRESS).is_err() {
        return Ok(Toolchain::Missing(format!(
            "{ADDRESS} is taken, and no other network can be made"
        )));
    }
    Ok(Toolchain::Ready(vec![this, "seeds-in-this-network".to_owned()]))
}

fn has_network(options: &[&str]) -> Result<bool> {
    let status = Command::new("unshare")
        .args(options)
        .args(["ip", "link", "set", "lo", "up"])
        .stderr(Stdio::null())
        .status()?;
    Ok(status.success())
}

/// Starts a node on the seeds' address and runs first the producer, then the consumer. Prints as the other clients do.
pub(crate) fn run_here() -> Result<bool> {
    let scratch = Scratch::new("seeds")?;
    let node = Node::start(
        scratch.path(),
        &Settings { listeners: format!("PLAINTEXT://{ADDRESS}"), ..Settings::default() },
    )?;
    let mut well = true;
    for (name, outcome) in [("seeds-producer", producer()), ("seeds-consumer", consumer())] {
        match outcome {
            Ok(()) => println!("PASS {name}"),
            Err(error) => {
                well = false;
                println!("FAIL {name}: {error:#}");
            }
        }
    }
    node.stop()?;
    Ok(well)
}

fn program(class: &str) -> Command {
    let target = crate::root().join("compat/java/seeds/target");
    let mut command = Command::new("java");
    command
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error")
        .arg("-cp")
        .arg(format!("{0}/classes:{0}/lib/*", target.display()))
        .arg(format!("com.atguigu.kafka.test.{class}"))
        .stdin(Stdio::null());
    command
}

/// It sends one record and looks at no answer, so all it can show is that it had nothing to complain of.
fn producer() -> Result<()> {
    let scratch = Scratch::new("seeds-producer")?;
    let said = scratch.path().join("stderr");
    let mut running =
        Running::start(program("KafkaProducerTest").stderr(std::fs::File::create(&said)?))?;
    let status = running.ended_before(within(PROGRAM_SECONDS))?;
    let said = std::fs::read_to_string(said)?;
    ensure!(status.success() && said.is_empty(), "it ended with {status} and said: {said}");
    Ok(())
}

/// It never ends, so it is ended when it has printed the record.
fn consumer() -> Result<()> {
    let mut running = Running::start(&mut program("KafkaConsumerTest"))?;
    let deadline = within(PROGRAM_SECONDS);
    while let Some(line) = running.line_before(deadline).context("waiting for the record")? {
        if line == WANTED {
            return running.kill();
        }
    }
    bail!("it ended before it printed the record")
}
