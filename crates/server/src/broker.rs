//! What a node's handlers work with. Kafka's `BrokerServer`, without the starting and stopping (see [`server`](crate)).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_config::BrokerConfig;
use ottla_coordinator::group::GroupCoordinator;
use ottla_env::Env;
use ottla_metadata::{BrokerEpoch, MetadataDelta, MetadataImage};
use ottla_protocol::messages::{
    CreateTopicsResponse, KafkaRequest, KafkaResponse, RequestResponsePair,
};
use ottla_protocol::topic_name::GROUP_METADATA_TOPIC;
use ottla_protocol::{
    ApiKey, BrokerId, ErrorCode, KafkaDecode, KafkaEncode, Monotonic, Request, RequestHeader,
    Response, StrBytes, Timestamp, decode_response, decode_response_header, encode_request,
};
use ottla_storage::LogManager;
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::broker_lease::BrokerLease;
use crate::client_telemetry::ClientTelemetry;
use crate::cold_reads::ColdReads;
use crate::controller_channel::{ChannelError, ControllerChannel, is_not_controller};
use crate::coordinator_host::{CoordinatorHost, Decided, is_offsets_partition};
use crate::dynamic_config::DynamicConfig;
use crate::fetch_sessions::FetchSessions;
use crate::handlers::RequestContext;
use crate::log_dirs::tell_placements;
use crate::log_moves::LogMoves;
use crate::metadata_cache::MetadataCache;
use crate::network::ConnectionContext;
use crate::producer_ids::ProducerIds;
use crate::quotas::ClientQuotas;
use crate::replica::{Applied, FetchedRecords, ReplicaManager};

