//! Fetch: the hot path out, for consumers and for followers.
//!
//! A follower says by what it asks for how far it has come: that is noted before it is answered. Consumers read what is
//! committed, from the leader or, if they know of it (from version 11 on, KIP-392), from a follower.

use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::fetch::{
    AbortedTransaction, EpochEndOffset, FetchPartition, FetchRecords, FetchRequest, FetchResponse,
    FetchableTopicResponse, PartitionData,
};
use ottla_protocol::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset, StrBytes, TopicRef};
use ottla_replication::{Candidate, FollowerFetch, ReplicaSelector};
use ottla_storage::{FetchData, Log, ReadError, Wanted};
use tracing::warn;

use super::produce::missing;
use super::{Answer, RequestContext, endpoints_of};
use crate::broker::Broker;
use crate::fetch_sessions::FetchContext;
use crate::quotas::milliseconds_of;
use crate::replica::{
    Changes, FetchedRecords, FetchingReplica, Partition, ReadBound, Subscription, WaitFor,
};

/// The wire's number for `isolation.level=read_committed`.
const READ_COMMITTED: i8 = 1;
/// From this version on a consumer may be sent to a follower (KIP-392).
const FIRST_VERSION_FROM_FOLLOWERS: i16 = 11;

pub(super) fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: &FetchRequest,
) -> Answer {
    let env = broker.env();
    let session = broker.fetch_sessions().begin(request, env.clock.now(), || env.rng.next_u64());
    let session = match session {
        Ok(session) => session,
        Err(error_code) => {
            return Answer::now(FetchResponse {
                throttle_time_ms: 0,
                error_code,
                session_id: 0,
                topics: Vec::new(),
                node_endpoints: Vec::new(),
            });
        }
    };
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0);
    let mut max_bytes = max_bytes.min(broker.config().fetch.max_bytes as usize);
    let follower = (request.replica_id.0 >= 0).then_some(FetchingReplica {
        id: request.replica_id,
        broker_epoch: BrokerEpoch(request.replica_epoch),
    });
    // Where no quota is set, the client's name is nobody's concern; nor is a follower held to any.
    let client = (follower.is_none() && broker.quotas().are_set()).then(|| context.clone());
    if let Some(client) = &client {
        let allowed = broker.quotas().most_to_fetch(client.client());
        max_bytes = max_bytes.min(allowed.unwrap_or(usize::MAX));
    }
    let fetch = Fetch {
        listener: Arc::clone(&context.connection.listener),
        follower,
        any_replica: follower.is_none() && context.version() >= FIRST_VERSION_FROM_FOLLOWERS,
        rack: request.rack_id.clone(),
        bound: match request.isolation_level {
            _ if follower.is_some() => ReadBound::LogEnd,
            READ_COMMITTED => ReadBound::LastStableOffset,
            _ => ReadBound::HighWatermark,
        },
        // More than may be sent is not waited for.
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
        max_bytes,
        client,
        session,
    };
    let mut wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    if fetch.session.partitions.is_empty() && fetch.session.changes.is_none() {
        wait = Duration::ZERO;
    }
    let fetch = fetch.noted(broker);
    let read = fetch.try_read(broker);
    if !read.is_cold && (read.enough || wait.is_zero()) {
        return Answer::now(fetch.finish(broker, read));
    }
    let broker = Arc::clone(broker);
    Answer::later(async move {
        let (fetch, read) = fetch.wait(&broker, wait).await;
        fetch.finish(&broker, read)
    })
}

/// A fetch under way.
struct Fetch {
    listener: Arc<str>,
    follower: Option<FetchingReplica>,
    /// Whether a follower may answer as well as the leader.
    any_replica: bool,
    /// Where the consumer is, empty if it did not say.
    rack: StrBytes,
    bound: ReadBound,
    min_bytes: usize,
    max_bytes: usize,
    /// Who fetches, if quotas are set.
    client: Option<RequestContext>,
    session: FetchContext,
}

