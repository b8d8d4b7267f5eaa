//! A cluster: its brokers, its leaders, and one connection to each broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ottla_env::{BoxFuture, Env};
use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::{MetadataRequest, MetadataResponse};
use ottla_protocol::{
    ApiKey, BrokerId, ErrorCode, LeaderEpoch, LeaderIdAndEpoch, NodeEndpoint, StrBytes, TopicId,
    TopicPartition, TopicRef, message,
};
use parking_lot::{Mutex, MutexGuard};

use crate::silence::SILENCE;
use crate::{ClientError, ClusterMetadata, Connection, ConnectionOptions, CoordinatorKey};

/// How long to wait before a failed request is tried again: `retry.backoff.ms`.
pub(crate) const RETRY_BACKOFF: Duration = Duration::from_millis(100);

/// After this time a broker is asked again that does not know yet that it leads: metadata reaches brokers one after the other.
pub(crate) const LAG: Duration = Duration::from_millis(10);

/// What a connection is for: answers come in the order of the requests, so one that is held back
/// must not have others behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// What is answered at once.
    Requests,
    /// Fetch, which the broker holds back for `fetch.max.wait.ms`.
    Fetch,
    /// JoinGroup, which the broker holds back until the others have joined.
    Coordinator,
    /// Who leads, while an answer is due that others wait behind: a leader owes it until all replicas have the records.
    Questions,
}

/// From this version on Produce and Fetch name topics by id (KIP-516).
pub(crate) const FIRST_VERSION_BY_ID: i16 = 13;

/// A cluster as a client sees it. Clones share connections and metadata.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    env: Env,
    bootstrap_servers: Vec<String>,
    options: ConnectionOptions,
    connections: Mutex<BTreeMap<(Purpose, String), Connection>>,
    /// How often in a row a connection could not be made.
    failures: Mutex<BTreeMap<String, u32>>,
    metadata: Mutex<Arc<ClusterMetadata>>,
    /// How often it was asked for.
    questions: AtomicUsize,
    coordinators: Mutex<BTreeMap<CoordinatorKey, (BrokerId, String)>>,
}

/// The leader of a partition, ready to be asked.
pub struct Leader {
    /// A connection to it.
    pub connection: Connection,
    /// Its id.
    pub broker: BrokerId,
    /// Its epoch, or -1.
    pub epoch: LeaderEpoch,
    topic_id: TopicId,
}

impl Leader {
    /// How Produce or Fetch must name `topic` on this connection.
    pub fn topic_ref(&self, api: ApiKey, topic: &str) -> Result<TopicRef, ClientError> {
        let by_id = self.connection.records_version(api)? >= FIRST_VERSION_BY_ID;
        Ok(if by_id { TopicRef::Id(self.topic_id) } else { TopicRef::Name(StrBytes::from(topic)) })
    }
}

impl Client {
    /// Connects to one of `bootstrap_servers`, each `host:port`, and asks it for its brokers.
    pub async fn connect(
        env: &Env,
        bootstrap_servers: Vec<String>,
        options: ConnectionOptions,
    ) -> Result<Self, ClientError> {
        let client = Self(Arc::new(Shared {
            env: env.clone(),
            bootstrap_servers,
            options,
            connections: Mutex::default(),
            failures: Mutex::default(),
            metadata: Mutex::default(),
            questions: AtomicUsize::new(0),
            coordinators: Mutex::default(),
        }));
        client.refresh_metadata(&[]).await?;
        Ok(client)
    }

    /// The world of this client.
    pub fn env(&self) -> &Env {
        &self.0.env
    }

    /// How its connections behave.
    pub(crate) fn options(&self) -> &ConnectionOptions {
        &self.0.options
    }

