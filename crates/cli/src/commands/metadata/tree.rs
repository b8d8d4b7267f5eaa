//! The tree as a value: paths and what is there.

use std::collections::{BTreeMap, BTreeSet};

use ottla_client::{
    ClusterDescription, ConfigEntry, ConfigResource, ConfigResourceType, ConfigSource,
    PartitionMetadata, Reassignment, TopicDescription,
};
use ottla_protocol::{BrokerId, TopicPartition, format_uuid};
use serde_json::{Map, Value, json};

/// What the tree is made of.
pub(super) struct Parts {
    pub(super) cluster: ClusterDescription,
    pub(super) topics: BTreeMap<String, TopicDescription>,
    pub(super) configs: BTreeMap<ConfigResource, Vec<ConfigEntry>>,
    /// Brokers whose configuration is not known, and why.
    pub(super) unknown: BTreeMap<BrokerId, String>,
    pub(super) reassignments: BTreeMap<TopicPartition, Reassignment>,
    pub(super) epoch: Option<i32>,
}

/// Nodes with a value, by path; the nodes between them have none.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tree(BTreeMap<String, Value>);

/// A difference between two trees.
pub(super) struct Change<'a> {
    pub(super) path: &'a str,
    pub(super) kind: &'static str,
    pub(super) value: Option<&'a Value>,
}

/// A path with one slash in front and none behind.
pub(super) fn normalized(path: &str) -> String {
    format!("/{}", path.trim_matches('/'))
}

impl Tree {
    pub(super) fn of(parts: &Parts) -> Self {
        let mut tree = Self::default();
        tree.add_cluster(parts);
        tree.add_topics(parts);
        tree.add_configs(parts);
        let moves: Vec<Value> = parts
            .reassignments
            .iter()
            .map(|(it, target)| {
                let removing = &target.removing;
                let stays = target.replicas.iter().filter(|id| !removing.contains(id));
                let replicas: Vec<i32> = stays.map(|id| id.0).collect();
                json!({ "topic": &*it.topic, "partition": it.partition, "replicas": replicas })
            })
            .collect();
        let moves = json!({ "version": 1, "partitions": moves });
        tree.set("/admin/reassign_partitions", moves);
        // Nothing waits in these: the controller does at once what they were queues for.
        for queue in ["/admin/delete_topics", "/isr_change_notification"] {
            tree.set(queue, Value::Null);
        }
        tree.set("/preferred_replica_election", json!({ "version": 1, "partitions": [] }));
        tree
    }

    fn set(&mut self, path: impl Into<String>, value: Value) {
        self.0.insert(path.into(), value);
    }

    fn add_cluster(&mut self, parts: &Parts) {
        let cluster = &parts.cluster;
        self.set("/cluster/id", json!({ "version": "1", "id": cluster.cluster_id }));
        if let Some(id) = cluster.controller {
            self.set("/controller", json!({ "version": 1, "brokerid": id.0 }));
        }
        if let Some(epoch) = parts.epoch {
            self.set("/controller_epoch", json!(epoch));
        }
        for node in cluster.brokers.iter().filter(|node| !node.is_fenced) {
            let endpoint = format!("PLAINTEXT://{}:{}", node.host, node.port);
            let value = json!({
                "version": 5, "host": node.host, "port": node.port, "rack": node.rack,
                "endpoints": [endpoint],
            });
            self.set(format!("/brokers/ids/{}", node.id), value);
        }
    }

    fn add_topics(&mut self, parts: &Parts) {
        self.set("/brokers/topics", Value::Null);
        let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<i32>>();
        for (name, topic) in &parts.topics {
            let replicas: Map<String, Value> = topic
                .partitions
                .iter()
                .map(|(number, it)| (number.to_string(), json!(ids(&it.replicas))))
                .collect();
            let value = json!({
                "version": 3, "topic_id": format_uuid(topic.topic_id), "partitions": replicas,
            });
            self.set(format!("/brokers/topics/{name}"), value);
            for (number, it) in &topic.partitions {
                let state = json!({
                    "version": 1, "leader": it.leader.map_or(-1, |id| id.0),
                    "leader_epoch": it.leader_epoch.0, "isr": ids(&it.isr),
                    "controller_epoch": parts.epoch, "state": partition_state(it),
                });
                self.set(format!("/brokers/topics/{name}/partitions/{number}/state"), state);
            }
        }
    }