/// What wakes a fetch that waits.
enum Waiting {
    /// The session of a follower knows which of its partitions have news.
    Session(Arc<Changes>),
    Partitions(Subscription<Partition>),
}

impl Waiting {
    fn of(fetch: &Fetch, broker: &Broker) -> Self {
        if let Some(changes) = &fetch.session.changes {
            return Self::Session(Arc::clone(changes));
        }
        let named = fetch.session.partitions.iter();
        let watched = named
            .filter_map(|(topic, fetch)| broker.replicas().find(topic, fetch.partition))
            .collect();
        let wait_for = if fetch.follower.is_some() { WaitFor::Append } else { WaitFor::Commit };
        Self::Partitions(Subscription::new(watched, wait_for))
    }

    async fn changed(&self) {
        match self {
            Self::Session(changes) => changes.wait().await,
            Self::Partitions(subscription) => subscription.changed().await,
        }
    }
}

/// One round over all partitions.
struct Read {
    answers: Vec<(TopicRef, PartitionData<FetchedRecords>)>,
    /// Bytes that count for `leader.replication.throttled.rate`.
    throttled: usize,
    /// There is no reason to wait for more.
    enough: bool,
    /// It ended where the disk would have to be waited for.
    is_cold: bool,
}

/// What the records of a partition may add to an answer.
struct Limits {
    max_bytes: usize,
    /// The first records are sent whatever their size (KIP-74).
    is_first: bool,
    /// Bytes of other partitions that count for the rate of replication.
    throttled: usize,
    /// Whether the bytes of this partition count, too.
    counts: bool,
}

/// Looks into a log; `None` if it would have to wait for the disk.
type Look = fn(&Log, &Wanted) -> Result<Option<FetchData>, ReadError>;

impl Fetch {
    /// Reads as long as all that has to be looked at is in memory.
    fn try_read(&self, broker: &Broker) -> Read {
        self.look(broker, Log::try_fetch)
    }

    /// Reads; if that takes the disk, on a thread that may wait for it.
    async fn read(self, broker: &Arc<Broker>) -> (Self, Read) {
        let read = self.try_read(broker);
        if !read.is_cold {
            return (self, read);
        }
        let reader = Arc::clone(broker);
        let read = move || {
            let read = self.look(&reader, |log, wanted| log.fetch(wanted).map(Some));
            (self, read)
        };
        broker.cold_reads().run(read).await
    }

    fn look(&self, broker: &Broker, look: Look) -> Read {
        let (mut bytes, mut readable, mut throttled) = (0, 0, 0);
        let mut failed = false;
        let mut answers = Vec::with_capacity(self.session.partitions.len());
        for (topic, fetch) in &self.session.partitions {
            let mut limits = Limits {
                max_bytes: self.max_bytes.saturating_sub(bytes),
                is_first: bytes == 0,
                throttled,
                counts: false,
            };
            let data = match self.read_partition(broker, (topic, fetch), &mut limits, look) {
                Ok(Some((data, bytes_readable))) => {
                    readable += bytes_readable;
                    data
                }
                Ok(None) => return Read { answers, throttled, enough: false, is_cold: true },
                Err(data) => {
                    failed = true;
                    data
                }
            };
            bytes += data.records.len();
            throttled += if limits.counts { data.records.len() } else { 0 };
            answers.push((topic.clone(), data));
        }
        Read { answers, throttled, enough: failed || readable >= self.min_bytes, is_cold: false }
    }

    /// Holds a follower that is not in sync to the rate of replication; whether there is nothing left for it (KIP-73).
    fn is_held_back(&self, broker: &Broker, partition: &Partition, limits: &mut Limits) -> bool {
        let Some(follower) = self.follower else { return false };
        let Some(why) = partition.throttled_to(follower.id) else { return false };
        limits.counts = true;
        if partition.is_in_sync(follower.id) {
            return false;
        }
        let left = broker.replicas().quotas().leader.left(why, broker.env().clock.now());
        limits.max_bytes = limits.max_bytes.min(left.saturating_sub(limits.throttled));
        limits.max_bytes == 0
    }

