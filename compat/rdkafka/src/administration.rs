//! Topics, offsets, groups and configurations, through the admin client and, where that has no call, a consumer.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use futures_executor::block_on;
use rdkafka::Offset;
use rdkafka::admin::{
    AdminOptions, AlterConfig, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::groups::GroupMemberInfo;
use serde_json::{Value, json};

use crate::asked::{number, text};
use crate::streams::place;
use crate::{Driver, PATIENCE};

impl Driver {
    pub(crate) fn administer(&self, call: &str, with: &Value) -> Result<Value> {
        match call {
            "createTopic" => self.create_topic(with),
            "createPartitions" => {
                let total = usize::try_from(number(with, "total")?)?;
                let wanted = NewPartitions::new(text(with, "topic"), total);
                only(block_on(self.admin.create_partitions(&[wanted], &options()))?)
            }
            "deleteTopic" => {
                let topics = [text(with, "topic")];
                only(block_on(self.admin.delete_topics(&topics, &options()))?)
            }
            "leaders" => self.leaders(text(with, "topic")),
            "offset" => self.offset(with),
            "deleteRecords" => {
                let before = place(with, number(with, "before")?, "")?;
                let deleted = block_on(self.admin.delete_records(&before, &options()))?;
                let [deleted] = &deleted.elements()[..] else { bail!("no answer") };
                deleted.error()?;
                Ok(json!(deleted.offset().to_raw()))
            }
            "groups" => {
                let found = self.looker.fetch_group_list(None, PATIENCE)?;
                Ok(json!(found.groups().iter().map(|group| group.name()).collect::<Vec<_>>()))
            }
            "describeGroup" => self.describe_group(text(with, "group")),
            "deleteGroup" => {
                let groups = [text(with, "group")];
                only(block_on(self.admin.delete_groups(&groups, &options()))?)
            }
            "committed" => self.committed(with),
            "describeConfigs" => {
                let entries = self.configs(with)?.into_iter();
                Ok(Value::Object(entries.map(|(key, entry)| (key, json!(entry))).collect()))
            }
            "alterConfig" => self.alter_config(with),
            "describeCluster" => self.describe_cluster(),
            other => bail!("nobody knows the call {other}"),
        }
    }

    fn create_topic(&self, with: &Value) -> Result<Value> {
        let partitions = i32::try_from(number(with, "partitions")?)?;
        let mut wanted = NewTopic::new(text(with, "topic"), partitions, TopicReplication::Fixed(-1));
        for (key, value) in with["configs"].as_object().into_iter().flatten() {
            wanted = wanted.set(key, value.as_str().unwrap_or_default());
        }
        only(block_on(self.admin.create_topics(&[wanted], &options()))?)
    }

    fn leaders(&self, topic: &str) -> Result<Value> {
        let metadata = self.looker.fetch_metadata(Some(topic), PATIENCE)?;
        let found = metadata.topics().first().context("no answer")?;
        if let Some(error) = found.error() {
            return Err(KafkaError::MetadataFetch(error.into()).into());
        }
        Ok(json!(found.partitions().iter().map(|it| it.leader()).collect::<Vec<_>>()))
    }

    fn offset(&self, with: &Value) -> Result<Value> {
        let at = number(with, "at")?;
        if at < 0 {
            let partition = i32::try_from(number(with, "partition")?)?;
            let (low, high) =
                self.looker.fetch_watermarks(text(with, "topic"), partition, PATIENCE)?;
            return Ok(json!(if at == -1 { high } else { low }));
        }
        let found = self.looker.offsets_for_times(place(with, at, "")?, PATIENCE)?;
        let [found] = &found.elements()[..] else { bail!("no answer") };
        found.error()?;
        Ok(json!(match found.offset() {
            Offset::Offset(offset) => offset,
            _ => -1,
        }))
    }

    fn describe_group(&self, name: &str) -> Result<Value> {
        let found = self.looker.fetch_group_list(Some(name), PATIENCE)?;
        let group = found.groups().first().context("no answer")?;
        let members: Vec<Value> = group.members().iter().map(member_of).collect();
        Ok(json!({ "state": group.state(), "strategy": group.protocol(), "members": members }))
    }

    fn committed(&self, with: &Value) -> Result<Value> {
        let mut config = self.config.clone();
        config.set("group.id", text(with, "group"));
        let consumer: BaseConsumer = config.create()?;
        let found = consumer.committed_offsets(place(with, 0, "")?, PATIENCE)?;
        let [found] = &found.elements()[..] else { bail!("no answer") };
        found.error()?;
        let offset = match found.offset() {
            Offset::Offset(offset) => offset,
            _ => -1,
        };
        Ok(json!({ "offset": offset, "metadata": found.metadata() }))
    }

    fn configs(&self, with: &Value) -> Result<BTreeMap<String, Value>> {
        let asked = [resource_of(with)?];
        let found = block_on(self.admin.describe_configs(&asked, &options()))?;
        let found = found.into_iter().next().context("no answer")??;
        let entries = found.entries.into_iter().map(|entry| {
            let value = entry.value.unwrap_or_default();
            let source = source_code(&entry.source);
            (
                entry.name,
                json!({ "value": value, "source": source, "readOnly": entry.is_read_only }),
            )
        });
        Ok(entries.collect())
    }

    /// It only knows how to set all keys of a resource at once.
    fn alter_config(&self, with: &Value) -> Result<Value> {
        let resource = resource_of(with)?;
        let dynamic = match resource {
            ResourceSpecifier::Broker(_) => source_code(&ConfigSource::DynamicBroker),
            _ => source_code(&ConfigSource::DynamicTopic),
        };
        let described = self.configs(with)?;
        let own = described.iter().filter(|(_, entry)| entry["source"] == json!(dynamic));
        let mut wanted = AlterConfig::new(resource);
        for (key, entry) in own.filter(|(key, _)| key.as_str() != text(with, "key")) {
            wanted = wanted.set(key, text(entry, "value"));
        }
        if let Some(value) = with["value"].as_str() {
            wanted = wanted.set(text(with, "key"), value);
        }
        let answers = block_on(self.admin.alter_configs(&[wanted], &options()))?;
        match answers.into_iter().next().context("no answer")? {
            Ok(_) => Ok(Value::Null),
            Err((_, code)) => Err(code.into()),
        }
    }

    fn describe_cluster(&self) -> Result<Value> {
        let client = self.looker.client();
        let id = client.fetch_cluster_id(PATIENCE);
        let metadata = client.fetch_metadata(None, PATIENCE)?;
        let brokers: Vec<i32> = metadata.brokers().iter().map(|broker| broker.id()).collect();
        Ok(json!({ "id": id, "brokers": brokers }))
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

/// The answer about the one thing that was asked for.
fn only(answers: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> Result<Value> {
    match answers.into_iter().next().context("no answer")? {
        Ok(_) => Ok(Value::Null),
        Err((_, code)) => Err(code.into()),
    }
}

fn resource_of(with: &Value) -> Result<ResourceSpecifier<'_>> {
    Ok(match text(with, "kind") {
        "broker" => ResourceSpecifier::Broker(text(with, "name").parse()?),
        _ => ResourceSpecifier::Topic(text(with, "name")),
    })
}

/// As DescribeConfigs numbers them.
fn source_code(source: &ConfigSource) -> i8 {
    match source {
        ConfigSource::Unknown => 0,
        ConfigSource::DynamicTopic => 1,
        ConfigSource::DynamicBroker => 2,
        ConfigSource::DynamicDefaultBroker => 3,
        ConfigSource::StaticBroker => 4,
        ConfigSource::Default => 5,
    }
}

fn member_of(member: &GroupMemberInfo) -> Value {
    let partitions = partitions_of(member.assignment().unwrap_or_default()).unwrap_or_default();
    json!({ "clientId": member.client_id(), "partitions": partitions })
}

/// The library leaves an assignment as it came: a version, then topics with their partitions.
fn partitions_of(assignment: &[u8]) -> Option<Vec<i32>> {
    let mut rest = assignment.get(2..)?;
    let mut take = |len: usize| {
        let (taken, after) = rest.split_at_checked(len)?;
        rest = after;
        Some(taken)
    };
    let mut partitions = Vec::new();
    for _ in 0..i32::from_be_bytes(take(4)?.try_into().ok()?) {
        let name = u16::from_be_bytes(take(2)?.try_into().ok()?);
        take(name.into())?;
        for _ in 0..i32::from_be_bytes(take(4)?.try_into().ok()?) {
            partitions.push(i32::from_be_bytes(take(4)?.try_into().ok()?));
        }
    }
    Some(partitions)
}
