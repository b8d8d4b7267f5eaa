//! What is done to a log, made from a seed.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, anyhow};
use ottla_env::Rng;

use super::machine::PowerCut;
use super::run::{Report, Run};
use crate::rng::SimRng;

/// Longest history, in steps.
const MAX_STEPS: u64 = 32;

/// A record to append. Everything about it is small, so that histories meet themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewValue {
    /// One of a few keys.
    pub key: u8,
    /// Bytes of the value; `None` is a tombstone.
    pub len: Option<u8>,
    /// Milliseconds before now.
    pub age: u8,
}

/// A batch to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBatch {
    /// Its records, at least one.
    pub values: Vec<NewValue>,
    /// How it is compressed: an index into the codecs.
    pub codec: u8,
}

/// One step. Places are given as shares of 255 of what there is when the step comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A producer without an id writes.
    Append(NewBatch),
    /// A coordinator writes several batches at once.
    AppendMany(Vec<NewBatch>),
    /// A follower takes over a batch, after a gap of so many offsets.
    Follow(NewBatch, u8),
    /// An idempotent producer writes.
    Idempotent(u8, NewBatch),
    /// It sends one of its last batches again, so many before the last.
    Again(u8, u8),
    /// It leaves a sequence number out.
    OutOfOrder(u8, NewBatch),
    /// It begins a new epoch.
    NewEpoch(u8),
    /// A producer writes within a transaction, which begins if none is open.
    Transactional(u8, NewBatch),
    /// Its transaction ends; `true` is a commit.
    EndTransaction(u8, bool),
    /// A leader of the next epoch takes over.
    NewLeader,
    /// The high watermark moves.
    HighWatermark(u8),
    /// Everything is flushed.
    Flush,
    /// Everything is flushed, together with whoever else waits.
    FlushInGroup,
    /// The log is cut.
    Truncate(u8),
    /// The log begins anew.
    TruncateFully(u8),
    /// Records before this place are deleted.
    DeleteRecords(u8),
    /// Retention, checkpoints, removal of files, so many milliseconds later.
    Housekeeping(u16),
    /// Compaction, if the topic asks for it.
    Clean,
    /// Reads from places that follow from this number.
    Read(u64),
    /// A clean shutdown and a start.
    Restart,
    /// A sync of one log or of all fails, and the node is started again.
    FailedSync(bool),
    /// The process dies, between two operations.
    Kill,
    /// The power goes, between two operations.
    PowerLoss(PowerCut),
    /// The process dies within the operations that follow, after so many changes to the disk.
    KillWithin(u8),
    /// The power goes within the operations that follow.
    PowerLossWithin(u8, PowerCut),
    /// The topic is deleted and created anew.
    Recreate,
}

/// How the topic is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `segment.bytes`.
    pub segment_bytes: u32,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// `retention.bytes`.
    pub retention_bytes: Option<u64>,
    /// `cleanup.policy` has `compact`.
    pub compact: bool,
    /// `message.timestamp.type=LogAppendTime`.
    pub log_append_time: bool,
    /// `log.dir.sync.max.bytes` is not 0.
    pub share_syncs: bool,
    /// `log.dir.checkpoint.bytes`.
    pub checkpoint_bytes: u64,
}

/// Settings and steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Decides what is left to chance: what a loss of power takes.
    pub seed: u64,
    /// How the topic is configured.
    pub settings: Settings,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

impl History {
    /// The history of a seed.
    pub fn random(seed: u64) -> Self {
        let rng = &SimRng::new(seed, "history");
        let settings = Settings {
            segment_bytes: 700 + rng.below(1200) as u32,
            index_interval_bytes: [0, 100, 400][rng.below(3) as usize],
            retention_bytes: rng.chance(0.3).then(|| 400 + rng.below(2000)),
            compact: rng.chance(0.4),
            log_append_time: rng.chance(0.1),
            share_syncs: rng.chance(0.5),
            checkpoint_bytes: [0, 1, 500, 1 << 20][rng.below(4) as usize],
        };
        let count = 4 + rng.below(MAX_STEPS - 3);
        let steps = (0..count).map(|_| step(rng)).collect();
        Self { seed, settings, steps }
    }

