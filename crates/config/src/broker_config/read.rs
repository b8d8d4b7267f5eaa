//! From settings to structs.

use std::path::PathBuf;
use std::time::Duration;

use ottla_protocol::BrokerId;

use super::*;
use crate::key::list_elements;
use crate::keys::connection_limit;
use crate::listener::{Listeners, parse_host_port};
use crate::settings::{Findings, Settings, read_properties};
use crate::values::Values;
use crate::{ConfigError, ConfigProblem, ConfigWarning};

/// Longer than any start takes.
const ENDLESS: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl BrokerConfig {
    /// What a start without a configuration file is given: one node, only for this machine.
    pub const STANDALONE: &str = "\
        process.roles=broker,controller\n\
        node.id=1\n\
        listeners=PLAINTEXT://127.0.0.1:9092\n\
        log.dirs=./ottla-data\n\
        offsets.topic.replication.factor=1\n\
        group.initial.rebalance.delay.ms=0\n";

    /// Reads properties `texts`, later ones over earlier ones, and `overrides` over all of them.
    ///
    /// All errors are found at once. Warnings do not stop a start.
    pub fn parse(
        texts: &[&str],
        overrides: &[(&str, &str)],
    ) -> Result<(Self, Vec<ConfigWarning>), ConfigError> {
        let mut findings = Findings::default();
        let mut pairs = Vec::new();
        for text in texts {
            match read_properties(text) {
                Ok(read) => pairs.extend(read),
                Err(problem) => findings.problems.push(problem),
            }
        }
        let overrides = overrides.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        pairs.extend(overrides);
        let settings = Settings::read(pairs, &mut findings);
        let config = Self::of(settings, &mut findings.problems);
        match findings.problems.is_empty() {
            true => Ok((config, findings.warnings)),
            false => Err(ConfigError { problems: findings.problems }),
        }
    }

    /// The configuration of a topic with these overrides, over what this node says of its topics.
    ///
    /// Every problem is reported: unknown keys, values out of range, keys that contradict each other.
    pub fn log_config<K: AsRef<str>, V: AsRef<str>>(
        &self,
        overrides: impl IntoIterator<Item = (K, V)>,
    ) -> Result<LogConfig, ConfigError> {
        LogConfig::of_topic(&self.settings, overrides)
    }

    pub(crate) fn of(settings: Settings, problems: &mut Vec<ConfigProblem>) -> Self {
        let node = NodeConfig::of(&settings, problems);
        let quorum = QuorumConfig::of(&settings, problems);
        check_roles(&node, &quorum, &settings, problems);
        let replica_manager = ReplicaManagerConfig::of(&settings, node.log_dirs.len());
        check_replication(&replica_manager, problems);
        Self {
            node,
            quorum,
            socket_server: SocketServerConfig::of(&settings),
            log_manager: LogManagerConfig::of(&settings),
            log_cleaner: LogCleanerConfig::of(&settings),
            replica_manager,
            rebalance: RebalanceConfig::of(&settings),
            group_coordinator: GroupCoordinatorSettings::of(&settings),
            offsets: OffsetsSettings::of(&settings),
            topic_defaults: TopicDefaults::of(&settings),
            fetch: FetchSettings::of(&settings),
            quotas: QuotaSettings::of(&settings),
            telemetry: TelemetrySettings::of(&settings),
            metrics_listener: metrics_listener(&settings, problems),
            settings,
        }
    }
}

impl Default for BrokerConfig {
    /// A start without a configuration file.
    fn default() -> Self {
        match Self::parse(&[Self::STANDALONE], &[]) {
            Ok((config, _)) => config,
            Err(error) => panic!("bug: the built-in configuration is not valid: {error}"),
        }
    }
}

