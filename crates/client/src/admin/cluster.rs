//! Brokers, their disks, the metadata quorum, features and API versions.

use std::collections::BTreeMap;

use ottla_protocol::messages::add_raft_voter_request::Listener;
use ottla_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use ottla_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use ottla_protocol::messages::describe_log_dirs_response::DescribeLogDirsResult;
use ottla_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use ottla_protocol::messages::describe_quorum_response::ReplicaState;
use ottla_protocol::messages::update_features_request::FeatureUpdateKey;
use ottla_protocol::messages::{
    AddRaftVoterRequest, AlterReplicaLogDirsRequest, ApiVersionsRequest, DescribeClusterRequest,
    DescribeLogDirsRequest, DescribeQuorumRequest, RemoveRaftVoterRequest, UnregisterBrokerRequest,
    UpdateFeaturesRequest,
};
use ottla_protocol::{
    ApiKey, BrokerId, ErrorCode, LeaderEpoch, Offset, StrBytes, Timestamp, TopicId, TopicPartition,
    Versions, message,
};

use super::routing::{by_topic, checked, complete};
use super::{Admin, Answers};
use crate::ClientError;

/// The topic that is the metadata log.
const METADATA_TOPIC: &str = "__cluster_metadata";
/// From these versions on fenced brokers may be asked for (KIP-1073).
const FIRST_VERSION_WITH_FENCED: i16 = 2;

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: BrokerId,
    /// Where clients reach it.
    pub host: String,
    /// Where clients reach it.
    pub port: i32,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Whether the controller takes it for dead.
    pub is_fenced: bool,
}

/// A cluster and its brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDescription {
    /// The cluster's id.
    pub cluster_id: String,
    /// A broker that takes requests for the controller.
    pub controller: Option<BrokerId>,
    /// Its brokers, by id.
    pub brokers: Vec<Node>,
}

/// A directory of `log.dirs` of a broker.
#[derive(Clone, Debug)]
pub struct LogDirDescription {
    /// Bytes of its file system; `None` if the broker does not say (KIP-827).
    pub total_bytes: Option<i64>,
    /// Bytes that the broker may still use there.
    pub usable_bytes: Option<i64>,
    /// What lies there.
    pub replicas: BTreeMap<TopicPartition, ReplicaInDir>,
}

/// A replica in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaInDir {
    /// Bytes of its log.
    pub size: i64,
    /// How many records it is behind; of the high watermark, or of the log it will replace.
    pub offset_lag: i64,
    /// Whether it is on its way here from another directory (KIP-113).
    pub is_future: bool,
}

/// The metadata quorum (KIP-595).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumDescription {
    /// The active controller.
    pub leader: BrokerId,
    /// Its epoch.
    pub leader_epoch: LeaderEpoch,
    /// Up to where the log is committed.
    pub high_watermark: Offset,
    /// Who votes.
    pub voters: Vec<QuorumReplica>,
    /// Who only reads.
    pub observers: Vec<QuorumReplica>,
    /// Where the controllers are, by id: `(listener, host, port)`.
    pub nodes: BTreeMap<BrokerId, Vec<(String, String, u16)>>,
}

/// A node that has the metadata log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumReplica {
    /// Its id.
    pub id: BrokerId,
    /// The directory its log is in (KIP-853); zero if it is not known.
    pub directory_id: TopicId,
    /// Where its log ends.
    pub log_end_offset: Offset,
    /// When it last asked the leader; `NONE` if it is not known.
    pub last_fetch: Timestamp,
    /// When it last had all; `NONE` if it is not known.
    pub last_caught_up: Timestamp,
}

/// A feature (KIP-584), in levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureLevels {
    /// The level that the cluster has; 0 is none.
    pub finalized: i16,
    /// The lowest that the broker supports.
    pub min_supported: i16,
    /// The highest that the broker supports.
    pub max_supported: i16,
}

/// How far a change of a feature may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureUpgrade {
    /// Up only.
    Upgrade,
    /// Down, if nothing is lost by it.
    SafeDowngrade,
    /// Down, whatever is lost by it.
    UnsafeDowngrade,
}

