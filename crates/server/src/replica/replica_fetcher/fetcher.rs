//! One fetcher: everything that is followed from one leader over one connection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_client::{ClientError, Connection, ConnectionOptions};
use ottla_env::TaskHandle;
use ottla_protocol::fetch::{FetchPartition, FetchRequest, FetchResponse, PartitionData};
use ottla_protocol::messages::ListOffsetsRequest;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::{
    BrokerId, ErrorCode, LeaderEpoch, Monotonic, Offset, StrBytes, TopicRef, message,
};
use tracing::{debug, info, warn};

use super::session::FetchSession;
use super::{FIRST_PAUSE, Inbox, Key, Shared, Told};
use crate::quotas::Throttled;
use crate::replica::Flushing;
use crate::replica::partition::{Fetched, Partition, Truncation};

/// A fetch that waits for records is given up after so long when there is something new to fetch.
const GRACE: Duration = Duration::from_millis(10);
/// For so long more of that is expected.
const HASTE: Duration = Duration::from_millis(500);

/// See `special` in `handlers/list_offsets.rs`.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// The task's own state.
pub(super) struct Fetcher {
    shared: Arc<Shared>,
    leader: BrokerId,
    inbox: Arc<Inbox>,
    partitions: BTreeMap<Key, Followed>,
    /// Partitions that failed, by when they are tried again.
    paused: BTreeSet<(Monotonic, Key)>,
    /// Partitions that are to be fetched again, or for the first time: the disk may owe something of them.
    owing: BTreeSet<Key>,
    /// Partitions that the rate of replication holds back.
    held: BTreeSet<Key>,
    session: FetchSession,
    connection: Option<Connection>,
    /// How often in a row the leader could not be asked.
    failures: u32,
    haste: Haste,
}

struct Followed {
    partition: Arc<Partition>,
    /// How often in a row it failed.
    failures: u32,
    paused_until: Option<Monotonic>,
}

/// Whether there is something new to fetch again and again. Then no fetch waits for long, and none is given up: over a slow link
/// that would leave no time for an answer (`docs/adr/0010-where-replication-differs.md`).
struct Haste {
    /// It may be so until then.
    until: Monotonic,
    /// The last fetch was given up, and none was answered since.
    has_given_up: bool,
}

impl Haste {
    fn is_on(&self, now: Monotonic) -> bool {
        self.has_given_up || now < self.until
    }

    /// There is something new to fetch; whether the fetch that waits may be given up for it.
    fn may_give_up(&mut self, now: Monotonic) -> bool {
        let may = !self.is_on(now);
        self.until = now + HASTE;
        may
    }
}

/// What an answer leaves to be done.
#[derive(Default)]
struct Todo {
    flushing: Vec<(Key, Flushing)>,
    starts_moved: Vec<Key>,
    truncations: Vec<(Key, LeaderEpoch, Truncation)>,
    out_of_range: Vec<Key>,
    /// Logs that begin within a batch, and what was asked and answered.
    beginnings: Vec<(Key, FetchPartition, PartitionData<Bytes>)>,
}

impl Fetcher {
    pub(super) fn start(shared: Arc<Shared>, leader: BrokerId) -> (Arc<Inbox>, TaskHandle) {
        let inbox = Arc::<Inbox>::default();
        let env = shared.env.clone();
        let haste = Haste { until: env.clock.now(), has_given_up: false };
        let fetcher = Self {
            shared,
            leader,
            inbox: Arc::clone(&inbox),
            partitions: BTreeMap::new(),
            paused: BTreeSet::new(),
            owing: BTreeSet::new(),
            held: BTreeSet::new(),
            session: FetchSession::default(),
            connection: None,
            failures: 0,
            haste,
        };
        (inbox, env.spawn("replica fetcher", fetcher.run()))
    }

    async fn run(mut self) {
        loop {
            self.hear();
            if self.partitions.is_empty() {
                // Nobody needs the connection.
                self.connection = None;
                self.session = FetchSession::default();
                self.inbox.news.notified().await;
                continue;
            }
            self.resume();
            self.settle().await;
            match self.round().await {
                Ok(()) => self.failures = 0,
                Err(error) => self.lost(&error).await,
            }
        }
    }

