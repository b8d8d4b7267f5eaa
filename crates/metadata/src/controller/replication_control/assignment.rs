//! Which brokers hold a new partition: as the request says, or as [`placement`](crate::placement)
//! has it.

use std::collections::BTreeSet;

use ottla_protocol::{BrokerId, ErrorCode, LeaderEpoch, Uuid};

use super::super::Controller;
use crate::image::{LeaderRecoveryState, PartitionRegistration};
use crate::placement::{PlacementError, PlacementSpec, Start, UsableBroker, place};

/// Why a partition cannot be given these replicas.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AssignmentError {
    /// A partition without replicas.
    #[error("the assignment of partition {0} names no broker")]
    Empty(usize),
    /// Two replicas on one broker.
    #[error("the assignment of partition {partition} names broker {broker} twice")]
    Duplicate {
        /// Number of the partition.
        partition: usize,
        /// Who is named twice.
        broker: BrokerId,
    },
    /// A replica on a broker that is not there.
    #[error(
        "the assignment of partition {partition} names broker {broker}, which is not registered"
    )]
    UnknownBroker {
        /// Number of the partition.
        partition: usize,
        /// Who is not there.
        broker: BrokerId,
    },
    /// Every partition of a topic has as many replicas.
    #[error(
        "the assignment of partition {partition} has {given} replicas, the topic's others have {expected}"
    )]
    OtherFactor {
        /// Number of the partition.
        partition: usize,
        /// Its replicas.
        given: usize,
        /// Those of the others.
        expected: usize,
    },
    /// Nobody could lead it.
    #[error("every broker of partition {0} is fenced or shutting down")]
    NoneActive(usize),
    /// No broker at all could lead.
    #[error("every broker is fenced or shutting down")]
    NoActiveBroker,
    /// Too few brokers.
    #[error(transparent)]
    Placement(#[from] PlacementError),
}

impl AssignmentError {
    /// The code to answer with.
    pub(crate) fn error_code(&self) -> ErrorCode {
        match self {
            Self::Empty(_)
            | Self::Duplicate { .. }
            | Self::UnknownBroker { .. }
            | Self::OtherFactor { .. }
            | Self::NoneActive(_) => ErrorCode::InvalidReplicaAssignment,
            Self::NoActiveBroker | Self::Placement(_) => ErrorCode::InvalidReplicationFactor,
        }
    }
}

impl Controller {
    /// Checks what a request says about one partition. `factor` is that of the topic's other
    /// partitions.
    pub(super) fn check_assignment(
        &self,
        partition: usize,
        replicas: &[i32],
        factor: Option<usize>,
    ) -> Result<PartitionRegistration, AssignmentError> {
        let replicas = self.check_replicas(partition, replicas)?;
        match factor {
            Some(expected) if expected != replicas.len() => {
                Err(AssignmentError::OtherFactor { partition, given: replicas.len(), expected })
            }
            Some(_) | None => {
                self.new_partition(replicas).ok_or(AssignmentError::NoneActive(partition))
            }
        }
    }

    /// The replicas that a request names: some, all registered, none twice.
    pub(super) fn check_replicas(
        &self,
        partition: usize,
        replicas: &[i32],
    ) -> Result<Vec<BrokerId>, AssignmentError> {
        if replicas.is_empty() {
            return Err(AssignmentError::Empty(partition));
        }
        let replicas: Vec<BrokerId> = replicas.iter().copied().map(BrokerId).collect();
        let mut seen = BTreeSet::new();
        for broker in replicas.iter().copied() {
            if self.image.broker(broker).is_none() {
                return Err(AssignmentError::UnknownBroker { partition, broker });
            }
            if !seen.insert(broker) {
                return Err(AssignmentError::Duplicate { partition, broker });
            }
        }
        Ok(replicas)
    }

    /// Places partitions on the brokers that are active and not being emptied, and only if they are
    /// too few for the factor on others as well: a topic can be created while a broker restarts.
    pub(super) fn place_partitions(
        &self,
        spec: PlacementSpec,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Vec<PartitionRegistration>, AssignmentError> {
        let (active, away): (Vec<_>, Vec<_>) =
            self.image.brokers().partition(|broker| broker.is_active());
        if active.is_empty() {
            return Err(AssignmentError::NoActiveBroker);
        }
        let (active, emptied): (Vec<_>, Vec<_>) =
            active.into_iter().partition(|broker| self.image.broker_weight(broker.id) > 0);
        let others = emptied.into_iter().chain(away);
        // With no more brokers than replicas, each partition has an active one.
        let missing = spec.replication_factor.saturating_sub(active.len());
        let mut usable: Vec<UsableBroker> = active
            .into_iter()
            .chain(others.take(missing))
            .map(|broker| UsableBroker { id: broker.id, rack: broker.rack.clone() })
            .collect();
        usable.sort_by_key(|broker| broker.id);
        let placed = place(&usable, spec, Start::random(usable.len(), random))?;
        placed
            .into_iter()
            .map(|replicas| self.new_partition(replicas).ok_or(AssignmentError::NoActiveBroker))
            .collect()
    }

    /// A partition with these replicas: those that are active are in sync, the first of them leads.
    /// None if none is.
    fn new_partition(&self, replicas: Vec<BrokerId>) -> Option<PartitionRegistration> {
        let isr: Vec<BrokerId> =
            replicas.iter().copied().filter(|broker| self.is_active(*broker)).collect();
        let leader = isr.first().copied()?;
        Some(PartitionRegistration {
            directories: replicas.iter().map(|broker| self.default_directory(*broker)).collect(),
            replicas,
            isr,
            removing_replicas: Vec::new(),
            adding_replicas: Vec::new(),
            elr: Vec::new(),
            last_known_elr: Vec::new(),
            leader: Some(leader),
            leader_recovery_state: LeaderRecoveryState::Recovered,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
        })
    }

    /// A broker with one log directory leaves no choice; one with several chooses itself and says
    /// so later (KIP-858).
    pub(super) fn default_directory(&self, broker: BrokerId) -> Uuid {
        match self.image.broker(broker).map(|broker| broker.log_dirs.as_slice()) {
            Some([only]) => *only,
            Some(_) | None => Uuid::ZERO,
        }
    }
}