/// A change of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureUpdate {
    /// The level to have; 0 takes it away.
    pub level: i16,
    /// Up or down.
    pub upgrade: FeatureUpgrade,
}

impl Admin {
    /// The cluster and its brokers; dead ones too, if asked for and the broker can say (KIP-700).
    pub async fn describe_cluster(
        &self,
        include_fenced: bool,
    ) -> Result<ClusterDescription, ClientError> {
        let version = self.client.any_broker().await?.version_of::<DescribeClusterRequest>()?;
        let request = message!(DescribeClusterRequest {
            include_fenced_brokers: include_fenced && version >= FIRST_VERSION_WITH_FENCED,
        });
        let response =
            self.ask_any(&request, |it| checked(it.error_code, it.error_message.clone())).await?;
        let mut brokers: Vec<Node> = response
            .brokers
            .into_iter()
            .map(|row| Node {
                id: BrokerId(row.broker_id),
                host: row.host.into_string(),
                port: row.port,
                rack: row.rack.map(StrBytes::into_string),
                is_fenced: row.is_fenced,
            })
            .collect();
        brokers.sort_by_key(|node| node.id);
        Ok(ClusterDescription {
            cluster_id: response.cluster_id.into_string(),
            controller: (response.controller_id >= 0).then_some(BrokerId(response.controller_id)),
            brokers,
        })
    }

