//! What a follower does: where it fetches, and where it cuts its log.

use ottla_protocol::{BrokerId, LeaderEpoch, Offset};

/// An epoch and the offset after its last record, in somebody's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// The first offset that is no longer of it.
    pub end: Offset,
}

/// From whom, and from where, a follower fetches next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPosition {
    /// The leader.
    pub leader: BrokerId,
    /// The epoch in which it leads.
    pub leader_epoch: LeaderEpoch,
    /// The follower's log end.
    pub offset: Offset,
}

/// Where to cut the log when the leader says that it leaves its own: the leader's log has `leader`, the largest of its epochs
/// that is not above the one that was fetched after; `own` is the largest epoch here that is not above that one.
///
/// Where both know the epoch, both logs agree up to the earlier of its two ends. Where the leader's epoch is not known here,
/// they may agree up to the end of the smaller one that is, and the next fetch asks about that one (KIP-101, KIP-279, KIP-595).
pub fn truncation_offset(leader: EpochEnd, own: Option<EpochEnd>, log_end: Offset) -> Offset {
    let agreed = match own {
        // The leader knows no such epoch either: all that is said is where its log can be followed from.
        _ if leader.epoch == LeaderEpoch::NONE => leader.end,
        Some(own) if own.epoch != leader.epoch => own.end,
        Some(own) => own.end.min(leader.end),
        None => leader.end,
    };
    agreed.min(log_end)
}

/// What a follower does whose position lies outside of the leader's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reposition {
    /// The leader's log ends before ours: after an unclean election.
    TruncateTo(Offset),
    /// The leader's log begins behind the end of ours: nothing here is of use any more.
    StartAt(Offset),
    /// Our end lies within the leader's log by now.
    Stay,
}

/// What to do after `OFFSET_OUT_OF_RANGE`, given where both logs end and where the leader's begins.
pub fn reposition(log_end: Offset, leader_start: Offset, leader_end: Offset) -> Reposition {
    if leader_end < log_end {
        Reposition::TruncateTo(leader_end)
    } else if leader_start > log_end {
        Reposition::StartAt(leader_start)
    } else {
        Reposition::Stay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(epoch: i32, end: i64) -> EpochEnd {
        EpochEnd { epoch: LeaderEpoch(epoch), end: Offset(end) }
    }

    #[test]
    fn logs_agree_up_to_the_earlier_end_of_an_epoch_that_both_know() {
        assert_eq!(truncation_offset(end(3, 10), Some(end(3, 12)), Offset(20)), Offset(10));
        assert_eq!(truncation_offset(end(3, 15), Some(end(3, 12)), Offset(20)), Offset(12));
    }

    #[test]
    fn an_epoch_that_is_not_known_here_is_asked_about_once_more() {
        assert_eq!(truncation_offset(end(5, 30), Some(end(2, 7)), Offset(20)), Offset(7));
        assert_eq!(truncation_offset(end(1, 4), None, Offset(20)), Offset(4));
        assert_eq!(truncation_offset(end(-1, 25), None, Offset(20)), Offset(20));
    }

    #[test]
    fn a_position_outside_of_the_leaders_log_is_mended() {
        assert_eq!(reposition(Offset(9), Offset(0), Offset(5)), Reposition::TruncateTo(Offset(5)));
        assert_eq!(reposition(Offset(9), Offset(12), Offset(20)), Reposition::StartAt(Offset(12)));
        assert_eq!(reposition(Offset(9), Offset(9), Offset(9)), Reposition::Stay);
        assert_eq!(reposition(Offset(9), Offset(3), Offset(20)), Reposition::Stay);
    }
}
