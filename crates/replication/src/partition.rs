//! The leader's view of one partition.

use std::collections::BTreeSet;

use ottla_protocol::{BrokerId, LeaderEpoch, Offset};

/// The replicas of a partition as the controller last recorded them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// Who leads.
    pub leader: BrokerId,
    /// How many leaders there have been.
    pub leader_epoch: LeaderEpoch,
    /// All brokers that hold the partition; the first is the preferred leader.
    pub assigned: Vec<BrokerId>,
    /// Those of them that hold everything below the high watermark.
    pub in_sync: BTreeSet<BrokerId>,
}

/// Who leads, as one replica knows it: all that a reader is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    local: BrokerId,
    leader: BrokerId,
    epoch: LeaderEpoch,
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

    /// The current leader.
    pub fn leader(&self) -> BrokerId {
        self.leader
    }

    /// The current leader epoch.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }
}

/// What an append changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The high watermark after it: records below are committed.
    pub high_watermark: Offset,
    /// Whether it moved.
    pub advanced: bool,
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

/// One replica's state machine for one partition (LEO, HW, ISR).
#[derive(Clone, Debug)]
pub struct Partition {
    local: BrokerId,
    replicas: Replicas,
    log_end: Offset,
    high_watermark: Offset,
}

impl Partition {
    /// A partition whose log ends at `log_end`, under the replicas that the controller recorded.
    ///
    /// A sole replica has committed all that its log holds; otherwise the checkpointed high watermark is where to begin.
    pub fn new(
        local: BrokerId,
        replicas: Replicas,
        log_end: Offset,
        checkpointed_high_watermark: Offset,
    ) -> Self {
        let mut partition = Self {
            local,
            replicas,
            log_end,
            high_watermark: checkpointed_high_watermark.min(log_end),
        };
        partition.check_invariants();
        partition.advance_high_watermark();
        partition
    }

    /// The controller recorded a new leader, ISR or assignment. Older news than ours is ignored.
    ///
    /// Returns whether anything changed.
    pub fn replicas_changed(&mut self, replicas: Replicas) -> bool {
        if replicas.leader_epoch < self.replicas.leader_epoch || replicas == self.replicas {
            return false;
        }
        self.replicas = replicas;
        self.check_invariants();
        self.advance_high_watermark();
        true
    }

    /// The local log now ends at `log_end`.
    pub fn appended(&mut self, log_end: Offset) -> Appended {
        assert!(log_end >= self.log_end, "the log end went back by an append");
        self.log_end = log_end;
        let advanced = self.advance_high_watermark();
        Appended { high_watermark: self.high_watermark, advanced }
    }

    /// Who leads. A copy, for readers who must not wait for an append.
    pub fn leadership(&self) -> Leadership {
        let Replicas { leader, leader_epoch: epoch, .. } = self.replicas;
        Leadership { local: self.local, leader, epoch }
    }

    /// Refuses an `acks=all` append that too few replicas would hold (before the append; KIP-497 names the error).
    pub fn check_min_isr(&self, required: usize) -> Result<(), LeadershipError> {
        let in_sync = self.replicas.in_sync.len();
        if in_sync < required {
            return Err(LeadershipError::NotEnoughReplicas { in_sync, required });
        }
        Ok(())
    }

    /// The end of the local log, as far as it was [`appended`](Self::appended).
    pub fn log_end(&self) -> Offset {
        self.log_end
    }

    /// Records below it are committed and visible to consumers.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The HW is the smallest log end in the ISR. The leader is the only member whose log end it knows,
    /// so with others in the ISR it stays where it is.
    fn advance_high_watermark(&mut self) -> bool {
        let sole = self.leadership().is_leader() && self.replicas.in_sync.len() == 1;
        if !sole || self.log_end == self.high_watermark {
            return false;
        }
        self.high_watermark = self.log_end;
        true
    }

    fn check_invariants(&self) {
        assert!(self.high_watermark <= self.log_end, "HW beyond LEO");
        assert!(
            self.replicas.in_sync.iter().all(|id| self.replicas.assigned.contains(id)),
            "the ISR holds a broker that is no replica"
        );
        assert!(
            !self.leadership().is_leader() || self.replicas.in_sync.contains(&self.local),
            "a leader outside its ISR"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicas(leader: i32, epoch: i32, in_sync: &[i32]) -> Replicas {
        Replicas {
            leader: BrokerId(leader),
            leader_epoch: LeaderEpoch(epoch),
            assigned: vec![BrokerId(1), BrokerId(2)],
            in_sync: in_sync.iter().copied().map(BrokerId).collect(),
        }
    }

    #[test]
    fn a_sole_replica_commits_what_it_appends() {
        let mut partition = Partition::new(BrokerId(1), replicas(1, 0, &[1]), Offset(5), Offset(0));
        assert_eq!(partition.high_watermark(), Offset(5));
        let appended = partition.appended(Offset(8));
        assert_eq!(appended, Appended { high_watermark: Offset(8), advanced: true });
    }

    #[test]
    fn with_others_in_the_isr_an_append_commits_nothing() {
        let mut partition =
            Partition::new(BrokerId(1), replicas(1, 0, &[1, 2]), Offset(5), Offset(3));
        let appended = partition.appended(Offset(8));
        assert_eq!(appended, Appended { high_watermark: Offset(3), advanced: false });
        assert!(partition.replicas_changed(replicas(1, 1, &[1])));
        assert_eq!(partition.high_watermark(), Offset(8));
    }

    #[test]
    fn epochs_tell_old_clients_from_new_ones() {
        let partition = Partition::new(BrokerId(1), replicas(1, 4, &[1]), Offset(0), Offset(0));
        assert_eq!(partition.leadership().check_epoch(LeaderEpoch::NONE), Ok(()));
        assert_eq!(partition.leadership().check_epoch(LeaderEpoch(4)), Ok(()));
        let current = LeaderEpoch(4);
        assert_eq!(
            partition.leadership().check_epoch(LeaderEpoch(3)),
            Err(EpochCheckError::Fenced { current })
        );
        assert_eq!(
            partition.leadership().check_epoch(LeaderEpoch(5)),
            Err(EpochCheckError::Unknown { current })
        );
    }

    #[test]
    fn old_news_is_ignored_and_a_lost_leadership_is_noticed() {
        let mut partition = Partition::new(BrokerId(1), replicas(1, 4, &[1]), Offset(0), Offset(0));
        assert!(!partition.replicas_changed(replicas(2, 3, &[2])));
        assert_eq!(partition.leadership().check_leader(), Ok(()));
        assert!(partition.replicas_changed(replicas(2, 5, &[2])));
        assert_eq!(partition.leadership().check_leader(), Err(LeadershipError::NotLeader));
    }

    #[test]
    fn acks_all_wants_enough_replicas() {
        let partition = Partition::new(BrokerId(1), replicas(1, 0, &[1]), Offset(0), Offset(0));
        assert_eq!(partition.check_min_isr(1), Ok(()));
        assert_eq!(
            partition.check_min_isr(2),
            Err(LeadershipError::NotEnoughReplicas { in_sync: 1, required: 2 })
        );
    }
}
