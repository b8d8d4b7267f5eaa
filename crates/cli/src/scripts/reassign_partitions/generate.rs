//! `--generate`: where partitions could be, so that they are spread evenly over some brokers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ottla_client::Admin;
use ottla_env::Env;
use ottla_metadata::placement::{PlacementSpec, Start, UsableBroker, place};
use ottla_protocol::{BrokerId, TopicPartition};
use serde_json::Value;

use super::{as_json, described, error, failed, layout};
use crate::scripts::json_file::check_version;
use crate::scripts::options::Options;
use crate::scripts::{Outcome, say};

/// Prints where partitions are, and where they could be. Kafka's placement of replicas (KIP-36)
/// begins anywhere.
pub(super) async fn run(env: &Env, admin: &Admin, options: &Options) -> Outcome {
    let file = options.value("topics-to-move-json-file")?.unwrap_or_default();
    let text = env.disk.read(Path::new(file))?;
    let wanted = brokers(options.value("broker-list")?.unwrap_or_default())?;
    let topics = topics(&text)?;
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let mut now = BTreeMap::new();
    for (topic, description) in described(admin, &names).await? {
        for (partition, found) in description.partitions {
            now.insert(TopicPartition::new(&*topic, partition), found.replicas);
        }
    }
    let rack_aware = !options.has("disable-rack-aware");
    let alive = admin.describe_cluster(false).await.map_err(failed)?.brokers;
    let usable = alive.into_iter().filter(|broker| wanted.contains(&broker.id)).map(|broker| {
        let rack = broker.rack.filter(|_| rack_aware).map(Into::into);
        UsableBroker { id: broker.id, rack }
    });
    let usable: Vec<UsableBroker> = usable.collect();
    let with_rack = usable.iter().filter(|broker| broker.rack.is_some()).count();
    if with_rack > 0 && with_rack < usable.len() {
        return Err(error(
            "Not all brokers have rack information. Add --disable-rack-aware in command line to make replica assignment without rack information.",
        ));
    }
    let proposed = propose(env, &now, &usable)?;
    let current = as_json(admin, &now).await?;
    say(format!("Current partition replica assignment\n{current}\n"))?;
    let proposed = layout(&proposed, &BTreeMap::new());
    say(format!("Proposed partition reassignment configuration\n{proposed}"))
}

fn brokers(list: &str) -> Outcome<Vec<BrokerId>> {
    let ids = list.split(',').map(|id| {
        let id_of = id.parse().map(BrokerId);
        id_of.map_err(|_no_number| error(format!("For input string: \"{id}\"")))
    });
    let ids: Vec<BrokerId> = ids.collect::<Outcome<_>>()?;
    match twice(&ids) {
        None => Ok(ids),
        Some(ids) => Err(error(format!("Broker list contains duplicate entries: [{ids}]"))),
    }
}

/// The topics of `--topics-to-move-json-file`.
fn topics(text: &[u8]) -> Outcome<Vec<String>> {
    let json: Value = serde_json::from_slice(text).map_err(error)?;
    check_version(&json).map_err(error)?;
    let rows = json.get("topics").and_then(Value::as_array).into_iter().flatten();
    let names = rows.map(|row| {
        let name = row.get("topic").and_then(Value::as_str).map(ToOwned::to_owned);
        name.ok_or_else(|| error(format!("{row} needs the field topic")))
    });
    let names: Vec<String> = names.collect::<Outcome<_>>()?;
    match twice(&names) {
        None => Ok(names),
        Some(names) => {
            Err(error(format!("List of topics to reassign contains duplicate entries: [{names}]")))
        }
    }
}

/// Those that are there twice.
fn twice<T: Ord + ToString>(items: &[T]) -> Option<String> {
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<&T> = items.iter().filter(|item| !seen.insert(*item)).collect();
    let names = twice.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Some(names).filter(|names| !names.is_empty())
}

fn propose(
    env: &Env,
    now: &BTreeMap<TopicPartition, Vec<BrokerId>>,
    usable: &[UsableBroker],
) -> Outcome<BTreeMap<TopicPartition, Vec<BrokerId>>> {
    let mut by_topic: BTreeMap<&str, Vec<&Vec<BrokerId>>> = BTreeMap::new();
    for (partition, replicas) in now {
        by_topic.entry(&partition.topic).or_default().push(replicas);
    }
    let mut proposed = BTreeMap::new();
    for (topic, partitions) in by_topic {
        let spec = PlacementSpec {
            first_partition: 0,
            partitions: partitions.len(),
            replication_factor: partitions.first().map_or(0, |replicas| replicas.len()),
        };
        let start = Start::random(usable.len(), &mut || env.rng.next_u64());
        let placed = place(usable, spec, start).map_err(|why| {
            error(match why.brokers {
                0 => "All brokers are currently fenced, or have all their log directories cordoned."
                    .to_owned(),
                brokers => format!(
                    "The target replication factor of {} cannot be reached because only {brokers} broker(s) are registered.",
                    why.factor
                ),
            })
        })?;
        let placed = (0..).zip(placed);
        proposed.extend(placed.map(|(it, replicas)| (TopicPartition::new(topic, it), replicas)));
    }
    Ok(proposed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_and_topics_are_named_once() {
        let said = |outcome: Outcome<Vec<BrokerId>>| outcome.map_err(|stop| stop.said).err();
        assert!(brokers("1,2").is_ok_and(|ids| ids == [BrokerId(1), BrokerId(2)]));
        assert_eq!(said(brokers("1,x")).as_deref(), Some("Error: For input string: \"x\""));
        let twice = "Error: Broker list contains duplicate entries: [2]";
        assert_eq!(said(brokers("2,1,2,2")).as_deref(), Some(twice));
        assert!(topics(br#"{"topics": [{"topic": "a"}, {"topic": "b"}]}"#).is_ok());
        assert!(topics(br#"{"topics": [{"topic": "a"}, {"topic": "a"}]}"#).is_err());
        assert!(topics(br#"{"topics": [{"name": "a"}]}"#).is_err());
    }
}
