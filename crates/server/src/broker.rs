//! What a node's handlers work with. Kafka's `BrokerServer`, without the starting and stopping (see [`server`](crate)).

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_config::BrokerConfig;
use ottla_env::Env;
use ottla_metadata::{BrokerEpoch, Controller, MetadataDelta, MetadataImage, Outcome};
use ottla_protocol::topic_name::GROUP_METADATA_TOPIC;
use ottla_protocol::{BrokerId, StrBytes, Timestamp};
use ottla_storage::LogManager;

use crate::client_telemetry::ClientTelemetry;
use crate::cold_reads::ColdReads;
use crate::controller_host::{ControllerError, ControllerHost};
use crate::coordinator_host::{CoordinatorHost, is_offsets_partition};
use crate::dynamic_config::DynamicConfig;
use crate::fetch_sessions::FetchSessions;
use crate::log_dirs::tell_placements;
use crate::log_moves::LogMoves;
use crate::producer_ids::ProducerIds;
use crate::quotas::ClientQuotas;
use crate::replica::{Applied, ReplicaManager};

/// The parts of a running node.
pub(crate) struct Broker {
    env: Env,
    config: Arc<BrokerConfig>,
    dynamic_config: DynamicConfig,
    cluster_id: String,
    epoch: BrokerEpoch,
    controller: ControllerHost,
    replicas: ReplicaManager,
    groups: Arc<CoordinatorHost>,
    fetch_sessions: FetchSessions,
    cold_reads: Arc<ColdReads>,
    log_moves: LogMoves,
    producer_ids: ProducerIds,
    quotas: Arc<ClientQuotas>,
    telemetry: Arc<ClientTelemetry>,
}

impl Broker {
    /// A broker that is registered in `epoch` and holds no partition yet.
    pub(crate) fn new(
        env: &Env,
        config: Arc<BrokerConfig>,
        (cluster_id, epoch): (String, BrokerEpoch),
        controller: ControllerHost,
        logs: Arc<LogManager>,
    ) -> Self {
        let cold_reads = Arc::new(ColdReads::new(env, config.fetch.cold_read_threads));
        let dynamic_config = DynamicConfig::new(Arc::clone(&config));
        let (resized, reconfigured) = (Arc::clone(&cold_reads), Arc::clone(&logs));
        dynamic_config.follow(move |config| {
            resized.resize(config.fetch.cold_read_threads);
            reconfigured.reconfigure(&config.log_manager);
        });
        Self {
            env: env.clone(),
            dynamic_config,
            cluster_id,
            epoch,
            controller,
            replicas: ReplicaManager::new(config.node.node_id, Arc::clone(&config), logs),
            groups: Arc::new(CoordinatorHost::new(env.clone(), &config)),
            fetch_sessions: FetchSessions::new(config.fetch.max_incremental_session_slots),
            cold_reads,
            log_moves: LogMoves::new(config.replica_manager.moves_at_once),
            producer_ids: ProducerIds::new(),
            quotas: Arc::new(ClientQuotas::new(config.quotas)),
            telemetry: ClientTelemetry::new(config.telemetry),
            config,
        }
    }

    /// Follows the metadata image: what it says now, and every change from now on.
    pub(crate) fn follow_metadata(self: &Arc<Self>) {
        let broker = Arc::downgrade(self);
        self.controller.listen(Box::new(move |delta, image| {
            if let Some(broker) = broker.upgrade() {
                broker.apply(delta, image);
            }
        }));
    }

    fn apply(self: &Arc<Self>, delta: &MetadataDelta, image: &MetadataImage) {
        if let Some(config) = self.dynamic_config.apply(delta, image) {
            self.replicas.reconfigure(config, image);
        }
        if delta.client_quotas {
            self.quotas.update(image);
        }
        self.telemetry.apply(delta, image);
        self.follow(self.replicas.apply(delta, image));
        let deleted: BTreeSet<_> =
            delta.deleted.iter().map(|topic| StrBytes::from(&*topic.name)).collect();
        if !deleted.is_empty() {
            self.groups.topics_deleted(&deleted);
        }
    }

