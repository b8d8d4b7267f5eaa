//! Fetches ahead of the application: one request to each broker, while what came before is
//! handed out. Kafka: `Fetcher`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ottla_protocol::fetch::{FetchRequest, FetchResponse, PartitionData};
use ottla_protocol::{ApiKey, BrokerId, ErrorCode, Monotonic, StrBytes, TopicPartition};

use super::completed_fetch::{CompletedFetch, ReadRules};
use super::fetch_session::{FetchSession, Wanted};
use super::options::IsolationLevel;
use super::partitions::{Partitions, Phase, Position, Stuck, reset_phase};
use super::records::Records;
use super::{Consumer, ConsumerError, Event};
use crate::client::{LAG, Purpose};
use crate::silence::Patience;
use crate::{Client, ClientError, ClusterMetadata};

/// Fetches of a partition that may wait to be handed out: one in hand, one behind it.
const MAX_BUFFERED: usize = 2;
/// From this version on Fetch names topics by id (KIP-516).
const FIRST_VERSION_BY_ID: i16 = 13;

/// What is under way with one broker.
#[derive(Debug)]
struct Broker {
    /// Away while a request is under way.
    session: Option<FetchSession>,
    not_before: Monotonic,
}

/// A request that came back.
pub(super) struct Fetched {
    broker: BrokerId,
    session: FetchSession,
    asked: BTreeMap<TopicPartition, Wanted>,
    sent_at: Monotonic,
    /// With for how long the broker wants to hear nothing.
    result: Result<(FetchResponse, Duration), ClientError>,
}

/// What is fetched and what waits to be handed out, in the order it came.
#[derive(Debug, Default)]
pub(super) struct Fetcher {
    brokers: BTreeMap<BrokerId, Broker>,
    ready: VecDeque<CompletedFetch>,
    buffered_bytes: usize,
}

impl Fetcher {
    /// Forgets what came of `partition`.
    pub(super) fn discard(&mut self, gone: impl Fn(&TopicPartition) -> bool) {
        let bytes = &mut self.buffered_bytes;
        self.ready.retain(|fetch| {
            let gone = gone(&fetch.partition);
            if gone {
                *bytes = bytes.saturating_sub(fetch.size());
            }
            !gone
        });
    }

    /// The sessions that are open, to be ended.
    pub(super) fn sessions(&self) -> impl Iterator<Item = (BrokerId, FetchRequest)> {
        let open =
            |(broker, it): (&BrokerId, &Broker)| Some((*broker, it.session.as_ref()?.end()?));
        self.brokers.iter().filter_map(open)
    }

    fn is_busy(&self) -> bool {
        !self.brokers.is_empty() && self.brokers.values().all(|it| it.session.is_none())
    }

    /// Takes up to `most` records. Of a partition that is paused, nothing.
    fn take(
        &mut self,
        most: usize,
        partitions: &mut Partitions,
        decompressor: &mut ottla_protocol::compression::Decompressor,
        rules: ReadRules,
    ) -> (Records, Option<ConsumerError>) {
        let mut records = Records::default();
        let mut at = 0;
        while records.count < most {
            let Some(fetch) = self.ready.get_mut(at) else { break };
            let Some(state) = partitions.map.get_mut(&fetch.partition) else { break };
            if !state.is_open() {
                at += 1;
                continue;
            }
            let left = most - records.count;
            let drained = fetch.drain(left, decompressor, rules, &mut records);
            let (offset, epoch) = fetch.position();
            state.position = Position { offset, epoch };
            match drained {
                Ok(true) => {
                    state.buffered = state.buffered.saturating_sub(1);
                    self.buffered_bytes = self.buffered_bytes.saturating_sub(fetch.size());
                    self.ready.remove(at);
                }
                Ok(false) => {}
                Err(error) => return (records, Some(error)),
            }
        }
        (records, None)
    }
}

