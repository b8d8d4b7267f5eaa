//! A group's commits: what was acknowledged is what is fetched, also after the group's
//! coordinator died.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use ottla_client::Client;
use ottla_env::Env;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::{FindCoordinatorRequest, OffsetCommitRequest, OffsetFetchRequest};
use ottla_protocol::{ErrorCode, StrBytes, TopicId, message};

use super::{BACKOFF, Shared, TOPIC, connect};
use crate::checker::Promise;
use crate::node::Node;
use crate::rng::SimRng;

const GROUP: &str = "g";

/// What may be committed.
struct Committed {
    acknowledged: i64,
    /// Of which no answer came.
    in_doubt: BTreeSet<i64>,
}

/// Commits one offset after the other while the producers work, and fetches them in between.
pub(super) async fn run(env: Env, node: Node, shared: Rc<Shared>) -> Result<()> {
    let rng = SimRng::new(env.rng.next_u64(), "workload");
    let client = connect(&env).await;
    while !shared.topic_made.get() {
        env.clock.sleep(BACKOFF).await;
    }
    let topic_id = topic_id(&env, &client).await;
    let mut committed = Committed { acknowledged: -1, in_doubt: BTreeSet::new() };
    let mut next = 0;
    while shared.producing.get() > 0 {
        committed.in_doubt.insert(next);
        let outcome = commit(&client, topic_id, next).await;
        let error = outcome.as_ref().err().map(|error| format!("{error:#}"));
        node.fold(format_args!("committed {next} {error:?}"), &[]);
        match outcome {
            Ok(()) => {
                committed.in_doubt.remove(&next);
                committed.acknowledged = next;
            }
            Err(_) => env.clock.sleep(BACKOFF).await,
        }
        next += 1;
        if rng.chance(0.2)
            && let Ok(fetched) = fetch(&client, topic_id).await
        {
            check(&committed, fetched, &shared)?;
        }
        env.clock.sleep(Duration::from_millis(rng.below(200))).await;
    }
    loop {
        match fetch(&client, topic_id).await {
            Ok(fetched) => return check(&committed, fetched, &shared),
            Err(error) => {
                node.fold(format_args!("fetched nothing: {error:#}"), &[]);
                env.clock.sleep(BACKOFF).await;
            }
        }
    }
}

fn check(committed: &Committed, fetched: i64, shared: &Shared) -> Result<()> {
    let Committed { acknowledged, in_doubt } = committed;
    let known = fetched == *acknowledged || in_doubt.contains(&fetched);
    // An end of the offsets topic may be lost with the power.
    let older = shared.plan.promise() == Promise::KeepsPrefix && fetched < *acknowledged;
    ensure!(known || older, "{fetched} is committed, not {acknowledged} or any of {in_doubt:?}");
    Ok(())
}

async fn topic_id(env: &Env, client: &Client) -> TopicId {
    loop {
        if let Ok(metadata) = client.refresh_metadata(&[TOPIC]).await
            && let Some(topic) = metadata.topics.get(TOPIC)
            && topic.error_code.is_none()
        {
            return topic.topic_id;
        }
        env.clock.sleep(BACKOFF).await;
    }
}

/// Has the offsets topic made, if it is not there. One broker: it is every group's coordinator.
async fn find_coordinator(client: &Client) -> Result<()> {
    let coordinator_keys = vec![StrBytes::from(GROUP)];
    let request = message!(FindCoordinatorRequest { coordinator_keys: coordinator_keys });
    let response = client.any_broker().await?.call(&request).await?;
    let codes = response.coordinators.iter().map(|coordinator| coordinator.error_code);
    for code in codes.chain([response.error_code]) {
        ok(code)?;
    }
    Ok(())
}

async fn commit(client: &Client, topic_id: TopicId, offset: i64) -> Result<()> {
    let partition = message!(OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        committed_leader_epoch: -1,
    });
    let topic = message!(OffsetCommitRequestTopic {
        name: StrBytes::from(TOPIC),
        topic_id: topic_id,
        partitions: vec![partition],
    });
    let request = message!(OffsetCommitRequest {
        group_id: StrBytes::from(GROUP),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
    });
    let response = client.any_broker().await?.call(&request).await?;
    let row = response.topics.first().and_then(|topic| topic.partitions.first());
    let outcome = ok(row.context("no answer about the partition")?.error_code);
    if outcome.is_err() {
        find_coordinator(client).await?;
    }
    outcome
}

/// The committed offset; -1 if there is none.
async fn fetch(client: &Client, topic_id: TopicId) -> Result<i64> {
    let topic = message!(OffsetFetchRequestTopics {
        name: StrBytes::from(TOPIC),
        topic_id: topic_id,
        partition_indexes: vec![0],
    });
    let group = message!(OffsetFetchRequestGroup {
        group_id: StrBytes::from(GROUP),
        topics: Some(vec![topic]),
    });
    let request = message!(OffsetFetchRequest { groups: vec![group] });
    let response = client.any_broker().await?.call(&request).await?;
    let group = response.groups.first().context("no answer about the group")?;
    ok(group.error_code)?;
    let row = group.topics.first().and_then(|topic| topic.partitions.first());
    let row = row.context("no answer about the partition")?;
    ok(row.error_code)?;
    Ok(row.committed_offset)
}

fn ok(code: i16) -> Result<()> {
    ErrorCode::from_wire(code).ok().map_err(|error| anyhow!("{}", error.name()))
}
