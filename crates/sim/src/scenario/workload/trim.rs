//! A topic whose front is deleted (KIP-107): what is deleted stays so, and what is behind it stays.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ottla_client::{Admin, OffsetQuery};
use ottla_env::Env;
use ottla_protocol::{Offset, TopicPartition};

use super::{
    Shared, check_kept, connect, idempotent, insist, make, read_from, reader, send_together,
};
use crate::node::Node;
use crate::rng::SimRng;

const TOPIC: &str = "trimmed";

/// Where the partition begins.
#[derive(Default)]
struct Start {
    /// No earlier: the deletion was acknowledged.
    acknowledged: i64,
    /// No later: nobody asked for more to be deleted.
    asked: i64,
}

/// Produces to a topic of its own, and deletes in front of it.
pub(in crate::scenario) async fn run(env: Env, node: Node, shared: Rc<Shared>) -> Result<()> {
    let rng = SimRng::new(env.rng.next_u64(), "trimmer");
    let client = connect(&env, &shared).await;
    make(&env, &client, (TOPIC, 1), &shared).await;
    let admin = Admin::new(client.clone(), Duration::from_secs(3));
    let mut consumer = reader(client.clone());
    let producer = idempotent(client);
    let partition = TopicPartition::new(TOPIC, 0);
    let (mut acknowledged, mut start) = (BTreeMap::new(), Start::default());
    let mut number = 0;
    while shared.producing.get() > 0 {
        // Several lie in one batch: the topic may begin in the middle of it.
        let ids = (number..number + 1 + rng.below(4)).map(|it| format!("{}/{it}", node.name()));
        let ids: Vec<_> = ids.collect();
        number += ids.len() as u64;
        let stored = send_together(&producer, TOPIC, &ids).await;
        for (id, stored) in ids.into_iter().zip(stored) {
            node.fold(format_args!("sent {id}: {stored:?}"), &[]);
            if let Ok(offset) = stored {
                acknowledged.insert(offset, id);
            }
        }
        let end = acknowledged.last_key_value().map_or(0, |(last, _)| last + 1);
        if rng.chance(0.2) && end > start.asked {
            start.asked += 1 + rng.below((end - start.asked) as u64) as i64;
            if start.delete(&admin, &node, &partition).await? {
                shared.count("records-deleted", 1);
            }
        }
        if rng.chance(0.2)
            && let Ok(now) = earliest(&admin, &partition).await
        {
            start.check(now)?;
        }
        env.clock.sleep(Duration::from_millis(rng.below(500))).await;
    }
    let now = insist(&env, async || earliest(&admin, &partition).await).await;
    start.check(now)?;
    let read = read_from(&mut consumer, TOPIC, now).await?;
    ensure!(read.range(..now.0).next().is_none(), "what was deleted is read: {read:?}");
    check_kept(&acknowledged, now.0, &read)
}

/// Where the partition begins, as told to the client that deletes. It knows the epoch of the leader that acknowledged the last
/// deletion; another one would go on to ask the leader before, which may not have heard yet that it does not lead any more.
async fn earliest(admin: &Admin, partition: &TopicPartition) -> Result<Offset> {
    let queries = BTreeMap::from([(partition.clone(), OffsetQuery::Earliest)]);
    let mut answers = admin.list_offsets(&queries, false).await?;
    Ok(answers.remove(partition).context("no answer about the partition")??.offset)
}

impl Start {
    /// Deletes what was asked for; answers whether that was acknowledged.
    async fn delete(
        &mut self,
        admin: &Admin,
        node: &Node,
        partition: &TopicPartition,
    ) -> Result<bool> {
        let before = BTreeMap::from([(partition.clone(), Offset(self.asked))]);
        let answers = admin.delete_records(&before).await;
        let deleted = answers.map(|mut answers| answers.remove(partition));
        node.fold(format_args!("deleted before {}: {deleted:?}", self.asked), &[]);
        let Ok(Some(Ok(Offset(low)))) = deleted else { return Ok(false) };
        ensure!(low <= self.asked, "deleted up to {low}, of {} asked for", self.asked);
        self.acknowledged = self.acknowledged.max(low);
        Ok(true)
    }

    fn check(&self, Offset(now): Offset) -> Result<()> {
        let Self { acknowledged, asked } = self;
        ensure!(
            (*acknowledged..=*asked).contains(&now),
            "the partition begins at {now}: {acknowledged} was acknowledged, {asked} was asked for"
        );
        Ok(())
    }
}
