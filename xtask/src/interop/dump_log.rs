//! `kafka-dump-log` and `ottla log dump` on the same files: both must say the same. So must
//! `ottla kafka-dump-log`, in the very same words.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::jvm::Jvm;
use super::records::dump_files;
use crate::node::binary;

/// What Kafka says of an index that fits its log.
const HARMLESS: [&str; 2] = ["Dumping ", " is empty."];

/// Compares every file in the partitions of `directory`; answers how much there was.
pub(super) fn compare(jvm: &Jvm, directory: &Path) -> Result<String> {
    let mut said = Vec::new();
    for (ending, print) in KINDS {
        let files = files(directory, ending)?;
        if files.is_empty() {
            continue;
        }
        let count = files.len();
        let lines = compare_kind(jvm, &files, print).with_context(|| format!("*{ending}"))?;
        said.push(format!("{count} {ending} ({lines} lines)"));
    }
    let by_name = same_words(jvm, directory)?;
    for ending in [".index", ".timeindex"] {
        check_index(jvm, &files(directory, ending)?).with_context(|| format!("*{ending}"))?;
    }
    decode(jvm, directory, "__consumer_offsets-", "--offsets-decoder")?;
    decode(jvm, directory, "__cluster_metadata-", "--cluster-metadata-decoder")?;
    ensure!(!said.is_empty(), "{} holds no files", directory.display());
    Ok(format!("{}, and by Kafka's name {by_name} lines", said.join(", ")))
}

/// Kinds of files, and what they are looked at with.
const LOOKS: [(&str, &[&str]); 12] = [
    (".log", &[]),
    (".log", &["--deep-iteration"]),
    (".log", &["--print-data-log"]),
    (".log", &["--print-data-log", "--skip-record-metadata", "--max-bytes", "20000"]),
    (".checkpoint", &["--cluster-metadata-decoder"]),
    (".index", &[]),
    (".index", &["--verify-index-only"]),
    (".index", &["--index-sanity-check"]),
    (".timeindex", &[]),
    (".timeindex", &["--index-sanity-check"]),
    (".txnindex", &[]),
    (".snapshot", &[]),
];
/// Topics, and the decoder of their records.
const DECODERS: [(&str, &str); 3] = [
    ("__consumer_offsets-", "--offsets-decoder"),
    ("__transaction_state-", "--transaction-log-decoder"),
    ("__cluster_metadata-", "--cluster-metadata-decoder"),
];

/// Kafka's script and ours of the same name print the same; answers how many lines.
fn same_words(jvm: &Jvm, directory: &Path) -> Result<usize> {
    let mut lines = 0;
    for (ending, options) in LOOKS {
        lines += same_words_of(jvm, &files(directory, ending)?, options)?;
    }
    for (partitions, decoder) in DECODERS {
        let logs = logs_of(directory, partitions)?;
        lines += same_words_of(jvm, &logs, &[decoder])?;
        lines += same_words_of(jvm, &logs, &[decoder, "--skip-record-metadata"])?;
    }
    Ok(lines)
}

fn same_words_of(jvm: &Jvm, files: &[PathBuf], options: &[&str]) -> Result<usize> {
    if files.is_empty() {
        return Ok(0);
    }
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let words = |mut command: Command| -> Result<(Option<i32>, String)> {
        let said = command.args(["--files", &names.join(",")]).args(options).output()?;
        let text = String::from_utf8(said.stdout).context("what is said is no text")?;
        Ok((said.status.code(), text))
    };
    let (their_end, theirs) = words(jvm.command("org.apache.kafka.tools.DumpLogSegments")?)?;
    let mut ours = Command::new(binary()?);
    ours.arg("kafka-dump-log");
    let (our_end, ours) = words(ours)?;
    let differ = theirs.lines().zip(ours.lines()).find(|(theirs, ours)| theirs != ours);
    ensure!(
        theirs == ours && their_end == our_end,
        "kafka-dump-log {} {}: ends with {their_end:?} and {our_end:?}, {} and {} lines\n  Kafka: {}\n  Ottla: {}",
        options.join(" "),
        names.join(","),
        theirs.lines().count(),
        ours.lines().count(),
        differ.map_or("", |(theirs, _)| theirs),
        differ.map_or("", |(_, ours)| ours)
    );
    Ok(ours.lines().count())
}

