//! What the controller is told of this node's log directories (KIP-858), and when the node cannot go on without one.
//! Kafka's `AssignmentsManager` and `LogDirFailureHandler`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ottla_config::BrokerConfig;
use ottla_env::Env;
use ottla_protocol::messages::assign_replicas_to_dirs_request::{
    DirectoryData, PartitionData, TopicData,
};
use ottla_protocol::messages::{AssignReplicasToDirsRequest, AssignReplicasToDirsResponse};
use ottla_protocol::{ErrorCode, TopicId, Uuid, message};
use ottla_storage::{LogManager, OpenError, OwnDir};
use tokio::sync::watch;
use tracing::{error, warn};

use crate::broker::Broker;
use crate::controller_channel::is_not_controller;
use crate::replica::Placement;

/// How often the directories are looked at. A failed one refuses everything at once; this is when others are told.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Most partitions in one request, as Kafka has it.
const MAX_ASSIGNMENTS: usize = 2000;

/// Tells the controller in which directories partitions lie. One that it does not learn of now is told at the next start.
pub(crate) async fn tell_placements(broker: Weak<Broker>, placed: Vec<Placement>) {
    for some in placed.chunks(MAX_ASSIGNMENTS) {
        let Some(broker) = broker.upgrade() else { return };
        let request = assignment(&broker, some);
        let deadline = broker.env().clock.now() + broker.config().node.request_timeout;
        let refused = |it: &AssignReplicasToDirsResponse| is_not_controller(it.error_code);
        let told = broker.channel().call_until(&request, deadline, refused).await;
        match told.map(|answer| ErrorCode::from_wire(answer.error_code)) {
            Ok(ErrorCode::None) => {}
            Ok(error) => return warn!(%error, "the controller does not take directories"),
            Err(error) => return warn!(%error, "could not tell in which directories logs lie"),
        }
    }
}

fn assignment(broker: &Broker, placed: &[Placement]) -> AssignReplicasToDirsRequest {
    let mut dirs: BTreeMap<Uuid, BTreeMap<TopicId, Vec<PartitionData>>> = BTreeMap::new();
    for Placement { topic, partition, dir } in placed {
        let partitions = dirs.entry(*dir).or_default().entry(*topic).or_default();
        partitions.push(message!(PartitionData { partition_index: *partition }));
    }
    let directories = dirs.into_iter().map(|(id, topics)| {
        let topics = topics.into_iter().map(|(topic_id, partitions)| {
            message!(TopicData { topic_id: topic_id, partitions: partitions })
        });
        message!(DirectoryData { id: id, topics: topics.collect() })
    });
    message!(AssignReplicasToDirsRequest {
        broker_id: broker.id().0,
        broker_epoch: broker.epoch().0,
        directories: directories.collect(),
    })
}

/// Looks at the directories until the node cannot go on, and says why in `failure`.
pub(crate) async fn watch_dirs(broker: Arc<Broker>, failure: watch::Sender<Option<String>>) {
    let mut told = 0;
    loop {
        broker.env().clock.sleep(LOOK_INTERVAL).await;
        let looking = Arc::clone(&broker);
        broker.env().run_blocking(move || looking.check_disks()).await;
        let offline = broker.logs().offline_dirs();
        if offline.len() == told {
            continue;
        }
        let metadata = broker.config().node.own_metadata_log_dir();
        if let Some(reason) = cannot_go_on(broker.logs(), metadata) {
            error!(%reason, "the node cannot go on");
            failure.send_replace(Some(reason));
            return;
        }
        // Each heartbeat names the failed directories: the controller takes the leadership of what lies there.
        broker.news().notify_one();
        told = offline.len();
    }
}

/// Why a node must stop: without the metadata log that it keeps it learns of nothing, without any directory it holds nothing.
pub(crate) fn cannot_go_on(logs: &LogManager, metadata_log_dir: Option<&Path>) -> Option<String> {
    let offline = logs.offline_dirs();
    let of_metadata = offline.iter().find(|dir| Some(dir.path()) == metadata_log_dir);
    if let Some(failure) = of_metadata.and_then(|dir| dir.failure()) {
        return Some(format!(
            "{failure}; the metadata log lies there, and nothing goes without it"
        ));
    }
    if logs.online_dirs().is_empty() {
        let reasons = offline.iter().filter_map(|dir| dir.failure());
        let reasons: Vec<String> = reasons.map(|failure| failure.to_string()).collect();
        return Some(format!("every log directory has failed: {}", reasons.join("; ")));
    }
    None
}

/// Takes `metadata.log.dir`, if a controller has one that is none of `log.dirs`: only by its id is a voter known to have lost
/// what it had voted for (KIP-853).
pub(crate) async fn claim_metadata_dir(
    env: &Env,
    config: &BrokerConfig,
    cluster_id: &str,
) -> Result<Option<OwnDir>, OpenError> {
    let Some(path) = config.node.metadata_log_dir_apart().map(Path::to_owned) else {
        return Ok(None);
    };
    let (claiming, node_id) = (env.clone(), config.node.node_id);
    let cluster_id = cluster_id.to_owned();
    let claim = move || OwnDir::claim(&claiming, path, node_id, &cluster_id);
    env.run_blocking(claim).await.map(Some)
}

#[cfg(test)]
mod tests {
    use ottla_protocol::BrokerId;
    use ottla_storage::LogManagerOptions;

    use super::*;

    #[tokio::test]
    async fn only_a_node_that_keeps_the_metadata_log_misses_its_directory() {
        let (root, env) = (tempfile::tempdir().unwrap(), Env::os());
        let [lost, well] = ["lost", "well"].map(|name| root.path().join(name));
        env.disk.write_atomic(&lost, b"no directory").unwrap();
        let options = LogManagerOptions {
            dirs: vec![lost.clone(), well.clone()],
            node_id: BrokerId(1),
            cluster_id: Some("cluster".to_owned()),
            config: BrokerConfig::default().log_manager,
            max_open_files: 10,
        };
        let logs = LogManager::open(env, options).await.unwrap();
        assert!(cannot_go_on(&logs, Some(&lost)).unwrap().contains("the metadata log lies there"));
        assert_eq!(cannot_go_on(&logs, Some(&well)), None);
        assert_eq!(cannot_go_on(&logs, None), None, "a broker alone");
    }
}
