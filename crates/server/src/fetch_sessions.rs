//! Incremental fetch sessions (KIP-227): a client names its partitions once, then only what changed is sent.
//!
//! ```text
//!               epoch 0                    epoch n = expected
//!   (no session) ──────► Session, epoch 1 ────────────────────► epoch n + 1 (wraps to 1)
//!        ▲                    │  epoch -1, idle and evicted, or no partition left
//!        └────────────────────┘
//! ```
//!
//! The session of a follower knows which of its partitions have news ([`Changes`]), and looks at no others: those that the request
//! names, that grew, whose watermarks moved or that changed hands, and those of the answer before that may have more.
//!
//! # Invariants
//! - At most `max.incremental.fetch.session.cache.slots` sessions; that of a consumer never evicts one that was used within
//!   the last two minutes: its client is served without a session instead. That of a follower takes a consumer's place, if no
//!   session, of whomever, is unused for so long.
//! - A partition with an error, with records, or whose watermarks moved is always part of the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use indexmap::map::Entry;
use ottla_protocol::fetch::{
    FetchMetadata, FetchPartition, FetchRecords, FetchRequest, PartitionData,
};
use ottla_protocol::{ErrorCode, Monotonic, Offset, TopicRef};
use parking_lot::Mutex;

use crate::replica::{Changes, Partition, Watch};

/// A session unused for this long may make room for another (Kafka: `MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`).
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);
/// Id of "no session".
const NO_SESSION: i32 = FetchMetadata::INVALID_SESSION_ID;

/// The sessions of a node: Kafka's `FetchSessionCache`.
pub(crate) struct FetchSessions {
    slots: usize,
    sessions: Mutex<BTreeMap<i32, Session>>,
}

struct Session {
    epoch: i32,
    partitions: IndexMap<(TopicRef, i32), CachedPartition>,
    /// Where the next answer starts, so that partitions behind a busy one have their turn.
    start: usize,
    last_used: Monotonic,
    /// Only of a follower.
    changes: Option<FollowerChanges>,
}

/// What a follower's session knows of its partitions, which have numbers in it.
#[derive(Default)]
struct FollowerChanges {
    changes: Arc<Changes>,
    keys: BTreeMap<usize, (TopicRef, i32)>,
    next_number: usize,
}

struct CachedPartition {
    fetch: FetchPartition,
    /// What the client was last told; `Offset::NONE` forces the partition into the next answer.
    high_watermark: Offset,
    log_start_offset: Offset,
    /// Its number in [`FollowerChanges`].
    number: usize,
    watch: Option<Watch<Partition>>,
}

/// One fetch: what to read, in order, and in which session.
pub(crate) struct FetchContext {
    session_id: i32,
    incremental: bool,
    /// What wakes a follower that waits.
    pub(crate) changes: Option<Arc<Changes>>,
    /// What to read; records are given to the first ones first.
    pub(crate) partitions: Vec<(TopicRef, FetchPartition)>,
    /// The numbers of these in a follower's session.
    numbers: BTreeSet<usize>,
}

impl FetchSessions {
    /// A cache of up to `slots` sessions.
    pub(crate) fn new(slots: usize) -> Self {
        Self { slots, sessions: Mutex::default() }
    }

    /// Opens, continues or ends the session that `request` names and says what to read.
    ///
    /// `random` gives the id of a new session.
    pub(crate) fn begin(
        &self,
        request: &FetchRequest,
        now: Monotonic,
        random: impl FnMut() -> u64,
    ) -> Result<FetchContext, ErrorCode> {
        let mut sessions = self.sessions.lock();
        if request.session_epoch != FetchMetadata::FINAL_EPOCH
            && request.session_epoch != FetchMetadata::INITIAL_EPOCH
        {
            return resume(&mut sessions, request, now);
        }
        if request.session_id != NO_SESSION {
            sessions.remove(&request.session_id);
        }
        let partitions = requested(request);
        let session_id =
            if request.session_epoch == FetchMetadata::FINAL_EPOCH || partitions.is_empty() {
                NO_SESSION
            } else {
                let is_follower = request.replica_id.0 >= 0;
                self.open(&mut sessions, (&partitions, is_follower), now, random)
            };
        let session = sessions.get(&session_id);
        let changes = session.and_then(Session::changes);
        let numbers = session.map(Session::numbers).unwrap_or_default();
        Ok(FetchContext { session_id, incremental: false, changes, partitions, numbers })
    }

