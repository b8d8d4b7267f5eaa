//! Hard state: what the records of the partition say, compacted.

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_protocol::StrBytes;

use super::detached;
use crate::records::{
    CoordinatorRecord, GroupMetadataValue, MemberMetadata, OffsetCommitKey, OffsetCommitValue,
};

/// Every group of the partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStore {
    groups: BTreeMap<StrBytes, StoredGroup>,
}

/// What is known of one group. At least one of the two is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredGroup {
    metadata: Option<GroupMetadataValue>,
    offsets: BTreeMap<StrBytes, BTreeMap<i32, OffsetCommitValue>>,
}

impl GroupStore {
    /// The group with this id.
    pub fn get(&self, group_id: &StrBytes) -> Option<&StoredGroup> {
        self.groups.get(group_id)
    }

    /// Every group, by id.
    pub fn groups(&self) -> impl Iterator<Item = (&StrBytes, &StoredGroup)> {
        self.groups.iter()
    }

    pub(super) fn replay(&mut self, record: &CoordinatorRecord) {
        match record {
            CoordinatorRecord::OffsetCommit { key, value: Some(value) } => {
                self.entry(&key.group).put_offset(key, value);
            }
            CoordinatorRecord::OffsetCommit { key, value: None } => {
                if let Some(group) = self.groups.get_mut(&key.group) {
                    group.remove_offset(key);
                }
                self.drop_if_bare(&key.group);
            }
            CoordinatorRecord::GroupMetadata { key, value: Some(value) } => {
                self.entry(&key.group).metadata = Some(owned(value));
            }
            CoordinatorRecord::GroupMetadata { key, value: None } => {
                if let Some(group) = self.groups.get_mut(&key.group) {
                    group.metadata = None;
                }
                self.drop_if_bare(&key.group);
            }
        }
    }

    fn entry(&mut self, group_id: &StrBytes) -> &mut StoredGroup {
        if !self.groups.contains_key(group_id) {
            self.groups.insert(detached(group_id), StoredGroup::default());
        }
        self.groups.entry(group_id.clone()).or_default()
    }

    fn drop_if_bare(&mut self, group_id: &StrBytes) {
        if self.groups.get(group_id).is_some_and(|group| *group == StoredGroup::default()) {
            self.groups.remove(group_id);
        }
    }
}

impl StoredGroup {
    /// Its newest generation; `None` if it only ever committed offsets.
    pub fn metadata(&self) -> Option<&GroupMetadataValue> {
        self.metadata.as_ref()
    }

    /// What it committed for a partition.
    pub fn offset(&self, topic: &StrBytes, partition: i32) -> Option<&OffsetCommitValue> {
        self.offsets.get(topic)?.get(&partition)
    }

    /// Everything it committed: topics with their partitions, ascending.
    pub fn offsets(&self) -> impl Iterator<Item = (&StrBytes, &BTreeMap<i32, OffsetCommitValue>)> {
        self.offsets.iter()
    }

    pub(super) fn has_members(&self) -> bool {
        self.metadata.as_ref().is_some_and(|metadata| !metadata.members.is_empty())
    }

    pub(super) fn generation(&self) -> i32 {
        self.metadata.as_ref().map_or(0, |metadata| metadata.generation)
    }

    fn put_offset(&mut self, key: &OffsetCommitKey, value: &OffsetCommitValue) {
        if !self.offsets.contains_key(&key.topic) {
            self.offsets.insert(detached(&key.topic), BTreeMap::new());
        }
        let value = OffsetCommitValue { metadata: detached(&value.metadata), ..value.clone() };
        self.offsets.entry(key.topic.clone()).or_default().insert(key.partition, value);
    }

    fn remove_offset(&mut self, key: &OffsetCommitKey) {
        let Some(partitions) = self.offsets.get_mut(&key.topic) else { return };
        partitions.remove(&key.partition);
        if partitions.is_empty() {
            self.offsets.remove(&key.topic);
        }
    }
}

fn owned(value: &GroupMetadataValue) -> GroupMetadataValue {
    GroupMetadataValue {
        protocol_type: detached(&value.protocol_type),
        generation: value.generation,
        protocol: value.protocol.as_ref().map(detached),
        leader: value.leader.as_ref().map(detached),
        current_state_timestamp: value.current_state_timestamp,
        members: value.members.iter().map(owned_member).collect(),
    }
}

fn owned_member(member: &MemberMetadata) -> MemberMetadata {
    MemberMetadata {
        member_id: detached(&member.member_id),
        group_instance_id: member.group_instance_id.as_ref().map(detached),
        client_id: detached(&member.client_id),
        client_host: detached(&member.client_host),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        session_timeout_ms: member.session_timeout_ms,
        subscription: Bytes::copy_from_slice(&member.subscription),
        assignment: Bytes::copy_from_slice(&member.assignment),
    }
}
