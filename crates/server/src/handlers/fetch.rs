//! Fetch: the hot path out. Consumers only: a cluster of one has no followers.

use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::fetch::{
    AbortedTransaction, EpochEndOffset, FetchPartition, FetchRecords, FetchRequest, FetchResponse,
    FetchableTopicResponse, PartitionData,
};
use ottla_protocol::{ErrorCode, LeaderEpoch, TopicRef};
use ottla_storage::{FetchData, Log, ReadError, Wanted};
use tracing::warn;

use super::produce::missing;
use super::{Answer, RequestContext, endpoints_of};
use crate::broker::Broker;
use crate::fetch_sessions::FetchContext;
use crate::quotas::milliseconds_of;
use crate::replica::{FetchedRecords, Partition, ReadBound, Subscription};

/// The wire's number for `isolation.level=read_committed`.
const READ_COMMITTED: i8 = 1;

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
    // Where no quota is set, the client's name is nobody's concern.
    let client = broker.quotas().are_set().then(|| context.clone());
    if let Some(client) = &client {
        let allowed = broker.quotas().most_to_fetch(client.client());
        max_bytes = max_bytes.min(allowed.unwrap_or(usize::MAX));
    }
    let fetch = Fetch {
        listener: Arc::clone(&context.connection.listener),
        is_follower: request.replica_id.0 >= 0,
        bound: match request.isolation_level {
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
    if fetch.session.partitions.is_empty() {
        wait = Duration::ZERO;
    }
    let read = fetch.try_read(broker);
    if !read.is_cold && (read.enough || wait.is_zero()) {
        return Answer::now(fetch.finish(broker, read.answers));
    }
    let broker = Arc::clone(broker);
    Answer::later(async move {
        let (fetch, read) = fetch.wait(&broker, wait).await;
        fetch.finish(&broker, read.answers)
    })
}

/// A fetch under way.
struct Fetch {
    listener: Arc<str>,
    is_follower: bool,
    bound: ReadBound,
    min_bytes: usize,
    max_bytes: usize,
    /// Who fetches, if quotas are set.
    client: Option<RequestContext>,
    session: FetchContext,
}

/// One round over all partitions.
struct Read {
    answers: Vec<(TopicRef, PartitionData<FetchedRecords>)>,
    /// There is no reason to wait for more.
    enough: bool,
    /// It ended where the disk would have to be waited for.
    is_cold: bool,
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
        let (mut bytes, mut readable) = (0, 0);
        let mut failed = false;
        let mut answers = Vec::with_capacity(self.session.partitions.len());
        for (topic, fetch) in &self.session.partitions {
            let left = self.max_bytes.saturating_sub(bytes);
            let limits = (left, bytes == 0);
            let data = match self.read_partition(broker, (topic, fetch), limits, look) {
                Ok(Some((data, bytes_readable))) => {
                    readable += bytes_readable;
                    data
                }
                Ok(None) => return Read { answers, enough: false, is_cold: true },
                Err(data) => {
                    failed = true;
                    data
                }
            };
            bytes += data.records.len();
            answers.push((topic.clone(), data));
        }
        Read { answers, enough: failed || readable >= self.min_bytes, is_cold: false }
    }

    /// `left` is how many bytes the answer may still grow by; the first records are sent whatever their size (KIP-74).
    ///
    /// The number is what counts against `min_bytes`: where limits cut batches off, all that they allow, since waiting
    /// would bring no more. Without an answer, the disk would have to be waited for.
    #[allow(clippy::result_large_err, reason = "both sides are the same answer")]
    fn read_partition(
        &self,
        broker: &Broker,
        (topic, fetch): (&TopicRef, &FetchPartition),
        (left, first): (usize, bool),
        look: Look,
    ) -> Result<Option<(PartitionData<FetchedRecords>, usize)>, PartitionData<FetchedRecords>> {
        let failed = |error| PartitionData::failed(fetch.partition, error);
        let Some(partition) = broker.replicas().find(topic, fetch.partition) else {
            return Err(failed(missing(broker, topic, fetch.partition)));
        };
        if self.is_follower {
            // No broker but this one holds the partition.
            return Err(failed(ErrorCode::NotLeaderOrFollower));
        }
        if let Err(error) = partition.check_reader(fetch.current_leader_epoch) {
            let mut data = failed(error);
            data.current_leader = Some(partition.current_leader());
            return Err(data);
        }
        if let Some(diverging) = diverging_epoch(&partition, fetch) {
            let mut data = failed(ErrorCode::None);
            data.diverging_epoch = Some(diverging);
            return Err(data);
        }
        let wanted = Wanted {
            from: fetch.fetch_offset,
            upper_bound: partition.upper_bound(self.bound),
            max_bytes: usize::try_from(fetch.partition_max_bytes).unwrap_or(0).min(left),
            min_one_message: first,
            aborted_txns: self.bound == ReadBound::LastStableOffset,
        };
        let looked = partition.look(|log| look(log, &wanted));
        let log = partition.log();
        let high_watermark = partition.high_watermark();
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
                data = failed(ErrorCode::OffsetOutOfRange);
            }
            Err(error @ (ReadError::Corrupt(_) | ReadError::Storage(_))) => {
                warn!(partition = %partition.name(), %error, "could not read");
                return Err(failed(error.error_code()));
            }
        }
        data.high_watermark = high_watermark;
        data.last_stable_offset = log.last_stable_offset(high_watermark);
        data.log_start_offset = log.log_start_offset();
        if data.error_code == ErrorCode::None { Ok(Some((data, readable))) } else { Err(data) }
    }

    /// Reads again whenever something changed, until there is enough or the time is over.
    async fn wait(self, broker: &Arc<Broker>, wait: Duration) -> (Self, Read) {
        let clock = &broker.env().clock;
        let deadline = clock.sleep(wait);
        tokio::pin!(deadline);
        let named = self.session.partitions.iter();
        let watched = named
            .filter_map(|(topic, fetch)| broker.replicas().find(topic, fetch.partition))
            .collect();
        let subscription: Subscription<Partition> = Subscription::new(watched);
        let mut fetch = self;
        loop {
            let read;
            (fetch, read) = fetch.read(broker).await;
            if read.enough || wait.is_zero() {
                return (fetch, read);
            }
            tokio::select! {
                biased;
                () = subscription.changed() => {}
                () = &mut deadline => return fetch.read(broker).await,
            }
        }
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
        answers: Vec<(TopicRef, PartitionData<FetchedRecords>)>,
    ) -> FetchResponse<FetchedRecords> {
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
        let (session_id, told) = broker.fetch_sessions().finish(self.session, answers);
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
        ReadBound::HighWatermark => None,
        ReadBound::LastStableOffset => Some(aborted.collect()),
    }
}

/// Where the reader's log leaves ours, if it does: it has records of an epoch that ended earlier here (KIP-595).
fn diverging_epoch(partition: &Partition, fetch: &FetchPartition) -> Option<EpochEndOffset> {
    if fetch.last_fetched_epoch == LeaderEpoch::NONE {
        return None;
    }
    let end = partition.end_offset_for_epoch(fetch.last_fetched_epoch)?;
    let diverges = end.epoch < fetch.last_fetched_epoch || end.end_offset < fetch.fetch_offset;
    diverges.then_some(EpochEndOffset { epoch: end.epoch, end_offset: end.end_offset })
}
