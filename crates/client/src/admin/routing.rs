//! Where a call goes, and when it is tried again.

use std::collections::BTreeMap;

use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::{MetadataRequest, MetadataResponse, RequestResponsePair};
use ottla_protocol::{BrokerId, ErrorCode, StrBytes, TopicPartition, message};

use super::{Admin, Answers};
use crate::client::Purpose;
use crate::silence::Patience;
use crate::{ClientError, Connection, CoordinatorKey};

/// Turns an error code, and words if there are any, into a result.
pub(super) fn checked(code: i16, message: Option<StrBytes>) -> Result<(), ClientError> {
    ClientError::check(ErrorCode::from_wire(code), message)
}

impl Admin {
    /// Tries until success, a failure for good, or the end of the timeout.
    pub(super) async fn retried<T, A: Future<Output = Result<T, ClientError>>>(
        &self,
        mut attempt: impl FnMut() -> A,
    ) -> Result<T, ClientError> {
        let clock = &self.client.env().clock;
        let pause = self.client.options().retry_backoff;
        let deadline = clock.now() + self.timeout;
        loop {
            let error = match attempt().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // Nobody listens there: a person waits for an answer, not for a minute.
            let hopeless = matches!(error, ClientError::Connect { .. });
            if !error.is_retriable() || hopeless || clock.now() + pause >= deadline {
                return Err(error);
            }
            clock.sleep(pause).await;
        }
    }

    /// Asks any broker. `check` says whether the response as a whole is an error.
    pub(super) async fn ask_any<R: RequestResponsePair>(
        &self,
        request: &R,
        check: impl Fn(&R::Response) -> Result<(), ClientError>,
    ) -> Result<R::Response, ClientError> {
        self.retried(|| async {
            let response = self.client.any_broker().await?.call(request).await?;
            check(&response).map(|()| response)
        })
        .await
    }

    /// Asks the broker that speaks for the controller, and asks anew which that is if it no
    /// longer does (`NOT_CONTROLLER`).
    pub(super) async fn ask_controller<R: RequestResponsePair>(
        &self,
        request: &R,
        check: impl Fn(&R::Response) -> Result<(), ClientError>,
    ) -> Result<R::Response, ClientError> {
        self.retried(|| async {
            // One that cannot be reached is forgotten, and another broker finds the controller.
            let connection = match self.controller().await {
                Err(ClientError::Connect { .. }) => self.client.any_broker().await?,
                connection => connection?,
            };
            let response = connection.call(request).await?;
            let checked = check(&response);
            if matches!(checked, Err(ClientError::Refused { code: ErrorCode::NotController, .. })) {
                self.client.refresh_metadata(&[]).await?;
            }
            checked.map(|()| response)
        })
        .await
    }

    pub(super) async fn controller(&self) -> Result<Connection, ClientError> {
        match self.client.metadata().controller {
            Some(id) => self.client.broker(id).await,
            None => self.client.any_broker().await,
        }
    }

    /// Asks one broker.
    pub(super) async fn ask_broker<R: RequestResponsePair>(
        &self,
        id: BrokerId,
        request: &R,
        check: impl Fn(&R::Response) -> Result<(), ClientError>,
    ) -> Result<R::Response, ClientError> {
        self.retried(|| async {
            let response = self.client.broker(id).await?.call(request).await?;
            check(&response).map(|()| response)
        })
        .await
    }

    /// Asks the coordinator of a group, in no newer version than `newest`.
    pub(super) async fn ask_coordinator<R: RequestResponsePair>(
        &self,
        group: &str,
        request: &R,
        newest: i16,
        check: impl Fn(&R::Response) -> Result<(), ClientError>,
    ) -> Result<R::Response, ClientError> {
        let key = CoordinatorKey::Group(group.to_owned());
        self.retried(|| async {
            let (broker, address) = self.client.coordinator_address(&key).await?;
            // The connection for plain requests will do: nothing that an administrator asks is held back.
            let asking = async {
                let connection = self.client.connection_for(&address, Purpose::Requests).await?;
                let response = connection.call_up_to(request, newest).await?;
                check(&response).map(|()| response)
            };
            self.client.unless_another_coordinates(&key, broker, Patience::SHORT, asking).await
        })
        .await
    }

    /// Every broker that is alive.
    pub(super) async fn brokers(&self) -> Result<Vec<BrokerId>, ClientError> {
        let metadata = self.retried(|| self.client.refresh_metadata(&[])).await?;
        Ok(metadata.brokers.keys().copied().collect())
    }

