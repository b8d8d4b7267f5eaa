//! Where reading begins and where it ends, for one partition.

use ottla_protocol::Timestamp;

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The first record that is still there.
    Beginning,
    /// The end: only what comes from now on.
    End,
    /// An offset.
    Offset(i64),
    /// So many records before the end.
    Last(i64),
    /// The first record of a time or later.
    Time(Timestamp),
}

/// Where to end. All that are given hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stop {
    /// Before this offset.
    pub(super) offset: Option<i64>,
    /// Before the first record of this time or later.
    pub(super) time: Option<Timestamp>,
    /// At the end that the partition had in the beginning.
    pub(super) at_end: bool,
}

/// The offset to begin at. `at_time` is the first one of the time that is asked for, if any record
/// is as young.
pub(super) fn first_offset(start: Start, (begin, end): (i64, i64), at_time: Option<i64>) -> i64 {
    match start {
        Start::Beginning => begin,
        Start::End => end,
        Start::Offset(offset) => offset.clamp(begin, end),
        Start::Last(count) => end.saturating_sub(count).max(begin),
        Start::Time(_) => at_time.filter(|it| *it >= 0).unwrap_or(end),
    }
}

impl Stop {
    /// The offset before which a partition ends, if it does.
    pub(super) fn last_offset(self, end: i64) -> Option<i64> {
        match (self.offset, self.at_end) {
            (Some(offset), true) => Some(offset.min(end)),
            (Some(offset), false) => Some(offset),
            (None, true) => Some(end),
            (None, false) => None,
        }
    }

    /// Whether a record of this time is behind the end.
    pub(super) fn is_too_young(self, timestamp: Timestamp) -> bool {
        self.time.is_some_and(|limit| timestamp >= limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_begins_within_the_log() {
        let log = (10, 100);
        for (start, at_time, wanted) in [
            (Start::Beginning, None, 10),
            (Start::End, None, 100),
            (Start::Offset(50), None, 50),
            (Start::Offset(5), None, 10),
            (Start::Offset(500), None, 100),
            (Start::Last(3), None, 97),
            (Start::Last(1000), None, 10),
            (Start::Time(Timestamp(1)), Some(20), 20),
            (Start::Time(Timestamp(1)), None, 100),
            (Start::Time(Timestamp(1)), Some(-1), 100),
        ] {
            assert_eq!(first_offset(start, log, at_time), wanted, "{start:?}");
        }
    }

    #[test]
    fn reading_ends_where_the_first_of_its_ends_is() {
        let stop = |offset, at_end| Stop { offset, time: None, at_end };
        assert_eq!(stop(None, false).last_offset(9), None);
        assert_eq!(stop(Some(5), false).last_offset(9), Some(5));
        assert_eq!(stop(Some(5), true).last_offset(3), Some(3));
        assert_eq!(stop(None, true).last_offset(9), Some(9));
        let until = Stop { time: Some(Timestamp(7)), ..Stop::default() };
        assert!(until.is_too_young(Timestamp(7)) && !until.is_too_young(Timestamp(6)));
    }
}
