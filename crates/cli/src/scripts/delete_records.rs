//! `kafka-delete-records`.

use std::collections::BTreeMap;
use std::path::Path;

use ottla_protocol::{Offset, TopicPartition};
use serde_json::Value;

use super::options::{Grammar, value};
use super::{Outcome, Stop, java, say, target};

static GRAMMAR: Grammar = Grammar {
    about: "This tool helps to delete records of the given partitions down to the specified offset.",
    known: &[
        value(&["bootstrap-server"], "servers", "REQUIRED: nodes of the cluster, HOST:PORT,..."),
        value(
            &["offset-json-file"],
            "file",
            "REQUIRED: what to delete before which offset, as {\"partitions\": [{\"topic\": \"foo\", \"partition\": 1, \"offset\": 1}], \"version\": 1}; -1 is the end.",
        ),
        value(&["command-config"], "file", "A properties file for the admin client."),
    ],
};

pub(super) fn run(arguments: &[String]) -> Outcome {
    let options = GRAMMAR.parse(arguments)?;
    options.help_or_version()?;
    options.require(&["bootstrap-server", "offset-json-file"])?;
    let server = options.value("bootstrap-server")?.unwrap_or_default();
    target::block_on(async |env| {
        let file = options.value("offset-json-file")?.unwrap_or_default();
        let admin = target::connect(&env, server, options.value("command-config")?).await?;
        let before = offsets(&env.disk.read(Path::new(file))?)?;
        say("Executing records delete operation")?;
        let answers = admin.delete_records(&before).await?;
        say("Records delete operation completed:")?;
        for (it, answer) in answers {
            let partition = format!("partition: {}-{}", it.topic, it.partition);
            match answer {
                Ok(start) => say(format!("{partition}\tlow_watermark: {}", start.0))?,
                Err(error) => say(format!("{partition}\terror: {}", java::exception(&error)))?,
            }
        }
        Ok(())
    })
}

fn offsets(text: &[u8]) -> Outcome<BTreeMap<TopicPartition, Offset>> {
    let json: Value = serde_json::from_slice(text)
        .map_err(|_no_json| Stop::failed("The input string is not a valid JSON"))?;
    let version = json.get("version").map_or(Some(1), Value::as_i64);
    if version != Some(1) {
        return Err(Stop::failed(format!(
            "Not supported version field value {}",
            version.unwrap_or_default()
        )));
    }
    let rows = json.get("partitions").and_then(Value::as_array);
    let rows = rows.ok_or_else(|| Stop::failed("Missing partitions field"))?;
    let mut offsets = BTreeMap::new();
    for row in rows {
        let number = |field: &str| row.get(field).and_then(Value::as_i64);
        let topic = row.get("topic").and_then(Value::as_str);
        let partition = number("partition").and_then(|it| i32::try_from(it).ok());
        let (Some(topic), Some(partition), Some(offset)) = (topic, partition, number("offset"))
        else {
            return Err(Stop::failed(format!(
                "{row} needs the fields topic, partition and offset"
            )));
        };
        if offsets.insert(TopicPartition::new(topic, partition), Offset(offset)).is_some() {
            return Err(Stop::failed(format!(
                "Offset json file contains duplicate topic partitions: {topic}-{partition}"
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
