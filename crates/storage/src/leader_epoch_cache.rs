//! Which offset each leader began at (KIP-101), so that a follower finds where its log diverged.
//!
//! Kept in `leader-epoch-checkpoint`. The file is written when the log is flushed: the epochs of
//! batches after the recovery point are found again by the scan that recovers those batches.

use std::io;
use std::path::Path;

use ottla_env::Disk;
use ottla_protocol::{LeaderEpoch, Offset};

use crate::checkpoint;

/// The file's name in the partition's directory.
pub(crate) const FILE_NAME: &str = "leader-epoch-checkpoint";

/// Where a leader's reign ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEndOffset {
    /// The epoch answered for: the largest known one that is not above the one asked for.
    pub epoch: LeaderEpoch,
    /// The first offset that is no longer of this epoch.
    pub end_offset: Offset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EpochStart {
    epoch: LeaderEpoch,
    start: Offset,
}

/// Epochs and where they start; both ascend strictly. Kafka's `LeaderEpochFileCache`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaderEpochCache {
    epochs: Vec<EpochStart>,
    dirty: bool,
}

impl LeaderEpochCache {
    pub(crate) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let mut cache = Self::default();
        for EpochStart { epoch, start } in checkpoint::read_lines(disk, path, parse)? {
            let known = cache.epochs.len();
            cache.assign(epoch, start);
            if cache.epochs.len() <= known {
                let message = format!("{}: epochs and offsets do not ascend", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
        cache.dirty = false;
        Ok(cache)
    }

    /// The file's lines, if they changed since they were last taken.
    pub(crate) fn take_dirty(&mut self) -> Option<Vec<String>> {
        std::mem::take(&mut self.dirty)
            .then(|| self.epochs.iter().map(|e| format!("{} {}", e.epoch, e.start)).collect())
    }

    /// Has the lines taken again: what became of them was not written.
    pub(crate) fn mark_dirty(&mut self) {
        self.dirty = true;
    }

    /// The newest epoch that has a start here.
    pub(crate) fn latest(&self) -> Option<LeaderEpoch> {
        self.epochs.last().map(|last| last.epoch)
    }

    /// Notes that `epoch` starts at `start`. An older epoch than the last is ignored; entries
    /// that the new one contradicts are dropped.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) {
        if epoch.0 < 0 || start.0 < 0 || self.latest().is_some_and(|latest| latest >= epoch) {
            return;
        }
        self.epochs.retain(|entry| entry.start < start);
        self.epochs.push(EpochStart { epoch, start });
        self.dirty = true;
    }

    /// Where `epoch` ended in a log that ends at `log_end` (KIP-101, KIP-279); `None` if nothing
    /// is known of it.
    pub(crate) fn end_offset_for(
        &self,
        epoch: LeaderEpoch,
        log_end: Offset,
    ) -> Option<EpochEndOffset> {
        if epoch.0 < 0 {
            return None;
        }
        if self.latest() == Some(epoch) {
            return Some(EpochEndOffset { epoch, end_offset: log_end });
        }
        let higher = self.epochs.partition_point(|entry| entry.epoch <= epoch);
        let end_offset = self.epochs.get(higher)?.start;
        let floor = higher.checked_sub(1).and_then(|floor| self.epochs.get(floor));
        Some(EpochEndOffset { epoch: floor.map_or(epoch, |floor| floor.epoch), end_offset })
    }

    /// The epoch of the record at `offset`.
    pub(crate) fn epoch_for(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.epochs.partition_point(|entry| entry.start <= offset);
        self.epochs.get(after.checked_sub(1)?).map(|entry| entry.epoch)
    }

    /// Forgets epochs that start at or after `offset`.
    pub(crate) fn truncate_from_end(&mut self, offset: Offset) {
        let kept = self.epochs.partition_point(|entry| entry.start < offset);
        self.dirty |= kept < self.epochs.len();
        self.epochs.truncate(kept);
    }

    /// Forgets epochs that ended before `offset`; the one at `offset` starts there now.
    pub(crate) fn truncate_from_start(&mut self, offset: Offset) {
        let started = self.epochs.partition_point(|entry| entry.start <= offset);
        let Some(current) = started.checked_sub(1) else { return };
        self.epochs.drain(..current);
        if let Some(first) = self.epochs.first_mut()
            && (current > 0 || first.start < offset)
        {
            first.start = offset;
            self.dirty = true;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.dirty |= !self.epochs.is_empty();
        self.epochs.clear();
    }
}

fn parse(line: &str) -> Option<EpochStart> {
    let (epoch, start) = line.trim().split_once(' ')?;
    let epoch = LeaderEpoch(epoch.parse().ok()?);
    Some(EpochStart { epoch, start: Offset(start.trim().parse().ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> LeaderEpochCache {
        let mut cache = LeaderEpochCache::default();
        for (epoch, start) in [(1, 0), (2, 10), (5, 20)] {
            cache.assign(LeaderEpoch(epoch), Offset(start));
        }
        cache
    }

    fn end(cache: &LeaderEpochCache, epoch: i32) -> Option<(i32, i64)> {
        cache
            .end_offset_for(LeaderEpoch(epoch), Offset(30))
            .map(|end| (end.epoch.0, end.end_offset.0))
    }

    #[test]
    fn answers_where_an_epoch_ended() {
        let cache = cache();
        assert_eq!(end(&cache, -1), None);
        assert_eq!(end(&cache, 0), Some((0, 0)), "older than all: where the first one starts");
        assert_eq!(end(&cache, 1), Some((1, 10)));
        assert_eq!(end(&cache, 2), Some((2, 20)));
        assert_eq!(end(&cache, 4), Some((2, 20)), "KIP-279: the largest epoch below");
        assert_eq!(end(&cache, 5), Some((5, 30)), "the current epoch ends at the log's end");
        assert_eq!(end(&cache, 6), None, "from the future");
        assert_eq!(cache.epoch_for(Offset(19)), Some(LeaderEpoch(2)));
    }

    #[test]
    fn truncation_forgets_epochs_at_both_ends() {
        let mut cache = cache();
        cache.truncate_from_end(Offset(20));
        assert_eq!(cache.latest(), Some(LeaderEpoch(2)));
        cache.truncate_from_start(Offset(15));
        assert_eq!(cache.take_dirty(), Some(vec!["2 15".to_owned()]));
        assert_eq!(cache.take_dirty(), None);
    }

    #[test]
    fn an_epoch_never_goes_back_and_conflicts_are_dropped() {
        let mut cache = cache();
        cache.assign(LeaderEpoch(3), Offset(25));
        assert_eq!(cache.latest(), Some(LeaderEpoch(5)));
        cache.assign(LeaderEpoch(7), Offset(10));
        assert_eq!(end(&cache, 1), Some((1, 10)));
        assert_eq!(end(&cache, 2), Some((1, 10)));
    }
}
