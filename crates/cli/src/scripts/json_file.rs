//! Files of JSON that name partitions.

use ottla_protocol::TopicPartition;
use serde_json::Value;

/// Only version 1 is known, which need not be said.
pub(super) fn check_version(json: &Value) -> Result<(), String> {
    let version = json.get("version").map_or(Some(1), Value::as_i64);
    if version == Some(1) {
        return Ok(());
    }
    Err(format!("Not supported version field value {}", version.unwrap_or_default()))
}

/// The partition that a row is about.
pub(super) fn partition_of(row: &Value) -> Option<TopicPartition> {
    let topic = row.get("topic").and_then(Value::as_str)?;
    let partition = row.get("partition").and_then(whole)?;
    Some(TopicPartition::new(topic, partition))
}

/// A number that is one of Kafka's: of a partition or a broker.
pub(super) fn whole(value: &Value) -> Option<i32> {
    value.as_i64().and_then(|it| i32::try_from(it).ok())
}