    /// The number is what counts against `min_bytes`: where limits cut batches off, all that they allow, since waiting
    /// would bring no more. Without an answer, the disk would have to be waited for.
    #[allow(clippy::result_large_err, reason = "both sides are the same answer")]
    fn read_partition(
        &self,
        broker: &Broker,
        (topic, fetch): (&TopicRef, &FetchPartition),
        limits: &mut Limits,
        look: Look,
    ) -> Result<Option<(PartitionData<FetchedRecords>, usize)>, PartitionData<FetchedRecords>> {
        let failed = |error| PartitionData::failed(fetch.partition, error);
        let Some(partition) = broker.replicas().find(topic, fetch.partition) else {
            return Err(failed(missing(broker, topic, fetch.partition)));
        };
        if let Err(error) = self.check(&partition, fetch) {
            let mut data = failed(error);
            data.current_leader = Some(partition.current_leader());
            return Err(data);
        }
        let start = partition.log().log_start_offset();
        match diverging_epoch(&partition, fetch) {
            // Whatever its epochs are, it has to begin anew.
            Divergence::Unknown => return Err(failed(ErrorCode::OffsetOutOfRange)),
            Divergence::At(end) if fetch.fetch_offset >= start => {
                let mut data = failed(ErrorCode::None);
                data.diverging_epoch = Some(end);
                return Err(data);
            }
            Divergence::At(_) | Divergence::None => {}
        }
        if let Some(nearer) = self.preferred_replica(broker, &partition, fetch.fetch_offset) {
            let mut data = failed(ErrorCode::None);
            data.preferred_read_replica = nearer;
            tell_offsets(&mut data, &partition);
            return Err(data);
        }
        let upper_bound = partition.upper_bound(self.bound);
        let is_within = (start..=upper_bound).contains(&fetch.fetch_offset);
        // It can delete what is deleted here, and somebody may wait for that.
        let is_behind =
            self.follower.is_some() && (Offset(0)..start).contains(&fetch.log_start_offset);
        let news = if is_behind { self.min_bytes } else { 0 };
        if is_within && self.is_held_back(broker, &partition, limits) {
            let mut data = failed(ErrorCode::None);
            tell_offsets(&mut data, &partition);
            return Ok(Some((data, news)));
        }
        let max_bytes = usize::try_from(fetch.partition_max_bytes).unwrap_or(0);
        let wanted = Wanted {
            from: fetch.fetch_offset,
            upper_bound,
            max_bytes: max_bytes.min(limits.max_bytes),
            min_one_message: limits.is_first,
            aborted_txns: self.bound == ReadBound::LastStableOffset,
        };
        let looked = partition.look(|log| look(log, &wanted));
        let mut data = failed(ErrorCode::None);
        let mut readable = 0;
        match looked {
            Ok(None) => return Ok(None),
            Ok(Some(read)) => {
                readable = read.len().max(if read.is_limited { wanted.max_bytes } else { 0 });
                data.aborted_transactions = aborted_transactions(self.bound, &read);
                data.records = FetchedRecords::new(read.slices);
            }
            Err(ReadError::OffsetOutOfRange { .. }) => {
                data = failed(partition.out_of_range(fetch.fetch_offset));
            }
            Err(error @ (ReadError::Corrupt(_) | ReadError::Storage(_))) => {
                warn!(partition = %partition.name(), %error, "could not read");
                return Err(failed(error.error_code()));
            }
        }
        tell_offsets(&mut data, &partition);
        let readable = readable.max(news);
        if data.error_code == ErrorCode::None { Ok(Some((data, readable))) } else { Err(data) }
    }

    /// Whether the one who asks may read here.
    fn check(&self, partition: &Partition, fetch: &FetchPartition) -> Result<(), ErrorCode> {
        let epoch = fetch.current_leader_epoch;
        match self.follower {
            Some(follower) => partition.check_follower(follower, epoch).map(|_epoch| ()),
            None if self.any_replica => partition.check_epoch(epoch),
            None => partition.check_reader(epoch),
        }
    }