    /// The log directories of a broker, and of each why it cannot be used, or what is in it:
    /// of all partitions, or of `partitions` (KIP-113).
    pub async fn describe_log_dirs(
        &self,
        broker: BrokerId,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<Answers<String, LogDirDescription>, ClientError> {
        let topics = partitions.map(|partitions| {
            let rows = by_topic(partitions).into_iter().map(|(topic, indexes)| {
                message!(DescribableLogDirTopic {
                    topic: StrBytes::from(topic),
                    partitions: indexes
                })
            });
            rows.collect()
        });
        let request = message!(DescribeLogDirsRequest { topics: topics });
        let response = self.ask_broker(broker, &request, |it| checked(it.error_code, None)).await?;
        let dirs = response.results.into_iter().map(|row| {
            (row.log_dir.as_str().to_owned(), checked(row.error_code, None).map(|()| log_dir(row)))
        });
        Ok(dirs.collect())
    }

    /// Moves replicas of a broker to other directories of its `log.dirs` (KIP-113). The move goes
    /// on after the answer: see [`ReplicaInDir::is_future`].
    pub async fn alter_replica_log_dirs(
        &self,
        broker: BrokerId,
        moves: &BTreeMap<TopicPartition, String>,
    ) -> Result<Answers<TopicPartition>, ClientError> {
        let mut dirs: BTreeMap<&str, Vec<&TopicPartition>> = BTreeMap::new();
        for (partition, dir) in moves {
            dirs.entry(dir).or_default().push(partition);
        }
        let dirs = dirs.into_iter().map(|(dir, partitions)| {
            let topics = by_topic(partitions).into_iter().map(|(topic, indexes)| {
                message!(AlterReplicaLogDirTopic {
                    name: StrBytes::from(topic),
                    partitions: indexes
                })
            });
            message!(AlterReplicaLogDir { path: StrBytes::from(dir), topics: topics.collect() })
        });
        let request = message!(AlterReplicaLogDirsRequest { dirs: dirs.collect() });
        let response = self.ask_broker(broker, &request, |_| Ok(())).await?;
        let mut answers = Answers::new();
        for topic in response.results {
            for row in topic.partitions {
                let partition = TopicPartition::new(topic.topic_name.as_str(), row.partition_index);
                answers.insert(partition, checked(row.error_code, None));
            }
        }
        Ok(complete(answers, moves.keys().cloned()))
    }

    /// Who agrees on the metadata log, and how far each is (KIP-595, KIP-836).
    pub async fn describe_quorum(&self) -> Result<QuorumDescription, ClientError> {
        let topic = message!(TopicData {
            topic_name: StrBytes::from(METADATA_TOPIC),
            partitions: vec![message!(PartitionData { partition_index: 0 })],
        });
        let request = message!(DescribeQuorumRequest { topics: vec![topic] });
        let response = self
            .ask_any(&request, |it| {
                checked(it.error_code, it.error_message.clone())?;
                let mut rows = it.topics.iter().flat_map(|topic| &topic.partitions);
                rows.try_for_each(|row| checked(row.error_code, row.error_message.clone()))
            })
            .await?;
        let nodes = response.nodes.into_iter().map(|node| {
            let listeners = node.listeners.into_iter().map(|listener| {
                (listener.name.into_string(), listener.host.into_string(), listener.port)
            });
            (BrokerId(node.node_id), listeners.collect())
        });
        let nodes = nodes.collect();
        let row = response.topics.into_iter().flat_map(|topic| topic.partitions).next();
        let row =
            row.ok_or_else(|| ClientError::Nonsense("nothing about the quorum".to_owned()))?;
        let replicas = |rows: Vec<ReplicaState>| rows.into_iter().map(quorum_replica).collect();
        Ok(QuorumDescription {
            leader: BrokerId(row.leader_id),
            leader_epoch: LeaderEpoch(row.leader_epoch),
            high_watermark: Offset(row.high_watermark),
            voters: replicas(row.current_voters),
            observers: replicas(row.observers),
            nodes,
        })
    }

    /// Forgets a broker for good (KIP-631). It may register again as a new one.
    pub async fn unregister_broker(&self, broker: BrokerId) -> Result<(), ClientError> {
        let request = message!(UnregisterBrokerRequest { broker_id: broker.0 });
        let told = self
            .tell_controller(&request, ErrorCode::BrokerIdNotRegistered, |it| {
                checked(it.error_code, it.error_message.clone())
            })
            .await;
        told.map(drop)
    }

    /// Lets a controller vote in the metadata quorum (KIP-853). `listeners` are where it is:
    /// `(name, host, port)`.
    pub async fn add_raft_voter(
        &self,
        id: BrokerId,
        directory_id: TopicId,
        listeners: &[(String, String, u16)],
    ) -> Result<(), ClientError> {
        let cluster_id = self.describe_cluster(false).await?.cluster_id;
        let listeners = listeners.iter().map(|(name, host, port)| {
            message!(Listener {
                name: StrBytes::from(name.as_str()),
                host: StrBytes::from(host.as_str()),
                port: *port,
            })
        });
        let request = message!(AddRaftVoterRequest {
            cluster_id: Some(StrBytes::from(cluster_id)),
            timeout_ms: self.timeout_ms(),
            voter_id: id.0,
            voter_directory_id: directory_id,
            listeners: listeners.collect(),
            ack_when_committed: true,
        });
        let told = self
            .tell_controller(&request, ErrorCode::DuplicateVoter, |it| {
                checked(it.error_code, it.error_message.clone())
            })
            .await;
        told.map(drop)
    }

    /// Takes the vote in the metadata quorum from a controller (KIP-853).
    pub async fn remove_raft_voter(
        &self,
        id: BrokerId,
        directory_id: TopicId,
    ) -> Result<(), ClientError> {
        let cluster_id = self.describe_cluster(false).await?.cluster_id;
        let request = message!(RemoveRaftVoterRequest {
            cluster_id: Some(StrBytes::from(cluster_id)),
            voter_id: id.0,
            voter_directory_id: directory_id,
        });
        let told = self
            .tell_controller(&request, ErrorCode::VoterNotFound, |it| {
                checked(it.error_code, it.error_message.clone())
            })
            .await;
        told.map(drop)
    }

    /// The features that a broker knows, and the levels that the cluster has (KIP-584).
    pub async fn describe_features(&self) -> Result<BTreeMap<String, FeatureLevels>, ClientError> {
        let request = message!(ApiVersionsRequest {
            client_software_name: StrBytes::from("ottla"),
            client_software_version: StrBytes::from(env!("CARGO_PKG_VERSION")),
            node_id: -1,
        });
        let response = self.ask_any(&request, |it| checked(it.error_code, None)).await?;
        let mut features: BTreeMap<String, FeatureLevels> = BTreeMap::new();
        for row in response.supported_features {
            let levels = features.entry(row.name.into_string()).or_default();
            (levels.min_supported, levels.max_supported) = (row.min_version, row.max_version);
        }
        for row in response.finalized_features {
            features.entry(row.name.into_string()).or_default().finalized = row.max_version_level;
        }
        Ok(features)
    }

    /// Changes levels of features (KIP-584).
    pub async fn update_features(
        &self,
        updates: &BTreeMap<String, FeatureUpdate>,
        validate_only: bool,
    ) -> Result<Answers<String>, ClientError> {
        let version = self.controller().await?.version_of::<UpdateFeaturesRequest>()?;
        let rows = updates.iter().map(|(name, update)| {
            let mut row = message!(FeatureUpdateKey {
                feature: StrBytes::from(name.as_str()),
                max_version_level: update.level,
            });
            match (update.upgrade, version) {
                (FeatureUpgrade::Upgrade, _) => {}
                (_, 0) => row.allow_downgrade = true,
                (FeatureUpgrade::SafeDowngrade, _) => row.upgrade_type = 2,
                (FeatureUpgrade::UnsafeDowngrade, _) => row.upgrade_type = 3,
            }
            row
        });
        let request = message!(UpdateFeaturesRequest {
            timeout_ms: self.timeout_ms(),
            feature_updates: rows.collect(),
            validate_only: validate_only,
        });
        let response = self
            .ask_controller(&request, |it| checked(it.error_code, it.error_message.clone()))
            .await?;
        let mut answers: Answers<String> = response
            .results
            .into_iter()
            .map(|row| (row.feature.into_string(), checked(row.error_code, row.error_message)))
            .collect();
        // From version 2 on success has no rows (KIP-1022).
        for name in updates.keys() {
            answers.entry(name.clone()).or_insert(Ok(()));
        }
        Ok(answers)
    }

    /// The APIs of a broker, with the versions it speaks (KIP-35).
    pub async fn api_versions(
        &self,
        broker: BrokerId,
    ) -> Result<BTreeMap<ApiKey, Versions>, ClientError> {
        let connection = self.retried(|| self.client.broker(broker)).await?;
        Ok(connection.broker_versions().clone())
    }

    /// Whether some broker can be asked for `api`; if not, the error that a call would end with.
    pub async fn check_served(&self, api: ApiKey) -> Result<(), ClientError> {
        let served = self.client.any_broker().await?.broker_versions().contains_key(&api);
        if served { Ok(()) } else { Err(ClientError::refused(ErrorCode::UnsupportedVersion)) }
    }
}

fn log_dir(row: DescribeLogDirsResult) -> LogDirDescription {
    let known = |bytes: i64| (bytes >= 0).then_some(bytes);
    let mut replicas = BTreeMap::new();
    for topic in row.topics {
        for it in topic.partitions {
            let partition = TopicPartition::new(topic.name.as_str(), it.partition_index);
            let replica = ReplicaInDir {
                size: it.partition_size,
                offset_lag: it.offset_lag,
                is_future: it.is_future_key,
            };
            replicas.insert(partition, replica);
        }
    }
    LogDirDescription {
        total_bytes: known(row.total_bytes),
        usable_bytes: known(row.usable_bytes),
        replicas,
    }
}

fn quorum_replica(row: ReplicaState) -> QuorumReplica {
    QuorumReplica {
        id: BrokerId(row.replica_id),
        directory_id: row.replica_directory_id,
        log_end_offset: Offset(row.log_end_offset),
        last_fetch: Timestamp(row.last_fetch_timestamp),
        last_caught_up: Timestamp(row.last_caught_up_timestamp),
    }
}
