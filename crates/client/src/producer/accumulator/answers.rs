//! What became of what was sent: batches are settled, sent again, split, or expire.

use std::sync::Arc;

use ottla_protocol::{BrokerId, ErrorCode, Monotonic, ProducerEpoch};

use super::super::batch::{Batch, Identity};
use super::super::delivery::Stored;
use super::{Accumulator, Acknowledged, Link, ProducerIdentity, Step, wake_by};
use crate::producer::ProduceError;
use crate::{ClientError, CommonClientConfig};

/// Why a batch was not stored.
#[derive(Clone, Debug)]
pub(in crate::producer) struct Failure {
    pub(in crate::producer) error: Arc<ClientError>,
    /// The records that made it fail, by position, and why (KIP-467).
    pub(in crate::producer) record_errors: Vec<(u32, String)>,
}

impl Accumulator {
    /// Takes the answer about one batch.
    pub(in crate::producer) fn answered(
        &mut self,
        now: Monotonic,
        batch: Batch,
        result: Result<Stored, Failure>,
    ) {
        let at = batch.queue;
        let queue = &mut self.topics[at.0].queues[at.1];
        let sent = queue.wire.iter().position(|sent| sent.order == batch.order);
        let expired = sent.is_some_and(|sent| queue.wire.remove(sent).expired);
        match result {
            _ if expired => {
                queue.reset |= result.is_err() && batch.stamp.is_some();
                self.release(&batch);
            }
            Ok(stored) => {
                queue.failures = 0;
                queue.is_known |= batch.stamp.is_some_and(|(of, _)| queue.identity == Some(of));
                self.settle(batch, Ok(stored));
            }
            Err(failure) => self.refused(now, batch, &failure),
        }
        if self.topics[at.0].queues[at.1].is_idle() {
            self.active.remove(&at);
        }
    }

    fn refused(&mut self, now: Monotonic, mut batch: Batch, failure: &Failure) {
        let at = batch.queue;
        let error = &failure.error;
        let code = error.code();
        // A leader that loses its lead says so of what it has appended, too.
        let was_led = code == Some(ErrorCode::NotLeaderOrFollower);
        batch.maybe_stored |= was_led || error.is_indeterminate();
        batch.last_error = Some(error.clone());
        if code == Some(ErrorCode::MessageTooLarge)
            && let Some(pieces) = batch.split()
        {
            self.metrics.batch_split_total += 1;
            let queue = &mut self.topics[at.0].queues[at.1];
            for piece in pieces {
                self.incomplete.insert(piece.order);
                queue.put_back(piece);
            }
            return;
        }
        let in_time = now < batch.created + self.config.delivery_timeout;
        let again = batch.attempts <= self.config.retries && in_time;
        let sequence = batch.stamp.and(code).filter(is_about_sequences);
        let queue = &mut self.topics[at.0].queues[at.1];
        if sequence == Some(ErrorCode::OutOfOrderSequenceNumber) && queue.has_earlier(batch.order) {
            // Those before it were refused and come again; so does this one, behind them.
            queue.put_back(batch);
            return;
        }
        if again && (sequence.is_some() || error.is_retriable()) {
            self.metrics.record_retry_total += u64::from(batch.count);
            queue.reset |= sequence.is_some();
            queue.failures = queue.failures.saturating_add(1);
            let wait = backoff(&self.config.common, queue.failures, self.random);
            queue.retry_at = if sequence.is_some() { now } else { now + wait };
            self.stale.insert(queue.partition.topic.clone());
            let of_queue = queue.identity;
            queue.put_back(batch);
            if sequence == Some(ErrorCode::InvalidProducerEpoch)
                && of_queue == self.identity.known()
            {
                self.identity = ProducerIdentity::Wanted(now, 0);
            }
            return;
        }
        queue.reset |= batch.stamp.is_some();
        self.fail(batch, failure);
    }

    /// Settles a batch that failed for good; each record with its own reason, if there are such.
    fn fail(&mut self, batch: Batch, failure: &Failure) {
        let maybe_stored = batch.maybe_stored;
        let partition = batch.outcome.partition().clone();
        let refused =
            |error| ProduceError::Refused { partition: partition.clone(), error, maybe_stored };
        let code = failure.error.code();
        if let Some(code) = code.filter(|_| !failure.record_errors.is_empty()) {
            for (position, words) in &failure.record_errors {
                let error = ClientError::Refused { code, message: Some(words.clone()) };
                let index = batch.order.1 + position;
                batch.outcome.settle(index..index + 1, Err(refused(Arc::new(error))));
            }
            let words = "another record of the same batch is not valid; send this one again";
            let error = ClientError::Refused { code, message: Some(words.to_owned()) };
            self.settle(batch, Err(refused(Arc::new(error))));
            return;
        }
        self.settle(batch, Err(refused(failure.error.clone())));
    }