    pub(crate) fn known_coordinators(
        &self,
    ) -> MutexGuard<'_, BTreeMap<CoordinatorKey, (BrokerId, String)>> {
        self.0.coordinators.lock()
    }

    /// What is known of the cluster.
    pub fn metadata(&self) -> Arc<ClusterMetadata> {
        self.0.metadata.lock().clone()
    }

    /// Asks for the brokers and for these topics. A missing topic is made if the broker makes
    /// topics that are asked for (`auto.create.topics.enable`).
    pub async fn refresh_metadata(
        &self,
        topics: &[&str],
    ) -> Result<Arc<ClusterMetadata>, ClientError> {
        self.query_metadata(Some(topics), true).await
    }

    /// Asks for `topics`, or for all there are, which then are all that is known.
    pub(crate) async fn query_metadata(
        &self,
        topics: Option<&[&str]>,
        may_create: bool,
    ) -> Result<Arc<ClusterMetadata>, ClientError> {
        let row =
            |topic: &&str| message!(MetadataRequestTopic { name: Some(StrBytes::from(*topic)) });
        let request = message!(MetadataRequest {
            topics: topics.map(|topics| topics.iter().map(row).collect()),
            allow_auto_topic_creation: may_create,
        });
        let request = &request;
        let question = |connection: Connection| async move { connection.call(request).await };
        let response: MetadataResponse = self.ask_someone(question).await?;
        let mut metadata = self.0.metadata.lock();
        *metadata = Arc::new(match topics {
            Some(_) => metadata.updated_by(response),
            None => metadata.replaced_by(response),
        });
        Ok(metadata.clone())
    }

    /// The same cluster through connections of its own: what is held back there (JoinGroup of one
    /// of two members in one program) holds up nobody here.
    pub(crate) fn on_its_own(&self) -> Self {
        Self(Arc::new(Shared {
            env: self.0.env.clone(),
            bootstrap_servers: self.0.bootstrap_servers.clone(),
            options: self.0.options.clone(),
            connections: Mutex::default(),
            failures: Mutex::default(),
            metadata: Mutex::new(self.metadata()),
            questions: AtomicUsize::new(0),
            coordinators: Mutex::default(),
        }))
    }

    /// A connection to the broker with this id.
    pub async fn broker(&self, id: BrokerId) -> Result<Connection, ClientError> {
        self.broker_for(id, Purpose::Requests).await
    }

    pub(crate) async fn broker_for(
        &self,
        id: BrokerId,
        purpose: Purpose,
    ) -> Result<Connection, ClientError> {
        let known = self.metadata().brokers.get(&id).cloned();
        let address = known.ok_or_else(|| ClientError::refused(ErrorCode::BrokerNotAvailable))?;
        self.connection_for(&address, purpose).await
    }

    /// A connection to any broker: one that is open, else the first that can be reached.
    pub async fn any_broker(&self) -> Result<Connection, ClientError> {
        self.ask_someone(async |connection| Ok(connection)).await
    }

    /// Where somebody may answer, on a connection for one of these `purposes`: first where one is open, last where all are and
    /// have been silent.
    fn by_prospect(&self, purposes: &[Purpose]) -> Vec<Prospect> {
        let metadata = self.metadata();
        let Shared { bootstrap_servers, options, .. } = &*self.0;
        let connections = self.0.connections.lock();
        let open = connections.iter().filter(|(_, connection)| !connection.is_closed());
        let open: BTreeMap<_, _> = open.map(|(key, it)| (key.clone(), it.silence())).collect();
        let connected = open.keys().filter(|(purpose, _)| purposes.contains(purpose));
        let mut addresses: Vec<&str> = connected.map(|(_, address)| &**address).collect();
        addresses.extend(to_try(&metadata.brokers, bootstrap_servers, options.rebootstrap));
        let mut found: Vec<Prospect> = Vec::new();
        for address in addresses {
            let prospects = purposes.iter().map(|purpose| {
                let silence = open.get(&(*purpose, address.to_owned()));
                let hope = silence.map_or(Hope::New, |silence| Hope::of(*silence));
                Prospect { hope, purpose: *purpose, address: address.to_owned() }
            });
            if !found.iter().any(|it| it.address == address) {
                found.extend(prospects.min());
            }
        }
        found.sort_by_key(|prospect| prospect.hope);
        found
    }

    /// Asks any broker, and one more after the other while all are silent or fail. The first answer counts.
    pub(crate) async fn ask_someone<T, A>(
        &self,
        question: impl Fn(Connection) -> A + Send + Sync,
    ) -> Result<T, ClientError>
    where
        A: Future<Output = Result<T, ClientError>> + Send,
    {
        let question = &question;
        let ask = |Prospect { purpose, address, .. }: Prospect| -> BoxFuture<'_, _> {
            Box::pin(async move { question(self.connection_for(&address, purpose).await?).await })
        };
        // What one broker tells may be old: the next time it is another's turn.
        let mut others = self.by_prospect(&[Purpose::Requests, Purpose::Questions]);
        let good = others.partition_point(|prospect| prospect.hope == Hope::Open);
        let turn = self.0.questions.fetch_add(1, Ordering::Relaxed);
        others[..good].rotate_left(turn % good.max(1));
        let mut others = others.into_iter();
        let mut asked: FuturesUnordered<_> = others.next().map(ask).into_iter().collect();
        let mut last = ClientError::refused(ErrorCode::BrokerNotAvailable);
        loop {
            tokio::select! {
                biased;
                answer = asked.next() => match answer {
                    Some(Ok(answer)) => return Ok(answer),
                    Some(Err(error)) => last = error,
                    None => return Err(last),
                },
                () = self.0.env.clock.sleep(SILENCE) => {}
            }
            asked.extend(others.next().map(ask));
        }
    }

    /// The leader of `partition`, from what is known, else asked for.
    pub async fn leader(&self, partition: &TopicPartition) -> Result<Leader, ClientError> {
        let (broker, epoch, topic_id) = self.leader_of(partition).await?;
        Ok(Leader { connection: self.broker(broker).await?, broker, epoch, topic_id })
    }

    /// Who leads `partition`, without a connection to it.
    pub(crate) async fn leader_of(
        &self,
        partition: &TopicPartition,
    ) -> Result<(BrokerId, LeaderEpoch, TopicId), ClientError> {
        if let Some(leader) = self.known_leader(partition)? {
            return Ok(leader);
        }
        self.refresh_metadata(&[&partition.topic]).await?;
        let leader = self.known_leader(partition)?;
        leader.ok_or_else(|| ClientError::refused(ErrorCode::LeaderNotAvailable))
    }

    /// Forgets the leaders of a topic, so that the next [`Client::leader`] asks again.
    pub fn forget_topic(&self, topic: &str) {
        let mut metadata = self.0.metadata.lock();
        if metadata.topics.contains_key(topic) {
            Arc::make_mut(&mut metadata).forget(topic);
        }
    }

    /// Keeps nothing of a topic that is deleted.
    pub(crate) fn topic_is_gone(&self, topic: &str) {
        Arc::make_mut(&mut self.0.metadata.lock()).remove(topic);
    }

    /// Takes who leads a partition of the topic of that id from a broker that does not, and where that is (KIP-951); whether
    /// it is new.
    pub(crate) fn learn_leader(
        &self,
        partition: (&TopicPartition, TopicId),
        told: LeaderIdAndEpoch,
        endpoints: &[NodeEndpoint],
    ) -> bool {
        self.learn(|known| known.told_leader(partition, told, endpoints))
    }

    /// Takes it that a partition had a leader in `epoch`; whether it is new.
    pub(crate) fn saw_epoch(&self, partition: &TopicPartition, epoch: LeaderEpoch) -> bool {
        self.learn(|known| known.saw_epoch(partition, epoch))
    }

    fn learn(&self, news: impl FnOnce(&ClusterMetadata) -> Option<ClusterMetadata>) -> bool {
        let mut metadata = self.0.metadata.lock();
        let learned = news(&metadata);
        let is_new = learned.is_some();
        if let Some(learned) = learned {
            *metadata = Arc::new(learned);
        }
        is_new
    }

    fn known_leader(
        &self,
        partition: &TopicPartition,
    ) -> Result<Option<(BrokerId, LeaderEpoch, TopicId)>, ClientError> {
        let metadata = self.metadata();
        let Some(topic) = metadata.topics.get(&*partition.topic) else { return Ok(None) };
        if !topic.error_code.is_none() {
            self.forget_topic(&partition.topic);
            return Err(ClientError::refused(topic.error_code));
        }
        let Some(found) = topic.partitions.get(&partition.partition) else {
            self.forget_topic(&partition.topic);
            return Err(ClientError::refused(ErrorCode::UnknownTopicOrPartition));
        };
        // A leader that is no broker any more has a successor, or will have one.
        let leader = found.leader.filter(|leader| metadata.brokers.contains_key(leader));
        let leader = leader.map(|leader| (leader, found.leader_epoch, topic.topic_id));
        if leader.is_none() {
            self.forget_topic(&partition.topic);
        }
        Ok(leader)
    }

    /// A connection to `address` that serves nothing but `purpose`.
    pub(crate) async fn connection_for(
        &self,
        address: &str,
        purpose: Purpose,
    ) -> Result<Connection, ClientError> {
        let key = (purpose, address.to_owned());
        if let Some(open) = self.0.connections.lock().get(&key).filter(|it| !it.is_closed()) {
            return Ok(open.clone());
        }
        let failures = self.0.failures.lock().get(address).copied().unwrap_or(0);
        let spread = (self.0.env.rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let connect_timeout = setup_timeout(&self.0.options, failures, spread);
        let options = ConnectionOptions { connect_timeout, ..self.0.options.clone() };
        match Connection::connect(&self.0.env, address, options).await {
            Ok(connection) => {
                self.0.failures.lock().remove(address);
                self.0.connections.lock().insert(key, connection.clone());
                Ok(connection)
            }
            Err(error) => {
                self.0.failures.lock().insert(address.to_owned(), failures.saturating_add(1));
                self.learn(|known| known.cannot_reach(address));
                Err(error)
            }
        }
    }
}

