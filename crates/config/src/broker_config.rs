//! A node's configuration as plain structs, one per component.

mod read;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ottla_protocol::BrokerId;

use crate::settings::Settings;
use crate::{ListenerAddress, LogConfig};

/// The whole configuration of one node. Kafka's `KafkaConfig`.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerConfig {
    /// Who this node is.
    pub node: NodeConfig,
    /// The metadata quorum.
    pub quorum: QuorumConfig,
    /// The network layer.
    pub socket_server: SocketServerConfig,
    /// The logs of this node.
    pub log_manager: LogManagerConfig,
    /// Compaction.
    pub log_cleaner: LogCleanerConfig,
    /// Replication between brokers.
    pub replica_manager: ReplicaManagerConfig,
    /// What the controller moves by itself.
    pub rebalance: RebalanceConfig,
    /// Consumer groups.
    pub group_coordinator: GroupCoordinatorSettings,
    /// `__consumer_offsets` and what is kept there.
    pub offsets: OffsetsSettings,
    /// What a new topic gets.
    pub topic_defaults: TopicDefaults,
    /// Fetch requests.
    pub fetch: FetchSettings,
    /// How quotas are measured.
    pub quotas: QuotaSettings,
    /// What clients measure (KIP-714).
    pub telemetry: TelemetrySettings,
    /// `metrics.listener`, Ottla's own: `host:port` where metrics are told over HTTP, if anywhere.
    pub metrics_listener: Option<String>,
    /// What all this was read from, for describing it.
    pub(crate) settings: Settings,
}

/// Who this node is, where it listens and where its data lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// `node.id`, or its older name `broker.id`.
    pub node_id: BrokerId,
    /// `process.roles` holds `broker`.
    pub is_broker: bool,
    /// `process.roles` holds `controller`.
    pub is_controller: bool,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// `listeners`, those of the controller among them.
    pub listeners: Vec<ListenerAddress>,
    /// `advertised.listeners`: what clients and brokers are told; the broker listeners if not set.
    pub advertised_listeners: Vec<ListenerAddress>,
    /// `controller.listener.names`, in order.
    pub controller_listener_names: Vec<String>,
    /// `inter.broker.listener.name`: the listener on which brokers reach each other.
    pub inter_broker_listener_name: String,
    /// `log.dirs`, else `log.dir`; never empty.
    pub log_dirs: Vec<PathBuf>,
    /// `metadata.log.dir`, else the first of `log_dirs`: where a controller keeps the metadata log.
    pub metadata_log_dir: PathBuf,
    /// `broker.heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
    /// `broker.session.timeout.ms`: when a broker has been silent for this long, others lead what it led.
    pub session_timeout: Duration,
    /// `initial.broker.registration.timeout.ms`.
    pub initial_registration_timeout: Duration,
    /// `server.max.startup.time.ms`; `None` is as long as it takes.
    pub max_startup_time: Option<Duration>,
    /// `controlled.shutdown.enable`: give up leaderships before stopping.
    pub controlled_shutdown: bool,
    /// `request.timeout.ms`: for how long something is tried that takes an answer of the active controller.
    pub request_timeout: Duration,
    /// `controller.socket.timeout.ms` of one such request.
    pub controller_socket_timeout: Duration,
}

impl NodeConfig {
    /// Where other nodes reach the controller of this one: the listener of the first of
    /// `controller.listener.names`, as `advertised.listeners` names it, or else `listeners` (KIP-853).
    pub fn controller_listener(&self) -> Option<&ListenerAddress> {
        let mut all = self.advertised_listeners.iter().chain(&self.listeners);
        let name = self
            .controller_listener_names
            .iter()
            .find(|name| self.listeners.iter().any(|listener| listener.name == **name))?;
        all.find(|listener| listener.name == *name)
    }

    /// Where the metadata log lies. A broker alone keeps none.
    pub fn own_metadata_log_dir(&self) -> Option<&Path> {
        self.is_controller.then_some(&*self.metadata_log_dir)
    }

    /// [`own_metadata_log_dir`](Self::own_metadata_log_dir), where it is none of `log_dirs`.
    pub fn metadata_log_dir_apart(&self) -> Option<&Path> {
        self.own_metadata_log_dir().filter(|dir| !self.log_dirs.iter().any(|it| it == dir))
    }
}

