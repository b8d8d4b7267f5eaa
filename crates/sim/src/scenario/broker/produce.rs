//! Producers: they note what they send and what is acknowledged.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, ensure};
use ottla_client::{Acks, Producer, ProducerOptions};
use ottla_env::Env;
use ottla_protocol::record_batch::NewRecord;
use ottla_protocol::{Offset, TopicPartition};

use super::{Shared, connect, make_topic, value_of};
use crate::checker::RecordId;
use crate::node::Node;
use crate::rng::SimRng;

/// Sends batches one after the other until the broker has died for the last time, and a few more.
pub(super) async fn run(env: Env, node: Node, shared: Rc<Shared>) -> Result<()> {
    let rng = SimRng::new(env.rng.next_u64(), "workload");
    let client = connect(&env).await;
    make_topic(&env, &client, &shared).await;
    let idempotent = shared.plan.idempotent;
    let options = ProducerOptions {
        acks: Acks::All,
        idempotent,
        request_timeout: Duration::from_secs(5),
        // Without idempotence a second try may store a second copy.
        delivery_timeout: Duration::from_secs(if idempotent { 60 } else { 0 }),
        ..ProducerOptions::default()
    };
    let producer = Producer::new(client, options);
    let mut sent = 0;
    let mut more = 10;
    while more > 0 {
        if shared.calm.get() {
            more -= 1;
        }
        let ids: Vec<RecordId> =
            (0..1 + rng.below(4)).map(|i| format!("{}/{}", node.name(), sent + i)).collect();
        sent += ids.len() as u64;
        let partition = rng.below(shared.plan.partitions) as i32;
        let partition = TopicPartition::new(super::TOPIC, partition);
        send(&env, &node, (&producer, &partition), &ids, &shared).await?;
        env.clock.sleep(Duration::from_millis(rng.below(50))).await;
    }
    shared.producing.set(shared.producing.get() - 1);
    Ok(())
}

/// Sends one batch and notes what became of it.
async fn send(
    env: &Env,
    node: &Node,
    (producer, partition): (&Producer, &TopicPartition),
    ids: &[RecordId],
    shared: &Shared,
) -> Result<()> {
    let history = shared.history(partition);
    ids.iter().for_each(|id| history.borrow_mut().sending(id));
    let timestamp = env.clock.wall();
    let values: Vec<_> = ids.iter().map(|id| value_of(id, shared.plan.padding)).collect();
    let records: Vec<_> = values
        .iter()
        .map(|value| NewRecord { timestamp, value: Some(value), ..NewRecord::default() })
        .collect();
    let life = shared.broker.life();
    let outcome = producer.send(partition, &records).await;
    let mut history = history.borrow_mut();
    match outcome {
        Ok(stored) => {
            let Offset(first) = stored.base_offset;
            node.fold(format_args!("acknowledged {ids:?} in {partition} at {first}"), &[]);
            ensure!(first >= 0, "acknowledged without an offset");
            let life = (shared.broker.life() == life).then_some(life);
            for (id, offset) in ids.iter().zip(first..) {
                history.acknowledged(node.name(), id, offset, life);
            }
        }
        Err(error) => {
            node.fold(format_args!("failed {ids:?}: {error}"), &[]);
            if !error.maybe_stored {
                ids.iter().for_each(|id| history.refused(id));
            }
        }
    }
    Ok(())
}
