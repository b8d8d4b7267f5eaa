//! Apache Kafka's own code on Ottla's files, and Ottla on Kafka's: `compat/interop`.
//!
//! - `kafka-dump-log` reads every kind of file that Ottla wrote, and says what `ottla log dump` says.
//! - What a real Kafka wrote, stopped cleanly or killed, is served by Ottla as Kafka served it.
//! - `ottla`'s scripts by Kafka's names print what Kafka's own print.
//! - What Ottla wrote, compaction included, is served by Kafka as Ottla serves it.
//!
//! Topics move without the metadata log: they are created on the other side, and the directories of their
//! partitions put in the place of the empty ones, with the topic id of the other side.

mod dump_log;
mod jvm;
mod kafka;
mod records;
mod scripts;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

pub(crate) use self::jvm::Jvm;
pub(crate) use self::kafka::Kafka;
use crate::node::{Node, Settings, binary};
use crate::program::Scratch;
use crate::tally::Tally;

const NAME: &str = "interop";
/// As `compat/interop` creates them.
const KAFKA_TOPICS: [&str; 6] =
    ["codecs", "segments", "appendtime", "disorder", "transactions", "compacted"];
/// As the example `every_file` of the storage crate makes them, and how they are created elsewhere.
const OTTLA_TOPICS: [&str; 6] = [
    "codecs",
    "disorder",
    "appendtime:message.timestamp.type=LogAppendTime",
    "reigns",
    "transactions",
    "compacted:cleanup.policy=compact",
];
/// Of `__consumer_offsets`, on both sides.
const OFFSETS_PARTITIONS: u32 = 3;

const CHECKPOINTS: [&str; 4] = [
    "recovery-point-offset-checkpoint",
    "log-start-offset-checkpoint",
    "replication-offset-checkpoint",
    "cleaner-offset-checkpoint",
];

/// Runs all of it, or the sessions of scripts alone.
pub(crate) fn run(tally: &mut Tally, only_scripts: bool) -> Result<()> {
    let jvm = match Jvm::prepare()? {
        Ok(jvm) => jvm,
        Err(missing) => {
            tally.skip(NAME, &missing);
            return Ok(());
        }
    };
    let scratch = Scratch::new(NAME)?;
    let interop = Interop { jvm, root: scratch.path().to_owned() };
    let outcome = interop.run(tally, only_scripts);
    if let Err(error) = outcome {
        tally.fail(NAME, &format!("{error:#}"));
    }
    Ok(())
}

struct Interop {
    jvm: Jvm,
    root: PathBuf,
}

impl Interop {
    fn run(&self, tally: &mut Tally, only_scripts: bool) -> Result<()> {
        let mut check = |name: &str, outcome: Result<String>| match outcome {
            Ok(what) => tally.pass(&format!("{NAME}: {name}: {what}")),
            Err(error) => tally.fail(&format!("{NAME}: {name}"), &format!("{error:#}")),
        };
        check("ottla's scripts say what Kafka's say", scripts::compare(&self.jvm, &self.root));
        if only_scripts {
            return Ok(());
        }
        let written = self.written_by_ottla()?;
        check("kafka-dump-log reads Ottla's files", dump_log::compare(&self.jvm, &written));
        let node = self.root.join("wire");
        check("kafka-dump-log reads a node's files", self.dump_node(&node));
        check("Kafka serves what Ottla wrote", self.ottla_to_kafka(&written));
        let kafka = self.root.join("kafka");
        check("Ottla serves what Kafka wrote", self.kafka_to_ottla(&kafka));
        check("and what a killed Kafka left", self.killed_kafka_to_ottla(&kafka));
        Ok(())
    }

    /// A directory with a file of every kind.
    fn written_by_ottla(&self) -> Result<PathBuf> {
        let directory = self.root.join("every_file");
        let status = Command::new("cargo")
            .args(["run", "--quiet", "--package", "ottla-storage", "--example", "every_file", "--"])
            .arg(&directory)
            .current_dir(crate::root())
            .status()?;
        ensure!(status.success(), "the example every_file failed");
        verify(&directory)?;
        Ok(directory)
    }

    /// The files of a node that served Java clients: metadata, consumer offsets, snapshots.
    fn dump_node(&self, folder: &Path) -> Result<String> {
        std::fs::create_dir_all(folder)?;
        let mut settings = settings();
        settings.set.push(("metadata.log.max.record.bytes.between.snapshots", "500".to_owned()));
        let node = Node::start(folder, &settings)?;
        self.jvm.client("write-plain", node.address(), &[])?;
        node.stop()?;
        let directory = folder.join("data");
        verify(&directory)?;
        dump_log::compare(&self.jvm, &directory)
    }

    fn ottla_to_kafka(&self, written: &Path) -> Result<String> {
        let topics =
            OTTLA_TOPICS.map(|topic| topic.split_once(':').map_or(topic, |(name, _)| name));
        let by_ottla = self.serve_with_ottla("ottla-own", &OTTLA_TOPICS, &topics, written, true)?;
        let folder = self.root.join("kafka-of-ottla");
        let kafka = Kafka::start(&self.jvm, &folder)?;
        self.jvm.client("create", kafka.address(), &OTTLA_TOPICS)?;
        kafka.stop()?;
        transplant_all(written, &kafka::data(&folder), &topics)?;
        let kafka = Kafka::start(&self.jvm, &folder)?;
        let by_kafka = self.jvm.client("read", kafka.address(), &topics)?;
        kafka.stop()?;
        let expected = records::expected(written, &topics)?;
        let records = |lines: &[String]| -> Vec<String> {
            lines.iter().filter(|line| line.starts_with("RECORD ")).cloned().collect()
        };
        same("Ottla and its own dump", &records(&by_ottla), &expected)?;
        same("Kafka and Ottla", &by_kafka, &by_ottla)?;
        Ok(format!("{} records", expected.len()))
    }

