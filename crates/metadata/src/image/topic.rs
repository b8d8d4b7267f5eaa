use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_wire_core::Uuid;
use ottla_protocol::{BrokerId, LeaderEpoch, TopicId};

use crate::record::{NO_LEADER, NO_LEADER_CHANGE, PartitionChangeRecord, PartitionRecord};

/// One topic and its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicImage {
    /// Its name.
    pub name: Arc<str>,
    /// Its id: another topic of the same name, later, has another.
    pub id: TopicId,
    /// Its partitions by number.
    pub partitions: BTreeMap<i32, Arc<PartitionRegistration>>,
}

impl TopicImage {
    /// One of its partitions.
    pub fn partition(&self, partition: i32) -> Option<&Arc<PartitionRegistration>> {
        self.partitions.get(&partition)
    }
}

/// Whether a partition still recovers from an unclean election (KIP-704).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeaderRecoveryState {
    /// The leader has every committed record that survives.
    #[default]
    Recovered,
    /// The leader was elected uncleanly and has not recovered yet.
    Recovering,
}

impl LeaderRecoveryState {
    /// Kafka's number.
    pub fn value(self) -> i8 {
        match self {
            Self::Recovered => 0,
            Self::Recovering => 1,
        }
    }
}

/// Who holds a partition and who leads it. Kafka's `PartitionRegistration`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRegistration {
    /// Its replicas, the preferred leader first. Never empty, no duplicates.
    pub replicas: Vec<BrokerId>,
    /// The log directory of each replica, in the order of `replicas`; all zeroes where it is not
    /// known.
    pub directories: Vec<Uuid>,
    /// The replicas in sync, in the order of `replicas`. A subset of them. It may be empty once the
    /// cluster keeps an ELR (KIP-966).
    pub isr: Vec<BrokerId>,
    /// Replicas that a reassignment takes away.
    pub removing_replicas: Vec<BrokerId>,
    /// Replicas that a reassignment brings.
    pub adding_replicas: Vec<BrokerId>,
    /// Replicas out of the ISR that have every committed record (KIP-966).
    pub elr: Vec<BrokerId>,
    /// The last leader before the ISR ran empty: it leads again if the ELR is empty too (KIP-966).
    pub last_known_elr: Vec<BrokerId>,
    /// Its leader, if it has one.
    pub leader: Option<BrokerId>,
    /// Whether the leader still recovers from an unclean election.
    pub leader_recovery_state: LeaderRecoveryState,
    /// How many leaders it has had.
    pub leader_epoch: LeaderEpoch,
    /// How many changes of any kind it has had.
    pub partition_epoch: i32,
}

impl PartitionRegistration {
    pub(super) fn from_record(record: &PartitionRecord) -> Self {
        Self {
            replicas: record.replicas.clone(),
            directories: if record.directories.is_empty() {
                vec![Uuid::ZERO; record.replicas.len()]
            } else {
                record.directories.clone()
            },
            isr: record.isr.clone(),
            removing_replicas: record.removing_replicas.clone(),
            adding_replicas: record.adding_replicas.clone(),
            elr: record.eligible_leader_replicas.clone().unwrap_or_default(),
            last_known_elr: record.last_known_elr.clone().unwrap_or_default(),
            leader: leader_from_wire(record.leader),
            leader_recovery_state: match record.leader_recovery_state {
                1 => LeaderRecoveryState::Recovering,
                _ => LeaderRecoveryState::Recovered,
            },
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
        }
    }

    /// The log directory of the replica on `broker` (KIP-858); `None` if it is not known, or if the
    /// broker holds none.
    pub fn directory(&self, broker: BrokerId) -> Option<Uuid> {
        let mut replicas = self.replicas.iter().zip(&self.directories);
        let (_, dir) = replicas.find(|(replica, _)| **replica == broker)?;
        (!is_reserved_directory(dir)).then_some(*dir)
    }

    /// Whether it is on its way to other replicas (KIP-455).
    pub fn is_reassigning(&self) -> bool {
        !self.adding_replicas.is_empty() || !self.removing_replicas.is_empty()
    }

    /// The record that brings this partition about.
    pub fn to_record(&self, topic_id: TopicId, partition_id: i32) -> PartitionRecord {
        let unless_empty = |ids: &Vec<BrokerId>| (!ids.is_empty()).then(|| ids.clone());
        PartitionRecord {
            partition_id,
            topic_id,
            replicas: self.replicas.clone(),
            isr: self.isr.clone(),
            removing_replicas: self.removing_replicas.clone(),
            adding_replicas: self.adding_replicas.clone(),
            leader: self.leader.unwrap_or(NO_LEADER),
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
            directories: self.directories.clone(),
            leader_recovery_state: self.leader_recovery_state.value(),
            eligible_leader_replicas: unless_empty(&self.elr),
            last_known_elr: unless_empty(&self.last_known_elr),
        }
    }

    /// Every change moves the partition epoch on; naming a leader, even the same one, moves the
    /// leader epoch on (KIP-101).
    pub(crate) fn change(&mut self, change: &PartitionChangeRecord) {
        let replace = |field: &mut Vec<BrokerId>, new: &Option<Vec<BrokerId>>| {
            if let Some(new) = new {
                field.clone_from(new);
            }
        };
        replace(&mut self.isr, &change.isr);
        replace(&mut self.replicas, &change.replicas);
        replace(&mut self.removing_replicas, &change.removing_replicas);
        replace(&mut self.adding_replicas, &change.adding_replicas);
        replace(&mut self.elr, &change.eligible_leader_replicas);
        replace(&mut self.last_known_elr, &change.last_known_elr);
        if let Some(directories) = &change.directories {
            self.directories.clone_from(directories);
        }
        if change.leader != NO_LEADER_CHANGE {
            self.leader = leader_from_wire(change.leader);
            self.leader_epoch = LeaderEpoch(self.leader_epoch.0.saturating_add(1));
        }
        match change.leader_recovery_state {
            0 => self.leader_recovery_state = LeaderRecoveryState::Recovered,
            1 => self.leader_recovery_state = LeaderRecoveryState::Recovering,
            _ => {}
        }
        self.partition_epoch = self.partition_epoch.saturating_add(1);
    }
}

/// Kafka reserves the first hundred ids for "unassigned", "lost" and the like.
pub(crate) fn is_reserved_directory(id: &Uuid) -> bool {
    u128::from_be_bytes(id.to_bytes()) < 100
}

fn leader_from_wire(leader: BrokerId) -> Option<BrokerId> {
    (leader != NO_LEADER).then_some(leader)
}