impl NodeConfig {
    fn of(values: &Settings, problems: &mut Vec<ConfigProblem>) -> Self {
        let roles = values.list("process.roles");
        let has = |role: &str| roles.iter().any(|given| given == role);
        let listeners = Listeners::of(values, has("broker"), problems);
        let log_dirs: Vec<PathBuf> = values.list("log.dirs").into_iter().map(Into::into).collect();
        let metadata_log_dir =
            values.text("metadata.log.dir").map(Into::into).or_else(|| log_dirs.first().cloned());
        if metadata_log_dir.is_none() {
            problems.push(ConfigProblem::Conflict("log.dirs must name a directory".to_owned()));
        }
        Self {
            node_id: BrokerId(values.number("node.id")),
            is_broker: has("broker"),
            is_controller: has("controller"),
            rack: values.text("broker.rack"),
            listeners: listeners.listeners,
            advertised_listeners: listeners.advertised,
            controller_listener_names: listeners.controller_names,
            inter_broker_listener_name: listeners.inter_broker_name,
            log_dirs,
            metadata_log_dir: metadata_log_dir.unwrap_or_default(),
            heartbeat_interval: values.millis("broker.heartbeat.interval.ms"),
            session_timeout: values.millis("broker.session.timeout.ms"),
            initial_registration_timeout: values.millis("initial.broker.registration.timeout.ms"),
            max_startup_time: Some(values.millis("server.max.startup.time.ms"))
                .filter(|limit| *limit < ENDLESS),
            controlled_shutdown: values.boolean("controlled.shutdown.enable"),
            request_timeout: values.millis("request.timeout.ms"),
            controller_socket_timeout: values.millis("controller.socket.timeout.ms"),
        }
    }
}

impl QuorumConfig {
    fn of(values: &Settings, problems: &mut Vec<ConfigProblem>) -> Self {
        const VOTERS: &str = "controller.quorum.voters";
        let mut voters = Vec::new();
        for text in values.list(VOTERS) {
            match parse_voter(&text) {
                Some(voter) => voters.push(voter),
                None => problems.push(ConfigProblem::InvalidValue {
                    key: VOTERS.to_owned(),
                    value: text,
                    accepted: "a list of id@host:port".to_owned(),
                }),
            }
        }
        let interval: Duration = values.millis("metadata.log.max.snapshot.interval.ms");
        let idle = values.millis("metadata.max.idle.interval.ms");
        Self {
            voters,
            bootstrap_servers: bootstrap_servers(values, problems),
            auto_join: values.boolean("controller.quorum.auto.join.enable"),
            election_timeout: values.millis("controller.quorum.election.timeout.ms"),
            fetch_timeout: values.millis("controller.quorum.fetch.timeout.ms"),
            election_backoff_max: values.millis("controller.quorum.election.backoff.max.ms"),
            append_linger: values.millis("controller.quorum.append.linger.ms"),
            request_timeout: values.millis("controller.quorum.request.timeout.ms"),
            retry_backoff: values.millis("controller.quorum.retry.backoff.ms"),
            segment_bytes: values.number("metadata.log.segment.bytes"),
            segment_time: values.millis("metadata.log.segment.ms"),
            max_bytes_between_snapshots: values
                .number("metadata.log.max.record.bytes.between.snapshots"),
            max_snapshot_interval: Some(interval).filter(|interval| !interval.is_zero()),
            max_retention_bytes: values.limit("metadata.max.retention.bytes"),
            max_retention: values.millis_or_never("metadata.max.retention.ms"),
            max_idle_interval: Some(idle).filter(|idle| !idle.is_zero()),
        }
    }
}

fn bootstrap_servers(values: &Settings, problems: &mut Vec<ConfigProblem>) -> Vec<ServerAddress> {
    const SERVERS: &str = "controller.quorum.bootstrap.servers";
    let mut servers = Vec::new();
    for text in values.list(SERVERS) {
        match parse_host_port(&text).filter(|(host, port)| !host.is_empty() && *port > 0) {
            Some((host, port)) => servers.push(ServerAddress { host, port }),
            None => problems.push(ConfigProblem::InvalidValue {
                key: SERVERS.to_owned(),
                value: text,
                accepted: "a list of host:port".to_owned(),
            }),
        }
    }
    servers
}

fn parse_voter(text: &str) -> Option<QuorumVoter> {
    let (id, address) = text.split_once('@')?;
    let (host, port) = parse_host_port(address)?;
    let node_id = id.trim().parse::<i32>().ok().filter(|id| *id >= 0)?;
    (!host.is_empty()).then_some(QuorumVoter { node_id: BrokerId(node_id), host, port })
}

