//! The batches of one partition, and the sequence numbers they get.

use std::collections::VecDeque;
use std::sync::Arc;

use ottla_protocol::record_batch::{NewRecord, increment_sequence};
use ottla_protocol::{BrokerId, Monotonic, TopicPartition};

use super::super::ProducerConfig;
use super::super::batch::{Batch, Identity, Order, size_alone};
use super::super::delivery::Outcome;

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) partition: TopicPartition,
    pub(super) leader: Option<BrokerId>,
    /// In order; those that have a stamp come first.
    pub(super) batches: VecDeque<Batch>,
    pub(super) wire: Vec<OnWire>,
    /// Nothing is sent before.
    pub(super) retry_at: Monotonic,
    pub(super) failures: u32,
    pub(super) identity: Option<Identity>,
    next_sequence: i32,
    /// The leader has stored a batch under this identity, and so knows which comes next.
    pub(super) is_known: bool,
    /// A sequence number was lost: go on under another epoch, once nothing is on the wire.
    pub(super) reset: bool,
    /// Bytes of the last batch that was sent: most often the next is as large.
    last_size: usize,
}

/// What is remembered of a batch that is on the wire.
#[derive(Debug)]
pub(super) struct OnWire {
    pub(super) order: Order,
    /// Who was asked to store it.
    broker: BrokerId,
    pub(super) created: Monotonic,
    pub(super) outcome: Arc<Outcome>,
    pub(super) records: std::ops::Range<u32>,
    /// Its time was over: it is settled, whatever the answer will be.
    pub(super) expired: bool,
}

impl OnWire {
    pub(super) fn of(batch: &Batch, broker: BrokerId) -> Self {
        Self {
            order: batch.order,
            broker,
            created: batch.created,
            outcome: batch.outcome.clone(),
            records: batch.records(),
            expired: false,
        }
    }
}

impl Queue {
    pub(super) fn new(partition: TopicPartition) -> Self {
        Self {
            partition,
            leader: None,
            batches: VecDeque::new(),
            wire: Vec::new(),
            retry_at: Monotonic::default(),
            failures: 0,
            identity: None,
            next_sequence: 0,
            is_known: false,
            reset: false,
            last_size: 0,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.batches.is_empty() && self.wire.is_empty()
    }

    /// When the first batch is to be sent; `None` if there is none, or others must come back first.
    pub(super) fn due(&self, urgent: bool, config: &ProducerConfig) -> Option<Monotonic> {
        let head = self.batches.front()?;
        // One request in flight promises order without idempotence, also where the leader changes while a broker has not
        // answered yet (Kafka's `guaranteeMessageOrder`).
        let one_at_a_time = config.max_in_flight == 1 && !self.wire.is_empty();
        let behind = one_at_a_time
            || head.attempts > 0 && self.wire.iter().any(|sent| sent.order < head.order);
        // A leader knows the last five batches again that come twice. One that another broker owes an answer for may come to it
        // later: until then nothing is sent that it would forget that one for.
        let elsewhere = |sent: &OnWire| self.leader.is_some_and(|leader| leader != sent.broker);
        let overtakes = head.stamp.is_none() && self.wire.iter().any(elsewhere);
        if self.reset || behind || overtakes {
            return None;
        }
        let at_once = urgent || head.full || head.attempts > 0 || self.batches.len() > 1;
        let lingered = if at_once { Monotonic::default() } else { head.created + config.linger };
        Some(lingered.max(self.retry_at))
    }

    /// Takes the first batch out to be sent, under `identity` if that may be taken on now.
    pub(super) fn take(&mut self, identity: Option<Identity>) -> Option<Batch> {
        let head = self.batches.front()?;
        // A leader that knows nothing of a producer takes whatever number comes first (KIP-360): if the first batch were
        // refused, the second would be stored before it.
        if self.identity.is_some() && !self.is_known && !self.wire.is_empty() {
            return None;
        }
        if identity.is_some()
            && self.identity != identity
            && self.wire.is_empty()
            && head.stamp.is_none()
        {
            self.identity = identity;
            self.next_sequence = 0;
            self.is_known = false;
        }
        let mut batch = self.batches.pop_front()?;
        if let (None, Some(identity)) = (batch.stamp, self.identity) {
            batch.stamp = Some((identity, self.next_sequence));
            let count = i32::try_from(batch.count).unwrap_or(i32::MAX);
            self.next_sequence = increment_sequence(self.next_sequence, count);
        }
        batch.attempts += 1;
        self.last_size = batch.size();
        Some(batch)
    }

    /// Puts a batch back where it belongs.
    pub(super) fn put_back(&mut self, batch: Batch) {
        let at = self.batches.partition_point(|other| other.order < batch.order);
        self.batches.insert(at, batch);
    }

    /// Whether batches before this one have yet to be stored.
    pub(super) fn has_earlier(&self, order: Order) -> bool {
        self.wire.iter().any(|sent| sent.order < order)
            || self.batches.iter().any(|batch| batch.order < order)
    }

    /// Begins anew under `identity`; answers those that may be stored under the old one.
    pub(super) fn begin_anew(&mut self, identity: Identity) -> VecDeque<Batch> {
        self.identity = Some(identity);
        self.next_sequence = 0;
        self.is_known = false;
        self.reset = false;
        let batches = std::mem::take(&mut self.batches);
        let (doubtful, mut kept): (VecDeque<_>, VecDeque<_>) =
            batches.into_iter().partition(|batch| batch.maybe_stored && batch.stamp.is_some());
        kept.iter_mut().for_each(|batch| batch.stamp = None);
        self.batches = kept;
        doubtful
    }

    /// Room for a new batch that begins with `record`.
    pub(super) fn expected_size(&self, record: &NewRecord<'_>, limit: usize) -> usize {
        let least = size_alone(record);
        least.max(self.last_size.saturating_add(least).min(limit))
    }
}