/// The metadata quorum: `controller.quorum.*` and `metadata.log.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumConfig {
    /// `controller.quorum.voters`; empty means that this controller alone is the quorum.
    pub voters: Vec<QuorumVoter>,
    /// `controller.quorum.bootstrap.servers`: whom to ask for the quorum, in place of `voters` (KIP-853).
    pub bootstrap_servers: Vec<ServerAddress>,
    /// `controller.quorum.auto.join.enable`: a controller without a vote asks for one (KIP-1186).
    pub auto_join: bool,
    /// `controller.quorum.election.timeout.ms`.
    pub election_timeout: Duration,
    /// `controller.quorum.fetch.timeout.ms`.
    pub fetch_timeout: Duration,
    /// `controller.quorum.election.backoff.max.ms`.
    pub election_backoff_max: Duration,
    /// `controller.quorum.append.linger.ms`.
    pub append_linger: Duration,
    /// `controller.quorum.request.timeout.ms`.
    pub request_timeout: Duration,
    /// `controller.quorum.retry.backoff.ms`.
    pub retry_backoff: Duration,
    /// `metadata.log.segment.bytes`.
    pub segment_bytes: u32,
    /// `metadata.log.segment.ms`.
    pub segment_time: Duration,
    /// `metadata.log.max.record.bytes.between.snapshots`: a snapshot is due after this many bytes.
    pub max_bytes_between_snapshots: u64,
    /// `metadata.log.max.snapshot.interval.ms`; `None` is never by time alone.
    pub max_snapshot_interval: Option<Duration>,
    /// `metadata.max.retention.bytes`; `None` is no limit.
    pub max_retention_bytes: Option<u64>,
    /// `metadata.max.retention.ms`; `None` is for ever.
    pub max_retention: Option<Duration>,
    /// `metadata.max.idle.interval.ms`: an idle leader appends a no-op this often; `None` is never.
    pub max_idle_interval: Option<Duration>,
}

/// Where a node is asked whose id is not known: `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerAddress {
    /// Its host name or address; not empty.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
}

impl std::fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

/// One voter of the metadata quorum: `id@host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumVoter {
    /// Its `node.id`.
    pub node_id: BrokerId,
    /// Its host name or address.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
}

/// The network layer. Kafka's `SocketServer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketServerConfig {
    /// `queued.max.requests`: requests of a connection that are not answered yet.
    pub queued_max_requests: usize,
    /// `queued.max.request.bytes` of all connections at once; `None` is no limit.
    pub queued_max_request_bytes: Option<usize>,
    /// `socket.request.max.bytes`: the largest request, in bytes.
    pub request_max_bytes: usize,
    /// `socket.send.buffer.bytes`; `None` keeps the system's default.
    pub send_buffer_bytes: Option<usize>,
    /// `socket.receive.buffer.bytes`; `None` keeps the system's default.
    pub receive_buffer_bytes: Option<usize>,
    /// `socket.listen.backlog.size`.
    pub listen_backlog: u32,
    /// `connections.max.idle.ms`; `None` is for ever.
    pub connections_max_idle: Option<Duration>,
    /// `max.connections` of this node.
    pub max_connections: usize,
    /// `max.connections.per.ip`.
    pub max_connections_per_ip: usize,
    /// `max.connections.per.ip.overrides`: host name or address, and its limit.
    pub max_connections_per_ip_overrides: BTreeMap<IpAddr, usize>,
    /// `max.connection.creation.rate` per second.
    pub max_connection_creation_rate: u32,
}

