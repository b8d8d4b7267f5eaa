//! `--reassignment-json-file`.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::{BrokerId, TopicPartition};
use serde_json::Value;

use super::error;
use crate::scripts::Outcome;
use crate::scripts::json_file::{check_version, partition_of, whole};

/// In place of a directory: the broker may choose.
pub(super) const ANY_DIR: &str = "any";

/// Where partitions are to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// In the order of the file.
    pub(super) partitions: Vec<(TopicPartition, Vec<BrokerId>)>,
    /// The directories of replicas, where one is named.
    pub(super) dirs: BTreeMap<(TopicPartition, BrokerId), String>,
}

impl Plan {
    pub(super) fn read(text: &[u8]) -> Outcome<Self> {
        let json: Value = serde_json::from_slice(text).map_err(error)?;
        check_version(&json).map_err(error)?;
        let mut plan = Self { partitions: Vec::new(), dirs: BTreeMap::new() };
        for row in json.get("partitions").and_then(Value::as_array).into_iter().flatten() {
            plan.add(row)?;
        }
        Ok(plan)
    }

    fn add(&mut self, row: &Value) -> Outcome {
        let replicas = row.get("replicas").and_then(Value::as_array);
        let replicas = replicas.and_then(|ids| ids.iter().map(whole).collect::<Option<Vec<_>>>());
        let (Some(partition), Some(replicas)) = (partition_of(row), replicas) else {
            return Err(error(format!("{row} needs the fields topic, partition and replicas")));
        };
        if let Some(dirs) = row.get("log_dirs").and_then(Value::as_array) {
            let texts: Vec<&str> = dirs.iter().filter_map(Value::as_str).collect();
            if texts.len() != replicas.len() {
                return Err(error(format!(
                    "Size of replicas list {replicas:?} is different from size of log dirs list [{}] for partition {partition}",
                    texts.join(", ")
                )));
            }
            for (id, dir) in replicas.iter().zip(texts).filter(|(_, dir)| *dir != ANY_DIR) {
                self.dirs.insert((partition.clone(), BrokerId(*id)), dir.to_owned());
            }
        }
        self.partitions.push((partition, replicas.into_iter().map(BrokerId).collect()));
        Ok(())
    }

    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.partitions.is_empty() {
            return Err("Partition reassignment list cannot be empty".to_owned());
        }
        if self.partitions.iter().any(|(_, replicas)| replicas.is_empty()) {
            return Err("Partition replica list cannot be empty".to_owned());
        }
        let mut seen = BTreeSet::new();
        let twice = self.partitions.iter().find(|(it, _)| !seen.insert(it));
        if let Some((it, _)) = twice {
            return Err(format!(
                "Partition reassignment contains duplicate topic partitions: {it}"
            ));
        }
        for (it, replicas) in &self.partitions {
            let mut seen = BTreeSet::new();
            if let Some(id) = replicas.iter().find(|id| !seen.insert(**id)) {
                return Err(format!(
                    "Partition replica lists may not contain duplicate entries: {it} contains multiple entries for {id}"
                ));
            }
        }
        Ok(())
    }

    /// The topics of its partitions, sorted.
    pub(super) fn topics(&self) -> Vec<&str> {
        let topics: BTreeSet<&str> = self.partitions.iter().map(|(it, _)| &*it.topic).collect();
        topics.into_iter().collect()
    }

    pub(super) fn brokers(&self) -> BTreeSet<BrokerId> {
        self.partitions.iter().flat_map(|(_, replicas)| replicas.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Plan {
        Plan::read(text.as_bytes()).unwrap_or_else(|stop| panic!("{stop:?}"))
    }

    #[test]
    fn a_plan_names_replicas_and_perhaps_their_directories() {
        let plan = read(
            r#"{"version": 1, "partitions": [{"topic": "t", "partition": 0, "replicas": [1, 2], "log_dirs": ["any", "/d"]}]}"#,
        );
        let partition = TopicPartition::new("t", 0);
        assert_eq!(plan.partitions, [(partition.clone(), vec![BrokerId(1), BrokerId(2)])]);
        assert_eq!(plan.dirs, BTreeMap::from([((partition, BrokerId(2)), "/d".to_owned())]));
        assert_eq!(plan.check(), Ok(()));
    }

    #[test]
    fn what_is_named_twice_is_refused() {
        let row = r#"{"topic": "t", "partition": 0, "replicas": [1]}"#;
        let twice = read(&format!(r#"{{"partitions": [{row}, {row}]}}"#));
        assert!(twice.check().is_err_and(|why| why.ends_with("topic partitions: t-0")));
        let row = row.replace("[1]", "[1, 1]");
        let same = read(&format!(r#"{{"partitions": [{row}]}}"#));
        assert!(same.check().is_err_and(|why| why.ends_with("multiple entries for 1")));
        assert!(read(r#"{"partitions": []}"#).check().is_err());
    }
}