    /// The leader could not be asked: everything waits, and begins anew.
    async fn lost(&mut self, error: &ClientError) {
        self.connection = None;
        self.session.restart();
        self.failures = self.failures.saturating_add(1);
        match self.failures {
            1 => info!(leader = %self.leader, %error, "cannot fetch from the leader: trying again"),
            _ => debug!(leader = %self.leader, %error, "cannot fetch from the leader"),
        }
        let pause = self.shared.env.clock.sleep(self.pause_after(self.failures));
        tokio::select! {
            biased;
            () = self.inbox.news.notified() => {}
            () = pause => {}
        }
    }

    /// Takes over what it was told.
    fn hear(&mut self) {
        for told in self.inbox.take() {
            match told {
                Told::Follow(partition) => {
                    let key = (partition.topic_id(), partition.name().partition);
                    self.session.changed(key);
                    // Whoever fetched it before may have left something.
                    self.owing.insert(key);
                    let followed = Followed { partition, failures: 0, paused_until: None };
                    if let Some(before) = self.partitions.insert(key, followed) {
                        self.unpause(&before, key);
                    }
                }
                Told::Unfollow(key) => {
                    self.session.changed(key);
                    if let Some(before) = self.partitions.remove(&key) {
                        self.unpause(&before, key);
                    }
                }
            }
        }
    }

    fn unpause(&mut self, followed: &Followed, key: Key) {
        if let Some(until) = followed.paused_until {
            self.paused.remove(&(until, key));
        }
    }

    /// Goes on with partitions whose pause is over.
    fn resume(&mut self) {
        let now = self.shared.env.clock.now();
        while let Some((until, key)) = self.paused.first().copied().filter(|(at, _)| *at <= now) {
            self.paused.remove(&(until, key));
            self.session.changed(key);
            self.owing.insert(key);
            if let Some(followed) = self.partitions.get_mut(&key) {
                followed.paused_until = None;
            }
        }
    }

    /// Brings to the disk what it owes of partitions whose pause is over, or that are new here.
    async fn settle(&mut self) {
        let (mut flushing, mut uncheckpointed) = (Vec::new(), Vec::new());
        for key in std::mem::take(&mut self.owing) {
            let Some(Followed { partition, .. }) = self.partitions.get(&key) else { continue };
            let owed = partition.owed();
            flushing.extend(owed.flush.map(|end| (key, partition.begin_flush(end))));
            uncheckpointed.extend(owed.start.or(owed.cut).map(|_| key));
        }
        self.bring_to_disk(flushing, &uncheckpointed).await;
    }

    fn pause(&mut self, key: Key, error: &dyn std::fmt::Display) {
        let now = self.shared.env.clock.now();
        let Some(followed) = self.partitions.get_mut(&key) else { return };
        if let Some(before) = followed.paused_until {
            self.paused.remove(&(before, key));
        }
        followed.failures = followed.failures.saturating_add(1);
        let (partition, leader) = (followed.partition.name(), self.leader);
        match followed.failures {
            // Often it is nothing: one of both has not heard of an election yet.
            1..4 => debug!(%partition, %leader, %error, "could not be fetched"),
            4 => warn!(%partition, %leader, %error, "still cannot be fetched: trying on"),
            _ => {}
        }
        let failures = followed.failures;
        let until = now + self.pause_after(failures);
        if let Some(followed) = self.partitions.get_mut(&key) {
            followed.paused_until = Some(until);
        }
        self.paused.insert((until, key));
        self.session.changed(key);
    }