/// A connection that is there or may be made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Prospect {
    hope: Hope,
    purpose: Purpose,
    address: String,
}

/// What is to be hoped of a connection; the best comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hope {
    Open,
    New,
    Silent,
}

impl Hope {
    fn of(silence: Duration) -> Self {
        if silence < SILENCE { Self::Open } else { Self::Silent }
    }
}

/// The brokers that are known, then those that were given first: these only if none is known, or they may be asked
/// again (KIP-899).
fn to_try<'a>(
    known: &'a BTreeMap<BrokerId, String>,
    given: &'a [String],
    again: bool,
) -> impl Iterator<Item = &'a str> {
    let given = given.iter().filter(move |_| again || known.is_empty());
    known.values().chain(given).map(String::as_str)
}

/// How long making a connection may take after `failures` failures (KIP-601): doubled each time up to a
/// limit, and moved by up to a fifth either way, as `spread` from 0 to 1 says.
fn setup_timeout(options: &ConnectionOptions, failures: u32, spread: f64) -> Duration {
    let ConnectionOptions { connect_timeout: first, connect_timeout_max: most, .. } = options;
    if failures == 0 {
        return *first;
    }
    let doubled = first.saturating_mul(1 << failures.min(20)).min(*most.max(first));
    doubled.mul_f64(0.8 + 0.4 * spread)
}

