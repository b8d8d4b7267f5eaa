//! `ottla cluster health`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use ottla_client::{
    ClientError, ConfigResource, ConfigResourceType, LogDirDescription, QuorumDescription,
    TopicDescription,
};
use ottla_protocol::{BrokerId, Timestamp};
use serde_json::{Value, json};

use super::super::output::Format;
use super::super::session::{Session, explained};
use super::super::text;
use crate::failure::Failure;

const RESERVE: &str = "log.dir.reserved.bytes";

/// A voter that the active controller has not heard for so long is not there: six heartbeats.
const SILENCE: &str = "controller.quorum.fetch.timeout.ms";

/// What [`SILENCE`] is where no broker tells it, in milliseconds.
const DEFAULT_SILENCE: i64 = 2000;

/// Some heartbeats: who leads since a moment has not heard from all.
const MOMENT: Duration = Duration::from_millis(700);

/// Something that was looked at: what, what of it is not well, and what helps.
struct Check {
    name: &'static str,
    problems: Vec<String>,
    next: &'static str,
}

pub(super) async fn run(session: &Session, format: Format) -> Result<()> {
    let checks = checks(session).await?;
    let rows: Vec<Value> = checks
        .iter()
        .map(|check| {
            let healthy = check.problems.is_empty();
            json!({ "check": check.name, "healthy": healthy, "problems": check.problems })
        })
        .collect();
    format.rows(&[("CHECK", "check"), ("HEALTHY", "healthy"), ("PROBLEMS", "problems")], &rows)?;
    let count: usize = checks.iter().map(|check| check.problems.len()).sum();
    let Some(first) = checks.iter().find(|check| !check.problems.is_empty()) else {
        return Ok(());
    };
    Err(Failure {
        what: format!("the cluster has {}", text::count(count as u64, "problem", "problems")),
        why: "see the list above".to_owned(),
        next: first.next.to_owned(),
    }
    .into())
}

async fn checks(session: &Session) -> Result<Vec<Check>> {
    let cluster = session.admin.describe_cluster(true).await.map_err(explained)?;
    let topics = session.admin.describe_all_topics().await.map_err(explained)?;
    let min_isr = min_in_sync_replicas(session, &topics).await?;
    let fenced = cluster.brokers.iter().filter(|node| node.is_fenced);
    let mut away: Vec<_> = fenced.map(|node| format!("broker {} is fenced", node.id)).collect();
    let alive = cluster.brokers.iter().filter(|node| !node.is_fenced).map(|node| node.id);
    let asked = session.ask_each(alive, async |id| dirs_and_limits(session, id).await);
    let (mut dirs, mut full, mut silence) = (Vec::new(), Vec::new(), DEFAULT_SILENCE);
    for (id, answer) in asked.await {
        match answer {
            Ok((answers, limits)) => {
                let limit = |key| limits.get(key).copied();
                let reserve = limit(RESERVE).unwrap_or(0);
                silence = silence.max(limit(SILENCE).unwrap_or(0));
                for (dir, answer) in answers {
                    match answer {
                        Ok(answer) => full.extend(
                            fullness(&answer, reserve)
                                .map(|how| format!("{dir} of broker {id}: {how}")),
                        ),
                        Err(error) => dirs.push(format!("{dir} of broker {id}: {error}")),
                    }
                }
            }
            // Perhaps the controller does not know yet, or there is none to know.
            Err(why) => away.push(format!("broker {id} does not answer: {why}")),
        }
    }
    let mut checks = vec![
        Check {
            name: "voters of the metadata quorum",
            problems: quorum_problems(session, silence).await,
            next: "start the controllers that are not there, and look into their logs; without a \
                   majority of the voters nothing is decided",
        },
        Check {
            name: "brokers alive",
            problems: away,
            next: "start the brokers that are not there, and look into their logs",
        },
    ];
    checks.extend(partition_checks(&topics, &min_isr));
    checks.push(Check {
        name: "log directories online",
        problems: dirs,
        next: "put the disk right or take it out of log.dirs, and start the broker again; its log \
               says what the disk answered",
    });
    checks.push(Check {
        name: "log directories with room",
        problems: full,
        next: "delete records or topics, make room, or move partitions: ottla partition move-log, \
               ottla cluster rebalance",
    });
    Ok(checks)
}

type Dirs = BTreeMap<String, Result<LogDirDescription, ClientError>>;

