//! One shard: the coordinator of one partition, its log, and the requests that wait in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ottla_coordinator::group::{
    Append, Effects, GroupCoordinator, GroupCoordinatorConfig, Now, Outcome, Reply, ReplyToken,
};
use ottla_coordinator::records::{CoordinatorRecord, RecordError};
use ottla_protocol::compression::Decompressor;
use ottla_protocol::record_batch::{NewRecord, RecordBatchBuilder, batches};
use ottla_protocol::{ErrorCode, LeaderEpoch, Monotonic, Offset, Timestamp};
use ottla_storage::AppendOrigin;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::{error, warn};

use super::Decided;
use super::commitment::{Commitments, Committing};
use crate::replica::Partition;

/// See the states drawn in [`coordinator_host`](super).
pub(super) struct Shard {
    partition: Arc<Partition>,
    commitments: Commitments,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// Behind the last record that was replayed: what is decided builds on everything before it.
    end: Offset,
    waiting: BTreeMap<ReplyToken, oneshot::Sender<Decided<Reply>>>,
}

/// What a whole partition adds up to.
pub(super) struct Loaded {
    coordinator: GroupCoordinator,
    /// Behind the last record that was replayed.
    end: Offset,
}

enum Phase {
    Loading,
    Active(Box<GroupCoordinator>),
    Resigned,
    Failed,
}

impl Shard {
    pub(super) fn loading(partition: Arc<Partition>, commitments: Commitments) -> Self {
        let state = State { phase: Phase::Loading, end: Offset(0), waiting: BTreeMap::new() };
        Self { partition, commitments, state: Mutex::new(state) }
    }

    /// Number of the partition.
    pub(super) fn index(&self) -> i32 {
        self.partition.name().partition
    }

    /// In which leader epoch of its partition it was elected.
    pub(super) fn epoch(&self) -> LeaderEpoch {
        self.commitments.epoch()
    }

    /// The whole partition is replayed: starts serving.
    pub(super) fn activate(&self, loaded: Loaded, now: Now) -> Option<Monotonic> {
        let Loaded { mut coordinator, end } = loaded;
        let mut state = self.state.lock();
        if !matches!(state.phase, Phase::Loading) {
            return None;
        }
        let effects = coordinator.elected(now);
        state.phase = Phase::Active(Box::new(coordinator));
        state.end = end;
        self.settle(&mut state, now, effects);
        state.phase.next_deadline()
    }

    /// The partition cannot be replayed. Whoever resigned meanwhile has not failed.
    pub(super) fn fail(&self) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Loading) {
            state.phase = Phase::Failed;
        }
    }

    /// Tells everyone who waits here to look for the coordinator elsewhere.
    pub(super) fn resign(&self) {
        let mut state = self.state.lock();
        if let Phase::Active(mut coordinator) = std::mem::replace(&mut state.phase, Phase::Resigned)
        {
            let effects = coordinator.resigned();
            // At once: that nobody coordinates here any more has not to be committed.
            state.reply(effects.replies, || None);
        }
        drop(state);
        self.commitments.give_up();
    }

    /// Decides, appends, replays. Also says when to [`tick`](Self::tick) next.
    pub(super) fn decide<A>(
        &self,
        now: Now,
        decide: impl FnOnce(&mut GroupCoordinator, Now) -> Outcome<A>,
    ) -> Result<(Decided<A>, Option<Monotonic>), ErrorCode> {
        let mut state = self.state.lock();
        let Outcome { records, answer } = decide(self.active(&mut state)?, now);
        self.append(&mut state, &records, now.wall)
            .map_err(ottla_coordinator::group::append_error)?;
        let decided = Decided { answer, committing: self.commitments.wait(state.end) };
        Ok((decided, state.phase.next_deadline()))
    }

    /// Like [`decide`](Self::decide), for requests that may wait; the reply comes by the receiver.
    #[allow(clippy::type_complexity, reason = "the reply, and when to tick")]
    pub(super) fn ask(
        &self,
        now: Now,
        token: ReplyToken,
        ask: impl FnOnce(&mut GroupCoordinator, Now, ReplyToken) -> Effects,
    ) -> Result<(oneshot::Receiver<Decided<Reply>>, Option<Monotonic>), ErrorCode> {
        let mut state = self.state.lock();
        let effects = ask(self.active(&mut state)?, now, token);
        let (sender, receiver) = oneshot::channel();
        state.waiting.insert(token, sender);
        self.settle(&mut state, now, effects);
        Ok((receiver, state.phase.next_deadline()))
    }

    /// Does what was due by now; says when to come again.
    pub(super) fn tick(&self, now: Now) -> Option<Monotonic> {
        let mut state = self.state.lock();
        let Ok(coordinator) = state.phase.active() else { return None };
        if coordinator.next_deadline().is_some_and(|deadline| deadline <= now.monotonic) {
            let effects = coordinator.tick(now);
            self.settle(&mut state, now, effects);
        }
        state.phase.next_deadline()
    }

    /// Carries effects out until none are left.
    fn settle(&self, state: &mut State, now: Now, effects: Effects) {
        let mut unsettled = vec![effects];
        while let Some(Effects { replies, appends }) = unsettled.pop() {
            let end = state.end;
            state.reply(replies, || self.commitments.wait(end));
            for Append { id, records } in appends {
                // What follows builds on records that are not committed yet, but nobody is told of it before they are; if
                // they never are, this shard resigns, and the state with it.
                let result = self.append(state, &records, now.wall);
                let Ok(coordinator) = state.phase.active() else { return };
                unsettled.push(coordinator.append_finished(now, id, result));
            }
        }
    }

    /// The coordinator, if it serves and nobody else can have become it in a newer epoch.
    fn active<'a>(&self, state: &'a mut State) -> Result<&'a mut GroupCoordinator, ErrorCode> {
        let coordinator = state.phase.active()?;
        if self.commitments.leads() { Ok(coordinator) } else { Err(ErrorCode::NotCoordinator) }
    }

    /// Appends `records` as one batch and replays them.
    fn append(
        &self,
        state: &mut State,
        records: &[CoordinatorRecord],
        now: Timestamp,
    ) -> Result<(), ErrorCode> {
        if records.is_empty() {
            return Ok(());
        }
        let coordinator = state.phase.active()?;
        let partition = &self.partition;
        let bytes = encode(records, now).map_err(|reason| {
            error!(partition = %partition.name(), %reason, "a record could not be encoded");
            ErrorCode::UnknownServerError
        })?;
        let appended = partition
            .append_in_epoch(self.epoch(), &bytes, AppendOrigin::Coordinator, now)
            .map_err(|reason| {
                warn!(partition = %partition.name(), %reason, "the coordinator could not append");
                reason.error_code()
            })?;
        if appended.info.flush_due {
            // At once, whoever waits: until then the high watermark stays where it is, and whoever is to be told waits for
            // that. If the disk fails, the partition goes offline and the shard resigns.
            drop(partition.begin_flush(appended.info.log_end_offset));
        }
        records.iter().for_each(|record| coordinator.replay(record));
        state.end = appended.info.log_end_offset;
        Ok(())
    }
}