impl Consumer {
    /// Begins the fetches that are wanted and to whose brokers none is under way.
    pub(super) fn step_fetches(&mut self, now: Monotonic, only_drained: bool) {
        let bound = usize::try_from(self.options.fetch_max_bytes).unwrap_or(0);
        if (only_drained && self.fetcher.is_busy()) || self.fetcher.buffered_bytes > bound {
            return;
        }
        let metadata = self.client.metadata();
        let mut wanted: BTreeMap<BrokerId, BTreeMap<TopicPartition, Wanted>> = BTreeMap::new();
        let (mut wake, mut unknown) = (Vec::new(), false);
        for (partition, state) in &self.partitions.map {
            if state.phase != Phase::Fetching || state.paused || state.buffered >= MAX_BUFFERED {
                continue;
            }
            if now < state.not_before {
                wake.push(state.not_before);
                continue;
            }
            let Some((leader, known)) = known_leader(&metadata, partition) else {
                unknown = true;
                continue;
            };
            let preferred = state
                .preferred
                .filter(|(it, until)| now < *until && metadata.brokers.contains_key(it));
            let broker = preferred.map_or(leader, |(broker, _)| broker);
            let new = || Broker { session: Some(FetchSession::default()), not_before: now };
            let asked = self.fetcher.brokers.entry(broker).or_insert_with(new);
            if asked.session.is_none() {
                continue;
            }
            if now < asked.not_before {
                wake.push(asked.not_before);
                continue;
            }
            let Position { offset, epoch } = state.fetch_from;
            let max_bytes = self.options.max_partition_fetch_bytes;
            let row = Wanted { offset, epoch, max_bytes, ..known };
            wanted.entry(broker).or_default().insert(partition.clone(), row);
        }
        wake.into_iter().for_each(|at| self.wake_at(at));
        self.metadata.wanted |= unknown;
        for (broker, asked) in wanted {
            self.start_fetch(broker, asked, now);
        }
    }

