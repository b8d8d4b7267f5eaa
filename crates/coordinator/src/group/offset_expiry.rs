//! Offsets that nobody needs any more (KIP-211), and offsets of topics that are gone.

use std::collections::BTreeSet;

use ottla_protocol::{StrBytes, Timestamp};

use super::classic_group::{ClassicGroup, GroupState};
use super::group_admin::group_tombstone;
use super::offset_commit::{Subscribed, offset_tombstone};
use super::{GroupCoordinator, Outcome, StoredGroup};
use crate::records::{CoordinatorRecord, OffsetCommitValue};

/// Bytes of tombstones that may be in one batch. More could be beyond `max.message.bytes`, and then none would ever go.
const MAX_BATCH: usize = 256 * 1024;
/// What a tombstone takes beside its names, at most.
const TOMBSTONE_OVERHEAD: usize = 32;

/// From when an offset's retention counts.
#[derive(Clone, Copy)]
enum Since {
    /// From when the group became empty.
    Empty(Timestamp),
    /// From its commit: nobody subscribes to its topic.
    Commit,
}

impl GroupCoordinator {
    /// Removes offsets whose retention is over, and empty groups without offsets. Due every
    /// `offsets.retention.check.interval.ms`. What does not fit into one batch is left for the next call.
    pub fn expire_offsets(&self, now: Timestamp) -> Outcome<()> {
        let mut records = Vec::new();
        for (group_id, stored) in self.store.groups() {
            let Some(group) = self.group(group_id) else { continue };
            let all_expired = self.expire_group(&group, stored, now, &mut records);
            // Members about to join an empty group would find it gone.
            let idle = group.state() == GroupState::Empty && group.pending_members().len() == 0;
            if all_expired && idle {
                records.push(group_tombstone(group_id));
            }
        }
        Outcome { records: first_batch(records), answer: () }
    }

    /// Answers whether nothing is left.
    fn expire_group(
        &self,
        group: &ClassicGroup,
        stored: &StoredGroup,
        now: Timestamp,
        records: &mut Vec<CoordinatorRecord>,
    ) -> bool {
        let mut all_expired = true;
        let subscribed = Subscribed::of(group);
        let since = since(group, &subscribed);
        for (topic, partitions) in stored.offsets() {
            for (partition, offset) in partitions {
                let unused = !subscribed.contains(topic);
                if unused && since.is_some_and(|since| self.is_expired(offset, since, now)) {
                    records.push(offset_tombstone(group.id(), topic, *partition));
                } else {
                    all_expired = false;
                }
            }
        }
        all_expired
    }

    fn is_expired(&self, offset: &OffsetCommitValue, since: Since, now: Timestamp) -> bool {
        if let Some(expire) = offset.expire_timestamp {
            return now >= expire;
        }
        let since = match since {
            Since::Empty(since) if since != Timestamp::NONE => since,
            Since::Empty(_) | Since::Commit => offset.commit_timestamp,
        };
        let age = u128::try_from(now.0.saturating_sub(since.0)).unwrap_or(0);
        age >= self.config.offsets_retention.as_millis()
    }

    /// Removes the offsets of topics that were deleted, as many as fit into one batch; the next call brings more.
    pub fn topics_deleted(&self, topics: &BTreeSet<StrBytes>) -> Outcome<()> {
        let mut records = Vec::new();
        for (group_id, stored) in self.store.groups() {
            let deleted = stored.offsets().filter(|(topic, _)| topics.contains(*topic));
            for (topic, partitions) in deleted {
                let tombstone = |partition: &i32| offset_tombstone(group_id, topic, *partition);
                records.extend(partitions.keys().map(tombstone));
            }
        }
        Outcome { records: first_batch(records), answer: () }
    }
}

/// The first of `tombstones`, as many as fit into a batch. A group goes after its offsets, so any of the first will do.
fn first_batch(mut tombstones: Vec<CoordinatorRecord>) -> Vec<CoordinatorRecord> {
    let mut bytes = 0;
    let fits = tombstones.iter().take_while(|tombstone| {
        let topic = match tombstone {
            CoordinatorRecord::OffsetCommit { key, .. } => key.topic.len(),
            CoordinatorRecord::GroupMetadata { .. } => 0,
        };
        bytes += TOMBSTONE_OVERHEAD + tombstone.group_id().len() + topic;
        bytes <= MAX_BATCH
    });
    let count = fits.count();
    tombstones.truncate(count);
    tombstones
}

/// `None` if the group's offsets must be kept for now.
fn since(group: &ClassicGroup, subscribed: &Subscribed) -> Option<Since> {
    if group.protocol_type().is_none() {
        return Some(Since::Commit);
    }
    match group.state() {
        GroupState::Empty => Some(Since::Empty(group.state_since())),
        GroupState::Stable => subscribed.is_known().then_some(Since::Commit),
        GroupState::PreparingRebalance | GroupState::CompletingRebalance => None,
    }
}

#[cfg(test)]
mod tests {
    use ottla_protocol::{LeaderEpoch, Offset};

    use super::super::GroupCoordinatorConfig;
    use super::*;
    use crate::records::OffsetCommitKey;

    #[test]
    fn more_offsets_than_fit_into_a_batch_expire_one_batch_after_the_other() {
        const PARTITIONS: i32 = 20_000;
        let mut shard = GroupCoordinator::new(GroupCoordinatorConfig::default());
        for partition in 0..PARTITIONS {
            shard.replay(&CoordinatorRecord::OffsetCommit {
                key: OffsetCommitKey { group: "group".into(), topic: "topic".into(), partition },
                value: Some(OffsetCommitValue {
                    offset: Offset(7),
                    leader_epoch: LeaderEpoch::NONE,
                    metadata: "".into(),
                    commit_timestamp: Timestamp(0),
                    expire_timestamp: None,
                }),
            });
        }
        let year_later = Timestamp(365 * 24 * 3_600_000);
        let mut batches = Vec::new();
        loop {
            let records = shard.expire_offsets(year_later).records;
            let sizes = records.iter().map(|it| it.encode().unwrap().key.len() + 16);
            assert!(sizes.sum::<usize>() <= MAX_BATCH);
            records.iter().for_each(|record| shard.replay(record));
            match records.len() {
                0 => break,
                len => batches.push(len),
            }
        }
        assert!(batches.len() > 1, "{batches:?}");
        assert_eq!(batches.iter().sum::<usize>(), PARTITIONS as usize + 1, "and the group");
    }
}
