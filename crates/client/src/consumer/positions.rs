//! Where to read from: seeks, committed offsets, resets, and whether the log still has what was
//! read (KIP-320).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla_protocol::{LeaderEpoch, Monotonic, Offset, Timestamp, TopicPartition};

use super::fetcher::known_leader;
use super::lookups::{Answers, FoundOffset, epoch_ends, list_offsets};
use super::options::{AutoOffsetReset, IsolationLevel};
use super::partitions::{PartitionState, Phase, Position, Stuck, reset_phase};
use super::{Consumer, ConsumerError, Event, OffsetAndMetadata, OffsetSpec, Work};
use crate::{Client, ClientError, PartitionMetadata};

impl Consumer {
    /// Goes on with `offset` in `partition`, which must be assigned.
    pub fn seek(
        &mut self,
        partition: &TopicPartition,
        offset: Offset,
    ) -> Result<(), ConsumerError> {
        self.seek_committed(partition, &OffsetAndMetadata::new(offset))
    }

    /// [`Consumer::seek`] with the epoch of the record before: if the log was cut since, that is
    /// noticed (KIP-320).
    pub fn seek_committed(
        &mut self,
        partition: &TopicPartition,
        to: &OffsetAndMetadata,
    ) -> Result<(), ConsumerError> {
        if to.offset.0 < 0 {
            return Err(ConsumerError::Usage(format!("{} is not an offset", to.offset)));
        }
        let state = self.partitions.get(partition)?;
        state.go_to(Position { offset: to.offset, epoch: to.leader_epoch });
        self.metadata.wanted |= self.client.saw_epoch(partition, to.leader_epoch);
        self.moved(partition);
        Ok(())
    }

    /// Goes on at the beginning, the end, or a time. Looked up by the next poll; for a time after
    /// all records it is the end.
    pub fn seek_to(
        &mut self,
        partition: &TopicPartition,
        spec: OffsetSpec,
    ) -> Result<(), ConsumerError> {
        self.partitions.get(partition)?.reset(Phase::Reset(spec));
        self.moved(partition);
        Ok(())
    }

    fn moved(&mut self, partition: &TopicPartition) {
        let now = self.client.env().clock.now();
        if let Some(state) = self.partitions.map.get_mut(partition) {
            state.not_before = now;
        }
        self.fetcher.discard(|it| it == partition);
        self.changed = true;
    }

