//! The consumer: reads along, reads everything at the end, and judges.

use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use ottla_client::{Consumer, ConsumerOptions, ConsumerRecord, OffsetSpec};
use ottla_env::Env;
use ottla_protocol::{Offset, TopicPartition};

use super::{BACKOFF, Plan, Shared, connect, id_of};
use crate::checker::{Promise, RecordId};
use crate::node::Node;

/// What was read, by partition and offset.
type Read = BTreeMap<(i32, i64), RecordId>;

pub(super) async fn run(env: Env, node: Node, shared: Rc<Shared>) -> Result<()> {
    while !shared.topic_made.get() {
        env.clock.sleep(BACKOFF).await;
    }
    let mut consumer = Consumer::new(connect(&env).await, ConsumerOptions::default());
    let along = read_along(&env, &mut consumer, &shared).await?;
    let Plan { idempotent, .. } = shared.plan;
    let promise = shared.plan.promise();
    for partition in shared.partitions() {
        let read = read_all(&mut consumer, &partition).await?;
        node.fold(format_args!("read {} records of {partition}", read.len()), &[]);
        shared.history(&partition).borrow().check(&read, promise, idempotent)?;
        // What a consumer has seen is committed: it stays.
        if promise == Promise::KeepsAcknowledged {
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

/// Reads what comes while the producers work. Where the log shrank it begins again.
async fn read_along(env: &Env, consumer: &mut Consumer, shared: &Shared) -> Result<Read> {
    let mut read = Read::new();
    shared.partitions().for_each(|partition| consumer.assign(partition, Offset(0)));
    while shared.producing.get() > 0 {
        match consumer.poll().await {
            Ok(records) => {
                for ConsumerRecord { partition, offset, value, .. } in records {
                    let id = id_of(&value.context("a record without a value")?)?;
                    read.insert((partition.partition, offset.0), id);
                }
            }
            Err(_) => {
                shared.partitions().for_each(|partition| consumer.assign(partition, Offset(0)));
                env.clock.sleep(BACKOFF).await;
            }
        }
    }
    shared.partitions().for_each(|partition| consumer.unassign(&partition));
    Ok(read)
}

/// Everything in a partition, in the order it comes.
async fn read_all(
    consumer: &mut Consumer,
    partition: &TopicPartition,
) -> Result<Vec<(i64, RecordId)>> {
    let end = consumer.offset(partition, OffsetSpec::Latest).await?;
    let start = consumer.offset(partition, OffsetSpec::Earliest).await?;
    ensure!(start == Offset(0), "{partition} begins at {start:?}");
    consumer.assign(partition.clone(), start);
    let mut read = Vec::new();
    while consumer.position(partition).is_some_and(|position| position < end) {
        for record in consumer.poll().await? {
            let id = id_of(&record.value.context("a record without a value")?)?;
            read.push((record.offset.0, id));
        }
    }
    consumer.unassign(partition);
    Ok(read)
}