impl SocketServerConfig {
    fn of(values: &Settings) -> Self {
        let overrides = values.text("max.connections.per.ip.overrides").unwrap_or_default();
        let overrides = list_elements(&overrides).filter_map(|text| connection_limit(&text));
        Self {
            queued_max_requests: values.number("queued.max.requests"),
            queued_max_request_bytes: values.limit("queued.max.request.bytes"),
            request_max_bytes: values.number("socket.request.max.bytes"),
            send_buffer_bytes: values.limit("socket.send.buffer.bytes"),
            receive_buffer_bytes: values.limit("socket.receive.buffer.bytes"),
            listen_backlog: values.number("socket.listen.backlog.size"),
            connections_max_idle: values.millis_or_never("connections.max.idle.ms"),
            max_connections: values.number("max.connections"),
            max_connections_per_ip: values.number("max.connections.per.ip"),
            max_connections_per_ip_overrides: overrides.collect(),
            max_connection_creation_rate: values.number("max.connection.creation.rate"),
        }
    }
}

impl QuotaSettings {
    fn of(values: &Settings) -> Self {
        let window = |num, size_seconds| QuotaWindow {
            samples: values.number(num),
            size: Duration::from_secs(values.number(size_seconds)),
        };
        Self {
            window: window("quota.window.num", "quota.window.size.seconds"),
            controller_window: window(
                "controller.quota.window.num",
                "controller.quota.window.size.seconds",
            ),
            replication_window: window(
                "replication.quota.window.num",
                "replication.quota.window.size.seconds",
            ),
        }
    }
}

impl LogManagerConfig {
    fn of(values: &Settings) -> Self {
        Self {
            defaults: LogConfig::of_broker(values),
            recovery_threads_per_data_dir: values.number("num.recovery.threads.per.data.dir"),
            retention_check_interval: values.millis("log.retention.check.interval.ms"),
            flush_scheduler_interval: values.millis_or_never("log.flush.scheduler.interval.ms"),
            flush_offset_checkpoint_interval: values
                .millis("log.flush.offset.checkpoint.interval.ms"),
            flush_start_offset_checkpoint_interval: values
                .millis("log.flush.start.offset.checkpoint.interval.ms"),
            initial_task_delay: values.millis("log.initial.task.delay.ms"),
            log_dir_failure_timeout: values.millis("log.dir.failure.timeout.ms"),
            reserved_bytes: values.number("log.dir.reserved.bytes"),
            max_open_files: values.number("log.max.open.files"),
            producer_id_expiration: values.millis("producer.id.expiration.ms"),
            dir_sync_max_bytes: values.number("log.dir.sync.max.bytes"),
            dir_checkpoint_bytes: values.number("log.dir.checkpoint.bytes"),
        }
    }
}

impl LogCleanerConfig {
    fn of(values: &Settings) -> Self {
        Self {
            enable: values.boolean("log.cleaner.enable"),
            threads: values.number("log.cleaner.threads"),
            dedupe_buffer_bytes: values.number("log.cleaner.dedupe.buffer.size"),
            io_buffer_bytes: values.number("log.cleaner.io.buffer.size"),
            io_buffer_load_factor: values.double("log.cleaner.io.buffer.load.factor"),
            io_max_bytes_per_second: values.double("log.cleaner.io.max.bytes.per.second"),
            backoff: values.millis("log.cleaner.backoff.ms"),
        }
    }
}

impl ReplicaManagerConfig {
    /// Of a node with as many `dirs`.
    fn of(values: &Settings, dirs: usize) -> Self {
        Self {
            lag_time_max: values.millis("replica.lag.time.max.ms"),
            num_fetchers: values.number("num.replica.fetchers"),
            fetch_max_bytes: values.number("replica.fetch.max.bytes"),
            fetch_response_max_bytes: values.number("replica.fetch.response.max.bytes"),
            fetch_min_bytes: values.number("replica.fetch.min.bytes"),
            fetch_wait_max: values.millis("replica.fetch.wait.max.ms"),
            fetch_backoff: values.millis("replica.fetch.backoff.ms"),
            socket_timeout: values.millis("replica.socket.timeout.ms"),
            socket_receive_buffer_bytes: values.limit("replica.socket.receive.buffer.bytes"),
            high_watermark_checkpoint_interval: values
                .millis("replica.high.watermark.checkpoint.interval.ms"),
            moves_at_once: values
                .number_if_given("num.replica.alter.log.dirs.threads")
                .unwrap_or(dirs),
            move_max_bytes_per_second: values
                .number("replica.alter.log.dirs.io.max.bytes.per.second"),
            throttle: ReplicationThrottle {
                leader_rate: rate(values, "leader.replication.throttled.rate"),
                follower_rate: rate(values, "follower.replication.throttled.rate"),
                reassigned_rate: values.number("cluster.rebalance.throttled.rate"),
            },
            rack_aware_reads: values
                .text("replica.selector.class")
                .is_some_and(|class| class.ends_with(".RackAwareReplicaSelector")),
            auto_leader_rebalance: values.boolean("auto.leader.rebalance.enable"),
            leader_imbalance_check_interval: Duration::from_secs(
                values.number("leader.imbalance.check.interval.seconds"),
            ),
            unclean_leader_election_interval: values.millis("unclean.leader.election.interval.ms"),
        }
    }
}

