//! The promise that a send returns: shared by all records of a batch, so that a record costs no
//! allocation.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use ottla_protocol::{Offset, Timestamp, TopicPartition};
use parking_lot::Mutex;

use super::{ProduceError, RecordMetadata};

/// What became of a record: a future that may be awaited, kept, or dropped. The record is sent in
/// any case.
#[must_use = "only the delivery tells whether the record was stored; `drop` it if nobody is to know"]
#[derive(Debug)]
pub struct Delivery {
    pub(super) outcome: Arc<Outcome>,
    pub(super) index: u32,
    pub(super) sent: SentRecord,
}

/// What metadata says of a record before it is stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct SentRecord {
    pub(super) timestamp: Timestamp,
    /// -1 for null, as the others.
    pub(super) key_size: i32,
    pub(super) value_size: i32,
}

/// Of the records that were appended to one batch, however it is split later.
#[derive(Debug)]
pub(super) struct Outcome {
    partition: TopicPartition,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    settled: Vec<(Range<u32>, Result<Stored, ProduceError>)>,
    waiting: Vec<Waker>,
}

/// Where the first record of a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) base_offset: Offset,
    /// -1 unless the topic uses `LogAppendTime`.
    pub(super) log_append_time: Timestamp,
}

impl Outcome {
    pub(super) fn new(partition: TopicPartition) -> Arc<Self> {
        Arc::new(Self { partition, state: Mutex::default() })
    }

    pub(super) fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// Tells the records in `range` what became of them; the first word counts.
    pub(super) fn settle(&self, range: Range<u32>, result: Result<Stored, ProduceError>) {
        let mut state = self.state.lock();
        state.settled.push((range, result));
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    fn of(&self, index: u32, sent: SentRecord) -> Option<Result<RecordMetadata, ProduceError>> {
        let state = self.state.lock();
        self.find(&state, index, sent)
    }

    fn find(
        &self,
        state: &State,
        index: u32,
        sent: SentRecord,
    ) -> Option<Result<RecordMetadata, ProduceError>> {
        let (range, result) = state.settled.iter().find(|(range, _)| range.contains(&index))?;
        Some(result.clone().map(|stored| self.metadata(stored, index - range.start, sent)))
    }

    pub(super) fn metadata(&self, stored: Stored, at: u32, sent: SentRecord) -> RecordMetadata {
        let Stored { base_offset, log_append_time } = stored;
        let size = |size: i32| usize::try_from(size).ok();
        RecordMetadata {
            partition: self.partition.clone(),
            offset: if base_offset.0 < 0 {
                base_offset
            } else {
                Offset(base_offset.0 + i64::from(at))
            },
            timestamp: if log_append_time.0 < 0 { sent.timestamp } else { log_append_time },
            key_size: size(sent.key_size),
            value_size: size(sent.value_size),
        }
    }
}

impl Delivery {
    /// Where the record goes.
    pub fn partition(&self) -> &TopicPartition {
        self.outcome.partition()
    }

    /// What became of the record, if that is known by now.
    pub fn now(&self) -> Option<Result<RecordMetadata, ProduceError>> {
        self.outcome.of(self.index, self.sent)
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, ProduceError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.outcome.state.lock();
        if let Some(result) = self.outcome.find(&state, self.index, self.sent) {
            return Poll::Ready(result);
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            state.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }
}
