//! Holds what is there at the end against what clients were told.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ottla_client::{Consumer, ConsumerOptions, Env, Offset, OffsetSpec, TopicPartition};
use ottla_history::Promise;
use ottla_storage::inspect::{BatchStream, Directory};

use crate::cluster::Cluster;
use crate::load::group::{GROUP, POLL};
use crate::load::{STREAMS, Shared, connect, id_of};
use crate::trouble;

/// Everything acknowledged is there, in order, and once where producers are idempotent; what members of the group read is what
/// is there; what they committed is committed, and topics that were made are there. Answers how many records were acknowledged.
pub(crate) async fn judge(shared: &Shared) -> Result<usize> {
    let mut consumer = Consumer::new(connect(shared, 0).await, ConsumerOptions::default());
    let mut acknowledged = 0;
    for stream in STREAMS {
        for partition in stream.partitions() {
            let read = read_all(&mut consumer, &partition).await?;
            let history = shared.histories[&partition].lock();
            let checked = history.check(&read, Promise::KeepsAcknowledged, stream.idempotent);
            checked.with_context(|| partition.to_string())?;
            acknowledged += history.acknowledged_count();
            let by_offset: BTreeMap<_, _> = read.into_iter().collect();
            let group = shared.group.lock();
            for (offset, id) in group.read.get(&partition).into_iter().flatten() {
                let now = by_offset.get(offset);
                ensure!(now == Some(id), "{id} was read at {offset} of {partition}, now {now:?}");
            }
        }
    }
    let admin = trouble::admin(&shared.bootstrap).await?;
    let mut committed = BTreeMap::new();
    for (partition, answer) in admin.list_group_offsets(GROUP, None, false).await? {
        committed.insert(partition, answer?.offset.0);
    }
    {
        let group = shared.group.lock();
        ensure!(!group.committed.is_empty(), "the group has committed nothing");
        group.check(&group.committed, &committed)?;
    }
    let there = admin.list_topics().await?;
    let missing: Vec<_> =
        shared.topics.lock().iter().filter(|it| !there.contains_key(*it)).cloned().collect();
    ensure!(missing.is_empty(), "topics are gone: {missing:?}");
    Ok(acknowledged)
}

/// Everything in a partition, in the order it comes.
async fn read_all(
    consumer: &mut Consumer,
    partition: &TopicPartition,
) -> Result<Vec<(i64, String)>> {
    let end = consumer.offset(partition, OffsetSpec::Latest).await?;
    consumer.assign([partition.clone()])?;
    consumer.seek(partition, Offset(0))?;
    let mut read = Vec::new();
    while consumer.position(partition).is_some_and(|position| position < end) {
        for record in consumer.poll(POLL).await?.iter() {
            let id = id_of(record.value.context("a record without a value")?)?;
            read.push((record.offset.0, id));
        }
    }
    Ok(read)
}

/// A batch as all replicas must have it: its place, its epoch, its length, and the checksum of the rest.
type Batch = (i64, i32, usize, u32);

/// The logs of all replicas are equal. The nodes have stopped in order, so all that they have is committed.
pub(crate) fn compare_replicas(cluster: &Cluster) -> Result<()> {
    let mut logs: BTreeMap<TopicPartition, Vec<(i32, Vec<Batch>)>> = BTreeMap::new();
    let disk = Env::os().disk;
    for id in cluster.layout.brokers() {
        let directory = Directory::read(&*disk, &cluster.data(id))?;
        for (partition, path) in directory.partitions() {
            let is_stream = STREAMS.iter().any(|stream| *stream.topic == *partition.topic);
            if is_stream || &*partition.topic == "__consumer_offsets" {
                let batches = batches(path).with_context(|| path.display().to_string())?;
                logs.entry(partition.clone()).or_default().push((id, batches));
            }
        }
    }
    for stream in STREAMS {
        for partition in stream.partitions() {
            let count = logs.get(&partition).map_or(0, Vec::len);
            ensure!(count == 3, "{partition} has {count} replicas on disk");
        }
    }
    for (partition, replicas) in logs {
        for pair in replicas.windows(2) {
            let ((one, a), (other, b)) = (&pair[0], &pair[1]);
            let differ = a.iter().zip(b).find(|(a, b)| a != b);
            ensure!(differ.is_none(), "{partition} differs on {one} and {other}: {differ:?}");
            let ends = (a.len(), b.len());
            ensure!(ends.0 == ends.1, "{partition} has {ends:?} batches on {one} and {other}");
        }
    }
    Ok(())
}

/// All batches of a partition's log.
fn batches(path: &Path) -> Result<Vec<Batch>> {
    let disk = Env::os().disk;
    let mut segments: Vec<_> = disk.read_dir(path)?.into_iter().map(|entry| entry.path).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    segments.sort();
    let mut batches = Vec::new();
    for segment in segments {
        let mut stream = BatchStream::open(&*disk, &segment, 0)?;
        while let Some(next) = stream.next()? {
            match next {
                Ok(found) => {
                    let batch = found.batch;
                    let place = (batch.base_offset().0, batch.leader_epoch().0);
                    batches.push((place.0, place.1, batch.len(), batch.crc()));
                }
                Err(at) => bail!("{} is damaged: {at:?}", segment.display()),
            }
        }
    }
    Ok(batches)
}