/// Bytes per second; the largest number is no limit.
fn rate(values: &Settings, name: &str) -> Option<u64> {
    let rate: i64 = values.number(name);
    u64::try_from(rate).ok().filter(|_| rate != i64::MAX)
}

impl RebalanceConfig {
    fn of(values: &Settings) -> Self {
        Self {
            enable: values.boolean("cluster.rebalance.enable"),
            interval: Duration::from_secs(values.number("cluster.rebalance.interval.seconds")),
            max_moves: values.number("cluster.rebalance.max.moves"),
            tolerance_percent: values.number("cluster.rebalance.tolerance.percent"),
        }
    }
}

impl GroupCoordinatorSettings {
    fn of(values: &Settings) -> Self {
        Self {
            initial_rebalance_delay: values.millis("group.initial.rebalance.delay.ms"),
            min_session_timeout: values.millis("group.min.session.timeout.ms"),
            max_session_timeout: values.millis("group.max.session.timeout.ms"),
            max_size: values.number("group.max.size"),
            threads: values.number("group.coordinator.threads"),
        }
    }
}

impl OffsetsSettings {
    fn of(values: &Settings) -> Self {
        let retention_minutes: u64 = values.number("offsets.retention.minutes");
        Self {
            topic_num_partitions: values.number("offsets.topic.num.partitions"),
            topic_replication_factor: values.number("offsets.topic.replication.factor"),
            topic_segment_bytes: values.number("offsets.topic.segment.bytes"),
            topic_compression_codec: values.number("offsets.topic.compression.codec"),
            retention: Duration::from_secs(retention_minutes.saturating_mul(60)),
            retention_check_interval: values.millis("offsets.retention.check.interval.ms"),
            load_buffer_bytes: values.number("offsets.load.buffer.size"),
            commit_timeout: values.millis("offsets.commit.timeout.ms"),
            metadata_max_bytes: values.number("offset.metadata.max.bytes"),
        }
    }
}

impl TopicDefaults {
    fn of(values: &Settings) -> Self {
        Self {
            num_partitions: values.number("num.partitions"),
            replication_factor: values.number("default.replication.factor"),
            auto_create: values.boolean("auto.create.topics.enable"),
            delete_enable: values.boolean("delete.topic.enable"),
        }
    }
}

impl FetchSettings {
    fn of(values: &Settings) -> Self {
        Self {
            max_bytes: values.number("fetch.max.bytes"),
            max_incremental_session_slots: values
                .number("max.incremental.fetch.session.cache.slots"),
            max_request_partition_size_limit: values.number("max.request.partition.size.limit"),
            sendfile: match values.text("fetch.sendfile").as_deref() {
                Some("on") => Sendfile::On,
                Some("off") => Sendfile::Off,
                _ => Sendfile::Auto,
            },
            cold_read_threads: values.number("fetch.cold.read.threads"),
        }
    }
}

impl TelemetrySettings {
    fn of(values: &Settings) -> Self {
        Self {
            max_bytes: values.number("telemetry.max.bytes"),
            max_instances: values.number("telemetry.max.instances"),
            max_kept_bytes: values.number("telemetry.max.kept.bytes"),
        }
    }
}

/// Where metrics are told, if anywhere.
fn metrics_listener(values: &Settings, problems: &mut Vec<ConfigProblem>) -> Option<String> {
    const LISTENER: &str = "metrics.listener";
    let text = values.text(LISTENER).filter(|text| !text.trim().is_empty())?;
    if parse_host_port(text.trim()).is_none() {
        problems.push(ConfigProblem::InvalidValue {
            key: LISTENER.to_owned(),
            value: text,
            accepted: "host:port, as in 127.0.0.1:9404, or nothing".to_owned(),
        });
        return None;
    }
    Some(text.trim().to_owned())
}

