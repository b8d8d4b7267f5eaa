//! Topics, offsets, groups and configurations, through the admin client.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use ottla_client::{
    Answers, ClientError, ConfigChange, ConfigResource, ConfigResourceType, ConfigSource,
    FeatureUpdate, FeatureUpgrade, NewPartitions, NewTopic, OffsetQuery, QuotaFilter, QuotaMatch,
};
use ottla_protocol::{Offset, Timestamp, TopicPartition};
use serde_json::{Value, json};

use crate::Driver;
use crate::asked::{number, text};

impl Driver {
    pub(crate) async fn administer(&self, call: &str, with: &Value) -> Result<Value> {
        match call {
            "createTopic" | "createPartitions" | "deleteTopic" | "leaders" => {
                self.topic_call(call, with).await
            }
            "offset" | "deleteRecords" => self.offset_call(call, with).await,
            "groups" | "describeGroup" | "deleteGroup" | "committed" | "deleteOffset" => {
                self.group_call(call, with).await
            }
            "describeConfigs" => self.describe_configs(with).await,
            "alterConfig" => self.alter_config(with).await,
            "features" => self.features().await,
            "updateFeature" => self.update_feature(with).await,
            "quotas" => self.quotas(with).await,
            "alterQuota" => self.alter_quota(with).await,
            "describeCluster" => {
                let found = self.admin.describe_cluster(false).await?;
                let brokers: Vec<i32> = found.brokers.iter().map(|node| node.id.0).collect();
                let controller = found.controller.map_or(-1, |id| id.0);
                Ok(json!({ "id": found.cluster_id, "brokers": brokers, "controller": controller }))
            }
            other => bail!("nobody knows the call {other}"),
        }
    }

    async fn topic_call(&self, call: &str, with: &Value) -> Result<Value> {
        let topic = text(with, "topic");
        match call {
            "createTopic" => {
                let configs = with["configs"].as_object().into_iter().flatten();
                let configs = configs.map(|(name, value)| {
                    (name.clone(), value.as_str().unwrap_or_default().to_owned())
                });
                let partitions = i32::try_from(number(with, "partitions")?)?;
                let new = NewTopic {
                    partitions: Some(partitions),
                    configs: configs.collect(),
                    ..NewTopic::new(topic)
                };
                self.admin.create_topic(new).await?;
            }
            "createPartitions" => {
                let total = i32::try_from(number(with, "total")?)?;
                let new = NewPartitions { total, assignments: None };
                let asked = BTreeMap::from([(topic.to_owned(), new)]);
                only(self.admin.create_partitions(&asked, false).await?)?;
            }
            "deleteTopic" => self.admin.delete_topic(topic).await?,
            _ => {
                let described = only(self.admin.describe_topics(&[topic]).await?)?;
                let leaders = described.partitions.values();
                let leaders: Vec<i32> =
                    leaders.map(|partition| partition.leader.map_or(-1, |id| id.0)).collect();
                return Ok(json!(leaders));
            }
        }
        Ok(Value::Null)
    }

    async fn offset_call(&self, call: &str, with: &Value) -> Result<Value> {
        let partition = partition_of(with)?;
        if call == "deleteRecords" {
            let before = BTreeMap::from([(partition, Offset(number(with, "before")?))]);
            return Ok(json!(only(self.admin.delete_records(&before).await?)?.0));
        }
        let query = match number(with, "at")? {
            -1 => OffsetQuery::Latest,
            -2 => OffsetQuery::Earliest,
            -3 => OffsetQuery::MaxTimestamp,
            at => OffsetQuery::At(Timestamp(at)),
        };
        let queries = BTreeMap::from([(partition, query)]);
        Ok(json!(only(self.admin.list_offsets(&queries, false).await?)?.offset.0))
    }

    async fn group_call(&self, call: &str, with: &Value) -> Result<Value> {
        let group = text(with, "group");
        match call {
            "groups" => {
                let groups = self.admin.list_groups(&[], &[]).await?;
                Ok(json!(groups.keys().collect::<Vec<_>>()))
            }
            "describeGroup" => {
                let found = only(self.admin.describe_groups(&[group]).await?)?;
                let members: Vec<Value> = found
                    .members
                    .iter()
                    .map(|member| {
                        let assigned = member.assignment.iter().map(|it| it.partition);
                        let partitions: Vec<i32> = assigned.collect();
                        json!({ "clientId": member.client_id, "partitions": partitions })
                    })
                    .collect();
                let strategy = found.assignor;
                Ok(json!({ "state": found.state, "strategy": strategy, "members": members }))
            }
            "deleteGroup" => {
                only(self.admin.delete_groups(&[group]).await?)?;
                Ok(Value::Null)
            }
            "deleteOffset" => {
                let partitions = [partition_of(with)?];
                only(self.admin.delete_group_offsets(group, &partitions).await?)?;
                Ok(Value::Null)
            }
            _ => {
                let partitions = [partition_of(with)?];
                let found = self.admin.list_group_offsets(group, Some(&partitions), false).await?;
                if found.is_empty() {
                    return Ok(json!({ "offset": -1, "metadata": "" }));
                }
                let committed = only(found)?;
                Ok(json!({ "offset": committed.offset.0, "metadata": committed.metadata }))
            }
        }
    }