    fn add_configs(&mut self, parts: &Parts) {
        for (resource, entries) in &parts.configs {
            let (path, source) = match (resource.kind, resource.name.as_str()) {
                (ConfigResourceType::Topic, name) => {
                    (format!("/config/topics/{name}"), ConfigSource::Topic)
                }
                (_, "") => {
                    ("/config/brokers/<default>".to_owned(), ConfigSource::DynamicDefaultBroker)
                }
                (_, id) => (format!("/config/brokers/{id}"), ConfigSource::DynamicBroker),
            };
            let set = entries.iter().filter(|entry| entry.source == source);
            let config: Map<String, Value> =
                set.map(|entry| (entry.name.clone(), json!(entry.value))).collect();
            self.set(path, json!({ "version": 1, "config": config }));
        }
        for (id, why) in &parts.unknown {
            let value = json!({ "version": 1, "config": null, "unknown": why });
            self.set(format!("/config/brokers/{id}"), value);
        }
    }

    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        self.0.get(path).filter(|value| !value.is_null())
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        path == "/" || self.0.contains_key(path) || self.nodes_below(path).next().is_some()
    }

    /// The paths with a value behind `path/`.
    fn nodes_below(&self, path: &str) -> impl Iterator<Item = &str> {
        let prefix = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        self.0.keys().filter(move |it| it.starts_with(&prefix)).map(String::as_str)
    }

    /// The names right below a path.
    pub(super) fn children(&self, path: &str) -> Vec<String> {
        let skip = if path == "/" { 1 } else { path.len() + 1 };
        let names = self.nodes_below(path).map(|it| &it[skip..]);
        let names: BTreeSet<&str> =
            names.map(|rest| rest.split('/').next().unwrap_or(rest)).collect();
        names.into_iter().map(str::to_owned).collect()
    }

    /// Every path with a value below a path.
    pub(super) fn below(&self, path: &str) -> Vec<String> {
        self.nodes_below(path).map(str::to_owned).collect()
    }

    /// What is different in `now`, at `path` and below.
    pub(super) fn changes_to<'a>(&'a self, now: &'a Self, path: &str) -> Vec<Change<'a>> {
        let concerned = |it: &str| it == path || path == "/" || it.starts_with(&format!("{path}/"));
        let paths: BTreeSet<&String> = self.0.keys().chain(now.0.keys()).collect();
        let paths = paths.into_iter().filter(|it| concerned(it));
        paths
            .filter_map(|path| {
                let kind = match (self.0.get(path), now.0.get(path)) {
                    (Some(before), Some(after)) if before == after => return None,
                    (Some(_), Some(_)) => "changed",
                    (None, _) => "created",
                    (_, None) => "deleted",
                };
                Some(Change { path, kind, value: now.get(path) })
            })
            .collect()
    }
}

/// What Kafka's controller called the states of a partition: new until it has its first leader, online
/// while it has one, offline when it has lost it. One that does not exist is not in the tree.
fn partition_state(partition: &PartitionMetadata) -> &'static str {
    match partition.leader {
        Some(_) => "OnlinePartition",
        None if partition.leader_epoch.0 <= 0 => "NewPartition",
        None => "OfflinePartition",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[(&str, i32)]) -> Tree {
        Tree(paths.iter().map(|(path, value)| ((*path).to_owned(), json!(value))).collect())
    }

    #[test]
    fn nodes_between_have_children_and_no_value() {
        let tree = tree(&[("/brokers/ids/1", 1), ("/brokers/ids/2", 2), ("/brokers/topics", 3)]);
        assert_eq!(tree.children("/"), ["brokers"]);
        assert_eq!(tree.children("/brokers"), ["ids", "topics"]);
        assert_eq!(tree.children("/brokers/ids"), ["1", "2"]);
        assert!(tree.exists("/brokers") && tree.get("/brokers").is_none());
        assert!(!tree.exists("/broker"));
        assert_eq!(normalized("brokers/ids/"), "/brokers/ids");
    }

    #[test]
    fn changes_are_those_at_a_path_and_below() {
        let before = tree(&[("/a", 1), ("/b/c", 1), ("/b/d", 1)]);
        let now = tree(&[("/a", 2), ("/b/c", 2), ("/b/e", 1)]);
        let changes = before.changes_to(&now, "/b");
        let kinds: Vec<_> = changes.iter().map(|it| (it.path, it.kind)).collect();
        assert_eq!(kinds, [("/b/c", "changed"), ("/b/d", "deleted"), ("/b/e", "created")]);
        assert_eq!(before.changes_to(&now, "/").len(), 4);
    }
}