    /// Notes how far a follower is, before anything is read for it: once in a fetch, however long it waits.
    fn noted(self, broker: &Broker) -> Self {
        let Some(follower) = self.follower else { return self };
        self.watch(broker);
        for (topic, fetch) in &self.session.partitions {
            let Some(partition) = broker.replicas().find(topic, fetch.partition) else { continue };
            // What is refused here is refused again when it is read.
            let _refused = note_follower(&partition, follower, fetch);
        }
        self
    }

    /// The follower that the consumer should rather read from, if this broker leads and says so (KIP-392).
    fn preferred_replica(
        &self,
        broker: &Broker,
        partition: &Partition,
        offset: Offset,
    ) -> Option<BrokerId> {
        if !self.any_replica || self.rack.is_empty() || !partition.is_leader() {
            return None;
        }
        let selector = match broker.config().replica_manager.rack_aware_reads {
            true => ReplicaSelector::RackAware,
            false => ReplicaSelector::Leader,
        };
        let image = broker.image();
        let rack = |id| image.broker(id).and_then(|broker| broker.rack.as_deref());
        let reachable = |id| {
            image.broker(id).is_some_and(|it| !it.fenced && it.listener(&self.listener).is_some())
        };
        let followers = partition.replicas_with(offset);
        let candidates = followers.iter().filter(|it| reachable(it.id)).map(|it| Candidate {
            id: it.id,
            rack: rack(it.id),
            log_end: it.log_end,
            last_caught_up: it.last_caught_up,
        });
        selector.select(&self.rack, rack(broker.id()), candidates)
    }

    /// Reads again whenever something changed, until there is enough or the time is over.
    async fn wait(self, broker: &Arc<Broker>, wait: Duration) -> (Self, Read) {
        let clock = &broker.env().clock;
        let deadline = clock.sleep(wait);
        tokio::pin!(deadline);
        let waiting = Waiting::of(&self, broker);
        let mut fetch = self;
        loop {
            let read;
            (fetch, read) = fetch.read(broker).await;
            if read.enough || wait.is_zero() {
                return (fetch, read);
            }
            tokio::select! {
                biased;
                () = waiting.changed() => {}
                () = &mut deadline => {
                    fetch.refresh(broker);
                    return fetch.read(broker).await;
                }
            }
            fetch.refresh(broker);
        }
    }

    /// Looks at what has news by now, too, if this is the session of a follower.
    fn refresh(&mut self, broker: &Broker) {
        if self.session.changes.is_some() {
            broker.fetch_sessions().refresh(&mut self.session);
            self.watch(broker);
        }
    }

    fn watch(&self, broker: &Broker) {
        let find = |topic: &TopicRef, index| broker.replicas().find(topic, index);
        broker.fetch_sessions().watch(&self.session, find);
    }

    /// For how many milliseconds the client has to be silent before it may have `answers`.
    fn charge(
        &self,
        broker: &Broker,
        answers: &[(TopicRef, PartitionData<FetchedRecords>)],
    ) -> i32 {
        let Some(client) = &self.client else { return 0 };
        let bytes = answers.iter().map(|(_, data)| data.records.len()).sum();
        let now = broker.env().clock.now();
        milliseconds_of(broker.quotas().fetched(client.client(), bytes, now))
    }

