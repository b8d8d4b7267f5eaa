//! Reads records. Kafka's `KafkaConsumer`.
//!
//! A [`Consumer`] reads what it is [assigned](Consumer::assign), or what its group gives it once
//! it has [subscribed](Consumer::subscribe). [`Consumer::poll`] does all the work: it takes part
//! in rebalances, looks up where to begin, and hands out what was fetched meanwhile. Only
//! heartbeats and commits are sent beside it, so a program that polls too rarely keeps its place for
//! `max.poll.interval.ms` and no longer (KIP-62). Other calls that wait, such as a commit, take part in
//! no rebalance: the program may be in the midst of what it was handed.
//!
//! # Which errors pass
//! [`Consumer::poll`] tries again by itself what may pass, and answers with nothing meanwhile.
//! What it does report needs a decision: [`ConsumerError`] says which.
//!
//! # Invariants
//! - Every future here may be dropped at any time: what was sent goes on, and the next call takes
//!   its result. A poll that is dropped has handed out nothing.
//! - A record that was handed out is before [`Consumer::position`], all others are behind it.
//! - Records are slices of the broker's response: none is copied, or allocated for.

pub mod assignor;
mod commit;
mod completed_fetch;
mod deserializer;
mod error;
mod fetch_session;
mod fetcher;
mod group_protocol;
mod heartbeat;
mod listener;
mod lookups;
mod membership;
mod metrics;
mod offsets;
mod options;
mod partitions;
mod positions;
mod rebalance;
mod records;
mod subscription;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, Stream, StreamExt};
use futures_util::{FutureExt, stream};
use ottla_protocol::compression::Decompressor;
use ottla_protocol::messages::JoinGroupResponse;
use ottla_protocol::{Monotonic, TopicPartition};

use crate::client::Purpose;
use crate::{Client, ClientError};

pub use commit::GroupMetadata;
pub use deserializer::{
    BytesDeserializer, DeserializeError, Deserializer, NumberDeserializer, StringDeserializer,
    TypedRecord,
};
pub use error::ConsumerError;
pub use fetcher::FetchedPartition;
pub use listener::{ConsumerInterceptor, Rebalance, RebalanceListener};
pub use lookups::FoundOffset;
pub use metrics::ConsumerMetrics;
pub use options::{AutoOffsetReset, ConsumerConfig, ConsumerOptions, IsolationLevel};
pub use partitions::{OffsetAndMetadata, OffsetSpec};
pub use records::{ConsumerRecord, RecordRef, Records};

use commit::Commits;
use fetcher::{Fetched, Fetcher};
use lookups::Answers;
use metrics::Counters;
use partitions::{Partitions, Position};
use rebalance::{Group, Synced};
use subscription::{MetadataNeed, Subscription};

/// Reads records, from each partition in order. Kafka's `KafkaConsumer`.
///
/// The guide has [a chapter](crate::guide::consuming) on it.
pub struct Consumer {
    client: Client,
    options: ConsumerOptions,
    subscription: Subscription,
    partitions: Partitions,
    fetcher: Fetcher,
    group: Option<Group>,
    commits: Commits,
    metadata: MetadataNeed,
    in_flight: FuturesUnordered<BoxFuture<'static, Event>>,
    errors: VecDeque<ConsumerError>,
    listener: Option<Box<dyn RebalanceListener>>,
    interceptors: Vec<Box<dyn ConsumerInterceptor>>,
    decompressor: Decompressor,
    metrics: Counters,
    /// Something is to be looked at, before `wake_at`.
    changed: bool,
    /// Something is to be looked at by the next poll, and by nobody before.
    held_back: bool,
    /// Something was handed out, so that more may be fetched.
    drained: bool,
    wake_at: Option<Monotonic>,
}

/// What the application does with what was handed out, while something goes on here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// It is done with it, and polls: partitions may come and go, and offsets are committed by themselves.
    Done,
    /// It may be in the midst of it.
    InHand,
}

/// What came back of something that was begun.
enum Event {
    Metadata(Result<(), ClientError>),
    Fetched(Box<Fetched>),
    Offsets(Answers<FoundOffset>),
    EpochEnds(BTreeMap<TopicPartition, Position>, Answers<Position>),
    Committed(
        Vec<TopicPartition>,
        Result<BTreeMap<TopicPartition, OffsetAndMetadata>, ClientError>,
    ),
    CommitDone(commit::Done),
    Joined(Result<JoinGroupResponse, ClientError>),
    Synced(Result<Synced, ClientError>),
}

impl Consumer {
    /// Connects to a cluster as `config` says.
    pub async fn connect(
        env: &ottla_env::Env,
        config: &ConsumerConfig,
    ) -> Result<Self, ClientError> {
        let (servers, options) =
            (config.common.bootstrap_servers.clone(), config.common.connection_options());
        Ok(Self::new(Client::connect(env, servers, options).await?, config.options.clone()))
    }

