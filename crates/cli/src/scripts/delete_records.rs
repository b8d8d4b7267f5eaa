//! `kafka-delete-records`.

use std::collections::BTreeMap;
use std::path::Path;

use ottla_protocol::{Offset, TopicPartition};
use serde_json::Value;

use super::options::{COMMAND_CONFIG, Grammar, REQUIRED_SERVERS, value};
use super::{Outcome, Stop, java, json_file, say, target};

static GRAMMAR: Grammar = Grammar {
    about: "This tool helps to delete records of the given partitions down to the specified offset.",
    known: &[
        REQUIRED_SERVERS,
        value(
            &["offset-json-file"],
            "file",
            "REQUIRED: what to delete before which offset, as {\"partitions\": [{\"topic\": \"foo\", \"partition\": 1, \"offset\": 1}], \"version\": 1}; -1 is the end.",
        ),
        COMMAND_CONFIG,
    ],
};

pub(super) fn run(arguments: &[String]) -> Outcome {
    let options = GRAMMAR.parse(arguments)?;
    options.help_or_version()?;
    options.require(&["bootstrap-server", "offset-json-file"])?;
    target::block_on(async |env| {
        let file = options.value("offset-json-file")?.unwrap_or_default();
        let admin = target::connect(&env, &options).await?;
        let before = offsets(&env.disk.read(Path::new(file))?)?;
        say("Executing records delete operation")?;
        let answers = admin.delete_records(&before).await?;
        say("Records delete operation completed:")?;
        for (it, answer) in answers {
            match answer {
                Ok(start) => say(format!("partition: {it}\tlow_watermark: {start}"))?,
                Err(error) => say(format!("partition: {it}\terror: {}", java::exception(&error)))?,
            }
        }
        Ok(())
    })
}

fn offsets(text: &[u8]) -> Outcome<BTreeMap<TopicPartition, Offset>> {
    let json: Value = serde_json::from_slice(text)
        .map_err(|_no_json| Stop::failed("The input string is not a valid JSON"))?;
    json_file::check_version(&json).map_err(Stop::failed)?;
    let rows = json.get("partitions").and_then(Value::as_array);
    let rows = rows.ok_or_else(|| Stop::failed("Missing partitions field"))?;
    let mut offsets = BTreeMap::new();
    for row in rows {
        let offset = row.get("offset").and_then(Value::as_i64);
        let (Some(partition), Some(offset)) = (json_file::partition_of(row), offset) else {
            return Err(Stop::failed(format!(
                "{row} needs the fields topic, partition and offset"
            )));
        };
        if offsets.insert(partition.clone(), Offset(offset)).is_some() {
            return Err(Stop::failed(format!(
                "Offset json file contains duplicate topic partitions: {partition}"
            )));
        }
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_each_partition_once() {
        let found = offsets(
            br#"{"version": 1, "partitions": [{"topic": "t", "partition": 2, "offset": 7}]}"#,
        );
        let found = found.unwrap_or_else(|stop| panic!("{stop:?}"));
        assert_eq!(found, BTreeMap::from([(TopicPartition::new("t", 2), Offset(7))]));
        for wrong in [
            &b"{"[..],
            b"{}",
            br#"{"version": 2, "partitions": []}"#,
            br#"{"partitions": [{"topic": "t", "partition": 2}]}"#,
        ] {
            assert!(offsets(wrong).is_err());
        }
    }
}
