//! Members of a group: they read, commit, come and go. What they commit never goes back, and in the
//! end they have read everything that was acknowledged.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ottla_client::{AutoOffsetReset, Consumer, ConsumerOptions, OffsetAndMetadata};
use ottla_env::Env;
use ottla_protocol::{Offset, TopicPartition};

use super::{BACKOFF, Shared, TOPIC, connect, id_of, wait_for_topic};
use crate::checker::RecordId;
use crate::node::Node;
use crate::rng::SimRng;

const GROUP: &str = "workers";

/// What the members of the group know together.
#[derive(Default)]
pub(in crate::scenario) struct Group {
    /// By partition and offset.
    read: RefCell<BTreeMap<(i32, i64), RecordId>>,
    /// The highest offset of each partition of which a commit was acknowledged.
    committed: RefCell<BTreeMap<TopicPartition, i64>>,
    /// Commits of which no answer came, or a refusal: they may happen late, where a node that stood
    /// still goes on with what it had received.
    in_doubt: RefCell<BTreeSet<(TopicPartition, i64)>>,
    complete: Cell<bool>,
}

/// Joins, reads and commits, now and then leaves for a while, until everything has been read.
pub(in crate::scenario) async fn run(
    env: Env,
    node: Node,
    shared: Rc<Shared>,
    group: Rc<Group>,
) -> Result<()> {
    let rng = SimRng::new(env.rng.next_u64(), "workload");
    wait_for_topic(&env, &shared).await;
    let client = connect(&env, &shared).await;
    while !group.complete.get() {
        let options = ConsumerOptions {
            auto_commit: false,
            auto_offset_reset: AutoOffsetReset::Earliest,
            session_timeout: Duration::from_secs(3),
            heartbeat_interval: Duration::from_millis(500),
            default_api_timeout: Duration::from_secs(3),
            ..ConsumerOptions::in_group(GROUP)
        };
        let mut consumer = Consumer::new(client.clone(), options);
        consumer.subscribe([TOPIC])?;
        let mut polls = if shared.calm.get() { u64::MAX } else { 1 + rng.below(100) };
        while polls > 0 && !group.complete.get() {
            polls -= 1;
            read(&env, &mut consumer, &shared, &group).await?;
            if rng.chance(0.3) {
                check(&consumer, &node, &shared, &group).await?;
            }
        }
        let left = consumer.close(Duration::from_secs(3)).await;
        node.fold(format_args!("left {:?}", left.err().map(|error| error.to_string())), &[]);
    }
    Ok(())
}

/// Polls once, and commits what came.
async fn read(env: &Env, consumer: &mut Consumer, shared: &Shared, group: &Group) -> Result<()> {
    let records = match consumer.poll(Duration::from_millis(500)).await {
        Ok(records) => records,
        Err(error) => {
            // A group's member may be put out; a log that shrank is another matter.
            let shrank = error.to_string().contains("has no offset")
                || error.to_string().contains("was cut at");
            ensure!(!(shrank && shared.keeps_all()), "what was committed is gone: {error}");
            env.clock.sleep(BACKOFF).await;
            return Ok(());
        }
    };
    let mut next = BTreeMap::new();
    for record in records.iter() {
        let id = id_of(record.value.context("a record without a value")?)?;
        let at = (record.partition.partition, record.offset.0);
        let before = group.read.borrow_mut().insert(at, id.clone());
        let same = before.as_ref().is_none_or(|before| *before == id);
        ensure!(same || !shared.keeps_all(), "{id} at {at:?}, where {before:?} was read before");
        // With its epoch: else a leader of the past could say that there is no such offset (KIP-320).
        let (offset, leader_epoch) = (record.offset.next(), record.leader_epoch());
        let committed = OffsetAndMetadata { offset, leader_epoch, metadata: String::new() };
        next.insert(record.partition.clone(), committed);
    }
    let offset_of =
        |(partition, it): (&TopicPartition, &OffsetAndMetadata)| (partition.clone(), it.offset.0);
    let offsets: Vec<_> = next.iter().map(offset_of).collect();
    group.in_doubt.borrow_mut().extend(offsets.iter().cloned());
    // Nothing but these: what else was handed out may have been committed before, and is in no doubt.
    if !offsets.is_empty() && consumer.commit_offsets(next).await.is_ok() {
        for (partition, offset) in offsets {
            let mut committed = group.committed.borrow_mut();
            let highest = committed.entry(partition.clone()).or_default();
            *highest = offset.max(*highest);
            group.in_doubt.borrow_mut().remove(&(partition, offset));
        }
    }
    let all = shared.producing.get() == 0 && group.has_read_all(shared);
    group.complete.set(group.complete.get() || all);
    Ok(())
}

/// Asks what is committed; it is no less than what was acknowledged before.
async fn check(consumer: &Consumer, node: &Node, shared: &Shared, group: &Group) -> Result<()> {
    let before = group.committed.borrow().clone();
    let Ok(now) = consumer.committed(shared.partitions()).await else { return Ok(()) };
    for (partition, acknowledged) in before {
        let Offset(now) = now.get(&partition).map_or(Offset(-1), |committed| committed.offset);
        node.fold(format_args!("{partition} is committed up to {now}"), &[]);
        let late = group.in_doubt.borrow().contains(&(partition.clone(), now));
        ensure!(
            now >= acknowledged || late || !shared.keeps_all(),
            "{now} is committed for {partition} in {GROUP}, where {acknowledged} was acknowledged"
        );
    }
    Ok(())
}

impl Group {
    fn has_read_all(&self, shared: &Shared) -> bool {
        let read = self.read.borrow();
        shared.partitions().all(|partition| {
            let history = shared.history(&partition).borrow();
            history.acknowledged_offsets().all(|at| read.contains_key(&(partition.partition, at)))
        })
    }
}
