//! What is done about a broker that owes an answer and gives none: it may stand still, or be cut off, and its connection
//! says nothing of that. Others are asked whether it still has what it was asked about (`docs/adr/0012-sessions-end-early.md`).

use std::collections::BTreeSet;
use std::time::Duration;

use ottla_protocol::messages::MetadataRequest;
use ottla_protocol::{ApiKey, BrokerId, Monotonic, TopicPartition, message};

use crate::client::Purpose;
use crate::{Client, ClientError, ClusterMetadata, Connection, CoordinatorKey};

/// Who has not answered for so long may stand still, or be cut off: others are asked about it.
pub(crate) const SILENCE: Duration = Duration::from_millis(500);

/// How soon others are asked again about who is still silent: so much later than they do, at most, is it known who leads instead.
pub(crate) const ASK_AGAIN: Duration = Duration::from_millis(200);

/// How long an answer may well take, and how soon others are asked again when it takes longer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    first: Duration,
    again: Duration,
}

impl Patience {
    /// With what is answered at once.
    pub(crate) const SHORT: Self = Self { first: SILENCE, again: ASK_AGAIN };

    /// With what waits for others, and is most often late for good reason (JoinGroup).
    pub(crate) const LONG: Self = Self { first: SILENCE, again: Duration::from_secs(1) };

    /// With what may be held back for so long (Fetch).
    pub(crate) fn beyond(held: Duration) -> Self {
        Self { first: SILENCE.saturating_add(held), ..Self::SHORT }
    }
}

impl Client {
    /// What `asking` the `broker` about `partitions` comes to. Given up, as if it took too long, once others say that another
    /// leads one of them.
    pub(crate) async fn unless_another_leads<'p, T>(
        &self,
        (broker, api): (BrokerId, ApiKey),
        partitions: impl Iterator<Item = &'p TopicPartition> + Clone,
        patience: Patience,
        asking: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let is_lost = || {
            let mut partitions = partitions.clone();
            async move {
                let topics: BTreeSet<&str> = partitions.clone().map(|it| &*it.topic).collect();
                let topics: Vec<&str> = topics.into_iter().collect();
                let known = self.query_metadata(Some(&topics), false).await.ok()?;
                partitions.any(|it| another_leads(&known, it, broker)).then_some(())
            }
        };
        let began = self.env().clock.now();
        tokio::select! {
            biased;
            answer = asking => answer,
            () = self.once_told(patience, is_lost) => Err(self.given_up(broker, api, began)),
        }
    }

    /// Asks the coordinator of `key` once, and forgets it if it cannot be reached, or says that it is none. One that is silent
    /// is given up, as if it took too long, once others say that another coordinates: that one is known then.
    pub(crate) async fn ask_coordinator_once<T, A: Future<Output = Result<T, ClientError>>>(
        &self,
        key: &CoordinatorKey,
        patience: Patience,
        ask: impl FnOnce(Connection) -> A,
    ) -> Result<T, ClientError> {
        let (broker, address) = self.coordinator_address(key).await?;
        let asking = async { ask(self.coordinator_at(&address).await?).await };
        self.unless_another_coordinates(key, broker, patience, asking).await
    }

    /// What `asking` the `broker`, which coordinates `key`, comes to; see [`Client::ask_coordinator_once`].
    pub(crate) async fn unless_another_coordinates<T>(
        &self,
        key: &CoordinatorKey,
        broker: BrokerId,
        patience: Patience,
        asking: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let replaced = || async move {
            let found = self.find_coordinator(key).await.ok()?;
            (found.0 != broker).then_some(found)
        };
        let began = self.env().clock.now();
        tokio::select! {
            biased;
            answer = asking => {
                if answer.as_ref().is_err_and(ClientError::is_coordinator_lost) {
                    let mut known = self.known_coordinators();
                    if known.get(key).is_some_and(|(known, _)| *known == broker) {
                        known.remove(key);
                    }
                }
                answer
            }
            found = self.once_told(patience, replaced) => {
                self.known_coordinators().insert(key.clone(), found);
                Err(self.given_up(broker, ApiKey::FindCoordinator, began))
            }
        }
    }

    /// What `asking` comes to, where the broker on `connection` decides as the controller, or passes on what it is asked. Given
    /// up, as if it took too long, once others say that another speaks for the controller, and it says nothing at all.
    pub(crate) async fn unless_another_controls<T>(
        &self,
        (connection, api): (&Connection, ApiKey),
        asking: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let (known, address) = (self.metadata(), connection.address());
        let is_there = |(_, at): &(&BrokerId, &String)| *at == address;
        let Some((&broker, _)) = known.brokers.iter().find(is_there) else { return asking.await };
        let was_named = known.controller == Some(broker);
        let is_lost = || async move {
            let known = self.query_metadata(Some(&[]), false).await.ok()?;
            let is_another = known.controller.is_some_and(|it| it != broker);
            // Any other only passes on what it is asked, and goes to the next controller by itself: asked there as well, it would
            // be done twice. So it would if this one is only slow, and each broker names whom it likes, as Kafka's do.
            let may_be_lost = is_another && (was_named || !known.brokers.contains_key(&broker));
            (may_be_lost && !self.says_something(address).await).then_some(())
        };
        let began = self.env().clock.now();
        tokio::select! {
            biased;
            answer = asking => answer,
            () = self.once_told(Patience::SHORT, is_lost) => Err(self.given_up(broker, api, began)),
        }
    }

    /// Whether a broker answers at once what is easily answered, on a connection where nothing else is due.
    async fn says_something(&self, address: &str) -> bool {
        let nothing = message!(MetadataRequest { topics: Some(Vec::new()) });
        let asking = Box::pin(async {
            let connection = self.connection_for(address, Purpose::Questions).await?;
            connection.call(&nothing).await
        });
        matches!(self.env().timeout(SILENCE, asking).await, Ok(Ok(_)))
    }

    /// What others tell about one that has been silent for too long, as soon as they do; who cannot tell now is asked again.
    async fn once_told<T, A: Future<Output = Option<T>>>(
        &self,
        patience: Patience,
        ask: impl Fn() -> A,
    ) -> T {
        let clock = &self.env().clock;
        clock.sleep(patience.first).await;
        loop {
            if let Some(told) = ask().await {
                return told;
            }
            clock.sleep(patience.again).await;
        }
    }

    /// Whether it was carried out is as little known as after any other time without an answer.
    fn given_up(&self, broker: BrokerId, api: ApiKey, began: Monotonic) -> ClientError {
        let limit = self.env().clock.now().since(began);
        let address = self.metadata().brokers.get(&broker).cloned().unwrap_or_default();
        ClientError::TimedOut { address: address.into(), api, limit }
    }
}

/// Whether a partition is known to have a leader that is not `broker`.
fn another_leads(known: &ClusterMetadata, partition: &TopicPartition, broker: BrokerId) -> bool {
    let topic = known.topics.get(&*partition.topic);
    let leader = topic.and_then(|topic| topic.partitions.get(&partition.partition)?.leader);
    leader.is_some_and(|leader| leader != broker && known.brokers.contains_key(&leader))
}
