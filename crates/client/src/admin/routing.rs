//! Where a call goes, and when it is tried again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::{MetadataRequest, MetadataResponse, RequestResponsePair};
use ottla_protocol::{ApiKey, BrokerId, ErrorCode, StrBytes, TopicPartition, message};

use super::{Admin, Answers};
use crate::client::Purpose;
use crate::connection::api_of;
use crate::silence::{Patience, SILENCE};
use crate::{ClientError, ClusterMetadata, Connection, CoordinatorKey};

/// Turns an error code, and words if there are any, into a result.
pub(super) fn checked(code: i16, message: Option<StrBytes>) -> Result<(), ClientError> {
    ClientError::check(ErrorCode::from_wire(code), message)
}

/// Whether a try of a call went without an answer: it may have been carried out, and a later one finds it done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    /// What says so then.
    already: Option<ErrorCode>,
}

impl Doubt {
    /// Adds to an answer which says that it is so already that the call itself may have done it.
    pub(super) fn about(self, answer: Result<(), ClientError>) -> Result<(), ClientError> {
        answer.map_err(|error| self.told(error))
    }

    fn told(self, error: ClientError) -> ClientError {
        let Some(code) = self.already.filter(|already| error.code() == Some(*already)) else {
            return error;
        };
        let said = if let ClientError::Refused { message: Some(message), .. } = &error {
            message
        } else {
            code.message()
        };
        let unanswered = "A try of this call before was not answered, and may have done it.";
        ClientError::Refused { code, message: Some(format!("{said} {unanswered}")) }
    }
}