    /// The offset of the next record of `partition` that will be handed out, if that is known by
    /// now.
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        let state = self.partitions.map.get(partition)?;
        state.is_positioned().then_some(state.position.offset)
    }

    /// [`Consumer::position`], looked up if it is not known.
    pub async fn await_position(
        &mut self,
        partition: &TopicPartition,
    ) -> Result<Offset, ConsumerError> {
        self.partitions.get(partition)?;
        let limit = self.options.default_api_timeout;
        let found = self.run_until(limit, Work::InHand, |this| {
            if let Some(error) = this.partitions.stuck() {
                return Err(error);
            }
            Ok(this.position(partition))
        });
        found.await?.ok_or(ConsumerError::TimedOut("the position is not known"))
    }

    /// Hands out nothing of `partitions` until they are resumed. They keep their place.
    pub fn pause<'p>(
        &mut self,
        partitions: impl IntoIterator<Item = &'p TopicPartition>,
    ) -> Result<(), ConsumerError> {
        self.set_paused(partitions, true)
    }

    /// Goes on with `partitions`.
    pub fn resume<'p>(
        &mut self,
        partitions: impl IntoIterator<Item = &'p TopicPartition>,
    ) -> Result<(), ConsumerError> {
        self.set_paused(partitions, false)
    }

    /// What is paused.
    pub fn paused(&self) -> BTreeSet<TopicPartition> {
        let paused = self.partitions.map.iter().filter(|(_, state)| state.paused);
        paused.map(|(partition, _)| partition.clone()).collect()
    }

    fn set_paused<'p>(
        &mut self,
        partitions: impl IntoIterator<Item = &'p TopicPartition>,
        paused: bool,
    ) -> Result<(), ConsumerError> {
        for partition in partitions {
            self.partitions.get(partition)?.paused = paused;
        }
        self.changed = true;
        Ok(())
    }

    /// How many offsets `partition` has from the position to its end, as far as this consumer may
    /// read, as of the last fetch.
    pub fn lag(&self, partition: &TopicPartition) -> Option<i64> {
        let state = self.partitions.map.get(partition)?;
        let end = state.end.filter(|_| state.is_positioned())?;
        Some(end.0.saturating_sub(state.position.offset.0).max(0))
    }

    /// Which offsets `wishes` mean: for a time, the first record that is no older, and -1 if there
    /// is none. Kafka: `offsetsForTimes`, `beginningOffsets`, `endOffsets`.
    pub fn offsets(
        &self,
        wishes: BTreeMap<TopicPartition, OffsetSpec>,
    ) -> impl Future<Output = Result<BTreeMap<TopicPartition, FoundOffset>, ConsumerError>> + Send + use<>
    {
        let lookup = self.lookup();
        async move { lookup.offsets(wishes).await }
    }

    /// The offset that `spec` means in `partition`; for a time after all records, the end.
    pub fn offset<'p>(
        &self,
        partition: &'p TopicPartition,
        spec: OffsetSpec,
    ) -> impl Future<Output = Result<Offset, ConsumerError>> + Send + use<'p> {
        let lookup = self.lookup();
        async move {
            for spec in [spec, OffsetSpec::Latest] {
                let wish = BTreeMap::from([(partition.clone(), spec)]);
                let found = lookup.offsets(wish).await?;
                match found.get(partition) {
                    Some(found) if found.offset.0 >= 0 => return Ok(found.offset),
                    _ => {}
                }
            }
            Err(ClientError::Nonsense(format!("{partition} has no end")).into())
        }
    }

    /// The partitions of `topic`, by number; none if it does not exist.
    pub fn partitions_for<'t>(
        &self,
        topic: &'t str,
    ) -> impl Future<Output = Result<BTreeMap<i32, PartitionMetadata>, ConsumerError>> + Send + use<'t>
    {
        let (client, may_create) = (self.client.clone(), self.options.allow_auto_create_topics);
        async move {
            let metadata = client.query_metadata(Some(&[topic]), may_create).await?;
            let found = metadata.topics.get(topic).filter(|it| it.error_code.is_none());
            Ok(found.map(|it| it.partitions.clone()).unwrap_or_default())
        }
    }

    fn lookup(&self) -> Lookup {
        Lookup {
            client: self.client.clone(),
            isolation: self.options.isolation_level,
            limit: self.options.default_api_timeout,
        }
    }

    /// Looks up what has to be known before records can be fetched.
    pub(super) fn step_positions(&mut self, now: Monotonic) {
        let wait: Vec<_> = self
            .partitions
            .map
            .values()
            .filter(|it| !it.asked && it.not_before > now)
            .map(|it| it.not_before)
            .collect();
        wait.into_iter().for_each(|at| self.wake_at(at));
        self.step_committed(now);
        self.step_resets(now);
        self.step_validation(now);
    }

    fn step_committed(&mut self, now: Monotonic) {
        let due = self.partitions.due(now, |phase| *phase == Phase::Committed);
        if due.is_empty() {
            return;
        }
        let wall = self.client.env().clock.wall();
        let Some(committer) = self.committer(self.options.default_api_timeout) else {
            let phase = reset_phase(self.options.auto_offset_reset, wall, Stuck::NoOffset);
            self.of(&due).for_each(|state| state.reset(phase));
            return;
        };
        self.of(&due).for_each(|state| state.asked = true);
        self.start(async move {
            let result = committer.committed(due.clone()).await;
            Event::Committed(due, result)
        });
    }

    pub(super) fn committed_came(
        &mut self,
        asked: &[TopicPartition],
        result: Result<BTreeMap<TopicPartition, OffsetAndMetadata>, ClientError>,
        now: Monotonic,
    ) {
        let wall = self.client.env().clock.wall();
        let pause = self.client.options().retry_backoff;
        let phase = reset_phase(self.options.auto_offset_reset, wall, Stuck::NoOffset);
        let failed = result.as_ref().is_err();
        for partition in asked {
            let Some(state) = self.partitions.map.get_mut(partition) else { continue };
            if state.phase != Phase::Committed {
                continue;
            }
            state.asked = false;
            match result.as_ref().ok().and_then(|found| found.get(partition)) {
                Some(found) => {
                    self.metadata.wanted |= self.client.saw_epoch(partition, found.leader_epoch);
                    state.go_to(Position { offset: found.offset, epoch: found.leader_epoch });
                }
                None if failed => state.not_before = now + pause,
                None => state.reset(phase),
            }
        }
        if let Err(error) = result
            && !error.is_retriable()
        {
            self.errors.push_back(error.into());
        }
    }

    fn step_resets(&mut self, now: Monotonic) {
        let due = self.partitions.due(now, |phase| matches!(phase, Phase::Reset(_)));
        let metadata = self.client.metadata();
        // One that is silent holds up what others can tell if they are asked together.
        let mut by_leader: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for partition in due {
            let Some(state) = self.partitions.map.get_mut(&partition) else { continue };
            if let Phase::Reset(spec) = state.phase {
                state.asked = true;
                let leader = known_leader(&metadata, &partition).map(|(leader, _)| leader);
                by_leader.entry(leader).or_default().insert(partition, spec);
            }
        }
        for wishes in by_leader.into_values() {
            let (client, isolation) = (self.client.clone(), self.options.isolation_level);
            self.start(
                async move { Event::Offsets(list_offsets(client, wishes, isolation).await) },
            );
        }
    }

    pub(super) fn offsets_came(&mut self, answers: Answers<FoundOffset>, now: Monotonic) {
        let pause = self.client.options().retry_backoff;
        for (partition, answer) in answers {
            let known = known_leader(&self.client.metadata(), &partition);
            let Some(state) = self.partitions.map.get_mut(&partition) else { continue };
            let (Phase::Reset(_), true) = (state.phase, state.asked) else { continue };
            state.asked = false;
            match answer {
                Ok(found) if found.offset.0 >= 0 => {
                    state.go_to(Position { offset: found.offset, epoch: found.leader_epoch });
                    state.leader_epoch = known.map_or(LeaderEpoch::NONE, |(_, it)| it.leader_epoch);
                }
                // No record has that time or a later one.
                Ok(_) => state.reset(Phase::Reset(OffsetSpec::Latest)),
                Err(error) => {
                    state.not_before = now + pause;
                    if !error.is_retriable() {
                        self.errors.push_back(error.into());
                    }
                }
            }
        }
    }

    /// Has a new leader asked whether it has what was read from the old one (KIP-320).
    fn step_validation(&mut self, now: Monotonic) {
        let metadata = self.client.metadata();
        let mut by_leader: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (partition, state) in &mut self.partitions.map {
            let open = matches!(state.phase, Phase::Fetching | Phase::Validating);
            if !open || !state.wants(now) {
                continue;
            }
            let Some((broker, leader)) = known_leader(&metadata, partition) else {
                self.metadata.wanted = true;
                continue;
            };
            if state.position.epoch.0 < 0 {
                // Nothing was read that it could lack.
                state.leader_epoch = leader.leader_epoch;
                continue;
            }
            // Also one of an earlier epoch, which leads another topic of that name.
            if state.phase == Phase::Validating || state.leader_epoch != leader.leader_epoch {
                state.phase = Phase::Validating;
                state.asked = true;
                state.leader_epoch = leader.leader_epoch;
                by_leader.entry(broker).or_default().insert(partition.clone(), state.position);
            }
        }
        for positions in by_leader.into_values() {
            let client = self.client.clone();
            self.start(async move {
                let answers = epoch_ends(client, positions.clone()).await;
                Event::EpochEnds(positions, answers)
            });
        }
    }

    pub(super) fn epoch_ends_came(
        &mut self,
        asked: &BTreeMap<TopicPartition, Position>,
        answers: Answers<Position>,
        now: Monotonic,
    ) {
        let pause = self.client.options().retry_backoff;
        let policy = self.options.auto_offset_reset;
        let wall = self.client.env().clock.wall();
        let mut cut = Vec::new();
        for (partition, answer) in answers {
            let Some(state) = self.partitions.map.get_mut(&partition) else { continue };
            if state.phase != Phase::Validating {
                continue;
            }
            state.asked = false;
            if asked.get(&partition) != Some(&state.position) {
                // What was buffered has been handed out meanwhile: the question is asked again, for where that ends.
                continue;
            }
            match answer {
                Ok(end) if end.offset < state.position.offset => {
                    truncated(state, end, policy, wall);
                    cut.push(partition);
                }
                // Brokers older than 2.3 do not say; nobody else checks then either.
                Ok(_) | Err(ClientError::NoCommonVersion { .. }) => state.phase = Phase::Fetching,
                Err(error) => {
                    state.not_before = now + pause;
                    self.metadata.wanted = true;
                    if !error.is_retriable() {
                        self.errors.push_back(error.into());
                    }
                }
            }
        }
        self.fetcher.discard(|it| cut.contains(it));
    }

    pub(super) fn of<'s>(
        &'s mut self,
        partitions: &'s [TopicPartition],
    ) -> impl Iterator<Item = &'s mut PartitionState> {
        self.partitions.map.iter_mut().filter(|(it, _)| partitions.contains(it)).map(|(_, it)| it)
    }
}