    fn finish(
        self,
        broker: &Arc<Broker>,
        Read { answers, throttled, .. }: Read,
    ) -> FetchResponse<FetchedRecords> {
        if throttled > 0 {
            broker.replicas().quotas().leader.record(throttled, broker.env().clock.now());
        }
        let throttle_time_ms = self.charge(broker, &answers);
        if throttle_time_ms > 0 {
            // As in Kafka, an answer without any partition; the session goes on as if nothing had been read (KIP-219).
            return FetchResponse {
                throttle_time_ms,
                error_code: ErrorCode::None,
                session_id: broker.fetch_sessions().withhold(self.session),
                topics: Vec::new(),
                node_endpoints: Vec::new(),
            };
        }
        let has_more = |topic: &TopicRef, fetch: &FetchPartition| {
            let partition = broker.replicas().find(topic, fetch.partition);
            partition.is_some_and(|it| it.log().log_end_offset() > fetch.fetch_offset)
        };
        let (session_id, told) = broker.fetch_sessions().finish(self.session, answers, has_more);
        let leaders = told.iter().filter_map(|(_, data)| Some(data.current_leader?.leader_id));
        let node_endpoints = endpoints_of(broker, &self.listener, leaders);
        let mut topics: Vec<FetchableTopicResponse<FetchedRecords>> = Vec::new();
        for (topic, data) in told {
            match topics.last_mut().filter(|last| last.topic == topic) {
                Some(last) => last.partitions.push(data),
                None => topics.push(FetchableTopicResponse { topic, partitions: vec![data] }),
            }
        }
        FetchResponse {
            throttle_time_ms: 0,
            error_code: ErrorCode::None,
            session_id,
            topics,
            node_endpoints,
        }
    }
}

/// What the reader has to pass over (KIP-98); nothing, not even an empty list, for whom it does not concern.
fn aborted_transactions(bound: ReadBound, read: &FetchData) -> Option<Vec<AbortedTransaction>> {
    let aborted = read.aborted_txns.iter().map(|txn| AbortedTransaction {
        producer_id: txn.producer_id,
        first_offset: txn.first_offset,
    });
    match bound {
        ReadBound::HighWatermark | ReadBound::LogEnd => None,
        ReadBound::LastStableOffset => Some(aborted.collect()),
    }
}

/// Notes how far a follower is, unless its log leaves ours.
fn note_follower(
    partition: &Arc<Partition>,
    follower: FetchingReplica,
    fetch: &FetchPartition,
) -> Result<(), ErrorCode> {
    let leader_epoch = partition.check_follower(follower, fetch.current_leader_epoch)?;
    // Before it is read: what is appended from now on does not hold the follower back.
    let (start, end) = {
        let log = partition.log();
        (log.log_start_offset(), log.log_end_offset())
    };
    let is_within = (start..=end).contains(&fetch.fetch_offset);
    if !is_within || !matches!(diverging_epoch(partition, fetch), Divergence::None) {
        return Ok(());
    }
    partition.follower_fetched(&FollowerFetch {
        follower: follower.id,
        broker_epoch: follower.broker_epoch,
        leader_epoch,
        offset: fetch.fetch_offset,
        log_start: fetch.log_start_offset,
        leader_log_start: start,
        leader_log_end: end,
    })
}

fn tell_offsets(data: &mut PartitionData<FetchedRecords>, partition: &Partition) {
    let (log, high_watermark) = (partition.log(), partition.high_watermark());
    data.high_watermark = high_watermark;
    data.last_stable_offset = log.last_stable_offset(high_watermark);
    data.log_start_offset = log.log_start_offset();
}

/// Whether a reader's log leaves ours.
enum Divergence {
    None,
    /// It has records of an epoch that ended earlier here (KIP-595).
    At(EpochEndOffset),
    /// Nothing is known here of its last epoch.
    Unknown,
}

fn diverging_epoch(partition: &Partition, fetch: &FetchPartition) -> Divergence {
    if fetch.last_fetched_epoch == LeaderEpoch::NONE {
        return Divergence::None;
    }
    let Some(end) = partition.end_offset_for_epoch(fetch.last_fetched_epoch) else {
        return Divergence::Unknown;
    };
    if end.epoch < fetch.last_fetched_epoch || end.end_offset < fetch.fetch_offset {
        return Divergence::At(EpochEndOffset { epoch: end.epoch, end_offset: end.end_offset });
    }
    Divergence::None
}
