//! Offsets that nobody needs any more (KIP-211), and offsets of topics that are gone.

use std::collections::BTreeSet;

use ottla_protocol::{StrBytes, Timestamp};

use super::classic_group::{ClassicGroup, GroupState};
use super::group_admin::group_tombstone;
use super::offset_commit::{Subscribed, offset_tombstone};
use super::{GroupCoordinator, Outcome, StoredGroup};
use crate::records::{CoordinatorRecord, OffsetCommitValue};

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
    /// `offsets.retention.check.interval.ms`.
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
        Outcome { records, answer: () }
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

    /// Removes the offsets of topics that were deleted.
    pub fn topics_deleted(&self, topics: &BTreeSet<StrBytes>) -> Outcome<()> {
        let mut records = Vec::new();
        for (group_id, stored) in self.store.groups() {
            let deleted = stored.offsets().filter(|(topic, _)| topics.contains(*topic));
            for (topic, partitions) in deleted {
                let tombstone = |partition: &i32| offset_tombstone(group_id, topic, *partition);
                records.extend(partitions.keys().map(tombstone));
            }
        }
        Outcome { records, answer: () }
    }
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