    fn start_fetch(
        &mut self,
        broker: BrokerId,
        asked: BTreeMap<TopicPartition, Wanted>,
        sent_at: Monotonic,
    ) {
        let slot = self.fetcher.brokers.get_mut(&broker);
        let Some(mut session) = slot.and_then(|slot| slot.session.take()) else { return };
        let client = self.client.clone();
        let patience = Patience::beyond(self.options.fetch_max_wait);
        let request = FetchRequest {
            max_wait_ms: i32::try_from(self.options.fetch_max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: self.options.fetch_min_bytes,
            max_bytes: self.options.fetch_max_bytes,
            isolation_level: i8::from(
                self.options.isolation_level == IsolationLevel::ReadCommitted,
            ),
            rack_id: StrBytes::from(self.options.client_rack.as_str()),
            ..FetchRequest::default()
        };
        self.start(async move {
            let fetching = fetch(&client, broker, &mut session, request, &asked);
            let wanted = (broker, ApiKey::Fetch);
            let result =
                client.unless_another_leads(wanted, asked.keys(), patience, fetching).await;
            Event::Fetched(Box::new(Fetched { broker, session, asked, sent_at, result }))
        });
    }

    /// Takes what a broker answered.
    pub(super) fn fetched(&mut self, fetched: Fetched, now: Monotonic) {
        let Fetched { broker, mut session, asked, sent_at, result } = fetched;
        let pause = self.client.options().retry_backoff;
        let mut not_before;
        let mut usable = None;
        match result {
            Ok((response, silence)) => {
                not_before = now + silence;
                if session.answered(response.error_code, response.session_id) {
                    usable = Some(response);
                } else if !response.error_code.is_retriable() {
                    let error = ClientError::refused(response.error_code);
                    self.errors.push_back(error.into());
                    not_before = now + pause.max(silence);
                }
            }
            Err(error) => {
                session.restart();
                not_before = now + pause;
                self.metadata.wanted = true;
                // A follower that is silent, or cannot be reached, is left for the leader.
                let asked =
                    self.partitions.map.iter_mut().filter(|(it, _)| asked.contains_key(*it));
                for (_, state) in asked {
                    state.preferred = state.preferred.filter(|(preferred, _)| *preferred != broker);
                }
                tracing::debug!(%broker, %error, "fetch failed");
                if !error.is_retriable() && !matches!(error, ClientError::Refused { .. }) {
                    self.errors.push_back(error.into());
                }
            }
        }
        if let Some(response) = usable {
            self.metrics.fetched(now.since(sent_at), response.throttle_time_ms);
            for topic in response.topics {
                let Some(name) = session.name(&topic.topic) else { continue };
                for data in topic.partitions {
                    let partition = TopicPartition::new(name.clone(), data.partition_index);
                    if let Some(wanted) = asked.get(&partition) {
                        if let Some(leader) = data.current_leader {
                            let endpoints = &response.node_endpoints;
                            let asked = (&partition, wanted.topic_id);
                            self.client.learn_leader(asked, leader, endpoints);
                        }
                        self.take_partition((partition, broker), *wanted, data, now);
                    }
                }
            }
        }
        self.fetcher.brokers.insert(broker, Broker { session: Some(session), not_before });
    }

    fn take_partition(
        &mut self,
        (partition, broker): (TopicPartition, BrokerId),
        asked: Wanted,
        data: PartitionData,
        now: Monotonic,
    ) {
        let Some(state) = self.partitions.map.get_mut(&partition) else { return };
        let here = Position { offset: asked.offset, epoch: asked.epoch };
        if state.phase != Phase::Fetching || state.fetch_from != here {
            return; // It has moved, or another question came up, since that was asked.
        }
        if !data.error_code.is_none() {
            return self.fetch_refused((partition, broker), asked, data, now);
        }
        state.end = Some(match self.options.isolation_level {
            IsolationLevel::ReadCommitted => data.last_stable_offset,
            IsolationLevel::ReadUncommitted => data.high_watermark,
        });
        if data.log_start_offset.0 >= 0 {
            state.log_start = Some(data.log_start_offset);
        }
        if data.preferred_read_replica.0 >= 0 {
            let until = now + self.options.metadata_max_age;
            state.preferred = Some((data.preferred_read_replica, until));
        }
        if data.records.is_empty() {
            return;
        }
        let aborted = match self.options.isolation_level {
            IsolationLevel::ReadCommitted => Some(data.aborted_transactions.unwrap_or_default()),
            IsolationLevel::ReadUncommitted => None,
        };
        let from = (asked.offset, asked.epoch);
        let bytes = data.records.len();
        match CompletedFetch::new(partition.clone(), from, data.records, aborted) {
            Some(mut fetch) => {
                fetch.high_watermark = data.high_watermark;
                let (offset, epoch) = fetch.end();
                state.fetch_from = Position { offset, epoch };
                state.buffered += 1;
                self.metrics.brought(bytes);
                self.fetcher.buffered_bytes += bytes;
                self.fetcher.ready.push_back(fetch);
            }
            None => {
                state.not_before = now + self.client.options().retry_backoff;
                let reason = format!("the broker sent {bytes} bytes without a whole batch");
                self.errors.push_back(ConsumerError::Corrupt {
                    partition,
                    offset: asked.offset,
                    next: asked.offset.next(),
                    reason,
                });
            }
        }
    }

    fn fetch_refused(
        &mut self,
        (partition, broker): (TopicPartition, BrokerId),
        asked: Wanted,
        data: PartitionData,
        now: Monotonic,
    ) {
        let wall = self.client.env().clock.wall();
        let policy = self.options.auto_offset_reset;
        let Some(state) = self.partitions.map.get_mut(&partition) else { return };
        state.not_before = now + self.client.options().retry_backoff;
        let from_replica = state.preferred.take().is_some_and(|(preferred, _)| preferred == broker);
        let code = data.error_code;
        if code == ErrorCode::OffsetOutOfRange {
            if from_replica {
                // A follower may be behind: the leader has the last word (KIP-392).
                state.not_before = now;
            } else if state.buffered == 0 {
                // What is buffered is handed out first.
                tracing::info!(%partition, offset = %asked.offset, "offset out of range");
                state.not_before = now;
                state.reset(reset_phase(policy, wall, Stuck::OutOfRange(asked.offset)));
            }
        } else if known_leader(&self.client.metadata(), &partition)
            .is_some_and(|(_, known)| known.leader_epoch > asked.leader_epoch)
        {
            // It told who leads by now (KIP-951), and that one has refused nothing yet.
            state.not_before = now;
        } else if data.current_leader.is_some_and(|told| told.leader_epoch < asked.leader_epoch) {
            state.not_before = now + LAG;
        } else if code.is_retriable() || code == ErrorCode::UnknownServerError {
            self.client.forget_topic(&partition.topic);
            self.metadata.wanted = true;
        } else {
            self.errors.push_back(ClientError::refused(code).into());
        }
    }

    /// What is there to hand out: up to `most` records.
    pub(super) fn collect(&mut self, most: usize) -> Result<Option<Records>, ConsumerError> {
        if let Some(error) = self.errors.pop_front() {
            return Err(error);
        }
        let rules = ReadRules {
            check_crcs: self.options.check_crcs,
            max_batch_bytes: self.options.max_batch_bytes,
        };
        let before = self.fetcher.ready.len();
        let (records, error) =
            self.fetcher.take(most, &mut self.partitions, &mut self.decompressor, rules);
        self.drained |= self.fetcher.ready.len() != before;
        match error {
            _ if !records.is_empty() => {
                self.metrics.handed_out(records.len());
                Ok(Some(self.intercepted(records)))
            }
            Some(error) => Err(error),
            None => match self.partitions.stuck() {
                Some(error) => Err(error),
                None => Ok(None),
            },
        }
    }

    fn intercepted(&mut self, records: Records) -> Records {
        self.interceptors.iter_mut().fold(records, |records, it| it.on_consume(records))
    }

    /// What is there to hand out, as it came.
    pub(super) fn collect_raw(&mut self) -> Result<Option<Vec<FetchedPartition>>, ConsumerError> {
        if let Some(error) = self.errors.pop_front() {
            return Err(error);
        }
        let mut fetched = Vec::new();
        let mut paused = VecDeque::new();
        for fetch in std::mem::take(&mut self.fetcher.ready) {
            let Some(state) = self.partitions.map.get_mut(&fetch.partition) else { continue };
            if !state.is_open() {
                paused.push_back(fetch);
                continue;
            }
            let (offset, epoch) = fetch.end();
            let from = state.position.offset;
            state.position = Position { offset, epoch };
            state.buffered = state.buffered.saturating_sub(1);
            self.fetcher.buffered_bytes = self.fetcher.buffered_bytes.saturating_sub(fetch.size());
            fetched.push(FetchedPartition {
                partition: fetch.partition.clone(),
                from,
                high_watermark: fetch.high_watermark,
                records: fetch.raw(),
            });
        }
        self.fetcher.ready = paused;
        self.drained |= !fetched.is_empty();
        match self.partitions.stuck() {
            Some(error) if fetched.is_empty() => Err(error),
            _ => Ok((!fetched.is_empty()).then_some(fetched)),
        }
    }
}

/// What one fetch brought of one partition, as it is stored.
#[derive(Clone, Debug)]
pub struct FetchedPartition {
    /// Which.
    pub partition: TopicPartition,
    /// The offset from which it was asked; the first batch may begin before it.
    pub from: ottla_protocol::Offset,
    /// The partition's high watermark.
    pub high_watermark: ottla_protocol::Offset,
    /// Whole batches, and perhaps a piece of another.
    pub records: bytes::Bytes,
}

/// Who leads `partition`, and what has to be said of it in a request.
pub(super) fn known_leader(
    metadata: &ClusterMetadata,
    partition: &TopicPartition,
) -> Option<(BrokerId, Wanted)> {
    let topic = metadata.topics.get(&*partition.topic)?;
    let known = topic.partitions.get(&partition.partition)?;
    let wanted = Wanted {
        topic_id: topic.topic_id,
        offset: ottla_protocol::Offset::NONE,
        epoch: ottla_protocol::LeaderEpoch::NONE,
        leader_epoch: known.leader_epoch,
        max_bytes: 0,
    };
    // A leader that is no broker any more has a successor, or will have one.
    Some((known.leader.filter(|leader| metadata.brokers.contains_key(leader))?, wanted))
}

async fn fetch(
    client: &Client,
    broker: BrokerId,
    session: &mut FetchSession,
    mut request: FetchRequest,
    asked: &BTreeMap<TopicPartition, Wanted>,
) -> Result<(FetchResponse, Duration), ClientError> {
    let connection = client.broker_for(broker, Purpose::Fetch).await?;
    let by_id = connection.records_version(ApiKey::Fetch)? >= FIRST_VERSION_BY_ID;
    session.fill(&mut request, asked, by_id);
    let response = connection.fetch(&request).await?;
    let silence = connection.silence_after(ApiKey::Fetch, response.throttle_time_ms);
    Ok((response, silence))
}