    fn settle(&mut self, batch: Batch, result: Result<Stored, ProduceError>) {
        let count = u64::from(batch.count);
        match &result {
            Ok(_) => {
                self.metrics.record_send_total += count;
                self.metrics.byte_total += batch.size() as u64;
                self.metrics.batch_total += 1;
            }
            Err(_) => self.metrics.record_error_total += count,
        }
        self.release(&batch);
        batch.outcome.settle(batch.records(), result.clone());
        if self.tracked {
            self.acknowledged.push(Acknowledged {
                outcome: batch.outcome,
                sent: batch.sent,
                result,
            });
        }
    }

    fn release(&mut self, batch: &Batch) {
        self.used -= batch.charged;
        self.incomplete.remove(&batch.order);
        self.progress = true;
    }

    /// Settles what has waited for longer than `delivery.timeout.ms`.
    pub(super) fn expire(&mut self, now: Monotonic, step: &mut Step) {
        let waited = self.config.delivery_timeout;
        for at in self.active.clone() {
            let queue = &mut self.topics[at.0].queues[at.1];
            for sent in &mut queue.wire {
                if !sent.expired && sent.created + waited <= now {
                    sent.expired = true;
                    let error = ProduceError::Expired {
                        partition: queue.partition.clone(),
                        waited,
                        error: None,
                        maybe_stored: true,
                    };
                    self.metrics.record_error_total +=
                        u64::from(sent.records.end - sent.records.start);
                    self.incomplete.remove(&sent.order);
                    self.progress = true;
                    sent.outcome.settle(sent.records.clone(), Err(error));
                }
            }
            let mut over = Vec::new();
            while queue.batches.front().is_some_and(|batch| batch.created + waited <= now) {
                over.extend(queue.batches.pop_front());
            }
            let waiting = queue.wire.iter().filter(|sent| !sent.expired).map(|sent| sent.created);
            let oldest = waiting.chain(queue.batches.front().map(|batch| batch.created)).min();
            if let Some(oldest) = oldest {
                wake_by(step, oldest + waited);
            }
            queue.reset |= over.iter().any(|batch| batch.stamp.is_some());
            for batch in over {
                let error = ProduceError::Expired {
                    partition: batch.outcome.partition().clone(),
                    waited,
                    error: batch.last_error.clone(),
                    maybe_stored: batch.maybe_stored,
                };
                self.settle(batch, Err(error));
            }
            if self.topics[at.0].queues[at.1].is_idle() {
                self.active.remove(&at);
            }
        }
    }

    /// Has partitions begin anew that lost a sequence number, under the next epoch (KIP-360).
    pub(super) fn settle_identities(&mut self, now: Monotonic, step: &mut Step) {
        for at in self.active.clone() {
            let queue = &mut self.topics[at.0].queues[at.1];
            if !queue.reset || !queue.wire.is_empty() {
                continue;
            }
            let Some(current) = self.identity.known() else {
                self.identified(now, step);
                continue;
            };
            let identity = if queue.identity == Some(current) {
                let Some(next) = next_epoch(current) else {
                    self.identity = ProducerIdentity::Wanted(now, 0);
                    self.identified(now, step);
                    continue;
                };
                self.identity = ProducerIdentity::Known(next);
                next
            } else {
                current
            };
            for batch in queue.begin_anew(identity) {
                let error = ProduceError::Refused {
                    partition: batch.outcome.partition().clone(),
                    error: batch.last_error.clone().unwrap_or_else(|| {
                        Arc::new(ClientError::refused(ErrorCode::OutOfOrderSequenceNumber))
                    }),
                    maybe_stored: true,
                };
                self.settle(batch, Err(error));
            }
        }
    }

    /// Takes note that a request has its answer, or never will.
    pub(in crate::producer) fn request_done(&mut self, now: Monotonic, id: BrokerId, lost: bool) {
        let broker = self.brokers.entry(id).or_default();
        broker.in_flight = broker.in_flight.saturating_sub(1);
        if lost && broker.connection == Link::Open {
            broker.connection = Link::Backoff(now + self.config.common.reconnect_backoff);
        }
    }

    /// Takes note that a broker wants to hear nothing until then.
    pub(in crate::producer) fn throttled(&mut self, id: BrokerId, until: Monotonic) {
        let broker = self.brokers.entry(id).or_default();
        broker.silent_until = broker.silent_until.max(until);
    }

    /// Takes note that the connection to a broker has ended. Whether nothing was under way on it: the
    /// answers to what was tell otherwise.
    pub(in crate::producer) fn disconnected(&mut self, id: BrokerId) -> bool {
        let Some(broker) = self.brokers.get_mut(&id) else { return true };
        if broker.connection == Link::Open && broker.in_flight == 0 {
            broker.connection = Link::None;
        }
        broker.connection != Link::Open
    }