    /// Does it all; an error is a broken promise, a panic too.
    pub fn run(&self) -> Result<Report> {
        self.run_and(false)
    }

    /// Does it all, and with `trace` prints every operation on the disk to standard error.
    pub fn run_and(&self, trace: bool) -> Result<Report> {
        let run = AssertUnwindSafe(|| Run::new(self, trace)?.finish(&self.steps));
        catch_unwind(run).unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Err(anyhow!("panicked: {}", said.unwrap_or_default()))
        })
    }

    /// A history as short as it can be made by leaving out steps, which still breaks a promise.
    pub fn shrink(&self) -> Self {
        let mut shortest = self.clone();
        let mut size = shortest.steps.len().max(1);
        loop {
            let mut at = 0;
            let mut shrunk = false;
            while at < shortest.steps.len() {
                let mut shorter = shortest.clone();
                let end = (at + size).min(shorter.steps.len());
                shorter.steps.drain(at..end);
                if shorter.run().is_err() {
                    shortest = shorter;
                    shrunk = true;
                } else {
                    at += size;
                }
            }
            match (shrunk, size) {
                (false, 1) => return shortest,
                (true, _) => {}
                (false, _) => size = size.div_ceil(2),
            }
        }
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} with {:?}", self.seed, self.settings)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "  {step:?}"))
    }
}

fn value(rng: &SimRng) -> NewValue {
    let len = (rng.below(8) > 0).then(|| rng.below(60) as u8);
    NewValue { key: rng.below(6) as u8, len, age: rng.below(200) as u8 }
}

fn batch(rng: &SimRng, most: u64) -> NewBatch {
    let values = (0..1 + rng.below(most)).map(|_| value(rng)).collect();
    let codec = if rng.below(8) == 0 { 1 + rng.below(4) as u8 } else { 0 };
    NewBatch { values, codec }
}

fn cut(rng: &SimRng) -> PowerCut {
    PowerCut::ALL[rng.below(PowerCut::ALL.len() as u64) as usize]
}

fn step(rng: &SimRng) -> Step {
    let place = || rng.below(256) as u8;
    let producer = || rng.below(3) as u8;
    match rng.below(100) {
        0..14 => Step::Append(batch(rng, 4)),
        14..18 => Step::AppendMany((0..2 + rng.below(2)).map(|_| batch(rng, 2)).collect()),
        18..20 => Step::Follow(batch(rng, 4), rng.below(4) as u8),
        20..32 => Step::Idempotent(producer(), batch(rng, 4)),
        32..36 => Step::Again(producer(), rng.below(6) as u8),
        36..37 => Step::OutOfOrder(producer(), batch(rng, 4)),
        37..39 => Step::NewEpoch(producer()),
        39..47 => Step::Transactional(producer(), batch(rng, 4)),
        47..52 => Step::EndTransaction(producer(), rng.below(2) == 0),
        52..55 => Step::NewLeader,
        55..58 => Step::HighWatermark(place()),
        58..62 => Step::Flush,
        62..64 => Step::FlushInGroup,
        64..67 => Step::Truncate(place()),
        67..68 => Step::TruncateFully(place()),
        68..71 => Step::DeleteRecords(place()),
        71..76 => Step::Housekeeping(rng.below(2000) as u16),
        76..81 => Step::Clean,
        81..87 => Step::Read(rng.next_u64()),
        87..90 => Step::Restart,
        90..91 => Step::FailedSync(rng.below(2) == 0),
        91..92 => Step::Kill,
        92..95 => Step::PowerLoss(cut(rng)),
        95..97 => Step::KillWithin(rng.below(40) as u8),
        97..99 => Step::PowerLossWithin(rng.below(40) as u8, cut(rng)),
        _ => Step::Recreate,
    }
}