/// The logs of this node. Kafka's `LogManager`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogManagerConfig {
    /// What a topic without overrides gets.
    pub defaults: LogConfig,
    /// `num.recovery.threads.per.data.dir`.
    pub recovery_threads_per_data_dir: usize,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `log.flush.scheduler.interval.ms`; `None` is never.
    pub flush_scheduler_interval: Option<Duration>,
    /// `log.flush.offset.checkpoint.interval.ms`.
    pub flush_offset_checkpoint_interval: Duration,
    /// `log.flush.start.offset.checkpoint.interval.ms`.
    pub flush_start_offset_checkpoint_interval: Duration,
    /// `log.initial.task.delay.ms`.
    pub initial_task_delay: Duration,
    /// `log.dir.failure.timeout.ms`.
    pub log_dir_failure_timeout: Duration,
    /// `log.dir.reserved.bytes`, Ottla's own: what producers may not take of a directory's disk.
    pub reserved_bytes: u64,
    /// `log.max.open.files`, Ottla's own: segment and index files kept open at once.
    pub max_open_files: usize,
    /// `producer.id.expiration.ms`: an idempotent producer silent for this long is forgotten.
    pub producer_id_expiration: Duration,
    /// `log.dir.sync.max.bytes`; 0 is never.
    pub dir_sync_max_bytes: u64,
    /// `log.dir.checkpoint.bytes`.
    pub dir_checkpoint_bytes: u64,
}

/// Compaction: `log.cleaner.*`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogCleanerConfig {
    /// `log.cleaner.enable`.
    pub enable: bool,
    /// `log.cleaner.threads`.
    pub threads: usize,
    /// `log.cleaner.dedupe.buffer.size` in bytes, of all threads together.
    pub dedupe_buffer_bytes: u64,
    /// `log.cleaner.io.buffer.size` in bytes, of all threads together.
    pub io_buffer_bytes: usize,
    /// `log.cleaner.io.buffer.load.factor`: 0.0 to 1.0.
    pub io_buffer_load_factor: f64,
    /// `log.cleaner.io.max.bytes.per.second`; `f64::MAX` is no limit.
    pub io_max_bytes_per_second: f64,
    /// `log.cleaner.backoff.ms`.
    pub backoff: Duration,
}

/// Replication between brokers. Kafka's `ReplicaManager` and `ReplicaFetcherThread`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaManagerConfig {
    /// `replica.lag.time.max.ms`: a follower behind for longer leaves the ISR.
    pub lag_time_max: Duration,
    /// `num.replica.fetchers`: connections to each leader.
    pub num_fetchers: usize,
    /// `replica.fetch.max.bytes` per partition.
    pub fetch_max_bytes: u32,
    /// `replica.fetch.response.max.bytes` per response.
    pub fetch_response_max_bytes: u32,
    /// `replica.fetch.min.bytes`.
    pub fetch_min_bytes: u32,
    /// `replica.fetch.wait.max.ms`.
    pub fetch_wait_max: Duration,
    /// `replica.fetch.backoff.ms`.
    pub fetch_backoff: Duration,
    /// `replica.socket.timeout.ms`.
    pub socket_timeout: Duration,
    /// `replica.socket.receive.buffer.bytes`; `None` keeps the system's default.
    pub socket_receive_buffer_bytes: Option<usize>,
    /// `replica.high.watermark.checkpoint.interval.ms`.
    pub high_watermark_checkpoint_interval: Duration,
    /// `num.replica.alter.log.dirs.threads`: logs that move to another directory at once; as many as
    /// there are directories if it is not set.
    pub moves_at_once: usize,
    /// `replica.alter.log.dirs.io.max.bytes.per.second` of each of them.
    pub move_max_bytes_per_second: u64,
    /// How fast replicas that are not in sync are fetched (KIP-73).
    pub throttle: ReplicationThrottle,
    /// `replica.selector.class`: whether consumers are sent to a replica in their rack (KIP-392).
    pub rack_aware_reads: bool,
    /// `auto.leader.rebalance.enable`.
    pub auto_leader_rebalance: bool,
    /// `leader.imbalance.check.interval.seconds`.
    pub leader_imbalance_check_interval: Duration,
    /// `unclean.leader.election.interval.ms`.
    pub unclean_leader_election_interval: Duration,
}

/// How fast replicas that are not in sync are fetched, in bytes per second of this broker (KIP-73).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicationThrottle {
    /// `leader.replication.throttled.rate`; `None` is no limit.
    pub leader_rate: Option<u64>,
    /// `follower.replication.throttled.rate`; `None` is no limit.
    pub follower_rate: Option<u64>,
    /// `cluster.rebalance.throttled.rate`, Ottla's own: of replicas that a reassignment adds, as leader and as follower.
    pub reassigned_rate: u64,
}