/// `host:port`, with brackets around an IPv6 address.
pub(crate) fn endpoint(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_gives_a_connection_twice_the_time_up_to_a_limit() {
        let options = ConnectionOptions::default();
        let seconds = |failures, spread| setup_timeout(&options, failures, spread).as_secs_f64();
        assert_eq!([0, 1, 2, 30].map(|failures| seconds(failures, 0.5)), [10.0, 20.0, 30.0, 30.0]);
        assert_eq!((seconds(1, 0.0), seconds(1, 1.0)), (16.0, 24.0));
        let longer = ConnectionOptions { connect_timeout_max: Duration::from_secs(1), ..options };
        assert_eq!(setup_timeout(&longer, 3, 0.5), Duration::from_secs(10));
    }

    #[test]
    fn brokers_that_were_given_are_asked_again_unless_that_is_forbidden() {
        let (given, nobody) = (vec!["given:1".to_owned()], BTreeMap::new());
        let known = BTreeMap::from([(BrokerId(1), "known:1".to_owned())]);
        let tried =
            |known, again| to_try(known, &given, again).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(tried(&known, true), ["known:1", "given:1"]);
        assert_eq!(tried(&known, false), ["known:1"]);
        assert_eq!(tried(&nobody, false), ["given:1"]);
    }
}