    /// Opens a session and returns its id; 0 if there is no slot.
    fn open(
        &self,
        sessions: &mut BTreeMap<i32, Session>,
        (partitions, is_follower): (&[(TopicRef, FetchPartition)], bool),
        now: Monotonic,
        mut random: impl FnMut() -> u64,
    ) -> i32 {
        if sessions.len() >= self.slots {
            let by_use = |(_, session): &(&i32, &Session)| session.last_used;
            let oldest = sessions.iter().min_by_key(by_use);
            let unused = oldest.filter(|(_, it)| now.since(it.last_used) >= EVICTABLE_AFTER);
            // A follower may take the place of any consumer, who can do without.
            let consumers = sessions.iter().filter(|(_, it)| is_follower && it.changes.is_none());
            let Some((&id, _)) = unused.or_else(|| consumers.min_by_key(by_use)) else {
                return NO_SESSION;
            };
            sessions.remove(&id);
        }
        let id = loop {
            let id = (random() >> 33) as i32;
            if id != NO_SESSION && !sessions.contains_key(&id) {
                break id;
            }
        };
        let mut session = Session {
            epoch: 1,
            partitions: IndexMap::with_capacity(partitions.len()),
            start: 0,
            last_used: now,
            changes: is_follower.then(FollowerChanges::default),
        };
        for (topic, fetch) in partitions {
            session.add(topic.clone(), fetch.clone());
        }
        sessions.insert(id, session);
        id
    }

    /// Notes what the client is told now, and takes out what an incremental answer need not repeat.
    ///
    /// `answers` are in the order of the context's partitions. `has_more` says whether there is more of a partition than was
    /// asked for, which a limit may have left out: a follower's session looks at it again.
    pub(crate) fn finish<R: FetchRecords>(
        &self,
        context: FetchContext,
        answers: Vec<(TopicRef, PartitionData<R>)>,
        has_more: impl Fn(&TopicRef, &FetchPartition) -> bool,
    ) -> (i32, Vec<(TopicRef, PartitionData<R>)>) {
        if context.session_id == NO_SESSION {
            return (NO_SESSION, answers);
        }
        let mut sessions = self.sessions.lock();
        let Some(session) = sessions.get_mut(&context.session_id) else {
            // It was evicted or ended meanwhile: this answer still holds, the next request will be told.
            return (context.session_id, answers);
        };
        for ((topic, data), (_, fetch)) in answers.iter().zip(&context.partitions) {
            let again = data.error_code != ErrorCode::None
                || data.diverging_epoch.is_some()
                || !data.records.is_empty();
            if session.changes.is_some() && (again || has_more(topic, fetch)) {
                session.mark(topic, fetch.partition);
            }
        }
        let told = answers
            .into_iter()
            .filter(|(topic, data)| session.tell(topic, data) || !context.incremental)
            .collect();
        (context.session_id, told)
    }

    /// Has a follower's session watch the partitions of `context`, as `find` finds them. To be called before they are looked at.
    pub(crate) fn watch(
        &self,
        context: &FetchContext,
        find: impl Fn(&TopicRef, i32) -> Option<Arc<Partition>>,
    ) {
        let Some(changes) = &context.changes else { return };
        let mut sessions = self.sessions.lock();
        let Some(session) = sessions.get_mut(&context.session_id) else { return };
        for (topic, fetch) in &context.partitions {
            let key = (topic.clone(), fetch.partition);
            let Some(cached) = session.partitions.get_mut(&key) else { continue };
            cached.watch = match (find(topic, fetch.partition), cached.watch.take()) {
                (Some(found), Some(watch)) if watch.is_of(&found) => Some(watch),
                (Some(found), _) => Some(Watch::new(found, changes, cached.number)),
                // Whoever asks is told so, and looked at again.
                (None, _) => None,
            };
        }
    }

