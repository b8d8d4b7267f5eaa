//! One file per command.

pub(crate) mod bench;
pub(crate) mod broker;
pub(crate) mod cluster;
pub(crate) mod completions;
pub(crate) mod config;
mod confirm;
pub(crate) mod consume;
pub(crate) mod features;
pub(crate) mod group;
pub(crate) mod log;
pub(crate) mod metadata;
pub(crate) mod output;
pub(crate) mod partition;
pub(crate) mod produce;
pub(crate) mod profile;
pub(crate) mod quota;
mod rebalance;
mod session;
pub(crate) mod start;
mod text;
pub(crate) mod time;
pub(crate) mod topic;

/// What a partition is called in a result, in front of what is said of it.
fn row(partition: &ottla_protocol::TopicPartition, fields: serde_json::Value) -> serde_json::Value {
    let mut row =
        serde_json::json!({ "topic": &*partition.topic, "partition": partition.partition });
    if let (Some(row), serde_json::Value::Object(fields)) = (row.as_object_mut(), fields) {
        row.extend(fields);
    }
    row
}

/// `KEY=VALUE`, for arguments.
fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("not KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}
