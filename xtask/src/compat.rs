//! Stock clients against a node: the programs in `compat/`.

mod broker;

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use self::broker::Broker;
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

/// Runs one client or all, one scenario or all, and returns a table of what passed in markdown. With `kafka` they run
/// against Apache Kafka: what fails there, asks for what no client may rely on.
pub(crate) fn run(
    tally: &mut Tally,
    client: Option<&&str>,
    scenario: Option<&&str>,
    kafka: bool,
) -> Result<String> {
    let broker = if kafka { Broker::kafka()? } else { Broker::Ottla };
    let chosen: Vec<&Client> =
        CLIENTS.iter().filter(|known| client.is_none_or(|name| known.name == *name)).collect();
    let names: Vec<&str> = CLIENTS.iter().map(|known| known.name).collect();
    ensure!(!chosen.is_empty(), "no such client; there are {}", names.join(", "));
    let mut table = String::from("| client | library | scenarios passed |\n|---|---|---|\n");
    for client in chosen {
        let row = match client.kind.toolchain() {
            Ok(_) if kafka && matches!(client.kind, Kind::Seeds) => {
                tally.skip(client.name, "it starts a node of its own");
                "skipped".to_owned()
            }
            Err(error) => {
                tally.fail(client.name, &format!("{error:#}"));
                "none".to_owned()
            }
            Ok(Toolchain::Missing(what)) => {
                tally.skip(client.name, &what);
                "skipped".to_owned()
            }
            Ok(Toolchain::Ready(program)) => {
                let scenario = scenario.map_or("", |name| name);
                let mut results = Results::default();
                let scratch = Scratch::new(client.name)?;
                let place = (&broker, scratch.path());
                if let Err(error) = client.run(&program, scenario, place, &mut results) {
                    results.fail(client.name, &format!("{error:#}"));
                }
                client.keep_node_log(scratch.path(), &results)?;
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

impl Kind {
    fn toolchain(self) -> Result<Toolchain> {
        match self {
            Self::Java(version) => toolchain::java(version),
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
        println!("{}:", self.name);
        File::create(self.log()).context("the client's log")?;
        if matches!(self.kind, Kind::Seeds) {
            // Starts a node of its own, in a network of its own.
            self.listen(program, (&[], None), results)?;
            return Ok(());
        }
        let node = broker.start(scratch)?;
        if scenario != RESTART {
            self.listen(program, (&[node.address(), scenario], node.metrics_url()), results)?;
        }
        if !RESTART.contains(scenario) {
            node.stop()?;
            return Ok(());
        }
        let run = format!("{}-{}", self.name, std::process::id());
        let mut before = Results::default();
        self.listen(program, (&[node.address(), "--before", &run], None), &mut before)?;
        results.failed.append(&mut before.failed);
        node.stop()?;
        let node = broker.start(scratch)?;
        self.listen(program, (&[node.address(), "--after", &run], None), results)?;
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
        let said = scratch.join("node.log");
        if !results.failed.is_empty() && said.is_file() {
            let kept = self.log().with_extension("node.log");
            std::fs::copy(said, &kept)?;
            quote_end("the node", &kept)?;
        }
        Ok(())
    }

    /// Where the client's own complaints go.
    fn log(&self) -> PathBuf {
        crate::root().join(format!("target/xtask/{}.log", self.name))
    }

    /// Runs a program and notes what it says of each scenario.
    fn listen(
        &self,
        program: &[String],
        (arguments, metrics_url): (&[&str], Option<&str>),
        results: &mut Results,
    ) -> Result<()> {
        let log = self.log();
        let (name, fixed) = program.split_first().context("an empty command")?;
        let mut running = Running::start(
            Command::new(name)
                .args(fixed)
                .args(arguments.iter().filter(|argument| !argument.is_empty()))
                .envs(metrics_url.map(|url| ("METRICS_URL", url)))
                .stdin(Stdio::null())
                .stderr(File::options().create(true).append(true).open(&log)?),
        )?;
        let deadline = within(PROGRAM_SECONDS);
        let before = results.failed.len();
        let ended = loop {
            match running.line_before(deadline) {
                Ok(Some(line)) => {
                    println!("  {line}");
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
            results.fail(self.name, &format!("the program ended early: {reason}"));
        }
        if !well {
            quote_end("the client", &log)?;
        }
        Ok(())
    }
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
    fn fail(&mut self, name: &str, reason: &str) {
        println!("  FAIL {name}: {reason}");
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
