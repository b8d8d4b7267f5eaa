//! Who leads, and what that means for whoever asks.

use ottla_protocol::{BrokerId, LeaderEpoch};

/// Who leads, as one replica knows it: all that a reader is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    pub(crate) local: BrokerId,
    pub(crate) leader: BrokerId,
    pub(crate) epoch: LeaderEpoch,
}

impl Leadership {
    /// Compares the leader epoch that a client believes in with ours; [`LeaderEpoch::NONE`] is not checked.
    pub fn check_epoch(&self, requested: LeaderEpoch) -> Result<(), EpochCheckError> {
        let current = self.epoch;
        if requested == LeaderEpoch::NONE || requested == current {
            Ok(())
        } else if requested < current {
            Err(EpochCheckError::Fenced { current })
        } else {
            Err(EpochCheckError::Unknown { current })
        }
    }

    /// Refuses what only the leader may do.
    pub fn check_leader(&self) -> Result<(), LeadershipError> {
        if self.is_leader() { Ok(()) } else { Err(LeadershipError::NotLeader) }
    }

    /// Whether this broker leads.
    pub fn is_leader(&self) -> bool {
        self.leader == self.local
    }

    /// Whether this broker leads in `epoch`.
    pub fn leads_in(&self, epoch: LeaderEpoch) -> bool {
        self.is_leader() && self.epoch == epoch
    }

    /// The current leader.
    pub fn leader(&self) -> BrokerId {
        self.leader
    }

    /// The current leader epoch.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }
}

/// This node may not do what only the leader may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeadershipError {
    /// Another broker leads, or nobody does.
    #[error("this broker does not lead the partition")]
    NotLeader,
    /// Fewer replicas are in sync than `min.insync.replicas` asks for `acks=all`.
    #[error("{in_sync} replicas are in sync, fewer than min.insync.replicas={required}")]
    NotEnoughReplicas {
        /// Replicas in sync now.
        in_sync: usize,
        /// Replicas asked for.
        required: usize,
    },
}

/// A client's leader epoch does not agree with ours (KIP-320).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochCheckError {
    /// The client knows an older leader: it must refresh its metadata.
    #[error("the leader epoch of the request is older than {current}")]
    Fenced {
        /// The epoch here.
        current: LeaderEpoch,
    },
    /// The client knows a newer leader than this broker does.
    #[error("the leader epoch of the request is newer than {current}")]
    Unknown {
        /// The epoch here.
        current: LeaderEpoch,
    },
}
