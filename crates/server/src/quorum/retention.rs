//! How long snapshots and the log before them stay on the disk (KIP-630).
//!
//! The log of a node that starts anew goes on where its newest snapshot ends, so all before that can go. It stays for those who
//! were away, and for people who look, until it is too much (`metadata.max.retention.bytes`) or too old
//! (`metadata.max.retention.ms`). What goes is always a beginning: a snapshot goes with the log before the next one.
//!
//! Each voter cleans its own disk: when it has a new snapshot, and when the oldest things have become too old.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::Fatal;
use openraft::rt::WatchReceiver as _;
use ottla_env::Env;
use ottla_protocol::Timestamp;

use super::Core;
use super::checkpoint::{self, SnapshotFile};
use super::log_storage::LogStorage;
use super::raft_config::MetadataRaft;
use super::state_machine::Progress;

/// No timer runs for longer: whoever changes the wall clock need not wait for weeks.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// What is older than it may be is so much older, at least.
const TOO_OLD: Duration = Duration::from_millis(1);

/// What is kept of snapshots, and of the log before them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retention {
    /// `metadata.max.retention.bytes`, of both together; `None` is no limit.
    pub(super) bytes: Option<u64>,
    /// `metadata.max.retention.ms`; `None` is for ever.
    pub(super) time: Option<Duration>,
}

/// A part of a log or a snapshot, and what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    /// Offset of the first record behind it.
    end_offset: i64,
    bytes: u64,
    /// When the last record in it was written. Not known of segments.
    written: Timestamp,
}

/// What is on the disk, oldest first.
#[derive(Clone, Debug, Default)]
struct OnDisk {
    log_start_offset: i64,
    segments: Vec<Kept>,
    snapshots: Vec<Kept>,
}

/// What is to be left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    /// The log before this offset goes, and so do the snapshots that end before it.
    start_offset: i64,
    /// When the oldest of the rest will be too old; `None` if nothing of it can go before there is another snapshot.
    due_in: Option<Duration>,
}

impl Retention {
    /// What has to go at `now`. The newest snapshot and the log behind it always stay.
    fn plan(&self, disk: &OnDisk, now: Timestamp) -> Plan {
        let starts: BTreeSet<i64> = disk
            .snapshots
            .iter()
            .map(|snapshot| snapshot.end_offset)
            .chain([disk.log_start_offset])
            .filter(|offset| *offset >= disk.log_start_offset)
            .collect();
        let last = starts.last().copied().unwrap_or(disk.log_start_offset);
        for start_offset in starts {
            // The oldest that would stay: this snapshot, or the log before the first one.
            let oldest = disk.snapshots.iter().find(|it| it.end_offset >= start_offset);
            let Some(oldest) = oldest.filter(|_| start_offset < last) else { break };
            let age = Duration::from_millis(now.0.saturating_sub(oldest.written.0).max(0) as u64);
            let too_old = self.time.is_some_and(|limit| age > limit);
            let too_much = self.bytes.is_some_and(|limit| disk.bytes_from(start_offset) > limit);
            if !too_old && !too_much {
                let left = self.time.map(|limit| limit.saturating_sub(age) + TOO_OLD);
                return Plan { start_offset, due_in: left };
            }
        }
        Plan { start_offset: last, due_in: None }
    }
}

impl OnDisk {
    /// What is left with a log that starts at `start_offset`. A segment goes when nothing of it is left.
    fn bytes_from(&self, start_offset: i64) -> u64 {
        let snapshots = self.snapshots.iter().filter(|it| it.end_offset >= start_offset);
        let segments = self.segments.iter().filter(|it| it.end_offset > start_offset);
        snapshots.chain(segments).map(|it| it.bytes).sum()
    }
}

/// Removes what has been kept for long enough.
pub(super) struct Cleaner {
    pub(super) env: Env,
    pub(super) core: Core,
    pub(super) storage: LogStorage,
    /// Where the snapshots are.
    pub(super) dir: PathBuf,
    pub(super) progress: Arc<Progress>,
    pub(super) retention: Retention,
}

