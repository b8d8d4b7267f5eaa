//! Replicas that move from one directory of a broker to another.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use ottla_client::Admin;
use ottla_env::Env;
use ottla_protocol::{BrokerId, TopicPartition};

use super::plan::Plan;
use super::{failed, plural};
use crate::scripts::options::Options;
use crate::scripts::{Outcome, Stop, joined, say};

/// Between two tries to begin a move.
const BACKOFF: Duration = Duration::from_millis(100);
const TIMEOUT_MS: u64 = 10_000;

/// Replicas and directories.
type Targets = BTreeMap<(TopicPartition, BrokerId), String>;

/// Where a replica is, and where it is on its way to.
#[derive(Default)]
pub(super) struct Dirs {
    pub(super) current: Option<String>,
    pub(super) future: Option<String>,
}

/// Where replicas are.
pub(super) async fn dirs(
    admin: &Admin,
    wanted: &BTreeSet<(TopicPartition, BrokerId)>,
) -> Outcome<BTreeMap<(TopicPartition, BrokerId), Dirs>> {
    let brokers: BTreeSet<BrokerId> = wanted.iter().map(|(_, broker)| *broker).collect();
    let mut found: BTreeMap<(TopicPartition, BrokerId), Dirs> = BTreeMap::new();
    for broker in brokers {
        let described = admin.describe_log_dirs(broker, None).await.map_err(failed)?;
        for (path, dir) in described {
            let Ok(dir) = dir else { continue };
            for (partition, replica) in dir.replicas {
                let key = (partition, broker);
                if wanted.contains(&key) {
                    let dirs = found.entry(key).or_default();
                    let place =
                        if replica.is_future { &mut dirs.future } else { &mut dirs.current };
                    *place = Some(path.clone());
                }
            }
        }
    }
    Ok(found)
}

/// Says how far moves are, and answers whether one is under way.
pub(super) async fn say_states(admin: &Admin, targets: &Targets) -> Outcome<bool> {
    let now = dirs(admin, &targets.keys().cloned().collect()).await?;
    let mut moving = false;
    let mut rows: Vec<_> = targets.iter().collect();
    rows.sort_by_key(|((partition, broker), _)| (*broker, partition.clone()));
    let mut lines = Vec::new();
    for ((partition, broker), target) in rows {
        let replica = format!("{partition}-{broker}");
        let place = format!("Partition {partition} on broker {broker}");
        let dirs = now.get(&(partition.clone(), *broker));
        let current = dirs.and_then(|dirs| dirs.current.as_ref());
        let future = dirs.and_then(|dirs| dirs.future.as_ref());
        lines.push(match (current, future) {
            (None, _) => format!(
                "Partition {partition} is not found in any live log dir on broker {broker}. There is likely an offline log directory on the broker."
            ),
            (Some(_), Some(future)) => {
                moving = true;
                if future == target {
                    format!("Reassignment of replica {replica} is still in progress.")
                } else {
                    format!("{place} is being moved to log dir {future} instead of {target}.")
                }
            }
            (Some(current), None) if current == target => {
                format!("Reassignment of replica {replica} completed successfully.")
            }
            (Some(current), None) => {
                format!("{place} is not being moved from log dir {current} to {target}.")
            }
        });
    }
    say(lines.join("\n"))?;
    Ok(moving)
}

/// Begins moves; those of replicas that are not there yet, when they are.
pub(super) async fn begin(
    env: &Env,
    admin: &Admin,
    options: &Options,
    mut pending: Targets,
) -> Outcome {
    let patience = Duration::from_millis(options.number("timeout")?.unwrap_or(TIMEOUT_MS));
    let start = env.clock.now();
    while !pending.is_empty() {
        let brokers: BTreeSet<BrokerId> = pending.keys().map(|(_, broker)| *broker).collect();
        for broker in brokers {
            let of_broker = pending.iter().filter(|((_, id), _)| *id == broker);
            let moves = of_broker.map(|((it, _), dir)| (it.clone(), dir.clone())).collect();
            let answers = admin.alter_replica_log_dirs(broker, &moves).await.map_err(failed)?;
            for (partition, answer) in answers {
                let Err(error) = answer else {
                    let Some(dir) = pending.remove(&(partition.clone(), broker)) else { continue };
                    say(format!(
                        "Successfully started moving log directory to {dir} for replica {partition} with broker {broker} "
                    ))?;
                    continue;
                };
                if !error.is_retriable() {
                    let replica = format!("{partition}-{broker}");
                    return Err(super::error(format!("Failed to alter dir for {replica}")));
                }
            }
        }
        if !pending.is_empty() && env.clock.now().since(start) >= patience {
            let replicas = pending.keys().map(|(it, broker)| format!("{it}-{broker}"));
            return Err(Stop::failed(format!(
                "Timed out before log directory move{} could be started for: {}",
                plural(pending.len()),
                joined(replicas)
            )));
        }
        if !pending.is_empty() {
            env.clock.sleep(BACKOFF).await;
        }
    }
    Ok(())
}

/// Ends moves that are under way: their replicas are to be where they are.
pub(super) async fn cancel(env: &Env, admin: &Admin, options: &Options, plan: &Plan) -> Outcome {
    let now = dirs(admin, &plan.dirs.keys().cloned().collect()).await?;
    let back: Targets = now
        .into_iter()
        .filter_map(|(replica, dirs)| dirs.future.and(dirs.current).map(|dir| (replica, dir)))
        .collect();
    if !back.is_empty() {
        return begin(env, admin, options, back).await;
    }
    // Kafka's script does not end this line.
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(b"None of the specified partition moves are active.")?;
    Ok(stdout.flush()?)
}