    /// Metadata of `topics`, or of all; makes none.
    pub(super) async fn topic_metadata(
        &self,
        topics: Option<&[&str]>,
    ) -> Result<MetadataResponse, ClientError> {
        let row =
            |topic: &&str| message!(MetadataRequestTopic { name: Some(StrBytes::from(*topic)) });
        let request = message!(MetadataRequest {
            topics: topics.map(|topics| topics.iter().map(row).collect()),
            allow_auto_topic_creation: false,
        });
        self.ask_any(&request, |response| checked(response.error_code, None)).await
    }

    /// Which broker leads each partition; for the rest, why there is none.
    pub(super) async fn leaders<'a, V>(
        &self,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Result<(BTreeMap<BrokerId, Vec<TopicPartition>>, Answers<TopicPartition, V>), ClientError>
    {
        let partitions: Vec<&TopicPartition> = partitions.into_iter().collect();
        let mut names: Vec<&str> = partitions.iter().map(|it| &*it.topic).collect();
        names.sort_unstable();
        names.dedup();
        let response = self.topic_metadata(Some(&names)).await?;
        let mut led: BTreeMap<BrokerId, Vec<TopicPartition>> = BTreeMap::new();
        let mut refused = Answers::new();
        for partition in partitions {
            match leader_in(&response, partition) {
                Ok(leader) => led.entry(leader).or_default().push(partition.clone()),
                Err(error) => _ = refused.insert(partition.clone(), Err(error)),
            }
        }
        Ok((led, refused))
    }

    /// Asks each partition's leader about it, and those that were not the leader any more again.
    ///
    /// `ask` makes a request of a leader's partitions and reads the response.
    pub(super) async fn by_leader<V, A>(
        &self,
        partitions: &[TopicPartition],
        ask: impl Fn(Connection, Vec<TopicPartition>) -> A,
    ) -> Result<Answers<TopicPartition, V>, ClientError>
    where
        A: Future<Output = Result<Answers<TopicPartition, V>, ClientError>>,
    {
        let clock = &self.client.env().clock;
        let pause = self.client.options().retry_backoff;
        let deadline = clock.now() + self.timeout;
        let mut answers = Answers::new();
        let mut open = partitions.to_vec();
        loop {
            let (led, refused) = self.leaders::<V>(&open).await?;
            answers.extend(refused);
            let mut unreachable = None;
            for (leader, of_leader) in led {
                let answered = match self.client.broker(leader).await {
                    Ok(connection) => ask(connection, of_leader).await,
                    Err(error) => Err(error),
                };
                match answered {
                    Ok(answered) => answers.extend(answered),
                    // It may be dead, and another leads soon.
                    Err(error) if error.is_retriable() => unreachable = Some(error),
                    Err(error) => return Err(error),
                }
            }
            open.retain(|it| match answers.get(it) {
                Some(Err(error)) => has_moved(error),
                Some(Ok(_)) => false,
                None => true,
            });
            if open.is_empty() || clock.now() + pause >= deadline {
                return unreachable.map_or(Ok(answers), Err);
            }
            clock.sleep(pause).await;
        }
    }
}

/// Whether a partition should be looked up again: an unknown topic is not waited for.
fn has_moved(error: &ClientError) -> bool {
    error.is_retriable()
        && !matches!(error, ClientError::Refused { code: ErrorCode::UnknownTopicOrPartition, .. })
}

fn leader_in(
    response: &MetadataResponse,
    partition: &TopicPartition,
) -> Result<BrokerId, ClientError> {
    let unknown = || ClientError::refused(ErrorCode::UnknownTopicOrPartition);
    let named = |it: &StrBytes| it.as_str() == &*partition.topic;
    let topic = response.topics.iter().find(|topic| topic.name.as_ref().is_some_and(named));
    let topic = topic.ok_or_else(unknown)?;
    checked(topic.error_code, None)?;
    let row = topic.partitions.iter().find(|row| row.partition_index == partition.partition);
    let row = row.ok_or_else(unknown)?;
    if row.leader_id < 0 {
        return Err(ClientError::refused(ErrorCode::LeaderNotAvailable));
    }
    Ok(BrokerId(row.leader_id))
}

/// Partitions by topic, as most requests want them.
pub(super) fn by_topic<'a>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
) -> BTreeMap<&'a str, Vec<i32>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for it in partitions {
        topics.entry(&it.topic).or_default().push(it.partition);
    }
    topics
}

/// Adds an error for whatever was asked and not answered.
pub(super) fn complete<K: Ord + Clone + std::fmt::Debug, V>(
    mut answers: Answers<K, V>,
    asked: impl IntoIterator<Item = K>,
) -> Answers<K, V> {
    for key in asked {
        answers.entry(key.clone()).or_insert_with(|| {
            Err(ClientError::Nonsense(format!("the broker said nothing about {key:?}")))
        });
    }
    answers
}