/// The log directories of a broker, and those of its limits that it tells.
async fn dirs_and_limits(
    session: &Session,
    id: BrokerId,
) -> Result<(Dirs, BTreeMap<String, i64>), ClientError> {
    let dirs = session.admin.describe_log_dirs(id, None).await?;
    let resource = ConfigResource::new(ConfigResourceType::Broker, id.to_string());
    let keys = [RESERVE, SILENCE];
    let answers = session.admin.describe_configs(&[resource], Some(&keys), false).await;
    let entries = answers.into_iter().flat_map(BTreeMap::into_values).filter_map(Result::ok);
    let limits = entries.flatten().filter_map(|it| Some((it.name, it.value?.parse().ok()?)));
    Ok((dirs, limits.collect()))
}

/// How full a directory is that takes no records any more.
fn fullness(dir: &LogDirDescription, reserve: i64) -> Option<String> {
    let free = dir.usable_bytes.filter(|free| *free <= reserve)?;
    let [free, kept] = [free, reserve].map(|bytes| text::size(u64::try_from(bytes).unwrap_or(0)));
    Some(match reserve {
        0 => "nothing is free".to_owned(),
        _ => format!("{free} are free, and {RESERVE} keeps {kept}"),
    })
}

/// What is wrong with the quorum. Looks twice before it says so.
async fn quorum_problems(session: &Session, silence: i64) -> Vec<String> {
    let ask = async || match session.admin.describe_quorum().await {
        // Kafka with ZooKeeper.
        Err(ClientError::NoCommonVersion { .. }) => Ok(Vec::new()),
        quorum => quorum.map(|quorum| voter_problems(&quorum, silence)),
    };
    let mut looks = 0;
    loop {
        looks += 1;
        match session.soon(ask()).await {
            Ok(problems) if problems.is_empty() || looks > 1 => return problems,
            Ok(_) => session.env.clock.sleep(MOMENT).await,
            Err(why) => return vec![format!("no active controller answers: {why}")],
        }
    }
}

/// Voters that do not follow. All times are the active controller's, so its clock may be wrong.
fn voter_problems(quorum: &QuorumDescription, silence: i64) -> Vec<String> {
    let Some(leader) = quorum.voters.iter().find(|voter| voter.id == quorum.leader) else {
        return vec!["none of them leads".to_owned()];
    };
    let now = leader.last_fetch;
    if now == Timestamp::NONE {
        // Kafka before 3.3 (KIP-836) tells no times.
        return Vec::new();
    }
    let others = quorum.voters.iter().filter(|voter| voter.id != quorum.leader);
    let problems = others.filter_map(|voter| {
        let since = |then: Timestamp| now.0.saturating_sub(then.0);
        let seconds = |then| text::count(since(then).unsigned_abs() / 1000, "second", "seconds");
        let is_behind = voter.log_end_offset < leader.log_end_offset;
        let (heard, level) = (voter.last_fetch, voter.last_caught_up);
        let how = match () {
            () if heard == Timestamp::NONE => "has not been heard".to_owned(),
            () if since(heard) > silence => format!("was last heard {} ago", seconds(heard)),
            () if is_behind && level == Timestamp::NONE => "has not caught up".to_owned(),
            () if is_behind && since(level) > silence => format!("is {} behind", seconds(level)),
            () => return None,
        };
        Some(format!("voter {} {how}", voter.id))
    });
    problems.collect()
}

/// `min.insync.replicas` of each topic, as far as it is known.
async fn min_in_sync_replicas(
    session: &Session,
    topics: &BTreeMap<String, TopicDescription>,
) -> Result<BTreeMap<String, usize>> {
    let resource = |name: &String| ConfigResource::new(ConfigResourceType::Topic, name);
    let resources: Vec<ConfigResource> = topics.keys().map(resource).collect();
    if resources.is_empty() {
        return Ok(BTreeMap::new());
    }
    let keys = ["min.insync.replicas"];
    let answers = session.admin.describe_configs(&resources, Some(&keys), false).await;
    let values = answers.map_err(explained)?.into_iter().filter_map(|(resource, answer)| {
        // A topic that was deleted meanwhile is nobody's problem.
        let value = answer.ok()?.into_iter().next()?.value?;
        Some((resource.name, value.parse().ok()?))
    });
    Ok(values.collect())
}

