//! Hands committed batches to the [`MetadataApplier`] in order, and takes and installs snapshots.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use ottla_env::Env;
use ottla_protocol::Monotonic;
use tokio::sync::{Notify, watch};

use super::checkpoint::{self, Checkpoint};
use super::log_storage::LogStorage;
use super::raft_config::{
    CommittedLeader, LogEntry, LogId, MetadataRaft, Payload, SnapshotMeta, StoredMembership,
    VoterId, VoterNode, epoch_of,
};
use super::{Committed, CommittedBatch, MetadataApplier};

type Snapshot = openraft::storage::Snapshot<CommittedLeader, VoterId, VoterNode, Checkpoint>;

/// How far the state machine is, for those outside it.
pub(super) struct Progress {
    /// Offset of the first record that is not applied.
    pub(super) applied: watch::Sender<i64>,
    /// Rung when enough has been applied since the last snapshot to take another.
    pub(super) snapshot_due: Notify,
    /// The last entry in the newest snapshot that this run has put on the disk.
    pub(super) snapshot: watch::Sender<Option<LogId>>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            applied: watch::Sender::new(0),
            snapshot_due: Notify::new(),
            snapshot: watch::Sender::new(None),
        }
    }
}

/// The applier, and what Raft must know of it.
pub(super) struct StateMachine {
    env: Env,
    dir: PathBuf,
    applier: Box<dyn MetadataApplier>,
    applied: Option<LogId>,
    membership: StoredMembership,
    end_offset: i64,
    timestamp: i64,
    bytes_since_snapshot: u64,
    /// When the last snapshot was asked for; the start, before the first.
    snapshot_asked: Monotonic,
    due: SnapshotDue,
    progress: Arc<Progress>,
    storage: LogStorage,
}

/// When a snapshot is due (KIP-630).
#[derive(Clone, Copy, Debug)]
pub(super) struct SnapshotDue {
    /// `metadata.log.max.record.bytes.between.snapshots`.
    pub(super) bytes: u64,
    /// `metadata.log.max.snapshot.interval.ms`, if any; what is due by time comes with the next record.
    pub(super) interval: Option<Duration>,
}

impl SnapshotDue {
    /// Whether one is due when `bytes` were applied and `time` passed since the last.
    fn is_due(&self, bytes: u64, time: Duration) -> bool {
        let by_time = self.interval.is_some_and(|interval| time >= interval);
        bytes >= self.bytes || (by_time && bytes > 0)
    }
}

impl StateMachine {
    pub(super) fn new(
        (env, dir): (Env, PathBuf),
        applier: Box<dyn MetadataApplier>,
        due: SnapshotDue,
        progress: Arc<Progress>,
        storage: LogStorage,
    ) -> Self {
        let snapshot_asked = env.clock.now();
        Self {
            env,
            dir,
            applier,
            applied: None,
            membership: StoredMembership::default(),
            end_offset: 0,
            timestamp: 0,
            bytes_since_snapshot: 0,
            snapshot_asked,
            due,
            progress,
            storage,
        }
    }

    /// Applies one entry, which is not seen yet, and tells what became of it.
    fn apply_entry(&mut self, entry: LogEntry) -> io::Result<Committed> {
        let base_offset = entry.batch.as_ref().map_or(self.end_offset, |batch| batch.base_offset);
        let epoch = epoch_of(entry.log_id.leader_id.term)?;
        let last_offset = base_offset + entry.record_count() as i64 - 1;
        if let Some(membership) = entry.get_membership() {
            self.membership = StoredMembership::new(Some(entry.log_id), membership);
        }
        if let Payload::Normal(proposal) = entry.payload {
            self.timestamp = proposal.timestamp;
            let bytes: usize = proposal.records.iter().map(|record| record.len()).sum();
            self.bytes_since_snapshot += bytes as u64;
            let applied = self.applier.apply(CommittedBatch {
                base_offset,
                epoch,
                timestamp: proposal.timestamp,
                records: proposal.records,
            });
            applied.map_err(io::Error::other)?;
        }
        self.applied = Some(entry.log_id);
        self.end_offset = last_offset + 1;
        Ok(Committed { base_offset, last_offset, epoch })
    }