impl State {
    fn reply(
        &mut self,
        replies: Vec<(ReplyToken, Reply)>,
        committing: impl Fn() -> Option<Committing>,
    ) {
        for (token, answer) in replies {
            if let Some(waiting) = self.waiting.remove(&token) {
                // Whoever asked may be gone: then nobody misses the reply.
                let _ = waiting.send(Decided { answer, committing: committing() });
            }
        }
    }
}

impl Phase {
    fn active(&mut self) -> Result<&mut GroupCoordinator, ErrorCode> {
        match self {
            Self::Active(coordinator) => Ok(coordinator),
            Self::Loading => Err(ErrorCode::CoordinatorLoadInProgress),
            Self::Resigned => Err(ErrorCode::NotCoordinator),
            Self::Failed => Err(ErrorCode::CoordinatorNotAvailable),
        }
    }

    fn next_deadline(&self) -> Option<Monotonic> {
        match self {
            Self::Active(coordinator) => coordinator.next_deadline(),
            Self::Loading | Self::Resigned | Self::Failed => None,
        }
    }
}

/// `records` as one batch.
fn encode(records: &[CoordinatorRecord], now: Timestamp) -> Result<Bytes, RecordError> {
    let mut batch = RecordBatchBuilder::new();
    for record in records {
        let encoded = record.encode()?;
        batch.append(&NewRecord {
            timestamp: now,
            key: Some(&encoded.key),
            value: encoded.value.as_deref(),
            headers: &[],
        });
    }
    Ok(batch.build())
}

/// Why the groups of a partition could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Read(#[from] ottla_storage::ReadError),
    #[error("a segment could not be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("a record batch in it is damaged: {0}")]
    Batch(#[from] ottla_protocol::record_batch::RecordBatchError),
    #[error("a record in it is damaged: {0}")]
    Malformed(#[from] ottla_protocol::record_batch::RecordError),
    #[error("a record in it is not one of the coordinator's: {0}")]
    Record(#[from] RecordError),
    #[error("another broker was elected meanwhile")]
    Resigned,
}

/// The most that one batch may hold once it is decompressed, in bytes; batches written here are not compressed.
const MAX_DECOMPRESSED: usize = 5 << 20;

/// Replays a whole partition, reading `buffer_bytes` at once (`offsets.load.buffer.size`). Blocks on the disk.
///
/// Up to its end, beyond the high watermark, too: what an earlier leader wrote is committed together with what this one will
/// write, and until then nobody is told of it.
pub(super) fn load(
    shard: &Shard,
    config: GroupCoordinatorConfig,
    buffer_bytes: usize,
) -> Result<Loaded, LoadError> {
    let partition = &shard.partition;
    let mut coordinator = GroupCoordinator::new(config);
    let mut decompressor = Decompressor::new();
    let (mut next, end) = (partition.log().log_start_offset(), partition.log().log_end_offset());
    while next < end {
        // A follower's log may be truncated at any time.
        if !shard.commitments.leads() {
            return Err(LoadError::Resigned);
        }
        let bytes = partition.look(|log| log.read(next, buffer_bytes, true, end))?.read()?;
        if bytes.is_empty() {
            // Compaction took what was between here and the end.
            break;
        }
        for batch in batches(&bytes) {
            let batch = batch?;
            next = batch.next_offset();
            if !batch.is_control() {
                batch.visit_records(&mut decompressor, MAX_DECOMPRESSED, |record| {
                    let (key, value) = (
                        record.key.map(Bytes::copy_from_slice),
                        record.value.map(Bytes::copy_from_slice),
                    );
                    if let Some(record) = CoordinatorRecord::decode(key.as_ref(), value.as_ref())? {
                        coordinator.replay(&record);
                    }
                    Ok::<(), LoadError>(())
                })?;
            }
        }
    }
    Ok(Loaded { coordinator, end })
}