fn partition_checks(
    topics: &BTreeMap<String, TopicDescription>,
    min_isr: &BTreeMap<String, usize>,
) -> [Check; 4] {
    let [mut leaderless, mut behind, mut under, mut at] = [const { Vec::new() }; 4];
    for (name, topic) in topics {
        let min = min_isr.get(name).copied().unwrap_or(1);
        for (number, partition) in &topic.partitions {
            let (in_sync, all) = (partition.isr.len(), partition.replicas.len());
            // No partition needs more than it has (KIP-966).
            let min = min.min(all);
            if partition.leader.is_none() {
                leaderless.push(format!("{name}-{number}"));
            }
            if in_sync < all {
                behind.push(format!("{name}-{number}: {in_sync} of {all}"));
            }
            if in_sync < min {
                under.push(format!("{name}-{number}: {in_sync} of at least {min}"));
            } else if in_sync == min && in_sync < all {
                at.push(format!("{name}-{number}: {in_sync} of at least {min}"));
            }
        }
    }
    let next = "start the brokers that are missing, and look into their logs";
    [
        Check { name: "partitions with a leader", problems: leaderless, next },
        Check { name: "partitions with min.insync.replicas", problems: under, next },
        Check { name: "replicas in sync", problems: behind, next },
        // As many as there have to be is well where there are no more replicas.
        Check { name: "replicas that may be lost", problems: at, next },
    ]
}

#[cfg(test)]
mod tests {
    use ottla_client::{PartitionMetadata, QuorumReplica};
    use ottla_protocol::{LeaderEpoch, Offset, TopicId};

    use super::*;

    #[test]
    fn partitions_are_checked_against_their_replicas_and_the_least_in_sync() {
        let partition = |isr: &[i32]| {
            let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
            PartitionMetadata {
                leader: isr.first().copied().map(BrokerId),
                leader_epoch: LeaderEpoch(0),
                replicas: ids(&[1, 2, 3]),
                isr: ids(isr),
            }
        };
        let partitions = [&[1, 2, 3][..], &[1, 2], &[1], &[]].map(partition);
        let partitions = (0..).zip(partitions).collect();
        let topic =
            TopicDescription { topic_id: TopicId::default(), is_internal: false, partitions };
        let topics = BTreeMap::from([("t".to_owned(), topic)]);
        let checks = partition_checks(&topics, &BTreeMap::from([("t".to_owned(), 2)]));
        let problems = checks.map(|check| check.problems.join(", "));
        let wanted = [
            "t-3",
            "t-2: 1 of at least 2, t-3: 0 of at least 2",
            "t-1: 2 of 3, t-2: 1 of 3, t-3: 0 of 3",
            "t-1: 2 of at least 2",
        ];
        assert_eq!(problems, wanted);
    }

    #[test]
    fn a_voter_that_is_silent_or_behind_is_told_by_the_controllers_clock() {
        let voter = |id, last_fetch, last_caught_up| QuorumReplica {
            id: BrokerId(id),
            directory_id: TopicId::default(),
            log_end_offset: Offset(if last_fetch == last_caught_up { 7 } else { 6 }),
            last_fetch: Timestamp(last_fetch),
            last_caught_up: Timestamp(last_caught_up),
        };
        let quorum = |voters| QuorumDescription {
            leader: BrokerId(1),
            leader_epoch: LeaderEpoch(3),
            high_watermark: Offset(7),
            voters,
            observers: Vec::new(),
            nodes: BTreeMap::new(),
        };
        let leads = voter(1, 100_000, 100_000);
        let well = quorum(vec![leads.clone(), voter(2, 99_000, 98_000), voter(3, 98_000, 98_000)]);
        assert!(voter_problems(&well, 2000).is_empty());
        let others = [
            voter(2, 94_000, 94_000),
            voter(3, -1, -1),
            voter(4, 99_500, 30_000),
            voter(5, 99_500, -1),
        ];
        let ill = quorum([&[leads][..], &others].concat());
        let wanted = [
            "voter 2 was last heard 6 seconds ago",
            "voter 3 has not been heard",
            "voter 4 is 70 seconds behind",
            "voter 5 has not caught up",
        ];
        assert_eq!(voter_problems(&ill, 2000), wanted);
        assert_eq!(voter_problems(&quorum(others.to_vec()), 2000), ["none of them leads"]);
        let untold = quorum(vec![voter(1, -1, -1), voter(2, -1, -1)]);
        assert!(voter_problems(&untold, 2000).is_empty());
    }

    #[test]
    fn a_directory_is_full_when_less_is_free_than_is_kept() {
        let dir = |usable_bytes| LogDirDescription {
            total_bytes: Some(1 << 30),
            usable_bytes,
            replicas: BTreeMap::new(),
        };
        assert_eq!(fullness(&dir(Some(65 << 20)), 64 << 20), None);
        assert_eq!(fullness(&dir(None), 64 << 20), None);
        let full = fullness(&dir(Some(1 << 20)), 64 << 20);
        assert_eq!(full.unwrap(), "1.0 MiB are free, and log.dir.reserved.bytes keeps 64.0 MiB");
        assert_eq!(fullness(&dir(Some(0)), 0).unwrap(), "nothing is free");
    }
}