    /// Reads from the cluster of `client`, through connections of its own.
    pub fn new(client: Client, options: ConsumerOptions) -> Self {
        let client = client.on_its_own();
        let now = client.env().clock.now();
        let group = options.group_id.clone().map(|group| Group::new(&client, group, &options));
        Self {
            commits: Commits::new(now + options.auto_commit_interval),
            client,
            options,
            subscription: Subscription::None,
            partitions: Partitions::default(),
            fetcher: Fetcher::default(),
            group,
            metadata: MetadataNeed::new(now),
            in_flight: FuturesUnordered::new(),
            errors: VecDeque::new(),
            listener: None,
            interceptors: Vec::new(),
            decompressor: Decompressor::new(),
            metrics: Counters::default(),
            changed: true,
            held_back: false,
            drained: false,
            wake_at: None,
        }
    }

    /// Has `interceptor` see what is handed out and committed, behind those added before.
    pub fn add_interceptor(&mut self, interceptor: impl ConsumerInterceptor + 'static) {
        self.interceptors.push(Box::new(interceptor));
    }

    /// The next records, at most `max.poll.records`; none if there were none for `timeout`.
    ///
    /// With `enable.auto.commit`, what earlier polls handed out counts as done.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Records, ConsumerError> {
        let most = self.options.max_poll_records.max(1);
        self.polled()?;
        let records = self.run_until(timeout, Work::Done, |this| this.collect(most)).await?;
        Ok(records.unwrap_or_default())
    }

    /// The next record, however long it takes.
    pub async fn recv(&mut self) -> Result<ConsumerRecord, ConsumerError> {
        loop {
            self.polled()?;
            let patience = self.options.heartbeat_interval;
            let record = self.run_until(patience, Work::Done, |this| {
                let records = this.collect(1)?;
                Ok(records.and_then(|records| records.into_iter().next()))
            });
            if let Some(record) = record.await? {
                return Ok(record);
            }
        }
    }

    /// [`Consumer::recv`] as a stream, which has no end; after an error it may go on.
    pub fn stream(
        &mut self,
    ) -> impl Stream<Item = Result<ConsumerRecord, ConsumerError>> + Send + '_ {
        stream::unfold(self, |this| async {
            let next = this.recv().await;
            Some((next, this))
        })
    }

    /// [`Consumer::poll`] without looking into the batches: nothing is checked, unpacked, or
    /// passed over. All that has arrived is handed out.
    pub async fn poll_batches(
        &mut self,
        timeout: Duration,
    ) -> Result<Vec<FetchedPartition>, ConsumerError> {
        self.polled()?;
        let fetched = self.run_until(timeout, Work::Done, Self::collect_raw).await?;
        Ok(fetched.unwrap_or_default())
    }

    /// Counters, as they are now.
    pub fn metrics(&self) -> ConsumerMetrics {
        let lag = |it: &TopicPartition| Some((it.clone(), self.lag(it)?));
        self.metrics.snapshot(self.partitions.map.keys().filter_map(lag).collect())
    }

    /// Leaves the group, after committing what was handed out if `enable.auto.commit` is set, and
    /// ends what is under way at brokers. What takes longer than `timeout` is given up. In the middle
    /// of a rebalance a commit may be refused, which is logged: [`Consumer::commit`] before tells.
    ///
    /// A static member keeps its place for `session.timeout.ms` (KIP-345). A consumer that is
    /// dropped without this keeps its partitions from others for that long.
    pub async fn close(mut self, timeout: Duration) -> Result<(), ConsumerError> {
        let clock = Arc::clone(&self.client.env().clock);
        let deadline = clock.now() + timeout;
        let mut committed = Ok(());
        let consumed = self.partitions.consumed();
        if self.options.auto_commit && self.group.is_some() && !consumed.is_empty() {
            committed = self.commit_within(consumed, timeout).await;
            let refused = |error: &ConsumerError| {
                matches!(error, ConsumerError::CommitFailed(_) | ConsumerError::RebalanceInProgress)
            };
            if let Err(error) = &committed
                && refused(error)
            {
                tracing::warn!(%error, "offsets were not committed");
                committed = Ok(());
            }
        }
        let owned: Vec<_> = self.partitions.names().into_iter().collect();
        if self.subscription.is_of_group() {
            self.give_up(&owned, false);
        }
        let left = deadline.since(clock.now());
        let is_done = |this: &mut Self| Ok((!this.commits.is_busy()).then_some(()));
        self.run_until(left, Work::InHand, is_done).await?;
        let left = deadline.since(clock.now());
        let client = self.client.clone();
        let ending = async {
            self.leave_group("the consumer is closed").await;
            for (broker, request) in self.fetcher.sessions() {
                if let Ok(connection) = client.broker_for(broker, Purpose::Fetch).await {
                    let _ended_or_forgotten = connection.fetch(&request).await;
                }
            }
        };
        let _given_up = client.env().timeout(left, Box::pin(ending)).await;
        committed
    }

    /// Checks that there is something to poll for, and tells the group that somebody does.
    fn polled(&mut self) -> Result<(), ConsumerError> {
        if matches!(self.subscription, Subscription::None) {
            let text = "the consumer reads nothing: subscribe or assign first";
            return Err(ConsumerError::Usage(text.to_owned()));
        }
        if let Some(group) = self.group.as_ref().filter(|_| self.subscription.is_of_group()) {
            let mut membership = group.place.membership.lock();
            if membership.polled(self.client.env().clock.now()) {
                group.place.wake_task.notify_one();
            }
            self.changed |= !membership.is_stable();
        }
        self.changed |= std::mem::take(&mut self.held_back);
        Ok(())
    }

    /// Goes on with everything until `look` finds what it looks for, or `timeout` is over.
    async fn run_until<T>(
        &mut self,
        timeout: Duration,
        work: Work,
        mut look: impl FnMut(&mut Self) -> Result<Option<T>, ConsumerError>,
    ) -> Result<Option<T>, ConsumerError> {
        let clock = Arc::clone(&self.client.env().clock);
        let mut now = clock.now();
        let deadline = now + timeout;
        loop {
            self.go_on(now, work);
            if let Some(found) = look(self)? {
                // What can be fetched next is on its way while the caller works.
                self.go_on(now, Work::InHand);
                return Ok(Some(found));
            }
            if now >= deadline {
                return Ok(None);
            }
            if !self.changed && !self.drained {
                let until = self.wake_at.map_or(deadline, |wake| wake.min(deadline));
                self.wait(&clock, until.since(now)).await;
            }
            now = clock.now();
        }
    }

    /// Waits until something comes back, or for `most`.
    async fn wait(&mut self, clock: &Arc<dyn ottla_env::Clock>, most: Duration) {
        let place = self.group.as_ref().map(|group| Arc::clone(&group.place));
        let woken = async {
            match &place {
                Some(place) => place.wake_consumer.notified().await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            biased;
            Some(event) = self.in_flight.next() => Some(event),
            () = woken => None,
            () = clock.sleep(most) => None,
        };
        self.changed |= event.is_none();
        if let Some(event) = event {
            self.handle(event);
        }
    }

    /// Takes what has come back, and begins what is due.
    fn go_on(&mut self, now: Monotonic, work: Work) {
        loop {
            while let Some(Some(event)) = self.in_flight.next().now_or_never() {
                self.handle(event);
            }
            let due = self.changed || self.wake_at.is_some_and(|wake| wake <= now);
            if !due && !self.drained {
                return;
            }
            let drained = std::mem::take(&mut self.drained);
            if due {
                self.changed = false;
                self.wake_at = None;
                if work == Work::Done {
                    self.step_group(now);
                    self.step_auto_commit(now);
                }
                self.held_back |= work == Work::InHand;
                self.step_positions(now);
            }
            self.step_fetches(now, drained && !due);
            // Last, because the others find out what is not known.
            self.step_metadata(now);
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.client.env().clock.now();
        match event {
            Event::Metadata(result) => self.metadata_came(result, now),
            Event::Fetched(fetched) => self.fetched(*fetched, now),
            Event::Offsets(answers) => self.offsets_came(answers, now),
            Event::EpochEnds(asked, answers) => self.epoch_ends_came(&asked, answers, now),
            Event::Committed(asked, result) => self.committed_came(&asked, result, now),
            Event::CommitDone(done) => self.commit_done(done),
            Event::Joined(result) => self.joined(result),
            Event::Synced(result) => self.synced(result),
        }
        self.changed = true;
    }

    /// Begins something whose result is taken when it comes.
    fn start(&mut self, work: impl Future<Output = Event> + Send + 'static) {
        self.in_flight.push(work.boxed());
    }

    /// Has everything looked at again at `time`, if not before.
    fn wake_at(&mut self, time: Monotonic) {
        self.wake_at = Some(self.wake_at.map_or(time, |known| known.min(time)));
    }
}

/// The numbers of the partitions of each topic.
fn by_topic<'p>(
    partitions: impl IntoIterator<Item = &'p TopicPartition>,
) -> BTreeMap<&'p Arc<str>, Vec<i32>> {
    let mut topics: BTreeMap<&Arc<str>, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    topics
}
