//! A group's commits: what was acknowledged is what is fetched, also after the group's
//! coordinator died.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ottla_client::{Admin, CommittedOffset};
use ottla_env::Env;
use ottla_protocol::{Offset, TopicPartition};

use super::{BACKOFF, Shared, TOPIC, connect, wait_for_topic};
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
pub(in crate::scenario) async fn run(env: Env, node: Node, shared: Rc<Shared>) -> Result<()> {
    let rng = SimRng::new(env.rng.next_u64(), "workload");
    wait_for_topic(&env, &shared).await;
    let admin = Admin::new(connect(&env, &shared).await, Duration::from_secs(5));
    let mut committed = Committed { acknowledged: -1, in_doubt: BTreeSet::new() };
    let mut next = 0;
    while shared.producing.get() > 0 {
        committed.in_doubt.insert(next);
        let outcome = commit(&admin, next).await;
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
            && let Ok(fetched) = fetch(&admin).await
        {
            check(&committed, fetched, &shared)?;
        }
        env.clock.sleep(Duration::from_millis(rng.below(200))).await;
    }
    loop {
        match fetch(&admin).await {
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
    let older = !shared.keeps_all() && fetched < *acknowledged;
    ensure!(known || older, "{fetched} is committed, not {acknowledged} or any of {in_doubt:?}");
    Ok(())
}

async fn commit(admin: &Admin, offset: i64) -> Result<()> {
    let partition = TopicPartition::new(TOPIC, 0);
    let offsets = BTreeMap::from([(partition.clone(), CommittedOffset::at(Offset(offset)))]);
    let mut answers = admin.alter_group_offsets(GROUP, &offsets).await?;
    Ok(answers.remove(&partition).context("no answer about the partition")??)
}

/// The committed offset; -1 if there is none.
async fn fetch(admin: &Admin) -> Result<i64> {
    let partition = TopicPartition::new(TOPIC, 0);
    let asked = std::slice::from_ref(&partition);
    let mut answers = admin.list_group_offsets(GROUP, Some(asked), false).await?;
    answers.remove(&partition).map_or(Ok(-1), |answer| Ok(answer?.offset.0))
}
