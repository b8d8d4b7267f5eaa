//! Makes and deletes topics. Kafka's `Admin`.

use std::time::Duration;

use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use ottla_protocol::messages::delete_topics_request::DeleteTopicState;
use ottla_protocol::messages::{CreateTopicsRequest, DeleteTopicsRequest};
use ottla_protocol::{ErrorCode, StrBytes, message};

use crate::{Client, ClientError};

/// Changes a cluster.
#[derive(Clone)]
pub struct Admin {
    client: Client,
    timeout: Duration,
}

/// A topic to be made.
#[derive(Clone, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Its partitions; `None` takes the broker's `num.partitions`.
    pub partitions: Option<i32>,
    /// Replicas of each; `None` takes the broker's `default.replication.factor`.
    pub replication_factor: Option<i16>,
    /// What it overrides.
    pub configs: Vec<(String, String)>,
}

impl NewTopic {
    /// A topic of which the broker decides the rest.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), partitions: None, replication_factor: None, configs: Vec::new() }
    }
}

impl Admin {
    /// Works on the cluster of `client`; the cluster gives up a change after `timeout`.
    pub fn new(client: Client, timeout: Duration) -> Self {
        Self { client, timeout }
    }

    /// Makes one topic. `TOPIC_ALREADY_EXISTS` is an error like others.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<(), ClientError> {
        let configs = topic.configs.iter().map(|(name, value)| {
            message!(CreatableTopicConfig {
                name: StrBytes::from(name.as_str()),
                value: Some(StrBytes::from(value.as_str())),
            })
        });
        let row = message!(CreatableTopic {
            name: StrBytes::from(topic.name.as_str()),
            num_partitions: topic.partitions.unwrap_or(-1),
            replication_factor: topic.replication_factor.unwrap_or(-1),
            configs: configs.collect(),
        });
        let request =
            message!(CreateTopicsRequest { topics: vec![row], timeout_ms: self.timeout_ms() });
        let response = self.client.any_broker().await?.call(&request).await?;
        let result = response.topics.into_iter().find(|row| row.name.as_str() == topic.name);
        let result = result.ok_or_else(|| unanswered(&topic.name))?;
        self.client.forget_topic(&topic.name);
        ClientError::check(ErrorCode::from_wire(result.error_code), result.error_message)
    }

    /// Deletes one topic and all of its records.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        // Up to version 5 topics are named in a plain list, from 6 on in rows (KIP-516).
        let request = message!(DeleteTopicsRequest {
            topics: vec![message!(DeleteTopicState { name: Some(StrBytes::from(name)) })],
            timeout_ms: self.timeout_ms(),
        });
        let response = self.client.any_broker().await?.call(&request).await?;
        let result = response
            .responses
            .into_iter()
            .find(|row| row.name.as_ref().is_some_and(|row_name| row_name.as_str() == name))
            .ok_or_else(|| unanswered(name))?;
        self.client.forget_topic(name);
        ClientError::check(ErrorCode::from_wire(result.error_code), result.error_message)
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX)
    }
}

fn unanswered(topic: &str) -> ClientError {
    ClientError::Nonsense(format!("nothing about the topic {topic}"))
}