    /// Takes note that a broker can be sent to.
    pub(in crate::producer) fn connected(&mut self, id: BrokerId) {
        let broker = self.brokers.entry(id).or_default();
        broker.connection = Link::Open;
        broker.failures = 0;
    }

    /// Takes note that a broker cannot be reached; perhaps others lead its partitions by now.
    pub(in crate::producer) fn not_connected(&mut self, now: Monotonic, id: BrokerId) {
        let common = &self.config.common;
        let broker = self.brokers.entry(id).or_default();
        broker.failures = broker.failures.saturating_add(1);
        let doubled = common.reconnect_backoff.saturating_mul(1 << (broker.failures - 1).min(20));
        let wait = doubled.min(common.reconnect_backoff_max);
        broker.connection = Link::Backoff(now + wait);
        for at in &self.active {
            let queue = &self.topics[at.0].queues[at.1];
            if queue.leader == Some(id) {
                self.stale.insert(queue.partition.topic.clone());
            }
        }
    }

    /// Takes the identity that was asked for.
    pub(in crate::producer) fn identified_as(&mut self, identity: Identity) {
        self.identity = ProducerIdentity::Known(identity);
    }

    /// Takes note that there is no identity. If there never will be one, nothing can be sent.
    pub(in crate::producer) fn not_identified(&mut self, now: Monotonic, error: ClientError) {
        if error.is_retriable() || error.code() == Some(ErrorCode::BrokerNotAvailable) {
            let failures = match self.identity {
                ProducerIdentity::Asked(failures) => failures.saturating_add(1),
                ProducerIdentity::Off
                | ProducerIdentity::Wanted(..)
                | ProducerIdentity::Known(_) => 1,
            };
            let wait = backoff(&self.config.common, failures, self.random);
            self.identity = ProducerIdentity::Wanted(now + wait, failures);
            return;
        }
        let error = Arc::new(error);
        self.give_up(|partition, maybe_stored| ProduceError::Refused {
            partition: partition.clone(),
            error: error.clone(),
            maybe_stored,
        });
        self.failed = Some(ProduceError::Invalid(format!(
            "the cluster gives this producer no id for enable.idempotence: {error}"
        )));
    }

    /// Settles everything with an error. What is on the wire may be stored.
    pub(in crate::producer) fn give_up(
        &mut self,
        error: impl Fn(&ottla_protocol::TopicPartition, bool) -> ProduceError,
    ) {
        for at in self.active.clone() {
            let queue = &mut self.topics[at.0].queues[at.1];
            for sent in queue.wire.iter_mut().filter(|sent| !sent.expired) {
                sent.expired = true;
                self.incomplete.remove(&sent.order);
                let error = error(&queue.partition, true);
                sent.outcome.settle(sent.records.clone(), Err(error));
            }
            for batch in std::mem::take(&mut queue.batches) {
                let error = error(batch.outcome.partition(), batch.maybe_stored);
                self.settle(batch, Err(error));
            }
        }
        self.progress = true;
    }

    /// What [`Accumulator::flushed`] is to be asked with, for everything appended so far.
    pub(in crate::producer) fn flush_mark(&self) -> u64 {
        self.next_batch
    }

    /// Whether everything that was appended before the mark is settled.
    pub(in crate::producer) fn flushed(&self, mark: u64) -> bool {
        self.incomplete.first().is_none_or(|(batch, _)| *batch >= mark)
    }

    /// Whether somebody who waits for a flush or for memory should look again. Memory is told of
    /// when an eighth is free, so that a fast sender does not wake for each batch.
    pub(in crate::producer) fn take_progress(&mut self) -> bool {
        let flushed = self.flushing > 0 && std::mem::take(&mut self.progress);
        let least = self.memory.wanted.max(self.config.buffer_memory / 8);
        let enough = self.used == 0 || self.used + least <= self.config.buffer_memory;
        flushed || (self.memory.waiters > 0 && enough)
    }

    /// What interceptors have not been told yet.
    pub(in crate::producer) fn take_acknowledged(&mut self) -> Vec<Acknowledged> {
        std::mem::take(&mut self.acknowledged)
    }

    /// Bytes of `buffer.memory` that are in use.
    pub(in crate::producer) fn used(&self) -> usize {
        self.used
    }
}

fn is_about_sequences(code: &ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::UnknownProducerId
            | ErrorCode::InvalidProducerEpoch
    )
}

fn next_epoch((id, ProducerEpoch(epoch)): Identity) -> Option<Identity> {
    Some((id, ProducerEpoch(epoch.checked_add(1)?)))
}

fn backoff(common: &CommonClientConfig, failures: u32, random: u64) -> std::time::Duration {
    common.retry_backoff_after(failures, (random >> 11) as f64 / (1_u64 << 53) as f64)
}
