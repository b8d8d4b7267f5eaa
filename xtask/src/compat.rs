//! Stock clients against a node, and against three that are killed in turn: the programs in `compat/`.

mod broker;
mod kills;
mod through_faults;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};

use self::broker::Broker;
pub(crate) use self::through_faults::run as through_faults;
use crate::cluster::Cluster;
use crate::program::{Running, Scratch, exists, within};
use crate::seeds;
use crate::tally::Tally;
use crate::toolchain::{self, Toolchain};

/// For a whole program; each scenario has a shorter one of its own.
const PROGRAM_SECONDS: u64 = 900;
/// Of a log, when something failed.
const QUOTED_LINES: usize = 40;
const RESTART: &str = "commit-and-resume-after-restart";
/// One for each language in `toolchain`; a client of a language that is there already is one more line.
const CLIENTS: &[Client] = &[
    Client { name: "java-3.6.1", library: "kafka-clients 3.6.1", kind: Kind::Java("3.6.1") },
    Client { name: "java-4.4.0", library: "kafka-clients 4.4.0", kind: Kind::Java("4.4.0") },
    Client {
        name: "seeds",
        library: "kafka-clients 3.6.1, two published programs",
        kind: Kind::Seeds,
    },
    Client {
        name: "python",
        library: "confluent-kafka 2.16.1 (librdkafka)",
        kind: Kind::Python("python/scenarios.py"),
    },
    Client { name: "kcat", library: "kcat", kind: Kind::Kcat },
    Client {
        name: "franz-go",
        library: "franz-go 1.22.3, kadm 1.20.0",
        kind: Kind::Go("franz-go"),
    },
    Client { name: "sarama", library: "sarama 1.61.1", kind: Kind::Go("sarama") },
    Client { name: "kafka-go", library: "kafka-go 0.4.51", kind: Kind::Go("kafka-go") },
    Client { name: "kafkajs", library: "kafkajs 2.2.4", kind: Kind::Node("kafkajs.mjs") },
    Client {
        name: "confluent-node",
        library: "@confluentinc/kafka-javascript 1.10.1 (librdkafka)",
        kind: Kind::Node("confluent/driver.mjs"),
    },
    Client {
        name: "platformatic",
        library: "@platformatic/kafka 2.12.1",
        kind: Kind::Node("platformatic/driver.mjs"),
    },
    Client {
        name: "kafka-python",
        library: "kafka-python 3.0.12",
        kind: Kind::PythonDriver("python-drivers/kafka_python.py"),
    },
    Client {
        name: "aiokafka",
        library: "aiokafka 0.14.0",
        kind: Kind::PythonDriver("python-drivers/aio_kafka.py"),
    },
    Client { name: "rdkafka", library: "rdkafka 0.39.0 (librdkafka 2.12.1)", kind: Kind::Rdkafka },
    Client { name: "ottla", library: "ottla-client, this repository's own", kind: Kind::Rust },
];