/// What is asked of each leader, and where that is.
type ByLeader = BTreeMap<(BrokerId, String), Vec<TopicPartition>>;

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

    /// Asks any broker, another while one is silent. `check` says whether the response as a whole is an error.
    pub(super) async fn ask_any<R>(
        &self,
        request: &R,
        check: impl Fn(&R::Response) -> Result<(), ClientError>,
    ) -> Result<R::Response, ClientError>
    where
        R: RequestResponsePair<Response: Send> + Sync,
    {
        let question = |connection: Connection| async move { connection.call(request).await };
        self.retried(|| {
            Box::pin(async {
                let response = self.client.ask_someone(question).await?;
                check(&response).map(|()| response)
            })
        })
        .await
    }

    /// Asks the broker that speaks for the controller, and asks anew which that is if it no
    /// longer does (`NOT_CONTROLLER`), or is silent while others name another.
    pub(super) async fn ask_controller<R: RequestResponsePair>(
        &self,
        request: &R,
        check: impl Fn(&R::Response) -> Result<(), ClientError>,
    ) -> Result<R::Response, ClientError> {
        let said = self.tell_controller(request, ErrorCode::None, check).await;
        said.map(|(response, _)| response)
    }

    /// [`Admin::ask_controller`] for what is not the same when it is done twice: then the controller answers with `already`,
    /// which the [`Doubt`] knows.
    pub(super) async fn tell_controller<R: RequestResponsePair>(
        &self,
        request: &R,
        already: ErrorCode,
        check: impl Fn(&R::Response) -> Result<(), ClientError>,
    ) -> Result<(R::Response, Doubt), ClientError> {
        let unanswered = AtomicBool::new(false);
        let api = api_of::<R>()?;
        // Boxed: else whoever awaits it holds all that it may have to wait for.
        let said = self.retried(|| {
            Box::pin(async {
                let connection = self.controller().await?;
                let asking = connection.call(request);
                let answer = self.client.unless_another_controls((&connection, api), asking).await;
                if answer.as_ref().is_err_and(ClientError::is_indeterminate) {
                    unanswered.store(true, Ordering::Relaxed);
                }
                let response = answer?;
                let checked = check(&response);
                if matches!(
                    checked,
                    Err(ClientError::Refused { code: ErrorCode::NotController, .. })
                ) {
                    self.client.refresh_metadata(&[]).await?;
                }
                checked.map(|()| response)
            })
        });
        let said = said.await;
        let doubt = Doubt { already: unanswered.into_inner().then_some(already) };
        said.map(|response| (response, doubt)).map_err(|error| doubt.told(error))
    }

    /// A connection to the broker that speaks for the controller. Where none can be made soon, one to another, which passes
    /// on what it is asked (KIP-590): nothing was sent yet.
    pub(super) async fn controller(&self) -> Result<Connection, ClientError> {
        if let Some(id) = self.client.metadata().controller {
            let connecting = Box::pin(self.client.broker(id));
            if let Ok(Ok(connection)) = self.client.env().timeout(SILENCE, connecting).await {
                return Ok(connection);
            }
        }
        self.client.any_broker().await
    }

    /// Asks one broker.
    pub(super) async fn ask_broker<R: RequestResponsePair>(
        &self,
        id: BrokerId,
        request: &R,
        check: impl Fn(&R::Response) -> Result<(), ClientError>,
    ) -> Result<R::Response, ClientError> {
        self.retried(|| async {
            let response = self.broker(id).await?.call(request).await?;
            check(&response).map(|()| response)
        })
        .await
    }

    /// A connection to a broker, which may be one since a moment ago.
    pub(super) async fn broker(&self, id: BrokerId) -> Result<Connection, ClientError> {
        if !self.client.metadata().brokers.contains_key(&id) {
            self.client.refresh_metadata(&[]).await?;
        }
        self.client.broker(id).await
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

    /// Which broker leads each partition, and where that is; for the rest, why there is none. A leader before one that is known
    /// is not believed (KIP-320): the broker that names it lags behind.
    async fn leaders<'a, V>(
        &self,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Result<(ByLeader, Answers<TopicPartition, V>), ClientError> {
        let partitions: Vec<&TopicPartition> = partitions.into_iter().collect();
        let mut names: Vec<&str> = partitions.iter().map(|it| &*it.topic).collect();
        names.sort_unstable();
        names.dedup();
        let known =
            self.retried(|| Box::pin(self.client.query_metadata(Some(&names), false))).await?;
        let mut led = ByLeader::new();
        let mut refused = Answers::new();
        for partition in partitions {
            match leader_in(&known, partition) {
                Ok(leader) => led.entry(leader).or_default().push(partition.clone()),
                Err(error) => _ = refused.insert(partition.clone(), Err(error)),
            }
        }
        Ok((led, refused))
    }

    /// Asks each partition's leader about it, and those that were not the leader any more again, or are silent while others say
    /// that another leads.
    ///
    /// `ask` makes a request of a leader's partitions and reads the response.
    pub(super) async fn by_leader<V, A>(
        &self,
        api: ApiKey,
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
            for ((leader, address), of_leader) in &led {
                let asking = Box::pin(async {
                    let connection = self.client.connection_for(address, Purpose::Requests).await?;
                    ask(connection, of_leader.clone()).await
                });
                let (asked, patience) = ((*leader, api), Patience::SHORT);
                let answered =
                    self.client.unless_another_leads(asked, of_leader.iter(), patience, asking);
                match answered.await {
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

/// The leader of a partition, and where it is. One that is no broker any more has a successor, or will have one.
fn leader_in(
    known: &ClusterMetadata,
    partition: &TopicPartition,
) -> Result<(BrokerId, String), ClientError> {
    let unknown = || ClientError::refused(ErrorCode::UnknownTopicOrPartition);
    let topic = known.topics.get(&*partition.topic).ok_or_else(unknown)?;
    ClientError::check(topic.error_code, None)?;
    let row = topic.partitions.get(&partition.partition).ok_or_else(unknown)?;
    let found = row.leader.and_then(|leader| Some((leader, known.brokers.get(&leader)?.clone())));
    found.ok_or_else(|| ClientError::refused(ErrorCode::LeaderNotAvailable))
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