/// What a lookup needs of a consumer. It borrows nothing: a consumer may move between threads, and cannot be looked at from two.
struct Lookup {
    client: Client,
    isolation: IsolationLevel,
    limit: Duration,
}

impl Lookup {
    /// See [`Consumer::offsets`].
    async fn offsets(
        &self,
        wishes: BTreeMap<TopicPartition, OffsetSpec>,
    ) -> Result<BTreeMap<TopicPartition, FoundOffset>, ConsumerError> {
        let clock = &self.client.env().clock;
        let deadline = clock.now() + self.limit;
        let mut found = BTreeMap::new();
        let mut left = wishes;
        loop {
            let answers = list_offsets(self.client.clone(), left.clone(), self.isolation).await;
            let mut last = None;
            for (partition, answer) in answers {
                match answer {
                    Ok(offset) => {
                        left.remove(&partition);
                        found.insert(partition, offset);
                    }
                    Err(error) if error.is_retriable() => last = Some(error),
                    Err(error) => return Err(error.into()),
                }
            }
            let pause = self.client.options().retry_backoff;
            match last {
                None => return Ok(found),
                Some(error) if clock.now() + pause >= deadline => return Err(error.into()),
                Some(_) => clock.sleep(pause).await,
            }
        }
    }
}

/// The log ends before the position, at `end`; or the leader knows no such epoch, and has no `end` to tell (KIP-320).
fn truncated(state: &mut PartitionState, end: Position, policy: AutoOffsetReset, now: Timestamp) {
    let stuck = Stuck::Truncated { position: state.position.offset, diverged_at: end.offset };
    let is_known = end.offset.0 >= 0 && end.epoch.0 >= 0;
    if is_known && policy != AutoOffsetReset::None {
        state.go_to(end);
    } else {
        state.reset(reset_phase(policy, now, stuck));
    }
}
