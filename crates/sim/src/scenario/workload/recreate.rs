//! A topic that is deleted and made again under its name: nothing of the old one is in the new one (KIP-516).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, ensure};
use ottla_client::{Admin, Client, ClientError};
use ottla_env::Env;
use ottla_protocol::{ErrorCode, Offset, TopicId, TopicPartition};

use super::{BACKOFF, Shared, check_kept, connect, idempotent, make, read_from, reader, send_one};
use crate::node::Node;
use crate::rng::SimRng;

const NAME: &str = "again";
/// More than it takes to read so little, while nodes fail.
const READING: Duration = Duration::from_secs(20);

/// Makes a topic, writes to it, reads it and deletes it, again and again.
pub(in crate::scenario) async fn run(env: Env, node: Node, shared: Rc<Shared>) -> Result<()> {
    let rng = SimRng::new(env.rng.next_u64(), "recreator");
    let client = connect(&env, &shared).await;
    let admin = Admin::new(client.clone(), Duration::from_secs(3));
    // One for all that the topic will be: it learns of each anew.
    let producer = idempotent(client.clone());
    let (mut round, mut gone) = (0, BTreeSet::new());
    while shared.producing.get() > 0 {
        make(&env, &client, (NAME, 1), &shared).await;
        let mut acknowledged = BTreeMap::new();
        for number in 0..1 + rng.below(10) {
            let id = format!("{round}/{number}");
            let stored = send_one(&producer, NAME, &id).await;
            node.fold(format_args!("sent {id}: {stored:?}"), &[]);
            if let Ok(offset) = stored {
                acknowledged.insert(offset, id);
            }
            env.clock.sleep(Duration::from_millis(rng.below(300))).await;
        }
        let read = loop {
            let id = topic_id(&client).await;
            let is_there = id.is_some_and(|id| !gone.contains(&id));
            // Anew each time, as it knows where nothing is.
            let mut reader = reader(client.clone());
            let reading = Box::pin(read_from(&mut reader, NAME, Offset(0)));
            match env.timeout(READING, reading).await {
                Ok(Ok(read)) if is_there && id == topic_id(&client).await => break read,
                // A broker that lags behind may still have one that was deleted, and what was in it; or had it only as long
                // as it was asked for the end, and the one that there is ends before.
                Ok(Ok(_)) | Err(_) => client.forget_topic(NAME),
                Ok(Err(error)) => node.fold(format_args!("could not read: {error}"), &[]),
            }
            env.clock.sleep(BACKOFF).await;
        };
        let old = read.values().find(|id| !id.starts_with(&format!("{round}/")));
        ensure!(old.is_none(), "{old:?} is in {NAME}, which was made again for round {round}");
        check_kept(&acknowledged, 0, &read)?;
        round += 1;
        delete(&env, &admin, &mut gone).await;
        shared.count("topics-recreated", 1);
    }
    Ok(())
}

/// Of the topic that the client takes for the one of this name.
async fn topic_id(client: &Client) -> Option<TopicId> {
    // Asks if need be.
    client.leader(&TopicPartition::new(NAME, 0)).await.ok()?;
    Some(client.metadata().topics.get(NAME)?.topic_id)
}

/// Deletes a topic, however long it takes: by its id, since a request that was not answered may be done late, when there is
/// another of its name. `gone` are those before: a broker that lags behind still names them.
async fn delete(env: &Env, admin: &Admin, gone: &mut BTreeSet<TopicId>) {
    let id = loop {
        match admin.describe_topics(&[NAME]).await.map(|mut answers| answers.remove(NAME)) {
            Ok(Some(Ok(topic))) if gone.insert(topic.topic_id) => break topic.topic_id,
            _ => env.clock.sleep(BACKOFF).await,
        }
    };
    loop {
        match admin.delete_topics_by_id(&[id]).await.map(|mut answers| answers.remove(&id)) {
            Ok(Some(Ok(()))) => return,
            Ok(Some(Err(ClientError::Refused { code: ErrorCode::UnknownTopicId, .. }))) => return,
            _ => env.clock.sleep(BACKOFF).await,
        }
    }
}
