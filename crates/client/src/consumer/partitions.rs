//! What is read, and how far. Pure. Kafka: `SubscriptionState`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla_protocol::{BrokerId, LeaderEpoch, Monotonic, Offset, Timestamp, TopicPartition};

use super::ConsumerError;
use super::options::AutoOffsetReset;

/// A point in a partition, by its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first offset that is still there.
    Earliest,
    /// The offset that the next record will get, as far as consumers may see.
    Latest,
    /// The first record with this time or a later one.
    At(Timestamp),
}

impl OffsetSpec {
    /// The timestamp that ListOffsets takes for it.
    pub(super) fn code(self) -> i64 {
        match self {
            Self::Earliest => -2,
            Self::Latest => -1,
            Self::At(Timestamp(millis)) => millis,
        }
    }
}

/// An offset, and what is kept with it when it is committed. Kafka: `OffsetAndMetadata`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    /// The next offset to read.
    pub offset: Offset,
    /// The epoch of the record before it, or -1 (KIP-320).
    pub leader_epoch: LeaderEpoch,
    /// Whatever the application wants to find again.
    pub metadata: String,
}

impl OffsetAndMetadata {
    /// The next offset to read, and nothing else.
    pub fn new(offset: Offset) -> Self {
        Self { offset, leader_epoch: LeaderEpoch::NONE, metadata: String::new() }
    }
}

/// An offset, and the epoch of the record before it, or -1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) offset: Offset,
    pub(super) epoch: LeaderEpoch,
}

/// Why only the application can say how to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stuck {
    NoOffset,
    OutOfRange(Offset),
    Truncated { position: Offset, diverged_at: Offset },
}

/// What is to be known before records are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// What the group has committed.
    Committed,
    /// What offset is meant.
    Reset(OffsetSpec),
    /// Whether the log still has the record before the position (KIP-320).
    Validating,
    /// Nothing.
    Fetching,
    Stuck(Stuck),
}

/// One partition that is read.
#[derive(Debug)]
pub(super) struct PartitionState {
    pub(super) phase: Phase,
    /// What is handed out next. Counts from [`Phase::Validating`] on.
    pub(super) position: Position,
    /// What is fetched next: behind all that is buffered.
    pub(super) fetch_from: Position,
    /// Fetches that are buffered.
    pub(super) buffered: usize,
    pub(super) paused: bool,
    /// Its position is being committed, and then it is given up: nothing is handed out any more, which
    /// the next owner would read again.
    pub(super) leaving: bool,
    /// The epoch of the leader that was last asked whether it has the position.
    pub(super) leader_epoch: LeaderEpoch,
    /// The end that this consumer may read to: the high watermark, or the last stable offset.
    pub(super) end: Option<Offset>,
    pub(super) log_start: Option<Offset>,
    /// A nearer replica, and until when it is believed (KIP-392).
    pub(super) preferred: Option<(BrokerId, Monotonic)>,
    /// Not to be asked for before.
    pub(super) not_before: Monotonic,
    /// Whether what the phase wants is being asked for.
    pub(super) asked: bool,
}

impl PartitionState {
    fn new(phase: Phase, now: Monotonic) -> Self {
        let nowhere = Position { offset: Offset::NONE, epoch: LeaderEpoch::NONE };
        Self {
            phase,
            position: nowhere,
            fetch_from: nowhere,
            buffered: 0,
            paused: false,
            leaving: false,
            leader_epoch: LeaderEpoch::NONE,
            end: None,
            log_start: None,
            preferred: None,
            not_before: now,
            asked: false,
        }
    }

    /// Whether its position counts.
    pub(super) fn is_positioned(&self) -> bool {
        matches!(self.phase, Phase::Fetching | Phase::Validating)
    }

    /// Whether records may be handed out.
    pub(super) fn is_open(&self) -> bool {
        self.is_positioned() && !self.paused && !self.leaving
    }