    /// Leaves out what `follower.replication.throttled.rate` has nothing left for, and takes in what it held before: replicas
    /// that are not in sync (KIP-73). How long to wait with what is left out, if anything is.
    fn hold_back(&mut self) -> Option<Duration> {
        let quota = &self.shared.context.quotas().follower;
        let now = self.shared.env.clock.now();
        let has_nothing_left = |why: &Throttled| quota.left(*why, now) == 0;
        let mut held = BTreeSet::new();
        let mut wait = None;
        if Throttled::BOTH.iter().any(has_nothing_left) {
            for (key, followed) in &self.partitions {
                let why = followed.partition.throttled_here().filter(has_nothing_left);
                let Some(why) = why.filter(|_| !followed.partition.is_in_sync_here()) else {
                    continue;
                };
                held.insert(*key);
                wait = wait.max(Some(quota.wait(why, now)));
            }
        }
        for key in held.symmetric_difference(&self.held) {
            self.session.changed(*key);
        }
        self.held = held;
        wait
    }

    fn pause_after(&self, failures: u32) -> Duration {
        let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled.min(self.shared.config.fetch_backoff)
    }

    /// Asks once, and takes what comes.
    async fn round(&mut self) -> Result<(), ClientError> {
        let until_let_go = self.hold_back();
        let config = &self.shared.config;
        let now = self.shared.env.clock.now();
        let until_resumed = self.paused.first().map(|(until, _)| until.since(now));
        // A millisecond is the least that a request can say.
        let until_resumed = until_resumed
            .into_iter()
            .chain(until_let_go)
            .min()
            .map(|until| until.max(Duration::from_millis(1)));
        let longest = if self.haste.is_on(now) { GRACE } else { config.fetch_wait_max };
        let max_wait = longest.min(until_resumed.unwrap_or(Duration::MAX));
        let mut request = FetchRequest {
            replica_id: self.shared.context.local(),
            replica_epoch: self.shared.context.epoch().0,
            max_wait_ms: i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: i32::try_from(config.fetch_min_bytes).unwrap_or(i32::MAX),
            max_bytes: i32::try_from(config.fetch_response_max_bytes).unwrap_or(i32::MAX),
            ..FetchRequest::default()
        };
        let connection = self.connect().await?;
        let (partitions, held, leader) = (&self.partitions, &self.held, self.leader);
        let max_bytes = i32::try_from(self.shared.config.fetch_max_bytes).unwrap_or(i32::MAX);
        self.session.fill(&mut request, |key| match held.contains(key) {
            true => None,
            false => wanted(partitions.get(key)?, leader, max_bytes),
        });
        if self.session.is_empty() && request.forgotten_topics.is_empty() {
            let pause = self.shared.env.clock.sleep(until_resumed.unwrap_or(GRACE));
            tokio::select! {
                biased;
                () = self.inbox.news.notified() => {}
                () = pause => {}
            }
            return Ok(());
        }
        let Some(response) = self.fetch(&connection, &request).await? else { return Ok(()) };
        self.haste.has_given_up = false;
        if !self.session.answered(response.error_code, response.session_id) {
            let error = response.error_code;
            debug!(leader = %self.leader, %error, "the fetch session is lost: beginning anew");
            return Ok(());
        }
        let todo = self.take(response);
        self.finish(&connection, todo).await
    }

    /// Waits for the answer; `None` if there is something new to fetch, and the leader has nothing: the connection is given up
    /// with the request that waits on it.
    async fn fetch(
        &mut self,
        connection: &Connection,
        request: &FetchRequest,
    ) -> Result<Option<FetchResponse>, ClientError> {
        let fetching = connection.fetch(request);
        tokio::pin!(fetching);
        tokio::select! {
            biased;
            response = &mut fetching => return response.map(Some),
            () = self.inbox.news.notified() => {}
        }
        let now = self.shared.env.clock.now();
        if !self.haste.may_give_up(now) {
            return fetching.await.map(Some);
        }
        let grace = self.shared.env.clock.sleep(GRACE);
        tokio::select! {
            biased;
            response = &mut fetching => return response.map(Some),
            () = grace => {}
        }
        self.haste.has_given_up = true;
        self.connection = None;
        self.session.restart();
        Ok(None)
    }

