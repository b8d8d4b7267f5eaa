//! The records in a directory as `ottla log dump` prints them, in the lines of `compat/interop`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::node::binary;

/// What consumers of both isolation levels must see of partition 0 of each topic.
pub(super) fn expected(directory: &Path, topics: &[&str]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for isolation in ["read_uncommitted", "read_committed"] {
        for topic in topics {
            let partition = format!("{topic}-0");
            let mut epoch = Value::Null;
            let mut time_type = Value::Null;
            for object in dump(&directory.join(&partition), ".log")? {
                if object["kind"] == "batch" {
                    epoch = object["leaderEpoch"].clone();
                    time_type = object["timestampType"].clone();
                } else if object["kind"] == "record" && object.get("control").is_none() {
                    // The values of aborted transactions say so themselves.
                    let aborted =
                        object["value"].as_str().is_some_and(|it| it.contains(" aborted "));
                    if !(aborted && isolation == "read_committed") {
                        let time_type = time_type.as_str().unwrap_or_default();
                        lines.push(line(isolation, &partition, time_type, &epoch, &object)?);
                    }
                }
            }
        }
    }
    Ok(lines)
}

/// What `ottla log dump` prints of the files with one ending in the directory of a partition.
pub(super) fn dump(partition: &Path, ending: &str) -> Result<Vec<Value>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(partition)
        .with_context(|| partition.display().to_string())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|path| path.to_string_lossy().ends_with(ending));
    files.sort();
    if files.is_empty() { Ok(Vec::new()) } else { dump_files(&files) }
}

/// What `ottla log dump` prints of some files.
pub(super) fn dump_files(files: &[PathBuf]) -> Result<Vec<Value>> {
    let said = Command::new(binary()?)
        .args(["log", "dump", "--records", "--decode", "none", "--format", "json"])
        .args(files)
        .output()?;
    ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    said.stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| Ok(serde_json::from_slice(line)?))
        .collect()
}

fn line(
    isolation: &str,
    partition: &str,
    time_type: &str,
    epoch: &Value,
    record: &Value,
) -> Result<String> {
    let (offset, timestamp) = (&record["offset"], &record["timestamp"]);
    let (key, value) = (hex(&record["key"]), hex(&record["value"]));
    let mut line = format!(
        "RECORD {isolation} {partition} {offset} {time_type} {timestamp} {epoch} {key} {value}"
    );
    for header in record["headers"].as_array().context("headers")? {
        let key = header["key"].as_str().context("the key of a header")?;
        line.push_str(&format!(" {key}={}", hex(&header["value"])));
    }
    Ok(line)
}

fn hex(bytes: &Value) -> String {
    if let Some(text) = bytes.as_str() {
        return format!("x{}", text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>());
    }
    bytes["hex"].as_str().map_or("null".to_owned(), |hex| format!("x{hex}"))
}