/// The logs of a topic's partitions that hold anything, snapshots included.
fn logs_of(directory: &Path, partitions: &str) -> Result<Vec<PathBuf>> {
    let mut logs = files(directory, ".log")?;
    logs.extend(files(directory, ".checkpoint")?);
    logs.retain(|file| {
        let within = file
            .parent()
            .and_then(Path::file_name)
            .is_some_and(|name| name.to_string_lossy().starts_with(partitions));
        within && std::fs::metadata(file).is_ok_and(|metadata| metadata.len() > 0)
    });
    Ok(logs)
}

/// How the lines of a log begin.
const LINES: [&str; 2] = ["| offset: ", "baseOffset: "];

type Print = fn(&Value, &mut Batch) -> Option<String>;

/// Kinds of files, and how Kafka prints one object of `ottla log dump`.
const KINDS: [(&str, Print); 6] = [
    (".log", batch_or_record),
    (".checkpoint", batch_or_record),
    (".index", |object, _| {
        Some(format!("offset: {} position: {}", object["offset"], object["logPosition"]))
    }),
    (".timeindex", |object, _| {
        Some(format!("timestamp: {} offset: {}", object["timestamp"], object["offset"]))
    }),
    (".txnindex", |object, _| {
        Some(format!(
            "version: {} producerId: {} firstOffset: {} lastOffset: {} lastStableOffset: {}",
            object["version"],
            object["producerId"],
            object["firstOffset"],
            object["lastOffset"],
            object["lastStableOffset"],
        ))
    }),
    (".snapshot", |object, _| {
        Some(format!(
            "producerId: {} producerEpoch: {} coordinatorEpoch: {} currentTxnFirstOffset: {} lastTimestamp: {}",
            object["producerId"],
            object["producerEpoch"],
            object["coordinatorEpoch"],
            optional(&object["currentTxnFirstOffset"]),
            object["lastTimestamp"],
        ))
    }),
];

/// The batch that the next records are in.
#[derive(Default)]
struct Batch {
    time_type: String,
    base_offset: i64,
    base_sequence: i64,
}

fn compare_kind(jvm: &Jvm, files: &[PathBuf], print: Print) -> Result<usize> {
    let theirs = kafka_dump_log(jvm, files, &["--deep-iteration", "--print-data-log"])?;
    let mut ours: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut batch = Batch::default();
    for object in dump_files(files)? {
        let file = object["file"].as_str().context("a file")?.to_owned();
        ours.entry(file).or_default().extend(print(&object, &mut batch));
    }
    let mut lines = 0;
    for file in files {
        let file = file.display().to_string();
        let (theirs, ours) = (
            theirs.get(&file).context("Kafka left a file out")?,
            ours.remove(&file).unwrap_or_default(),
        );
        lines += ours.len();
        ensure!(
            theirs.len() == ours.len(),
            "{file}: Kafka prints {} lines, Ottla {}:\n  {:?}\n  {:?}",
            theirs.len(),
            ours.len(),
            theirs.last(),
            ours.last()
        );
        // What is no text is left out at the end of our line, and so is what Kafka's says beyond.
        if let Some((theirs, ours)) =
            theirs.iter().zip(&ours).find(|(theirs, ours)| !theirs.starts_with(&**ours))
        {
            bail!("{file}:\n  Kafka: {theirs}\n  Ottla: {ours}");
        }
    }
    Ok(lines)
}

fn batch_or_record(object: &Value, batch: &mut Batch) -> Option<String> {
    if object["kind"] != "batch" {
        return record(object, batch);
    }
    *batch = Batch {
        time_type: text(&object["timestampType"]),
        base_offset: number(&object["baseOffset"]),
        base_sequence: number(&object["baseSequence"]),
    };
    let field = |name: &str| object[name].to_string();
    Some(
        [
            format!("baseOffset: {} lastOffset: {}", field("baseOffset"), field("lastOffset")),
            format!("count: {} baseSequence: {}", field("count"), field("baseSequence")),
            format!("lastSequence: {}", field("lastSequence")),
            format!("producerId: {}", field("producerId")),
            format!("producerEpoch: {}", field("producerEpoch")),
            format!("partitionLeaderEpoch: {}", field("leaderEpoch")),
            format!("isTransactional: {}", field("isTransactional")),
            format!("isControl: {}", field("isControl")),
            format!("deleteHorizonMs: {}", optional(&object["deleteHorizon"])),
            format!("position: {}", field("position")),
            format!("{}: {}", batch.time_type, field("maxTimestamp")),
            format!("size: {} magic: 2", field("size")),
            format!("compresscodec: {}", text(&object["compression"])),
            format!("crc: {} isvalid: true", field("crc")),
        ]
        .join(" "),
    )
}

