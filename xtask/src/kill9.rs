//! Kills a node in mid-write, again and again, while an idempotent producer goes on; after each restart every
//! acknowledged record must be there, once and in order, and a group's committed offsets with them. The client is `compat/python/crash.py`.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::node::{Node, Settings};
use crate::program::{Running, Scratch, within};
use crate::tally::Tally;
use crate::toolchain::{Toolchain, python};

pub(crate) const ROUNDS: u32 = 20;
const NAME: &str = "kill9";
const TOPIC: &str = "crash";
/// As many as `compat/python/crash.py` makes.
const PARTITIONS: usize = 3;
/// How librdkafka says that a group has committed nothing.
const NOTHING_COMMITTED: i64 = -1001;
const STEP_SECONDS: u64 = 120;
/// So many more must be acknowledged between one crash and the next.
const RECORDS_PER_ROUND: i64 = 600;

pub(crate) fn run(tally: &mut Tally, rounds: u32) -> Result<()> {
    let program = match python("python/crash.py")? {
        Toolchain::Ready(program) => program,
        Toolchain::Missing(what) => {
            tally.skip(NAME, &what);
            return Ok(());
        }
    };
    match crash_often(&program, rounds) {
        Ok(acknowledged) => {
            tally.pass(&format!("{NAME}: {rounds} crashes, {acknowledged} records"))
        }
        Err(error) => tally.fail(NAME, &format!("{error:#}")),
    }
    Ok(())
}

fn crash_often(program: &[String], rounds: u32) -> Result<i64> {
    let scratch = Scratch::new(NAME)?;
    let mut settings = Settings::default();
    let mut node = Node::start(scratch.path(), &settings)?;
    // The producer knows one address, so the node must come back to it.
    settings.listeners = format!("PLAINTEXT://{}", node.address());
    let mut producer = Running::start(
        client(program, node.address(), "produce")
            .stdin(Stdio::piped())
            .stderr(File::create(log())?),
    )?;
    let mut acknowledged = Vec::new();
    let mut committed = vec![NOTHING_COMMITTED; PARTITIONS];
    for round in 1..=rounds {
        let goal = acknowledged.iter().sum::<i64>() + RECORDS_PER_ROUND;
        while acknowledged.iter().sum::<i64>() < goal {
            acknowledged = next_report(&producer).with_context(|| format!("round {round}"))?;
        }
        node.kill()?;
        node =
            Node::start(scratch.path(), &settings).with_context(|| format!("restart {round}"))?;
        committed = check(program, node.address(), &acknowledged, &committed)
            .with_context(|| format!("after crash {round}"))?;
    }
    // The end of its input is its sign to finish.
    drop(producer.child().stdin.take());
    let deadline = within(STEP_SECONDS);
    while let Some(line) = producer.line_before(deadline)? {
        if let Some(counts) = report(&line)? {
            acknowledged = counts;
        }
    }
    let status = producer.ended_before(deadline)?;
    ensure!(status.success(), "the producer ended with {status}");
    check(program, node.address(), &acknowledged, &committed).context("at the end")?;
    node.stop()?;
    Ok(acknowledged.iter().sum())
}

fn client(program: &[String], address: &str, action: &str) -> Command {
    let mut words = program.iter();
    let mut command = Command::new(words.next().map_or("python3", String::as_str));
    command.args(words).args([address, action, TOPIC]);
    command
}

/// Where the producer's own complaints go.
fn log() -> PathBuf {
    crate::root().join("target/xtask/kill9.log")
}

/// How many records of each partition the producer knows to be safe.
fn next_report(producer: &Running) -> Result<Vec<i64>> {
    let deadline = within(STEP_SECONDS);
    while let Some(line) = producer.line_before(deadline).context("waiting for the producer")? {
        if let Some(counts) = report(&line)? {
            return Ok(counts);
        }
    }
    bail!("the producer ended early: see {}", log().display())
}

fn report(line: &str) -> Result<Option<Vec<i64>>> {
    if let Some(failure) = line.strip_prefix("FAIL ") {
        bail!("the producer: {failure}");
    }
    let Some(counts) = line.strip_prefix("acknowledged ") else { return Ok(None) };
    Ok(Some(numbers(counts)?))
}

/// Answers what the group has committed now.
fn check(
    program: &[String],
    address: &str,
    acknowledged: &[i64],
    committed: &[i64],
) -> Result<Vec<i64>> {
    let list = |counts: &[i64]| counts.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
    let output = client(program, address, "check")
        .arg(list(acknowledged))
        .arg(list(committed))
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}{}", said.trim(), complained.trim());
    let counts = said.lines().find_map(|line| line.strip_prefix("committed "));
    let counts = counts.context("the check said nothing of what it committed")?;
    numbers(counts)
}

fn numbers(text: &str) -> Result<Vec<i64>> {
    Ok(text.split(' ').map(str::parse).collect::<Result<_, _>>()?)
}