/// The parts of a running node.
pub(crate) struct Broker {
    env: Env,
    config: Arc<BrokerConfig>,
    dynamic_config: DynamicConfig,
    cluster_id: String,
    cache: Arc<MetadataCache>,
    channel: ControllerChannel,
    /// Rung when a heartbeat has something to tell.
    news: Notify,
    lease: BrokerLease,
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
        (cache, channel): (Arc<MetadataCache>, ControllerChannel),
        (logs, cold_reads, quotas): (Arc<LogManager>, Arc<ColdReads>, Arc<ClientQuotas>),
    ) -> Self {
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
            cache,
            channel,
            news: Notify::new(),
            lease: BrokerLease::new(config.node.session_timeout),
            replicas: ReplicaManager::new(
                env,
                (config.node.node_id, epoch),
                Arc::clone(&config),
                logs,
            ),
            groups: Arc::new(CoordinatorHost::new(env.clone(), &config)),
            fetch_sessions: FetchSessions::new(config.fetch.max_incremental_session_slots),
            cold_reads,
            log_moves: LogMoves::new(config.replica_manager.moves_at_once),
            producer_ids: ProducerIds::new(),
            quotas,
            telemetry: ClientTelemetry::new(config.telemetry),
            config,
        }
    }

    /// Follows the metadata image: what it says now, and every change from now on.
    pub(crate) fn follow_metadata(self: &Arc<Self>) {
        let broker = Arc::downgrade(self);
        self.cache.listen(Box::new(move |delta, image| {
            if let Some(broker) = broker.upgrade() {
                broker.apply(delta, image);
            }
        }));
    }

    fn apply(self: &Arc<Self>, delta: &MetadataDelta, image: &MetadataImage) {
        if let Some(config) = self.dynamic_config.apply(delta, image) {
            self.replicas.reconfigure(config, image);
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
        self.cache.between_changes(|image| self.follow(self.replicas.check_disks(image)));
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

    /// Asks the active controller what the client of `context` asked for, until it answers or `request.timeout.ms` is over.
    pub(crate) async fn ask_controller<R>(
        &self,
        context: &RequestContext,
        request: &R,
    ) -> Result<R::Response, ChannelError>
    where
        R: RequestResponsePair + Clone + KafkaRequest + KafkaEncode + Into<Request>,
        R::Response:
            TryFrom<Response<FetchedRecords>, Error = ApiKey> + KafkaResponse + KafkaDecode,
    {
        let nonsense = || ChannelError::Nonsense(context.header.api_key);
        if self.leads_the_quorum() {
            return self.channel.call(request).await;
        }
        let frame = encode_request(&context.header, request).map_err(|_| nonsense())?;
        let frame = frame.into_bytes().split_off(size_of::<i32>());
        // How long the client has to be silent stands in the answer, and is charged with it.
        let (answer, _) = self.forward(&context.connection, frame).await?;
        let RequestHeader { api_key, api_version, .. } = context.header;
        let (_, body) =
            decode_response_header(&answer, api_key, api_version).map_err(|_| nonsense())?;
        decode_response(body, api_version).map_err(|_| nonsense())
    }

    /// Passes a client's request on to the active controller; the answer is that to the client, without its length, and for how
    /// long he has to be silent.
    pub(crate) async fn forward(
        &self,
        client: &ConnectionContext,
        frame: Bytes,
    ) -> Result<(Bytes, Duration), ChannelError> {
        self.channel.forward((client, frame), &self.cache, self.controller_deadline()).await
    }

    /// Until when a request to the controller may be tried again.
    fn controller_deadline(&self) -> Monotonic {
        self.env.clock.now() + self.config.node.request_timeout
    }

    /// Creates those of `topics` that are missing, with the cluster's defaults. Failures are logged: whoever needs a topic
    /// finds it missing.
    pub(crate) async fn auto_create_topics(&self, topics: Vec<StrBytes>) {
        let image = self.image();
        let missing = topics.iter().filter(|name| image.topic(name).is_none());
        let request = self.cache.controller().auto_create_request(missing.map(StrBytes::as_str));
        let deadline = self.controller_deadline();
        let refused = |it: &CreateTopicsResponse| {
            it.topics.iter().any(|topic| is_not_controller(topic.error_code))
        };
        let response = match self.channel.call_until(&request, deadline, refused).await {
            Ok(response) => response,
            Err(error) => return warn!(%error, "could not create topics on first use"),
        };
        let mut created = Vec::new();
        for topic in response.topics {
            match (ErrorCode::from_wire(topic.error_code), topic.error_message) {
                (ErrorCode::None, _) => {
                    info!(topic = %topic.name, "topic created on first use");
                    created.push(topic.name);
                }
                // Somebody else was first.
                (ErrorCode::TopicAlreadyExists, _) => created.push(topic.name),
                (error, message) => {
                    let message = message.unwrap_or_default();
                    warn!(topic = %topic.name, %error, %message, "could not create a topic on first use");
                }
            }
        }
        self.wait_for_topics(&created, deadline).await;
    }

    /// Waits until this node has heard of topics that exist.
    async fn wait_for_topics(&self, names: &[StrBytes], deadline: Monotonic) {
        let limit = deadline.since(self.env.clock.now());
        let known = |image: &MetadataImage| names.iter().all(|it| image.topic(it).is_some());
        // If it does not come to it, the client is told that there is no such topic, and asks again.
        let _heard = self.env.timeout(limit, self.cache.wait_image(known)).await;
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

    /// The registration of this broker that holds; see
    /// [`BrokerLifecycle`](crate::broker_lifecycle::BrokerLifecycle).
    pub(crate) fn epoch(&self) -> BrokerEpoch {
        self.replicas.epoch()
    }

    /// Rung when the next heartbeat should not wait for its time.
    pub(crate) fn news(&self) -> &Notify {
        &self.news
    }

    /// Kept by heartbeats.
    pub(crate) fn lease(&self) -> &BrokerLease {
        &self.lease
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
        self.cache.image()
    }

    /// The way to the active controller.
    pub(crate) fn channel(&self) -> &ControllerChannel {
        &self.channel
    }

    /// Whether this node is the active controller.
    pub(crate) fn leads_the_quorum(&self) -> bool {
        self.channel.here().is_some()
    }

    /// The broker that clients are told to be the controller: the active one where it is a broker, else the first that is
    /// in service, which passes on what it is asked (KIP-590).
    pub(crate) fn controller_id(&self) -> i32 {
        let image = self.image();
        let is_there = |id: &i32| image.broker(BrokerId(*id)).is_some_and(|it| !it.fenced);
        let active = self.channel.leader().filter(is_there);
        let any = || image.brokers().find(|it| !it.fenced).map(|it| it.id.0);
        active.or_else(any).unwrap_or(-1)
    }

    pub(crate) fn replicas(&self) -> &ReplicaManager {
        &self.replicas
    }

    pub(crate) fn groups(&self) -> &Arc<CoordinatorHost> {
        &self.groups
    }

    /// Reads from a group, unless others may have gone on with it elsewhere.
    pub(crate) fn read_group<A>(
        &self,
        group_id: &str,
        read: impl FnOnce(&mut GroupCoordinator) -> A,
    ) -> Result<Decided<A>, ErrorCode> {
        if !self.lease.holds(self.env.clock.now()) {
            return Err(ErrorCode::NotCoordinator);
        }
        self.groups.look(self.offsets_partitions(), group_id, |coordinator, _| read(coordinator))
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
    pub(crate) async fn next_producer_id(&self) -> Result<ottla_protocol::ProducerId, ErrorCode> {
        self.producer_ids.next(&self.channel, (self.id(), self.epoch())).await
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