struct Client {
    name: &'static str,
    library: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Java(&'static str),
    Seeds,
    /// A program and its `requirements.txt` beside it.
    Python(&'static str),
    Kcat,
    /// A program of the module in `compat/go`.
    Go(&'static str),
    /// A driver with a `requirements.txt` beside it.
    PythonDriver(&'static str),
    /// The driver in `compat/rust`.
    Rust,
    /// The driver in `compat/rdkafka`.
    Rdkafka,
    /// A driver in `compat/node`.
    Node(&'static str),
}

/// What one client's scenarios came to.
#[derive(Default)]
struct Results {
    passed: Vec<String>,
    failed: Vec<String>,
}

/// What clients meet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Against {
    Node,
    /// Apache Kafka: what fails there, asks for what no client may rely on.
    Kafka,
    /// Three nodes, of which one after the other is killed.
    Cluster,
}

/// The names of all clients.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    CLIENTS.iter().map(|client| client.name)
}

/// Runs the named clients or all, the scenarios with `scenario` in their names, and returns a table of what passed in
/// markdown.
pub(crate) fn run(
    tally: &mut Tally,
    clients: &[&str],
    scenario: &str,
    against: Against,
) -> Result<String> {
    let broker = match against {
        Against::Node => Broker::Ottla,
        Against::Kafka => Broker::kafka()?,
        Against::Cluster => Broker::Killed,
    };
    let chosen: Vec<&Client> = CLIENTS
        .iter()
        .filter(|known| clients.is_empty() || clients.contains(&known.name))
        .collect();
    let known: Vec<&str> = names().collect();
    ensure!(!chosen.is_empty(), "no such client; there are {}", known.join(", "));
    let mut table = String::from("| client | library | scenarios passed |\n|---|---|---|\n");
    let mut ready = Vec::new();
    for client in &chosen {
        match client.kind.toolchain() {
            Ok(_) if against != Against::Node && matches!(client.kind, Kind::Seeds) => {
                tally.skip(client.name, "it starts a node of its own");
            }
            Err(error) => tally.fail(client.name, &format!("{error:#}")),
            Ok(Toolchain::Missing(what)) => tally.skip(client.name, &what),
            Ok(Toolchain::Ready(program)) => ready.push((*client, program)),
        }
    }
    let mut tried = try_all(&ready, scenario, &broker)?;
    for client in chosen {
        let row = match tried.remove(client.name) {
            None => "none".to_owned(),
            Some(results) => {
                ensure!(results.count() > 0, "{} has no scenario {scenario}", client.name);
                let failed = results.failed.iter().map(|what| format!("{}: {what}", client.name));
                tally.add(results.passed.len(), failed);
                results.summary()
            }
        };
        writeln!(table, "| {} | {} | {row} |", client.name, client.library()?)?;
    }
    Ok(table)
}

/// Tries each with a node of its own. Clients mostly wait, so that two do so side by side; but a cluster that is killed all
/// the while is enough for one machine.
fn try_all(
    ready: &[(&'static Client, Vec<String>)],
    scenario: &str,
    broker: &Broker,
) -> Result<BTreeMap<&'static str, Results>> {
    crate::node::binary()?;
    let workers = if matches!(broker, Broker::Killed) { 1 } else { 2 };
    let queue = Mutex::new(ready.iter());
    let work = || {
        let mut tried = BTreeMap::new();
        loop {
            let next =
                queue.lock().map_err(|_| anyhow!("another client's thread has panicked"))?.next();
            let Some((client, program)) = next else { return anyhow::Ok(tried) };
            let begin = Instant::now();
            let mut results = Results::default();
            let scratch = Scratch::new(client.name)?;
            let place = (broker, scratch.path());
            if let Err(error) = client.run(program, scenario, place, &mut results) {
                results.fail(client.name, client.name, &format!("{error:#}"));
            }
            client.keep_node_log(scratch.path(), &results)?;
            println!("{}: {} in {} s", client.name, results.summary(), begin.elapsed().as_secs());
            tried.insert(client.name, results);
        }
    };
    let mut all = BTreeMap::new();
    std::thread::scope(|scope| {
        let working: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for worker in working {
            all.append(&mut worker.join().map_err(|_| anyhow!("a client's thread has panicked"))??);
        }
        Ok(all)
    })
}

impl Kind {
    fn toolchain(self) -> Result<Toolchain> {
        match self {
            Self::Java(version) => toolchain::java(version, "Main"),
            Self::Seeds => seeds::toolchain(),
            Self::Python(program) => toolchain::python(program),
            Self::Kcat => Ok(toolchain::kcat()),
            Self::Go(program) => toolchain::go(program),
            Self::PythonDriver(driver) => toolchain::python_driver(driver),
            Self::Rust => toolchain::rust(),
            Self::Rdkafka => toolchain::rdkafka(),
            Self::Node(driver) => toolchain::node(driver),
        }
    }
}

impl Client {
    fn run(
        &self,
        program: &[String],
        scenario: &str,
        (broker, scratch): (&Broker, &Path),
        results: &mut Results,
    ) -> Result<()> {
        File::create(self.log()).context("the client's log")?;
        if matches!(self.kind, Kind::Seeds) {
            // Starts a node of its own, in a network of its own.
            self.listen(program, (&[], &[]), results)?;
            return Ok(());
        }
        let node = broker.start(scratch)?;
        if scenario != RESTART {
            self.listen(program, (&[node.address(), scenario], &node.environment()), results)?;
        }
        if !RESTART.contains(scenario) {
            node.stop()?;
            return Ok(());
        }
        let run = format!("{}-{}", self.name, std::process::id());
        let mut before = Results::default();
        self.listen(
            program,
            (&[node.address(), "--before", &run], &node.environment()),
            &mut before,
        )?;
        results.failed.append(&mut before.failed);
        let node = node.restart(broker, scratch)?;
        self.listen(program, (&[node.address(), "--after", &run], &node.environment()), results)?;
        node.stop()?;
        Ok(())
    }

    /// The library it tests and its version.
    fn library(&self) -> Result<String> {
        if !matches!(self.kind, Kind::Kcat) || !exists("kcat") {
            return Ok(self.library.to_owned());
        }
        // Version 1.7.1 (JSON, Transactions, librdkafka 2.0.2 builtin.features=…)
        let said = Command::new("kcat").arg("-V").output()?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let after =
            |name: &str| Some(said.split_once(name)?.1.split_whitespace().next()?.to_owned());
        let versions = after("Version ").zip(after("librdkafka "));
        Ok(versions.map_or(self.library.to_owned(), |(kcat, librdkafka)| {
            format!("kcat {kcat} (librdkafka {librdkafka})")
        }))
    }

    /// What the node said, beside what the client said, if anything failed.
    fn keep_node_log(&self, scratch: &Path, results: &Results) -> Result<()> {
        if results.failed.is_empty() { Ok(()) } else { keep_node_logs(scratch, self.name) }
    }

    /// Where the client's own complaints go.
    fn log(&self) -> PathBuf {
        crate::root().join(format!("target/xtask/{}.log", self.name))
    }

    /// Runs a program and notes what it says of each scenario.
    fn listen(
        &self,
        program: &[String],
        (arguments, environment): (&[&str], &[(&str, String)]),
        results: &mut Results,
    ) -> Result<()> {
        let log = self.log();
        let (name, fixed) = program.split_first().context("an empty command")?;
        let mut running = Running::start(
            Command::new(name)
                .args(fixed)
                .args(arguments.iter().filter(|argument| !argument.is_empty()))
                .envs(environment.iter().map(|(name, value)| (name, value)))
                .stdin(Stdio::null())
                .stderr(File::options().create(true).append(true).open(&log)?),
        )?;
        let deadline = within(PROGRAM_SECONDS);
        let before = results.failed.len();
        let ended = loop {
            let begin = Instant::now();
            match running.line_before(deadline) {
                Ok(Some(line)) => {
                    println!("  {} {line} ({:.1} s)", self.name, begin.elapsed().as_secs_f32());
                    if let Some(name) = line.strip_prefix("PASS ") {
                        results.passed.push(name.to_owned());
                    } else if let Some(name) = line.strip_prefix("FAIL ") {
                        results.failed.push(name.to_owned());
                    }
                }
                Ok(None) => break running.ended_before(deadline),
                Err(error) => break Err(error),
            }
        };
        let well = ended.as_ref().is_ok_and(std::process::ExitStatus::success);
        if !well && results.failed.len() == before {
            let reason = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
            results.fail(self.name, self.name, &format!("the program ended early: {reason}"));
        }
        if !well {
            quote_end("the client", &log)?;
        }
        Ok(())
    }
}

/// Keeps what one node or several said in a folder that will be gone.
fn keep_node_logs(scratch: &Path, name: &str) -> Result<()> {
    let folders = std::iter::once(scratch.to_owned()).chain(Cluster::folders(scratch));
    for (folder, node) in folders.zip(["node", "node-1", "node-2", "node-3"]) {
        let said = folder.join("node.log");
        if said.is_file() {
            let kept = crate::root().join(format!("target/xtask/{name}.{node}.log"));
            std::fs::copy(said, &kept)?;
            quote_end(node, &kept)?;
        }
    }
    Ok(())
}

/// The end of a log that may not outlive the machine.
fn quote_end(who: &str, log: &Path) -> Result<()> {
    let said = String::from_utf8_lossy(&std::fs::read(log)?).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    println!("  what {who} said last, of {}:", log.display());
    for line in &lines[lines.len().saturating_sub(QUOTED_LINES)..] {
        println!("    {line}");
    }
    Ok(())
}

impl Results {
    fn fail(&mut self, client: &str, name: &str, reason: &str) {
        println!("  {client} FAIL {name}: {reason}");
        self.failed.push(format!("{name}: {reason}"));
    }

    fn count(&self) -> usize {
        self.passed.len() + self.failed.len()
    }

    fn summary(&self) -> String {
        let all = self.count();
        if self.failed.is_empty() {
            return format!("{all} of {all}");
        }
        let names: Vec<&str> =
            self.failed.iter().map(|line| line.split(':').next().unwrap_or(line)).collect();
        format!("{} of {all} (not {})", self.passed.len(), names.join(", "))
    }
}