    /// Goes on at `position`, wherever it was.
    pub(super) fn go_to(&mut self, position: Position) {
        self.phase = Phase::Fetching;
        self.position = position;
        self.fetch_from = position;
        self.buffered = 0;
        self.asked = false;
        // Who leads now is asked whether it has the position, if its epoch is known.
        self.leader_epoch = LeaderEpoch::NONE;
    }

    /// Goes on where `wish` says, which is to be found out.
    pub(super) fn reset(&mut self, phase: Phase) {
        self.phase = phase;
        self.buffered = 0;
        self.asked = false;
    }

    /// Whether something is to be asked for now.
    pub(super) fn wants(&self, now: Monotonic) -> bool {
        !self.asked && now >= self.not_before
    }
}

/// All partitions that are read.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    pub(super) map: BTreeMap<TopicPartition, PartitionState>,
}

impl Partitions {
    /// Reads exactly these. Who was read already goes on as before.
    pub(super) fn assign(&mut self, wanted: &BTreeSet<TopicPartition>, now: Monotonic) {
        self.map.retain(|partition, _| wanted.contains(partition));
        for partition in wanted {
            let new = || PartitionState::new(Phase::Committed, now);
            self.map.entry(partition.clone()).or_insert_with(new);
        }
    }

    pub(super) fn names(&self) -> BTreeSet<TopicPartition> {
        self.map.keys().cloned().collect()
    }

    pub(super) fn get(
        &mut self,
        partition: &TopicPartition,
    ) -> Result<&mut PartitionState, ConsumerError> {
        self.map.get_mut(partition).ok_or_else(|| ConsumerError::not_assigned(partition))
    }

    /// How far was read, of those of which that is known.
    pub(super) fn consumed(&self) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
        let positioned = self.map.iter().filter(|(_, state)| state.is_positioned());
        let row = |(partition, state): (&TopicPartition, &PartitionState)| {
            let Position { offset, epoch } = state.position;
            let committed =
                OffsetAndMetadata { offset, leader_epoch: epoch, metadata: String::new() };
            (partition.clone(), committed)
        };
        positioned.map(row).collect()
    }

    /// Partitions in `phase` whose next question is due.
    pub(super) fn due(
        &self,
        now: Monotonic,
        phase: impl Fn(&Phase) -> bool,
    ) -> Vec<TopicPartition> {
        let due = self.map.iter().filter(|(_, it)| phase(&it.phase) && it.wants(now));
        due.map(|(partition, _)| partition.clone()).collect()
    }

    /// What only the application can solve, if anything.
    pub(super) fn stuck(&self) -> Option<ConsumerError> {
        let mut without = Vec::new();
        for (partition, state) in &self.map {
            match state.phase {
                Phase::Stuck(Stuck::NoOffset) => without.push(partition.clone()),
                Phase::Stuck(Stuck::OutOfRange(offset)) => {
                    let partition = partition.clone();
                    return Some(ConsumerError::OffsetOutOfRange { partition, offset });
                }
                Phase::Stuck(Stuck::Truncated { position, diverged_at }) => {
                    let partition = partition.clone();
                    return Some(ConsumerError::LogTruncated { partition, position, diverged_at });
                }
                Phase::Committed | Phase::Reset(_) | Phase::Validating | Phase::Fetching => {}
            }
        }
        (!without.is_empty()).then_some(ConsumerError::NoOffset(without))
    }
}

/// Where `auto.offset.reset` begins at the time `now`; `stuck` if nowhere.
pub(super) fn reset_phase(policy: AutoOffsetReset, now: Timestamp, stuck: Stuck) -> Phase {
    match policy {
        AutoOffsetReset::Earliest => Phase::Reset(OffsetSpec::Earliest),
        AutoOffsetReset::Latest => Phase::Reset(OffsetSpec::Latest),
        AutoOffsetReset::ByDuration(age) => {
            let since = now.0.saturating_sub(millis(age)).max(0);
            Phase::Reset(OffsetSpec::At(Timestamp(since)))
        }
        AutoOffsetReset::None => Phase::Stuck(stuck),
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