    /// Adds to a follower's `context` what has news by now.
    pub(crate) fn refresh(&self, context: &mut FetchContext) {
        let mut sessions = self.sessions.lock();
        let Some(session) = sessions.get_mut(&context.session_id) else { return };
        let mut news = session.take_news();
        news.retain(|number| !context.numbers.contains(number));
        context.partitions.extend(session.in_turn_of(&news));
        context.numbers.append(&mut news);
    }

    /// Answers nothing of what was read, and with which session. One that was to be opened is not: its client does not
    /// know its partitions as long as it was told of none.
    pub(crate) fn withhold(&self, context: FetchContext) -> i32 {
        if context.incremental {
            return context.session_id;
        }
        self.sessions.lock().remove(&context.session_id);
        NO_SESSION
    }
}

/// Continues a session: checks its epoch, then adds, changes and forgets partitions.
fn resume(
    sessions: &mut BTreeMap<i32, Session>,
    request: &FetchRequest,
    now: Monotonic,
) -> Result<FetchContext, ErrorCode> {
    let session_id = request.session_id;
    let session = sessions.get_mut(&session_id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
    if session.epoch != request.session_epoch {
        return Err(ErrorCode::InvalidFetchSessionEpoch);
    }
    session.update(request)?;
    session.epoch = FetchMetadata::next_epoch(session.epoch);
    session.last_used = now;
    if session.partitions.is_empty() {
        sessions.remove(&session_id);
        let partitions = Vec::new();
        let (session_id, incremental, changes) = (NO_SESSION, false, None);
        let numbers = BTreeSet::new();
        return Ok(FetchContext { session_id, incremental, changes, partitions, numbers });
    }
    let (changes, numbers) = (session.changes(), session.take_news());
    let partitions = match changes {
        Some(_) => session.in_turn_of(&numbers).collect(),
        None => session.in_turn(),
    };
    Ok(FetchContext { session_id, incremental: true, changes, partitions, numbers })
}

impl Session {
    fn update(&mut self, request: &FetchRequest) -> Result<(), ErrorCode> {
        let by_id = |topic: &TopicRef| matches!(topic, TopicRef::Id(_));
        let ours = self.partitions.first().map(|((topic, _), _)| by_id(topic));
        let named = request.topics.iter().map(|topic| &topic.topic);
        let forgotten = request.forgotten_topics.iter().map(|topic| &topic.topic);
        if named.chain(forgotten).any(|topic| ours.is_some_and(|ours| ours != by_id(topic))) {
            // A client that was upgraded or downgraded within a session must start a new one (KIP-516).
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        for (topic, fetch) in requested(request) {
            let index = fetch.partition;
            self.add(topic.clone(), fetch);
            self.mark(&topic, index);
        }
        for topic in &request.forgotten_topics {
            for &partition in &topic.partitions {
                let key = (topic.topic.clone(), partition);
                let forgotten = match &self.changes {
                    // Turns go by the numbers, and moving all behind it would cost a look at each.
                    Some(_) => self.partitions.swap_remove(&key),
                    None => self.partitions.shift_remove(&key),
                };
                if let (Some(forgotten), Some(follower)) = (forgotten, &mut self.changes) {
                    follower.keys.remove(&forgotten.number);
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, topic: TopicRef, fetch: FetchPartition) {
        match self.partitions.entry((topic, fetch.partition)) {
            Entry::Occupied(mut known) => known.get_mut().fetch = fetch,
            Entry::Vacant(new) => {
                let mut number = 0;
                if let Some(follower) = &mut self.changes {
                    number = follower.next_number;
                    follower.next_number += 1;
                    follower.keys.insert(number, new.key().clone());
                }
                new.insert(CachedPartition::new(fetch, number));
            }
        }
    }

    fn changes(&self) -> Option<Arc<Changes>> {
        self.changes.as_ref().map(|follower| Arc::clone(&follower.changes))
    }

    /// Has the next fetch look at a partition.
    fn mark(&self, topic: &TopicRef, index: i32) {
        if let Some(follower) = &self.changes
            && let Some(cached) = self.partitions.get(&(topic.clone(), index))
        {
            follower.changes.mark(cached.number);
        }
    }

    /// The numbers of a follower's partitions.
    fn numbers(&self) -> BTreeSet<usize> {
        self.changes.iter().flat_map(|follower| follower.keys.keys().copied()).collect()
    }

    /// The numbers of a follower's partitions that have had news since this was last asked.
    fn take_news(&self) -> BTreeSet<usize> {
        self.changes.as_ref().map(|follower| follower.changes.take()).unwrap_or_default()
    }

    /// A follower's partitions with these numbers, beginning after the one that was answered with records last.
    fn in_turn_of(
        &self,
        numbers: &BTreeSet<usize>,
    ) -> impl Iterator<Item = (TopicRef, FetchPartition)> {
        let numbers = numbers.range(self.start..).chain(numbers.range(..self.start));
        let keys = numbers.filter_map(|number| self.changes.as_ref()?.keys.get(number));
        keys.filter_map(|key| Some((key.0.clone(), self.partitions.get(key)?.fetch.clone())))
    }

    /// All partitions, beginning after the one that was answered with records last.
    fn in_turn(&self) -> Vec<(TopicRef, FetchPartition)> {
        let start = self.start.min(self.partitions.len());
        let (first, second) =
            (self.partitions.iter().skip(start), self.partitions.iter().take(start));
        first
            .chain(second)
            .map(|((topic, _), cached)| (topic.clone(), cached.fetch.clone()))
            .collect()
    }

    /// Notes what the client is told of a partition; whether it is worth telling.
    fn tell<R: FetchRecords>(&mut self, topic: &TopicRef, data: &PartitionData<R>) -> bool {
        let key = (topic.clone(), data.partition_index);
        let Some((index, _, cached)) = self.partitions.get_full_mut(&key) else { return true };
        let failed = data.error_code != ErrorCode::None;
        let news = failed
            || !data.records.is_empty()
            || data.diverging_epoch.is_some()
            || cached.high_watermark != data.high_watermark
            || cached.log_start_offset != data.log_start_offset;
        // After an error the next answer must repeat the partition, whatever it then holds.
        cached.high_watermark = if failed { Offset::NONE } else { data.high_watermark };
        cached.log_start_offset = data.log_start_offset;
        if !data.records.is_empty() {
            let number = if self.changes.is_some() { cached.number } else { index };
            self.start = number + 1;
        }
        news
    }
}

impl CachedPartition {
    fn new(fetch: FetchPartition, number: usize) -> Self {
        let (high_watermark, log_start_offset) = (Offset::NONE, Offset::NONE);
        Self { fetch, high_watermark, log_start_offset, number, watch: None }
    }
}

/// What a request names, each partition once: the last word on it counts, as in Kafka's map.
fn requested(request: &FetchRequest) -> Vec<(TopicRef, FetchPartition)> {
    let named = request.topics.iter().flat_map(|topic| {
        let fetches = topic.partitions.iter();
        fetches.map(|fetch| ((topic.topic.clone(), fetch.partition), fetch.clone()))
    });
    let once: IndexMap<_, _> = named.collect();
    once.into_iter().map(|((topic, _), fetch)| (topic, fetch)).collect()
}

#[cfg(test)]
mod tests;