/// Who may be what: the rules of KIP-500 and KIP-853 that a node can check alone.
fn check_roles(
    node: &NodeConfig,
    quorum: &QuorumConfig,
    settings: &Settings,
    problems: &mut Vec<ConfigProblem>,
) {
    let mut conflict = |text: String| problems.push(ConfigProblem::Conflict(text));
    if let (Some(node_id), Some(broker_id)) =
        (settings.given("node.id"), settings.given("broker.id"))
        && node_id != broker_id
    {
        conflict(format!("node.id={node_id} and broker.id={broker_id}: set one, or both the same"));
    }
    if !node.is_broker && !node.is_controller {
        conflict("process.roles must name broker, controller or both".to_owned());
    }
    let in_cluster = !quorum.voters.is_empty() || !quorum.bootstrap_servers.is_empty();
    if in_cluster && settings.given("node.id").or(settings.given("broker.id")).is_none() {
        conflict("node.id must be set when controller.quorum.voters or controller.quorum.bootstrap.servers is".to_owned());
    }
    if in_cluster && node.controller_listener_names.is_empty() {
        conflict(
            "controller.listener.names must name the listener on which controllers are reached"
                .to_owned(),
        );
    }
    if node.is_broker && !node.is_controller && !in_cluster {
        conflict("process.roles=broker needs controller.quorum.voters or controller.quorum.bootstrap.servers to find its controllers".to_owned());
    }
    if !quorum.voters.is_empty() && !quorum.bootstrap_servers.is_empty() {
        conflict("controller.quorum.voters and controller.quorum.bootstrap.servers are both set: keep the first where the voters stay as they are for ever, the second where they may change".to_owned());
    }
    check_joining(node, quorum, &mut conflict);
    let is_controllers =
        |listener: &ListenerAddress| node.controller_listener_names.contains(&listener.name);
    let listens_as_controller = node.listeners.iter().any(is_controllers);
    if node.is_controller && in_cluster && !listens_as_controller {
        conflict("listeners must have one that controller.listener.names names".to_owned());
    }
    if !node.is_controller && listens_as_controller {
        conflict("process.roles has no controller, so listeners must have none that controller.listener.names names".to_owned());
    }
    if node.is_broker && listens_as_controller && node.listeners.iter().all(is_controllers) {
        conflict("listeners must have one for clients, not only those of controllers".to_owned());
    }
    let id = node.node_id;
    let votes = quorum.voters.iter().any(|voter| voter.node_id == id);
    if !quorum.voters.is_empty() && node.is_controller != votes {
        conflict(match node.is_controller {
            true => format!("node {id} is a controller but not among controller.quorum.voters"),
            false => format!(
                "node {id} is among controller.quorum.voters but process.roles has no controller"
            ),
        });
    }
}

/// Whether a controller can say where it is reached, which one that is added has to.
fn check_joining(node: &NodeConfig, quorum: &QuorumConfig, conflict: &mut impl FnMut(String)) {
    let can_join = node.is_controller && !quorum.bootstrap_servers.is_empty();
    if quorum.auto_join && !can_join {
        conflict("controller.quorum.auto.join.enable is for controllers that find the quorum by controller.quorum.bootstrap.servers: set that, or remove it".to_owned());
    }
    if !can_join {
        return;
    }
    if let Some(listener) = node.controller_listener()
        && (listener.host.is_empty() || listener.host == "0.0.0.0" || listener.host == "::")
    {
        conflict(format!(
            "{listener} does not tell other controllers where this one is: name a host in listeners, or add {}://<host name>:{} to advertised.listeners",
            listener.name, listener.port
        ));
    }
}

/// A follower's fetch may not wait for longer than a follower may lag, nor than its request may take.
fn check_replication(replicas: &ReplicaManagerConfig, problems: &mut Vec<ConfigProblem>) {
    let wait = replicas.fetch_wait_max;
    for (key, limit) in [
        ("replica.lag.time.max.ms", replicas.lag_time_max),
        ("replica.socket.timeout.ms", replicas.socket_timeout),
    ] {
        if wait > limit {
            problems.push(ConfigProblem::Conflict(format!(
                "replica.fetch.wait.max.ms={} must not be above {key}={}",
                wait.as_millis(),
                limit.as_millis()
            )));
        }
    }
}
