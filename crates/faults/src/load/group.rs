//! Members of a group read and commit; a watcher asks where partitions end. What is committed, and where a partition ends,
//! never goes back, and no offset is read with two different records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ottla_client::{
    AutoOffsetReset, Consumer, ConsumerError, ConsumerOptions, Offset, OffsetSpec, TopicPartition,
};

use super::{PAUSE, STREAMS, Shared, Stream, connect, id_of};

pub(crate) const GROUP: &str = "readers";
pub(crate) const POLL: Duration = Duration::from_millis(100);
/// Between two looks at where partitions end.
const WATCH: Duration = Duration::from_millis(100);
/// After so many polls a member asks what is committed.
pub(crate) const POLLS_PER_LOOK: u32 = 20;

/// What the members know together.
#[derive(Default)]
pub(crate) struct Progress {
    /// What was read, by offset.
    pub(crate) read: BTreeMap<TopicPartition, BTreeMap<i64, String>>,
    /// The highest offset of each partition of which a commit was acknowledged.
    pub(crate) committed: BTreeMap<TopicPartition, i64>,
    /// Commits of which no answer came: they may happen late, where a node that stood still goes on.
    in_doubt: BTreeSet<(TopicPartition, i64)>,
}

/// Reads and commits until everything is written and read.
pub(crate) async fn run(shared: Arc<Shared>, number: usize) -> Result<()> {
    let options = ConsumerOptions {
        auto_commit: false,
        auto_offset_reset: AutoOffsetReset::Earliest,
        ..ConsumerOptions::in_group(GROUP)
    };
    let name = format!("member-{number}");
    let mut consumer = Consumer::new(connect(&shared, number).await, options);
    consumer.subscribe([STREAMS[0].topic])?;
    let mut polls = 0;
    while !(shared.is_written() && shared.unread().is_empty()) {
        if let Err(error) = consume(&mut consumer, &shared).await? {
            shared.board.failed(&name, &error);
            tokio::time::sleep(PAUSE).await;
        }
        polls += 1;
        if polls % POLLS_PER_LOOK == 0 {
            check(&consumer, &shared).await?;
        }
    }
    consumer.close(Duration::from_secs(10)).await?;
    Ok(())
}

/// Polls once and commits what came. What fails for the program is the inner error.
async fn consume(consumer: &mut Consumer, shared: &Shared) -> Result<Result<(), ConsumerError>> {
    let records = match consumer.poll(POLL).await {
        Ok(records) => records,
        Err(error) => {
            let shrank = matches!(
                error,
                ConsumerError::OffsetOutOfRange { .. } | ConsumerError::LogTruncated { .. }
            );
            ensure!(!shrank, "what was read is gone: {error}");
            return Ok(Err(error));
        }
    };
    let mut next = BTreeMap::new();
    for record in records.iter() {
        let id = id_of(record.value.context("a record without a value")?)?;
        let Offset(offset) = record.offset;
        let read = &mut shared.group.lock().read;
        let read = read.entry(record.partition.clone()).or_default();
        let before = read.insert(offset, id.clone()).unwrap_or_else(|| id.clone());
        let partition = record.partition;
        ensure!(before == id, "{id} is at {offset} of {partition}, where {before} was read before");
        next.insert(record.partition.clone(), offset + 1);
    }
    if next.is_empty() {
        return Ok(Ok(()));
    }
    shared.group.lock().in_doubt.extend(next.clone());
    if let Err(error) = consumer.commit().await {
        return Ok(Err(error));
    }
    shared.board.committed();
    let group = &mut *shared.group.lock();
    for (partition, offset) in next {
        group.in_doubt.remove(&(partition.clone(), offset));
        let highest = group.committed.entry(partition).or_default();
        *highest = offset.max(*highest);
    }
    Ok(Ok(()))
}

/// What is committed is no less than what was acknowledged before it was asked for.
async fn check(consumer: &Consumer, shared: &Shared) -> Result<()> {
    let before = shared.group.lock().committed.clone();
    // That nobody answers now is told by the commits.
    let Ok(now) = consumer.committed(STREAMS[0].partitions()).await else { return Ok(()) };
    let now = now.into_iter().map(|(partition, it)| (partition, it.offset.0)).collect();
    shared.group.lock().check(&before, &now)
}

impl Progress {
    /// Holds what is committed `now` against what was acknowledged `before`.
    pub(crate) fn check(
        &self,
        before: &BTreeMap<TopicPartition, i64>,
        now: &BTreeMap<TopicPartition, i64>,
    ) -> Result<()> {
        for (partition, acknowledged) in before {
            let now = now.get(partition).copied().unwrap_or(-1);
            let late = self.in_doubt.contains(&(partition.clone(), now));
            ensure!(
                now >= *acknowledged || late,
                "{now} is committed for {partition}, where {acknowledged} was acknowledged"
            );
        }
        Ok(())
    }
}

/// Asks again and again where partitions end, which never goes back (KIP-207).
pub(crate) async fn watch(shared: Arc<Shared>) -> Result<()> {
    let consumer = Consumer::new(connect(&shared, 2).await, ConsumerOptions::default());
    let mut ends = BTreeMap::new();
    while !shared.is_ending() {
        let partitions = STREAMS.iter().flat_map(Stream::partitions);
        let wishes = partitions.map(|partition| (partition, OffsetSpec::Latest)).collect();
        match consumer.offsets(wishes).await {
            Err(error) => shared.board.failed("watcher", &error),
            Ok(found) => {
                for (partition, found) in found {
                    let end = found.offset.0;
                    let before = ends.insert(partition.clone(), end).unwrap_or(0);
                    ensure!(end >= before, "{partition} ended at {before}, and now ends at {end}");
                }
            }
        }
        tokio::time::sleep(WATCH).await;
    }
    Ok(())
}