fn record(object: &Value, batch: &Batch) -> Option<String> {
    let sequence = match batch.base_sequence {
        -1 => -1,
        base => base + number(&object["offset"]) - batch.base_offset,
    };
    let headers: Vec<String> =
        object["headers"].as_array()?.iter().map(|header| text(&header["key"])).collect();
    let mut line = format!(
        "| offset: {} {}: {} keySize: {} valueSize: {} sequence: {sequence} headerKeys: [{}]",
        object["offset"],
        batch.time_type,
        object["timestamp"],
        size(&object["key"]),
        size(&object["value"]),
        headers.join(","),
    );
    if let Some(control) = object["control"].as_str() {
        if ["commit", "abort"].contains(&control) {
            let (end, epoch) = (control.to_uppercase(), &object["coordinatorEpoch"]);
            line.push_str(&format!(" endTxnMarker: {end} coordinatorEpoch: {epoch}"));
        }
        return Some(line);
    }
    for (name, bytes) in [("key", &object["key"]), ("payload", &object["value"])] {
        match bytes.as_str() {
            // Their line ends within a record are put together again without them.
            Some(text) => line.push_str(&format!(" {name}: {}", text.replace(['\n', '\r'], ""))),
            None if bytes.is_null() => {}
            None => break,
        }
    }
    Some(line)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

fn optional(value: &Value) -> String {
    if value.is_null() { "OptionalLong.empty".to_owned() } else { format!("OptionalLong[{value}]") }
}

/// Bytes of a key or value; -1 for null.
fn size(bytes: &Value) -> i64 {
    match (bytes.as_str(), bytes["hex"].as_str()) {
        (Some(text), _) => text.len() as i64,
        (None, Some(hex)) => hex.len() as i64 / 2,
        (None, None) => -1,
    }
}

/// Kafka's own check of indexes against their logs.
fn check_index(jvm: &Jvm, files: &[PathBuf]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    for option in ["--verify-index-only", "--index-sanity-check"] {
        let said = run(jvm, files, &[option])?;
        let bad = said.iter().find(|line| {
            !HARMLESS.iter().any(|harmless| line.contains(harmless))
                && !line.ends_with("passed sanity check.")
        });
        ensure!(bad.is_none(), "{option}: {}", said.join("\n"));
    }
    Ok(())
}

/// Kafka's decoders read the records of its internal topics.
fn decode(jvm: &Jvm, directory: &Path, partitions: &str, decoder: &str) -> Result<()> {
    let files = logs_of(directory, partitions)?;
    if files.is_empty() {
        return Ok(());
    }
    let said = run(jvm, &files, &[decoder])?;
    let records: Vec<&String> = said.iter().filter(|line| line.starts_with("| offset")).collect();
    let undecoded = records.iter().find(|line| !line.contains(" {\"") && !line.contains(": {\""));
    ensure!(!records.is_empty() && undecoded.is_none(), "{decoder}: {undecoded:?}");
    Ok(())
}

/// What the tool prints, by file.
fn kafka_dump_log(
    jvm: &Jvm,
    files: &[PathBuf],
    options: &[&str],
) -> Result<BTreeMap<String, Vec<String>>> {
    let mut by_file: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut file = String::new();
    for line in run(jvm, files, options)? {
        let line = line.replace('\r', "");
        if let Some(name) = line.strip_prefix("Dumping ") {
            name.clone_into(&mut file);
            by_file.entry(file.clone()).or_default();
            continue;
        }
        let lines = by_file.entry(file.clone()).or_default();
        let aside = ["Log starting offset", "Snapshot end offset"];
        if aside.iter().any(|start| line.starts_with(start)) || line.ends_with(" is empty.") {
            continue;
        }
        match lines.last_mut() {
            // Bytes that are no text may have line ends within.
            Some(last)
                if last.starts_with("| ") && !LINES.iter().any(|it| line.starts_with(it)) =>
            {
                last.push_str(&line);
            }
            Some(_) | None => lines.push(line),
        }
    }
    Ok(by_file)
}

fn run(jvm: &Jvm, files: &[PathBuf], options: &[&str]) -> Result<Vec<String>> {
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let mut command = jvm.command("org.apache.kafka.tools.DumpLogSegments")?;
    command.args(["--files", &files.join(",")]).args(options);
    jvm.lines(command).context("kafka-dump-log")
}

/// The files with one ending in all partitions, by name.
fn files(directory: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for partition in std::fs::read_dir(directory)? {
        let partition = partition?.path();
        if !partition.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(&partition)? {
            let file = file?.path();
            if file.to_string_lossy().ends_with(ending) {
                found.push(file);
            }
        }
    }
    found.sort();
    Ok(found)
}
