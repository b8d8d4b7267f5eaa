//! Producers: they note what they send and what is acknowledged.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, ensure};
use ottla_client::{Producer, ProducerConfig, ProducerRecord};
use ottla_env::Env;
use ottla_protocol::{Offset, TopicPartition};

use super::{DELIVERY, REQUEST, Shared, connect, make_topic, value_of};
use crate::checker::RecordId;
use crate::node::Node;
use crate::rng::SimRng;

/// Sends batches one after the other until nothing goes wrong any more, and a few more.
pub(in crate::scenario) async fn run(env: Env, node: Node, shared: Rc<Shared>) -> Result<()> {
    let rng = SimRng::new(env.rng.next_u64(), "workload");
    let client = connect(&env, &shared).await;
    make_topic(&env, &client, &shared).await;
    let idempotent = shared.load.idempotent;
    let mut config = ProducerConfig {
        idempotence: idempotent,
        // Without idempotence a second try may store a second copy.
        retries: if idempotent { u32::MAX } else { 0 },
        delivery_timeout: DELIVERY,
        linger: Duration::from_millis(rng.below(20)),
        batch_size: [1, 200, 16_384][rng.below(3) as usize],
        ..ProducerConfig::default()
    };
    config.common.request_timeout = REQUEST;
    let producer = Producer::builder(config).over(client);
    let mut sent = 0;
    let mut more = 10;
    while more > 0 {
        if shared.calm.get() {
            more -= 1;
        }
        let ids: Vec<RecordId> =
            (0..1 + rng.below(4)).map(|i| format!("{}/{}", node.name(), sent + i)).collect();
        sent += ids.len() as u64;
        let partition = rng.below(shared.load.partitions) as i32;
        let partition = TopicPartition::new(super::TOPIC, partition);
        send(&env, &node, (&producer, &partition), &ids, &shared).await?;
        env.clock.sleep(Duration::from_millis(rng.below(50))).await;
    }
    shared.producing.set(shared.producing.get() - 1);
    Ok(())
}

/// Sends records and notes what became of them.
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
    let life = (shared.life)();
    let mut deliveries = Vec::new();
    for id in ids {
        let value = value_of(id, shared.load.padding);
        let record = ProducerRecord::to(&*partition.topic).value(value);
        let record = record.partition(partition.partition).timestamp(timestamp);
        deliveries.push((id, producer.send(record).await));
    }
    for (id, delivery) in deliveries {
        let outcome = match delivery {
            Ok(delivery) => delivery.await,
            Err(error) => Err(error),
        };
        let mut history = history.borrow_mut();
        match outcome {
            Ok(stored) => {
                let Offset(offset) = stored.offset;
                node.fold(format_args!("acknowledged {id} in {partition} at {offset}"), &[]);
                ensure!(offset >= 0, "acknowledged without an offset");
                let life = ((shared.life)() == life).then_some(life);
                history.acknowledged(node.name(), id, offset, life);
            }
            Err(error) => {
                node.fold(format_args!("failed {id}: {error}"), &[]);
                if !error.maybe_stored() {
                    history.refused(id);
                }
            }
        }
    }
    Ok(())
}
