//! For tests: a broker with a real log, which holds the only partition of a topic together with another broker.

use std::sync::Arc;

use ottla_config::BrokerConfig;
use ottla_env::Env;
use ottla_metadata::record::{BrokerEndpoint, PartitionRecord, RegisterBrokerRecord, TopicRecord};
use ottla_metadata::{MetadataDelta, MetadataImage, MetadataRecord};
use ottla_protocol::{BrokerEpoch, BrokerId, LeaderEpoch, StrBytes, TopicId, TopicRef, Uuid};
use ottla_storage::{LogManager, LogManagerOptions};
use tempfile::TempDir;

use super::{Applied, Partition, ReplicaManager};

/// Broker 1 or 2.
pub(crate) struct OneOfTwo {
    pub(crate) replicas: ReplicaManager,
    topic: &'static str,
    /// The registrations of brokers, as the controller recorded them.
    brokers: Vec<MetadataRecord>,
    image: MetadataImage,
    _dir: TempDir,
}

impl OneOfTwo {
    /// The id of the topic.
    const TOPIC_ID: TopicId = TopicId::from_bytes([9; 16]);

    /// Broker `id`, registered in the epoch of that number; it holds nothing yet.
    pub(crate) async fn start(id: i32, topic: &'static str, config: BrokerConfig) -> Self {
        Self::start_in(&Env::os(), id, topic, config).await
    }

    /// [`start`](Self::start), in an environment of the test's own.
    pub(crate) async fn start_in(
        env: &Env,
        id: i32,
        topic: &'static str,
        config: BrokerConfig,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = LogManagerOptions {
            dirs: vec![dir.path().to_owned()],
            node_id: BrokerId(id),
            cluster_id: None,
            config: config.log_manager.clone(),
            max_open_files: 10,
        };
        let logs = Arc::new(LogManager::open(env.clone(), options).await.unwrap());
        let identity = (BrokerId(id), BrokerEpoch(i64::from(id)));
        let replicas = ReplicaManager::new(env, identity, Arc::new(config), logs);
        let (brokers, image) = (Vec::new(), MetadataImage::default());
        Self { replicas, topic, brokers, image, _dir: dir }
    }

    /// From the next decision on, broker `id` is registered and listens at `port`.
    pub(crate) fn register(&mut self, id: i32, port: u16) {
        let listener = BrokerEndpoint {
            name: Arc::from("PLAINTEXT"),
            host: Arc::from("127.0.0.1"),
            port,
            security_protocol: 0,
        };
        self.brokers.push(MetadataRecord::RegisterBroker(RegisterBrokerRecord {
            broker_id: BrokerId(id),
            is_migrating_zk_broker: false,
            incarnation_id: Uuid::default(),
            broker_epoch: BrokerEpoch(i64::from(id)),
            end_points: vec![listener],
            features: Vec::new(),
            rack: None,
            fenced: false,
            in_controlled_shutdown: false,
            log_dirs: Vec::new(),
        }));
    }

    /// What the controller decided about the partition, applied as a node does.
    pub(crate) fn hear(&mut self, leader: i32, epoch: i32, isr: &[i32]) -> Applied {
        let topic = TopicRecord { name: Arc::from(self.topic), topic_id: Self::TOPIC_ID };
        let partition = PartitionRecord {
            partition_id: 0,
            topic_id: Self::TOPIC_ID,
            replicas: vec![BrokerId(1), BrokerId(2)],
            isr: isr.iter().copied().map(BrokerId).collect(),
            leader: BrokerId(leader),
            leader_epoch: LeaderEpoch(epoch),
            partition_epoch: epoch,
            directories: vec![Uuid::default(); 2],
            removing_replicas: Vec::new(),
            adding_replicas: Vec::new(),
            leader_recovery_state: 0,
            eligible_leader_replicas: None,
            last_known_elr: None,
        };
        let mut image = MetadataImage::default();
        let decided = [MetadataRecord::Topic(topic), MetadataRecord::Partition(partition)];
        for record in self.brokers.iter().chain(&decided) {
            image.replay(record).unwrap();
        }
        self.apply(image)
    }

    /// The topic is deleted.
    pub(crate) fn hear_of_deletion(&mut self) -> Applied {
        self.apply(MetadataImage::default())
    }

    fn apply(&mut self, image: MetadataImage) -> Applied {
        let delta = MetadataDelta::between(&self.image, &image);
        let applied = self.replicas.apply(&delta, &image);
        self.image = image;
        applied
    }

    pub(crate) fn partition(&self) -> Arc<Partition> {
        self.replicas.find(&TopicRef::Name(StrBytes::from(self.topic)), 0).unwrap()
    }
}
