//! The consumer: reads along, reads everything at the end, and judges.

use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use ottla_client::{AutoOffsetReset, Consumer, ConsumerError, ConsumerOptions, OffsetSpec};
use ottla_env::Env;
use ottla_protocol::{Offset, TopicPartition};

use super::{BACKOFF, PATIENCE, Shared, connect, id_of, wait_for_topic};
use crate::checker::RecordId;
use crate::node::Node;

/// What was read, by partition and offset.
type Read = BTreeMap<(i32, i64), RecordId>;

pub(in crate::scenario) async fn run(env: Env, node: Node, shared: Rc<Shared>) -> Result<()> {
    wait_for_topic(&env, &shared).await;
    let options =
        ConsumerOptions { auto_offset_reset: AutoOffsetReset::None, ..ConsumerOptions::default() };
    let mut consumer = Consumer::new(connect(&env, &shared).await, options);
    let along = read_along(&env, &mut consumer, &shared).await?;
    let (idempotent, promise) = (shared.load.idempotent, shared.load.promise);
    for partition in shared.partitions() {
        let read = read_all(&mut consumer, &partition).await?;
        node.fold(format_args!("read {} records of {partition}", read.len()), &[]);
        shared.history(&partition).borrow().check(&read, promise, idempotent)?;
        // What a consumer has seen is committed: it stays.
        if shared.keeps_all() {
            let read: BTreeMap<_, _> = read.into_iter().collect();
            let of_partition =
                along.iter().filter(|((number, _), _)| *number == partition.partition);
            for ((_, offset), id) in of_partition {
                let now = read.get(offset);
                ensure!(now == Some(id), "{id} was read at {offset} of {partition}, now {now:?}");
            }
        }
    }
    Ok(())
}

/// Reads what comes while the producers work. Where the log shrank it begins again, if it may shrink.
async fn read_along(env: &Env, consumer: &mut Consumer, shared: &Shared) -> Result<Read> {
    let mut read = Read::new();
    consumer.assign(shared.partitions())?;
    from_the_beginning(consumer, shared)?;
    let mut last = BTreeMap::new();
    while shared.producing.get() > 0 {
        match consumer.poll(PATIENCE).await {
            Ok(records) => {
                for record in records.iter() {
                    let id = id_of(record.value.context("a record without a value")?)?;
                    let (partition, offset) = (record.partition.partition, record.offset.0);
                    let before = last.insert(partition, offset);
                    ensure!(
                        before < Some(offset),
                        "offset {offset} of {partition} after {before:?}"
                    );
                    let before = read.insert((partition, offset), id.clone());
                    let same = before.as_ref().is_none_or(|before| *before == id);
                    ensure!(
                        same || !shared.keeps_all(),
                        "{id} is at {offset} of {partition}, where {before:?} was read before"
                    );
                }
            }
            Err(error) => {
                let shrank = matches!(
                    error,
                    ConsumerError::OffsetOutOfRange { .. } | ConsumerError::LogTruncated { .. }
                );
                ensure!(!(shrank && shared.keeps_all()), "what was read is gone: {error}");
                from_the_beginning(consumer, shared)?;
                last.clear();
                env.clock.sleep(BACKOFF).await;
            }
        }
    }
    Ok(read)
}

fn from_the_beginning(consumer: &mut Consumer, shared: &Shared) -> Result<()> {
    shared.partitions().try_for_each(|it| Ok(consumer.seek(&it, Offset(0))?))
}

/// Everything in a partition, in the order it comes.
async fn read_all(
    consumer: &mut Consumer,
    partition: &TopicPartition,
) -> Result<Vec<(i64, RecordId)>> {
    let end = consumer.offset(partition, OffsetSpec::Latest).await?;
    let start = consumer.offset(partition, OffsetSpec::Earliest).await?;
    ensure!(start == Offset(0), "{partition} begins at {start:?}");
    consumer.assign([partition.clone()])?;
    consumer.seek(partition, start)?;
    let mut read = Vec::new();
    while consumer.position(partition).is_some_and(|position| position < end) {
        for record in consumer.poll(PATIENCE).await?.iter() {
            let id = id_of(record.value.context("a record without a value")?)?;
            read.push((record.offset.0, id));
        }
    }
    Ok(read)
}