    async fn describe_configs(&self, with: &Value) -> Result<Value> {
        let found = only(self.admin.describe_configs(&[resource_of(with)], None, false).await?)?;
        let entries = found.into_iter().map(|entry| {
            let value = entry.value.unwrap_or_default();
            let source = source_code(entry.source);
            (entry.name, json!({ "value": value, "source": source, "readOnly": entry.read_only }))
        });
        Ok(Value::Object(entries.collect()))
    }

    async fn alter_config(&self, with: &Value) -> Result<Value> {
        let change = match with["value"].as_str() {
            Some(value) => ConfigChange::Set(value.to_owned()),
            None => ConfigChange::Delete,
        };
        let changes =
            BTreeMap::from([(resource_of(with), vec![(text(with, "key").to_owned(), change)])]);
        only(self.admin.incremental_alter_configs(&changes, false).await?)?;
        Ok(Value::Null)
    }

    async fn features(&self) -> Result<Value> {
        let found = self.admin.describe_features().await?.into_iter().map(|(name, levels)| {
            (name, json!({ "level": levels.finalized, "newest": levels.max_supported }))
        });
        Ok(Value::Object(found.collect()))
    }

    async fn update_feature(&self, with: &Value) -> Result<Value> {
        let level = i16::try_from(number(with, "level")?)?;
        let update = FeatureUpdate { level, upgrade: FeatureUpgrade::Upgrade };
        let updates = BTreeMap::from([(text(with, "feature").to_owned(), update)]);
        only(self.admin.update_features(&updates, false).await?)?;
        Ok(Value::Null)
    }
}

impl Driver {
    async fn quotas(&self, with: &Value) -> Result<Value> {
        let named = QuotaMatch::Name(text(with, "clientId").to_owned());
        let components = BTreeMap::from([("client-id".to_owned(), named)]);
        let filter = QuotaFilter { components, strict: true };
        let found = self.admin.describe_client_quotas(&filter).await?;
        let quotas = found.into_values().flatten();
        Ok(Value::Object(quotas.map(|(key, value)| (key, json!(value))).collect()))
    }

    async fn alter_quota(&self, with: &Value) -> Result<Value> {
        let entity =
            BTreeMap::from([("client-id".to_owned(), Some(text(with, "clientId").to_owned()))]);
        let change = BTreeMap::from([(text(with, "key").to_owned(), with["value"].as_f64())]);
        let changes = BTreeMap::from([(entity, change)]);
        only(self.admin.alter_client_quotas(&changes, false).await?)?;
        Ok(Value::Null)
    }
}

fn resource_of(with: &Value) -> ConfigResource {
    let kind = match text(with, "kind") {
        "broker" => ConfigResourceType::Broker,
        _ => ConfigResourceType::Topic,
    };
    ConfigResource::new(kind, text(with, "name"))
}

pub(crate) fn partition_of(with: &Value) -> Result<TopicPartition> {
    let partition = i32::try_from(number(with, "partition")?)?;
    Ok(TopicPartition::new(text(with, "topic"), partition))
}

/// The answer about the one thing that was asked for.
fn only<K: Ord, V>(answers: Answers<K, V>) -> Result<V> {
    let answer: Result<V, ClientError> = answers.into_values().next().context("no answer")?;
    Ok(answer?)
}

/// As DescribeConfigs numbers them.
fn source_code(source: ConfigSource) -> i8 {
    match source {
        ConfigSource::Unknown => 0,
        ConfigSource::Topic => 1,
        ConfigSource::DynamicBroker => 2,
        ConfigSource::DynamicDefaultBroker => 3,
        ConfigSource::StaticBroker => 4,
        ConfigSource::Default => 5,
        ConfigSource::DynamicBrokerLogger => 6,
        ConfigSource::ClientMetrics => 7,
        ConfigSource::Group => 8,
    }
}
