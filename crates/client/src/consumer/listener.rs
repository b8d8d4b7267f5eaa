//! What an application hears of rebalances, and what it may do then. Kafka:
//! `ConsumerRebalanceListener`, `ConsumerInterceptor`.

use std::collections::BTreeMap;

use ottla_protocol::{Monotonic, Offset, TopicPartition};

use super::ConsumerError;
use super::partitions::{OffsetAndMetadata, Partitions, Position};
use super::records::Records;

/// Hears which partitions come and go. Called from within [`Consumer::poll`](super::Consumer::poll) and
/// its like, and by whoever [unsubscribes](super::Consumer::unsubscribe) or [closes](super::Consumer::close)
/// the consumer; never while a commit is waited for. Must not block.
pub trait RebalanceListener: Send {
    /// `partitions` are read from now on; with an eager protocol these are all, with a cooperative
    /// one those that came (KIP-429). May be none.
    fn assigned(&mut self, rebalance: &mut Rebalance<'_>, partitions: &[TopicPartition]) {
        let _ = (rebalance, partitions);
    }

    /// `partitions` are given up, in order: what is committed here counts.
    fn revoked(&mut self, rebalance: &mut Rebalance<'_>, partitions: &[TopicPartition]) {
        let _ = (rebalance, partitions);
    }

    /// `partitions` were given to others already: what is committed here would be refused.
    fn lost(&mut self, rebalance: &mut Rebalance<'_>, partitions: &[TopicPartition]) {
        self.revoked(rebalance, partitions);
    }
}

/// A rebalance, as a [`RebalanceListener`] may take part in it.
pub struct Rebalance<'a> {
    pub(super) partitions: &'a mut Partitions,
    pub(super) commits: BTreeMap<TopicPartition, OffsetAndMetadata>,
    pub(super) now: Monotonic,
}

impl Rebalance<'_> {
    /// The offset of the next record of `partition` that would be handed out.
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        let state = self.partitions.map.get(partition)?;
        state.is_positioned().then_some(state.position.offset)
    }

    /// Has `offset` committed before the rebalance goes on.
    pub fn commit(&mut self, partition: TopicPartition, offset: OffsetAndMetadata) {
        self.commits.insert(partition, offset);
    }

    /// Has everything that was handed out committed before the rebalance goes on.
    pub fn commit_positions(&mut self) {
        self.commits.extend(self.partitions.consumed());
    }

    /// Begins to read `partition` at `offset`, whatever is committed.
    pub fn seek(
        &mut self,
        partition: &TopicPartition,
        offset: Offset,
    ) -> Result<(), ConsumerError> {
        let epoch = ottla_protocol::LeaderEpoch::NONE;
        let state = self.partitions.get(partition)?;
        state.go_to(Position { offset, epoch });
        state.not_before = self.now;
        Ok(())
    }
}

/// Sees what is handed out and what is committed.
pub trait ConsumerInterceptor: Send {
    /// What poll is about to hand out; what comes back is handed out instead.
    fn on_consume(&mut self, records: Records) -> Records {
        records
    }

    /// What was committed.
    fn on_commit(&mut self, offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>) {
        let _ = offsets;
    }
}