    /// Lets what was applied be seen.
    fn publish(&mut self) {
        self.applier.publish();
        self.progress.applied.send_replace(self.end_offset);
    }
}

impl RaftStateMachine<MetadataRaft> for StateMachine {
    type SnapshotData = Checkpoint;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<MetadataRaft>>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let committed = self.apply_entry(entry)?;
            if let Some(responder) = responder {
                // Whoever is answered sees it.
                self.publish();
                responder.send(committed);
            }
        }
        self.publish();
        let now = self.env.clock.now();
        if self.due.is_due(self.bytes_since_snapshot, now.since(self.snapshot_asked)) {
            (self.bytes_since_snapshot, self.snapshot_asked) = (0, now);
            self.progress.snapshot_due.notify_one();
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            env: self.env.clone(),
            dir: self.dir.clone(),
            storage: self.storage.clone(),
            progress: Arc::clone(&self.progress),
            checkpoint: Checkpoint {
                meta: SnapshotMeta {
                    last_log_id: self.applied,
                    last_membership: self.membership.clone(),
                },
                end_offset: self.end_offset,
                timestamp: self.timestamp,
                records: self.applier.snapshot(),
            },
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Checkpoint,
    ) -> io::Result<()> {
        let (env, dir) = (self.env.clone(), self.dir.clone());
        let stored = snapshot.clone();
        self.env
            .run_blocking(move || {
                if env.disk.exists(&dir.join(stored.file_name()?)) {
                    return Ok(());
                }
                checkpoint::write(&env, &dir, &stored)
            })
            .await?;
        let last = meta.last_log_id.as_ref();
        let epoch = last.map_or(Ok(0), |last| epoch_of(last.leader_id.term))?;
        let installed = self.applier.install(snapshot.records, snapshot.end_offset, epoch);
        installed.map_err(io::Error::other)?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.end_offset = snapshot.end_offset;
        self.timestamp = snapshot.timestamp;
        self.storage.snapshot_taken(snapshot.end_offset);
        self.progress.snapshot.send_replace(meta.last_log_id);
        self.progress.applied.send_replace(self.end_offset);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let (env, dir) = (self.env.clone(), self.dir.clone());
        let newest = self.env.run_blocking(move || checkpoint::read_newest(&env, &dir)).await?;
        Ok(newest.map(|snapshot| Snapshot { meta: snapshot.meta.clone(), snapshot }))
    }
}

/// Writes a snapshot whose contents are gathered already.
pub(super) struct SnapshotBuilder {
    env: Env,
    dir: PathBuf,
    storage: LogStorage,
    progress: Arc<Progress>,
    checkpoint: Checkpoint,
}

impl RaftSnapshotBuilder<MetadataRaft> for SnapshotBuilder {
    type SnapshotData = Checkpoint;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let (env, dir, snapshot) = (self.env.clone(), self.dir.clone(), self.checkpoint.clone());
        let written = snapshot.clone();
        self.env.run_blocking(move || checkpoint::write(&env, &dir, &written)).await?;
        self.storage.snapshot_taken(snapshot.end_offset);
        self.progress.snapshot.send_replace(snapshot.meta.last_log_id);
        Ok(Snapshot { meta: snapshot.meta.clone(), snapshot })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_due_after_so_many_bytes_or_so_long() {
        let hour = Duration::from_secs(3600);
        let due = SnapshotDue { bytes: 100, interval: Some(hour) };
        assert!(due.is_due(100, Duration::ZERO) && due.is_due(1, hour));
        assert!(!due.is_due(99, hour - Duration::from_millis(1)));
        assert!(!due.is_due(0, hour), "there is nothing new to keep");
        assert!(!SnapshotDue { interval: None, ..due }.is_due(99, 100 * hour));
    }
}
