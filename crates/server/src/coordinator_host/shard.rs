//! One shard: the coordinator of one partition, its log, and the requests that wait in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ottla_coordinator::group::{
    Append, Effects, GroupCoordinator, GroupCoordinatorConfig, Now, Outcome, Reply, ReplyToken,
};
use ottla_coordinator::records::CoordinatorRecord;
use ottla_protocol::compression::Decompressor;
use ottla_protocol::record_batch::{NewRecord, RecordBatchBuilder, batches};
use ottla_protocol::{ErrorCode, Monotonic, Timestamp};
use ottla_storage::AppendOrigin;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::{error, warn};

use super::Decided;
use crate::replica::Partition;

/// See the states drawn in [`coordinator_host`](super).
pub(super) struct Shard {
    partition: Arc<Partition>,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    waiting: BTreeMap<ReplyToken, oneshot::Sender<Decided<Reply>>>,
}

enum Phase {
    Loading,
    Active(Box<GroupCoordinator>),
    Resigned,
    Failed,
}

impl Shard {
    pub(super) fn loading(partition: Arc<Partition>) -> Self {
        let state = State { phase: Phase::Loading, waiting: BTreeMap::new() };
        Self { partition, state: Mutex::new(state) }
    }

    /// Number of the partition.
    pub(super) fn index(&self) -> i32 {
        self.partition.name().partition
    }

    /// The whole partition is replayed into `coordinator`: starts serving.
    pub(super) fn activate(
        &self,
        mut coordinator: GroupCoordinator,
        now: Now,
    ) -> Option<Monotonic> {
        let mut state = self.state.lock();
        if !matches!(state.phase, Phase::Loading) {
            return None;
        }
        let effects = coordinator.elected(now);
        state.phase = Phase::Active(Box::new(coordinator));
        self.settle(&mut state, now, effects);
        state.phase.next_deadline()
    }

    pub(super) fn fail(&self) {
        self.state.lock().phase = Phase::Failed;
    }

    /// Tells everyone who waits here to look for the coordinator elsewhere.
    pub(super) fn resign(&self) {
        let mut state = self.state.lock();
        if let Phase::Active(mut coordinator) = std::mem::replace(&mut state.phase, Phase::Resigned)
        {
            let effects = coordinator.resigned();
            state.reply(&self.partition, effects.replies);
        }
    }

    /// Decides, appends, replays. Also says when to [`tick`](Self::tick) next.
    pub(super) fn decide<A>(
        &self,
        now: Now,
        decide: impl FnOnce(&mut GroupCoordinator, Now) -> Outcome<A>,
    ) -> Result<(Decided<A>, Option<Monotonic>), ErrorCode> {
        let mut state = self.state.lock();
        let coordinator = state.phase.active()?;
        let Outcome { records, answer } = decide(coordinator, now);
        append(&self.partition, coordinator, &records, now.wall)
            .map_err(ottla_coordinator::group::append_error)?;
        let decided = Decided { answer, on_disk: self.partition.pending() };
        Ok((decided, coordinator.next_deadline()))
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
        let effects = ask(state.phase.active()?, now, token);
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
            state.reply(&self.partition, replies);
            for Append { id, records } in appends {
                let Ok(coordinator) = state.phase.active() else { return };
                let result = append(&self.partition, coordinator, &records, now.wall);
                unsettled.push(coordinator.append_finished(now, id, result));
            }
        }
    }
}

impl State {
    fn reply(&mut self, partition: &Arc<Partition>, replies: Vec<(ReplyToken, Reply)>) {
        for (token, answer) in replies {
            if let Some(waiting) = self.waiting.remove(&token) {
                // Whoever asked may be gone: then nobody misses the reply.
                let _ = waiting.send(Decided { answer, on_disk: partition.pending() });
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

/// Appends `records` as one batch and replays them.
fn append(
    partition: &Arc<Partition>,
    coordinator: &mut GroupCoordinator,
    records: &[CoordinatorRecord],
    now: Timestamp,
) -> Result<(), ErrorCode> {
    if records.is_empty() {
        return Ok(());
    }
    let mut batch = RecordBatchBuilder::new();
    for record in records {
        let encoded = record.encode().map_err(|reason| {
            error!(partition = %partition.name(), %reason, "a record could not be encoded");
            ErrorCode::UnknownServerError
        })?;
        batch.append(&NewRecord {
            timestamp: now,
            key: Some(&encoded.key),
            value: encoded.value.as_deref(),
            headers: &[],
        });
    }
    let bytes = batch.build();
    let appended =
        partition.append(&bytes, AppendOrigin::Coordinator, true, now).map_err(|reason| {
            warn!(partition = %partition.name(), %reason, "the coordinator could not append");
            reason.error_code()
        })?;
    if appended.info.flush_due {
        // At once, whoever waits: what it answers waits for it (`Decided::on_disk`).
        drop(partition.begin_flush(appended.info.log_end_offset));
    }
    records.iter().for_each(|record| coordinator.replay(record));
    Ok(())
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
    Record(#[from] ottla_coordinator::records::RecordError),
}

/// The most that one batch may hold once it is decompressed, in bytes; batches written here are not compressed.
const MAX_DECOMPRESSED: usize = 5 << 20;

/// Replays a whole partition, reading `buffer_bytes` at once (`offsets.load.buffer.size`). Blocks on the disk.
pub(super) fn load(
    shard: &Shard,
    config: GroupCoordinatorConfig,
    buffer_bytes: usize,
) -> Result<GroupCoordinator, LoadError> {
    let partition = &shard.partition;
    let mut coordinator = GroupCoordinator::new(config);
    let mut decompressor = Decompressor::new();
    let (mut next, end) = (partition.log().log_start_offset(), partition.high_watermark());
    while next < end {
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
    Ok(coordinator)
}