    fn kafka_to_ottla(&self, folder: &Path) -> Result<String> {
        let kafka = Kafka::start(&self.jvm, folder)?;
        self.jvm.client("write", kafka.address(), &[])?;
        kafka::await_compaction(&kafka::data(folder), "compacted 0 ")?;
        let by_kafka = self.jvm.client("read", kafka.address(), &KAFKA_TOPICS)?;
        kafka.stop()?;
        let directory = kafka::data(folder);
        verify(&directory)?;
        dump_log::compare(&self.jvm, &directory)?;
        let by_ottla =
            self.serve_with_ottla("ottla-clean", &[], &KAFKA_TOPICS, &directory, true)?;
        same("Ottla and Kafka", &by_ottla, &by_kafka)?;
        Ok(format!("{} lines", by_kafka.len()))
    }

    fn killed_kafka_to_ottla(&self, folder: &Path) -> Result<String> {
        let kafka = Kafka::start(&self.jvm, folder)?;
        self.jvm.client("write-more", kafka.address(), &[])?;
        let by_kafka = self.jvm.client("read", kafka.address(), &KAFKA_TOPICS)?;
        kafka.kill()?;
        let directory = kafka::data(folder);
        let by_ottla =
            self.serve_with_ottla("ottla-killed", &[], &KAFKA_TOPICS, &directory, false)?;
        same("Ottla and Kafka", &by_ottla, &by_kafka)?;
        Ok(format!("{} lines", by_kafka.len()))
    }

    /// What Ottla answers whose partitions lie in `directory`. Without `clean` it opens them as after a crash.
    fn serve_with_ottla(
        &self,
        name: &str,
        create: &[&str],
        topics: &[&str],
        directory: &Path,
        clean: bool,
    ) -> Result<Vec<String>> {
        let folder = self.root.join(name);
        std::fs::create_dir_all(&folder)?;
        let node = Node::start(&folder, &settings())?;
        self.jvm.client("create", node.address(), create)?;
        node.stop()?;
        let data = folder.join("data");
        transplant_all(directory, &data, topics)?;
        if !clean {
            std::fs::remove_file(data.join(".kafka_cleanshutdown"))?;
        }
        let node = Node::start(&folder, &settings())?;
        let lines = self.jvm.client("read", node.address(), topics)?;
        node.stop()?;
        verify(&data)?;
        Ok(lines)
    }
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.set.push(("offsets.topic.num.partitions", OFFSETS_PARTITIONS.to_string()));
    settings
}

/// `ottla log verify` has nothing to find fault with.
fn verify(directory: &Path) -> Result<()> {
    let said = Command::new(binary()?).args(["log", "verify"]).arg(directory).output()?;
    let text = String::from_utf8_lossy(&said.stdout);
    let errors = String::from_utf8_lossy(&said.stderr);
    ensure!(said.status.success(), "ottla log verify {}:\n{text}{errors}", directory.display());
    Ok(())
}

/// Puts partitions of one directory in the place of the same in another, and what the checkpoints say of them.
fn transplant_all(from: &Path, to: &Path, topics: &[&str]) -> Result<()> {
    for topic in topics {
        transplant(from, to, &format!("{topic}-0"))?;
    }
    for partition in 0..OFFSETS_PARTITIONS {
        let partition = format!("__consumer_offsets-{partition}");
        if from.join(&partition).is_dir() {
            transplant(from, to, &partition)?;
        }
    }
    for checkpoint in CHECKPOINTS {
        let file = from.join(checkpoint);
        if file.is_file() {
            std::fs::copy(&file, to.join(checkpoint))?;
        }
    }
    Ok(())
}

/// Puts a partition in the place of another, under the other's topic id.
fn transplant(from: &Path, to: &Path, partition: &str) -> Result<()> {
    let (from, to) = (from.join(partition), to.join(partition));
    let id = std::fs::read(to.join("partition.metadata"))
        .with_context(|| format!("{} has no topic id", to.display()))?;
    std::fs::remove_dir_all(&to)?;
    std::fs::create_dir(&to)?;
    for file in std::fs::read_dir(&from)? {
        let file = file?;
        std::fs::copy(file.path(), to.join(file.file_name()))?;
    }
    std::fs::write(to.join("partition.metadata"), id)?;
    Ok(())
}

/// Says where two accounts of the same part.
fn same(who: &str, first: &[String], second: &[String]) -> Result<()> {
    let short = |line: Option<&String>| -> String {
        line.map_or("nothing".to_owned(), |line| line.chars().take(300).collect())
    };
    let differ = (0..first.len().max(second.len())).find(|at| first.get(*at) != second.get(*at));
    let Some(at) = differ else { return Ok(()) };
    anyhow::bail!(
        "{who} part in line {} ({} and {} lines):\n  {}\n  {}",
        at + 1,
        first.len(),
        second.len(),
        short(first.get(at)),
        short(second.get(at))
    )
}