    /// Takes partitions offline whose disk failed, and tries again to make logs for which there was no room.
    pub(crate) fn check_disks(self: &Arc<Self>) {
        self.controller.between_changes(|image| self.follow(self.replicas.check_disks(image)));
    }

    /// What follows when the partitions here change.
    fn follow(self: &Arc<Self>, applied: Applied) {
        for partition in applied.resigned.iter().filter(|name| &*name.topic == GROUP_METADATA_TOPIC)
        {
            self.groups.resigned(partition.partition);
        }
        for partition in applied.leading.into_iter().filter(|it| is_offsets_partition(it)) {
            self.groups.elected(partition);
        }
        if !applied.placed.is_empty() {
            let told = tell_placements(Arc::downgrade(self), applied.placed);
            self.env.spawn("directory assignment", told);
        }
    }

    /// [`ControllerHost::decide`] for what makes logs: refused, before anything is decided, where there is no room for them.
    pub(crate) async fn decide_logs<A>(
        &self,
        decide: impl FnOnce(&Controller, &mut dyn FnMut() -> u64) -> Outcome<A>,
    ) -> Result<A, ControllerError> {
        self.logs().check_room()?;
        self.controller.decide(decide).await
    }

    pub(crate) fn env(&self) -> &Env {
        &self.env
    }

    /// The wall clock.
    pub(crate) fn wall(&self) -> Timestamp {
        self.env.clock.wall()
    }

    /// What the node was started with. For keys that may change while it runs, see
    /// [`dynamic_config`](Self::dynamic_config).
    pub(crate) fn config(&self) -> &Arc<BrokerConfig> {
        &self.config
    }

    /// The configuration that changes while the node runs.
    pub(crate) fn dynamic_config(&self) -> &DynamicConfig {
        &self.dynamic_config
    }

    /// The registration of this broker.
    pub(crate) fn epoch(&self) -> BrokerEpoch {
        self.epoch
    }

    pub(crate) fn logs(&self) -> &Arc<LogManager> {
        self.replicas.logs()
    }

    pub(crate) fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    pub(crate) fn id(&self) -> BrokerId {
        self.config.node.node_id
    }

    /// What the cluster knows.
    pub(crate) fn image(&self) -> Arc<MetadataImage> {
        self.controller.image()
    }

    pub(crate) fn controller(&self) -> &ControllerHost {
        &self.controller
    }

    pub(crate) fn replicas(&self) -> &ReplicaManager {
        &self.replicas
    }

    pub(crate) fn groups(&self) -> &Arc<CoordinatorHost> {
        &self.groups
    }

    pub(crate) fn fetch_sessions(&self) -> &FetchSessions {
        &self.fetch_sessions
    }

    /// Where a handler reads what is not in memory.
    pub(crate) fn cold_reads(&self) -> &Arc<ColdReads> {
        &self.cold_reads
    }

    /// The quotas of clients.
    pub(crate) fn quotas(&self) -> &Arc<ClientQuotas> {
        &self.quotas
    }

    /// What clients measure.
    pub(crate) fn telemetry(&self) -> &Arc<ClientTelemetry> {
        &self.telemetry
    }

    /// The logs on their way to another directory.
    pub(crate) fn log_moves(&self) -> &LogMoves {
        &self.log_moves
    }

    /// A producer id that nobody had before.
    pub(crate) async fn next_producer_id(
        &self,
    ) -> Result<ottla_protocol::ProducerId, ottla_protocol::ErrorCode> {
        self.producer_ids.next(&self.controller, (self.id(), self.epoch)).await
    }

    /// How many partitions `__consumer_offsets` has; before it exists, how many it will have.
    pub(crate) fn offsets_partitions(&self) -> i32 {
        let image = self.image();
        image
            .topic(GROUP_METADATA_TOPIC)
            .map_or(self.config.offsets.topic_num_partitions, |topic| {
                i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX)
            })
    }
}