    async fn connect(&mut self) -> Result<Connection, ClientError> {
        if let Some(connection) = self.connection.as_ref().filter(|it| !it.is_closed()) {
            return Ok(connection.clone());
        }
        self.session.restart();
        let address = self.shared.addresses.load().get(&self.leader).cloned();
        let Some(address) = address else {
            let leader = self.leader;
            let why = format!("broker {leader} has no listener {}", self.shared.listener);
            return Err(ClientError::Nonsense(why));
        };
        let options = ConnectionOptions {
            client_id: format!("broker-{}-fetcher", self.shared.context.local()),
            request_timeout: self.shared.config.socket_timeout,
            receive_buffer_bytes: self.shared.config.socket_receive_buffer_bytes,
            max_idle: None,
            // The first batch comes whatever its size.
            max_frame_bytes: i32::MAX as usize,
            ..ConnectionOptions::default()
        };
        let connection = Connection::connect(&self.shared.env, &address, options).await?;
        self.connection = Some(connection.clone());
        Ok(connection)
    }

    fn take(&mut self, response: FetchResponse) -> Todo {
        let mut todo = Todo::default();
        for topic in response.topics {
            // Asked by id, answered by id.
            let TopicRef::Id(id) = topic.topic else { continue };
            for data in topic.partitions {
                self.take_partition((id, data.partition_index), &data, &mut todo);
            }
        }
        todo
    }

    fn take_partition(&mut self, key: Key, data: &PartitionData<Bytes>, todo: &mut Todo) {
        let Some(asked) = self.session.asked(&key).cloned() else { return };
        let Some(followed) = self.partitions.get_mut(&key) else { return };
        if let Err(error) = data.error_code.ok() {
            match error == ErrorCode::OffsetOutOfRange {
                true => todo.out_of_range.push(key),
                false => self.pause(key, &error),
            }
            return self.session.changed(key);
        }
        if followed.partition.throttled_here().is_some() {
            // In sync or not: Kafka, too, holds some back for what all take.
            let quotas = self.shared.context.quotas();
            quotas.follower.record(data.records.len(), self.shared.env.clock.now());
        }
        match followed.partition.take_fetched(&asked, data) {
            Ok(Fetched::Appended { flushing, start_moved }) => {
                followed.failures = 0;
                todo.flushing.extend(flushing.map(|flushing| (key, flushing)));
                todo.starts_moved.extend(start_moved.then_some(key));
            }
            Ok(Fetched::BeginsWithinBatch) => todo.beginnings.push((key, asked, data.clone())),
            Ok(Fetched::Diverging(end)) => {
                let truncation = Truncation::Diverging(end);
                todo.truncations.push((key, asked.current_leader_epoch, truncation));
            }
            Ok(Fetched::Outdated) => {}
            Err(error) => self.pause(key, &error),
        }
        self.session.changed(key);
    }

    async fn finish(&mut self, connection: &Connection, todo: Todo) -> Result<(), ClientError> {
        let Todo { mut flushing, mut starts_moved, mut truncations, out_of_range, beginnings } =
            todo;
        for (key, asked, data) in beginnings {
            let Some(followed) = self.partitions.get(&key) else { continue };
            let (partition, logs) =
                (Arc::clone(&followed.partition), Arc::clone(&self.shared.logs));
            let begin = move || partition.begin_within_batch(&logs, &asked, &data);
            match self.shared.env.run_blocking(begin).await {
                Ok(Fetched::Appended { flushing: begun, .. }) => {
                    flushing.extend(begun.map(|begun| (key, begun)));
                    starts_moved.push(key);
                }
                Ok(_) => {}
                Err(error) => self.pause(key, &error),
            }
            self.session.changed(key);
        }
        self.bring_to_disk(flushing, &starts_moved).await;
        for key in out_of_range {
            match self.range_of(connection, key).await? {
                Ok(truncation) => truncations.push(truncation),
                Err(error) => self.pause(key, &error),
            }
        }
        for (key, epoch, truncation) in truncations {
            let Some(followed) = self.partitions.get(&key) else { continue };
            let (partition, logs) =
                (Arc::clone(&followed.partition), Arc::clone(&self.shared.logs));
            let truncate = move || partition.truncate(&logs, epoch, truncation);
            if let Err(error) = self.shared.env.run_blocking(truncate).await {
                self.pause(key, &error);
            }
            self.session.changed(key);
        }
        Ok(())
    }