impl Cleaner {
    /// Runs until the quorum stops. Sleeps while nothing can go.
    pub(super) async fn run(self) {
        let mut taken = self.progress.snapshot.subscribe();
        loop {
            taken.borrow_and_update();
            if self.wait_until_known().await.is_err() {
                return;
            }
            let due_in = match self.clean().await {
                Ok(due_in) => due_in,
                Err(error) => {
                    tracing::warn!(%error, "what is old of the metadata log could not be removed");
                    None
                }
            };
            let due = async {
                match due_in {
                    Some(wait) => self.env.clock.sleep(wait.min(LONGEST_WAIT)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                changed = taken.changed() => if changed.is_err() { return },
                () = due => {}
            }
        }
    }

    /// Waits until Raft knows of the newest snapshot too: it purges no entry that is in none.
    async fn wait_until_known(&self) -> Result<(), Fatal<MetadataRaft>> {
        let newest = *self.progress.snapshot.borrow();
        let mut data = self.core.data_metrics();
        while data.borrow_and_update().snapshot < newest {
            data.changed().await.map_err(|_closed| Fatal::Stopped)?;
        }
        Ok(())
    }

    /// Removes what has to go now; answers when to look again, if not for another snapshot.
    async fn clean(&self) -> io::Result<Option<Duration>> {
        let (env, dir, storage) = (self.env.clone(), self.dir.clone(), self.storage.clone());
        let look = move || {
            let files = checkpoint::list(&env, &dir)?;
            Ok::<_, io::Error>((on_disk(&storage, &files), files))
        };
        let (disk, files) = self.env.run_blocking(look).await?;
        let Plan { start_offset, due_in } = self.retention.plan(&disk, self.env.clock.wall());
        if start_offset > disk.log_start_offset
            && let Some(upto) = self.storage.index_before(start_offset)
        {
            let purged = self.core.trigger().purge_log(upto).await;
            purged.map_err(io::Error::other)?;
        }
        let env = self.env.clone();
        let remove = move || {
            let old = files.iter().filter(|file| file.end_offset < start_offset);
            for SnapshotFile { path, .. } in old {
                tracing::info!(snapshot = %path.display(), "an old snapshot of the metadata is removed");
                env.disk.remove_file(path)?;
            }
            Ok(due_in)
        };
        self.env.run_blocking(remove).await
    }
}

fn on_disk(storage: &LogStorage, files: &[SnapshotFile]) -> OnDisk {
    let segments = storage.segment_sizes().into_iter();
    let snapshots = files.iter();
    OnDisk {
        log_start_offset: storage.offsets().0,
        segments: segments
            .map(|(end_offset, bytes)| Kept { end_offset, bytes, written: Timestamp::NONE })
            .collect(),
        snapshots: snapshots
            .map(|file| Kept {
                end_offset: file.end_offset,
                bytes: file.bytes,
                written: file.written,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    /// Segments of 100 bytes that end at 10, 20, 30 and 40; snapshots of 5 bytes that end at 15 (an hour old) and 25 (now).
    fn disk() -> OnDisk {
        let segment = |end_offset| Kept { end_offset, bytes: 100, written: Timestamp::NONE };
        let snapshot = |end_offset, at| Kept { end_offset, bytes: 5, written: Timestamp(at) };
        OnDisk {
            log_start_offset: 0,
            segments: [10, 20, 30, 40].map(segment).into(),
            snapshots: vec![snapshot(15, 0), snapshot(25, HOUR)],
        }
    }

    fn plan(bytes: Option<u64>, hours: Option<u64>, disk: &OnDisk) -> (i64, Option<u64>) {
        let time = hours.map(|hours| Duration::from_secs(3600 * hours));
        let Plan { start_offset, due_in } =
            Retention { bytes, time }.plan(disk, Timestamp(2 * HOUR));
        (start_offset, due_in.map(|wait| wait.as_secs() / 3600))
    }

    #[test]
    fn as_much_goes_as_is_too_much() {
        let disk = disk();
        let starts = [(None, 0), (Some(410), 0), (Some(409), 15), (Some(310), 15)];
        for (limit, start_offset) in starts {
            assert_eq!(plan(limit, None, &disk), (start_offset, None), "{limit:?}");
        }
        // The newest snapshot stays, and what is not in it.
        for limit in [309, 205, 0] {
            assert_eq!(plan(Some(limit), None, &disk), (25, None), "{limit}");
        }
    }

    #[test]
    fn what_is_too_old_goes_and_the_next_is_waited_for() {
        let disk = disk();
        assert_eq!(plan(None, Some(5), &disk), (0, Some(3)));
        // As old as it may be is not too old.
        assert_eq!(plan(None, Some(2), &disk), (0, Some(0)));
        assert_eq!(plan(None, Some(1), &disk), (25, None));
        assert_eq!(plan(None, Some(0), &disk), (25, None));
    }

    #[test]
    fn without_a_snapshot_all_of_the_log_stays() {
        let bare = OnDisk { snapshots: Vec::new(), ..disk() };
        assert_eq!(plan(Some(0), Some(0), &bare), (0, None));
        let one = OnDisk { snapshots: disk().snapshots[..1].to_vec(), ..disk() };
        assert_eq!(plan(Some(0), None, &one), (15, None));
        assert_eq!(plan(Some(500), Some(5), &one), (0, Some(3)));
    }

    #[test]
    fn a_snapshot_that_the_log_does_not_follow_is_of_no_use() {
        let later = OnDisk { log_start_offset: 25, ..disk() };
        assert_eq!(plan(None, None, &later), (25, None));
    }
}