/// What the controller moves by itself: `cluster.rebalance.*`, Ottla's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebalanceConfig {
    /// `cluster.rebalance.enable`.
    pub enable: bool,
    /// `cluster.rebalance.interval.seconds`: between two looks.
    pub interval: Duration,
    /// `cluster.rebalance.max.moves`: partitions on their way at once.
    pub max_moves: usize,
    /// `cluster.rebalance.tolerance.percent` of a share that is left alone.
    pub tolerance_percent: u32,
}

/// Consumer groups: `group.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupCoordinatorSettings {
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members.
    pub initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout: Duration,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout: Duration,
    /// `group.max.size`: members of one group.
    pub max_size: usize,
    /// `group.coordinator.threads`: partitions whose groups are loaded at once.
    pub threads: usize,
}

/// `__consumer_offsets` and what is kept there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetsSettings {
    /// `offsets.topic.num.partitions`.
    pub topic_num_partitions: i32,
    /// `offsets.topic.replication.factor`.
    pub topic_replication_factor: i16,
    /// `offsets.topic.segment.bytes`.
    pub topic_segment_bytes: u32,
    /// `offsets.topic.compression.codec`: 0 none, 1 gzip, 2 snappy, 3 LZ4, 4 zstd.
    pub topic_compression_codec: i8,
    /// `offsets.retention.minutes`: after this, offsets of an empty group expire.
    pub retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `offsets.load.buffer.size` in bytes.
    pub load_buffer_bytes: usize,
    /// `offsets.commit.timeout.ms`.
    pub commit_timeout: Duration,
    /// `offset.metadata.max.bytes`: the longest metadata string of a commit.
    pub metadata_max_bytes: usize,
}

/// What a new topic gets, and who may make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDefaults {
    /// `num.partitions`.
    pub num_partitions: i32,
    /// `default.replication.factor`.
    pub replication_factor: i16,
    /// `auto.create.topics.enable`.
    pub auto_create: bool,
    /// `delete.topic.enable`.
    pub delete_enable: bool,
}

/// Fetch requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchSettings {
    /// `fetch.max.bytes`: the largest fetch response, whatever the client asks.
    pub max_bytes: u32,
    /// `max.incremental.fetch.session.cache.slots` (KIP-227).
    pub max_incremental_session_slots: usize,
    /// `max.request.partition.size.limit`: partitions in one DescribeTopicPartitions response.
    pub max_request_partition_size_limit: usize,
    /// `fetch.sendfile`, Ottla's own: how stored records reach a socket.
    pub sendfile: Sendfile,
    /// `fetch.cold.read.threads`, Ottla's own: fetches that may wait for a disk at once.
    pub cold_read_threads: usize,
}

/// `fetch.sendfile`: how stored records reach a plaintext socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sendfile {
    /// The server chooses by the size of the piece.
    Auto,
    /// `sendfile` whenever the socket can.
    On,
    /// Always read, then write.
    Off,
}

/// What clients measure and push (KIP-714).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelemetrySettings {
    /// `telemetry.max.bytes`: the largest push, and the most that is kept of one client.
    pub max_bytes: u32,
    /// `telemetry.max.instances`, Ottla's own: clients that are known at once. Kafka knows 16384.
    pub max_instances: usize,
    /// `telemetry.max.kept.bytes`, Ottla's own: the most that is kept of all clients.
    pub max_kept_bytes: usize,
}

/// How quotas are measured. Kafka's `ClientQuotaManagerConfig`, of clients and of the controller, and
/// `ReplicationQuotaManagerConfig`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaSettings {
    /// `quota.window.num` and `quota.window.size.seconds`: bytes, requests and connections.
    pub window: QuotaWindow,
    /// `controller.quota.window.num` and `controller.quota.window.size.seconds`: partitions created and deleted.
    pub controller_window: QuotaWindow,
    /// `replication.quota.window.num` and `replication.quota.window.size.seconds`: bytes between brokers.
    pub replication_window: QuotaWindow,
}

/// Over how many samples of which length something is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaWindow {
    /// Samples, the one under way among them; at least 1.
    pub samples: u32,
    /// Length of one; at least a second.
    pub size: Duration,
}