    /// Waits until the disk holds what the leader is told next: it counts what it is asked for behind as held, where
    /// `flush.messages` asks for that, and a crash must not bring back what was deleted. What fails is owed.
    async fn bring_to_disk(&mut self, flushing: Vec<(Key, Flushing)>, uncheckpointed: &[Key]) {
        for (key, flushing) in flushing {
            if let Err(error) = flushing.await {
                self.pause(key, &error);
            }
        }
        if uncheckpointed.is_empty() {
            return;
        }
        let owing = uncheckpointed.iter().filter_map(|key| Some((*key, self.partitions.get(key)?)));
        let owing = owing.map(|(key, Followed { partition, .. })| (key, Arc::clone(partition)));
        let owing: Vec<_> = owing.map(|(key, it)| (key, it.owed(), it)).collect();
        let is_cut = owing.iter().any(|(_, owed, _)| owed.cut.is_some());
        let logs = Arc::clone(&self.shared.logs);
        let write = move || match is_cut {
            true => logs.checkpoint_cut(),
            false => logs.checkpoint_log_starts(),
        };
        let unwritten = self.shared.env.run_blocking(write).await;
        for (key, owed, partition) in owing {
            let dir = Arc::clone(partition.log().log_dir());
            match unwritten.iter().find(|(failed, _)| Arc::ptr_eq(failed, &dir)) {
                Some((_, error)) => self.pause(key, error),
                None => partition.checkpointed(owed),
            }
        }
    }

    /// Where the leader's log begins and ends.
    async fn range_of(
        &self,
        connection: &Connection,
        key: Key,
    ) -> Result<Result<(Key, LeaderEpoch, Truncation), ErrorCode>, ClientError> {
        let (Some(followed), Some(asked)) = (self.partitions.get(&key), self.session.asked(&key))
        else {
            return Ok(Err(ErrorCode::NotLeaderOrFollower));
        };
        let epoch = asked.current_leader_epoch;
        let mut found = [Offset::NONE; 2];
        for (found, timestamp) in found.iter_mut().zip([EARLIEST, LATEST]) {
            let row = message!(ListOffsetsPartition {
                partition_index: key.1,
                current_leader_epoch: epoch.0,
                timestamp: timestamp,
            });
            let name = StrBytes::from(&*followed.partition.name().topic);
            let topic = message!(ListOffsetsTopic { name: name, partitions: vec![row] });
            let request = message!(ListOffsetsRequest {
                replica_id: self.shared.context.local().0,
                topics: vec![topic],
            });
            let response = connection.call(&request).await?;
            let row = response.topics.into_iter().flat_map(|topic| topic.partitions).next();
            let Some(row) = row else { return Ok(Err(ErrorCode::UnknownTopicOrPartition)) };
            if let Err(error) = ErrorCode::from_wire(row.error_code).ok() {
                return Ok(Err(error));
            }
            *found = Offset(row.offset);
        }
        let [start, end] = found;
        Ok(Ok((key, epoch, Truncation::OutOfRange { start, end })))
    }
}

/// What is wanted of a partition now; nothing while it waits, or if another broker leads it.
fn wanted(followed: &Followed, leader: BrokerId, max_bytes: i32) -> Option<FetchPartition> {
    if followed.paused_until.is_some() {
        return None;
    }
    let (by, row) = followed.partition.fetch_request(max_bytes)?;
    (by.leader == leader).then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_is_not_given_up_again_before_one_was_answered_and_nothing_new_came_for_a_while() {
        let at = |ms| Monotonic(Duration::from_millis(ms));
        let mut haste = Haste { until: at(0), has_given_up: false };
        assert!(!haste.is_on(at(1000)) && haste.may_give_up(at(1000)));
        haste.has_given_up = true;
        // However long the answer takes.
        assert!(haste.is_on(at(3000)) && !haste.may_give_up(at(3000)));
        haste.has_given_up = false;
        for soon in [3100, 3500, 3999] {
            assert!(!haste.may_give_up(at(soon)));
        }
        assert!(haste.is_on(at(4498)) && !haste.is_on(at(4499)));
        assert!(haste.may_give_up(at(4499)));
    }
}
