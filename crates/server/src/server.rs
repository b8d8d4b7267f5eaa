//! Starting and stopping a node. Kafka's `BrokerLifecycleManager` and `BrokerServer.startup`.
//!
//! ```text
//! controller listeners served ─► cluster agreed on ─► log dirs locked, logs recovered ─► metadata log followed
//!            ─► broker registered, fenced ─► partitions opened, groups loading ─► requests served ─► unfenced
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ottla_config::BrokerConfig;
use ottla_env::{BoxFuture, Env, TaskHandle, timeout};
use ottla_metadata::controller::{SUPPORTED_FEATURES, SupportedFeature};
use ottla_metadata::{BrokerEpoch, ControllerConfig};
use ottla_protocol::messages::BrokerRegistrationRequest;
use ottla_protocol::messages::broker_registration_request::{Feature, Listener};
use ottla_protocol::{Offset, StrBytes, Uuid, message, parse_uuid};
use ottla_storage::{LogCleaner, LogManager, LogManagerOptions, OpenError, OwnDir};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::broker::Broker;
use crate::broker_lifecycle::{BrokerLifecycle, RegisterError};
use crate::cluster_identity::{agree_on_cluster_id, find_cluster_id, newcomer};
use crate::cold_reads::ColdReads;
use crate::controller_channel::{ActiveController, ControllerChannel, watch_leader};
use crate::controller_host::{ControllerHost, ControllerStartError};
use crate::endpoints::{advertised, controller_endpoint, listeners_of, servers_of, voters_of};
use crate::handlers::controller_apis::ControllerListener;
use crate::handlers::dispatch;
use crate::log_dirs;
use crate::metadata_cache::MetadataCache;
use crate::metadata_follower::{FollowerOptions, MetadataFollower};
use crate::metrics::MetricsListener;
use crate::network::{BoundSockets, ListenError, SocketServer};
use crate::quorum::{QuorumOptions, Voter};
use crate::quotas::ClientQuotas;
use crate::voter_connections::VoterConnections;

/// How often retention, flushes and checkpoints are looked at; each has its own interval.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);

/// A running node.
pub struct Server {
    config: Arc<BrokerConfig>,
    cluster_id: String,
    logs: Arc<LogManager>,
    /// Keeps others out of `metadata.log.dir`.
    _metadata_dir: Option<OwnDir>,
    controller: Option<Arc<ControllerHost>>,
    /// Follows the metadata log for as long as it is held, where there is no controller.
    _follower: Option<MetadataFollower>,
    broker: Option<RunningBroker>,
    /// Where other nodes come in, if this one has the controller role.
    controller_sockets: Option<SocketServer>,
    addresses: Vec<(Arc<str>, SocketAddr)>,
    metrics_address: Option<SocketAddr>,
    background: Vec<TaskHandle>,
    failure: watch::Receiver<Option<String>>,
}

/// What a node with the broker role has beside the rest.
struct RunningBroker {
    broker: Arc<Broker>,
    lifecycle: Arc<BrokerLifecycle>,
    sockets: SocketServer,
    background: Vec<TaskHandle>,
}

/// Why a node did not start. The text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A log directory cannot be used.
    #[error(transparent)]
    Logs(#[from] OpenError),
    /// The log directory of the metadata cannot be used.
    #[error("{0}")]
    MetadataDir(String),
    /// The metadata of the cluster was there, and nobody else has it.
    #[error(
        "metadata.log.dir {} has no meta.properties, and other directories of this node belong to cluster {cluster_id}: \
         nobody else has the metadata of that cluster. Put the directory back (is its disk mounted?), or empty all \
         directories of the node to begin a new cluster", dir.display()
    )]
    MetadataLost {
        /// `metadata.log.dir`
        dir: PathBuf,
        /// The cluster.
        cluster_id: String,
    },
    /// A listener cannot be opened.
    #[error("{0}")]
    Listen(String),
    /// The metadata quorum cannot be started.
    #[error("{0}")]
    Metadata(String),
    /// The controller does not take the broker in.
    #[error("the controller refuses to register broker {id}: {reason}")]
    Registration {
        /// `node.id`.
        id: i32,
        /// Why.
        reason: String,
    },
    /// It took too long.
    #[error(
        "the node did not start within server.max.startup.time.ms={0}: its log says what it waited for"
    )]
    TooSlow(u128),
    /// The id in `meta.properties` is none.
    #[error(
        "cluster.id {0:?} in meta.properties is not a cluster id: restore the file, \
         or start with an empty data directory"
    )]
    ClusterId(String),
}

impl From<ListenError> for StartError {
    fn from(error: ListenError) -> Self {
        Self::Listen(error.to_string())
    }
}

impl From<ControllerStartError> for StartError {
    fn from(error: ControllerStartError) -> Self {
        Self::Metadata(error.to_string())
    }
}

impl Server {
    /// Starts a node and returns when it serves requests, or `server.max.startup.time.ms` is over.
    pub async fn start(env: Env, config: BrokerConfig) -> Result<Self, StartError> {
        let (limit, clock) = (config.node.max_startup_time, Arc::clone(&env.clock));
        let starting = Box::pin(Self::start_in_time(env, config));
        let Some(limit) = limit else { return starting.await };
        let started = timeout(&*clock, limit, starting).await;
        started.unwrap_or(Err(StartError::TooSlow(limit.as_millis())))
    }

    async fn start_in_time(env: Env, config: BrokerConfig) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let cold_reads = Arc::new(ColdReads::new(&env, config.fetch.cold_read_threads));
        let (nodes, clients) = listeners_of(&config);
        let nodes = BoundSockets::bind(&env, &nodes, &config.socket_server).await?;
        let mut addresses = nodes.addresses();
        let listener = Arc::new(ControllerListener::new(newcomer(&env, &config)));
        let controller_sockets = serve_nodes(&env, &config, nodes, &listener, &cold_reads);
        if let Some(lost) = lost_metadata(&env, &config, &addresses).await {
            return Err(lost);
        }
        let cluster_id = known_cluster_id(&env, &config, &listener).await;
        let logs = Arc::new(open_logs(&env, &config, cluster_id).await?);
        if let Some(reason) = log_dirs::cannot_go_on(&logs, config.node.own_metadata_log_dir()) {
            return Err(StartError::MetadataDir(reason));
        }
        let cluster_id = logs.cluster_id().to_owned();
        let metadata_dir = log_dirs::claim_metadata_dir(&env, &config, &cluster_id).await?;
        listener.cluster_id.get_or_init(|| cluster_id.clone());
        let clients = BoundSockets::bind(&env, &clients, &config.socket_server).await?;
        addresses.extend(clients.addresses());
        let metrics = bind_metrics(&env, &config).await?;
        let metrics_address = metrics.as_ref().map(MetricsListener::address);

        let standby =
            ControllerConfig { cluster_id: Arc::from(&*cluster_id), broker: Arc::clone(&config) };
        let cache = MetadataCache::new(ControllerHost::standby(&env, standby));
        let quotas = follow_quotas(&config, &cache);
        let node = Node { env, config, cluster_id, logs, metadata_dir, cache, quotas, cold_reads };
        let (tell_failure, failure) = watch::channel(None);
        let endpoint = controller_endpoint(&node.config, &addresses);
        let metadata = node.follow_metadata(&listener, &tell_failure, endpoint).await?;
        let MetadataLog { controller, follower, active, background } = metadata;
        let broker = match node.config.node.is_broker {
            true => {
                let advertised = advertised(&node.config, &addresses);
                Some(node.start_broker(active, clients, advertised, (metrics, tell_failure)).await?)
            }
            false => None,
        };
        Ok(Self {
            config: node.config,
            cluster_id: node.cluster_id,
            logs: node.logs,
            _metadata_dir: node.metadata_dir,
            controller,
            _follower: follower,
            broker,
            controller_sockets,
            addresses,
            metrics_address,
            background,
            failure,
        })
    }

    /// Completes when the node cannot go on, and says why: its metadata log failed, or all of its directories did. It is
    /// to be shut down then.
    pub fn failed(&self) -> impl Future<Output = String> + Send + 'static {
        let mut failure = self.failure.clone();
        async move {
            let reason = failure.wait_for(Option::is_some).await.ok().and_then(|told| told.clone());
            match reason {
                Some(reason) => reason,
                // Nobody is there any more to say so: the server was shut down.
                None => std::future::pending().await,
            }
        }
    }

    /// Name and address of each listener, with the ports that the system chose.
    pub fn addresses(&self) -> &[(Arc<str>, SocketAddr)] {
        &self.addresses
    }

    /// Where metrics are told, if anywhere, with the port that the system chose.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// The cluster that the node belongs to.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Stops in order: leaderships given up, no new requests, connections closed, everything on the disk, marked as cleanly
    /// stopped.
    pub async fn shutdown(self) {
        info!("stopping");
        let mut epoch = BrokerEpoch::NONE;
        if let Some(broker) = self.broker {
            epoch = broker.broker.epoch();
            broker.shutdown(&self.config).await;
        }
        for task in self.background {
            task.abort();
            task.wait().await;
        }
        // First the quorum: a topic that is still being created must not get a log behind the mark of a clean stop.
        if let Some(controller) = self.controller {
            controller.shutdown().await;
        }
        if let Some(sockets) = self.controller_sockets {
            sockets.shutdown().await;
        }
        self.logs.shutdown(epoch.0).await;
        info!("stopped");
    }
}

impl RunningBroker {
    /// Gives up what it leads, if there is somebody to take it over; then takes no more requests.
    async fn shutdown(self, config: &BrokerConfig) {
        let Self { broker, lifecycle, sockets, background } = self;
        let image = broker.image();
        let is_alone = image.brokers().all(|it| it.id == broker.id() || it.fenced);
        if config.node.controlled_shutdown && !is_alone {
            let limit = config.node.request_timeout;
            if !lifecycle.controlled_shutdown(&broker, limit).await {
                warn!(
                    "not everything that this broker leads was taken over: stopping all the same"
                );
            }
        }
        broker.replicas().shutdown().await;
        sockets.shutdown().await;
        for task in background {
            task.abort();
            task.wait().await;
        }
    }
}

/// What a node is made of before it takes part in anything.
struct Node {
    env: Env,
    config: Arc<BrokerConfig>,
    cluster_id: String,
    logs: Arc<LogManager>,
    /// `metadata.log.dir`, where it is none of `log.dirs`.
    metadata_dir: Option<OwnDir>,
    cache: Arc<MetadataCache>,
    quotas: Arc<ClientQuotas>,
    cold_reads: Arc<ColdReads>,
}

/// How a node follows the metadata log: with a vote, or without.
struct MetadataLog {
    controller: Option<Arc<ControllerHost>>,
    follower: Option<MetadataFollower>,
    active: ActiveController,
    background: Vec<TaskHandle>,
}

impl Node {
    /// Begins to follow the metadata log, as the roles of the node want it.
    async fn follow_metadata(
        &self,
        listener: &ControllerListener,
        failure: &watch::Sender<Option<String>>,
        endpoint: Option<Voter>,
    ) -> Result<MetadataLog, StartError> {
        let Self { env, config, .. } = self;
        if !config.node.is_controller {
            let follower = self.start_follower()?;
            let (leader, voters) = (follower.leader(), follower.voters());
            let active = ActiveController { leader, voters, here: None };
            let background = vec![
                env.spawn("quorum leader watch", watch_leader(env, &active, follower.vanished())),
                watch_metadata_log(env, follower.stopped(), failure.clone()),
            ];
            return Ok(MetadataLog {
                controller: None,
                follower: Some(follower),
                active,
                background,
            });
        }
        let controller = self.start_controller(endpoint).await?;
        let (_configured, voters) = watch::channel(voters_of(config).into());
        listener.host.get_or_init(|| Arc::clone(&controller));
        let (leader, here) = (controller.quorum().leader(), Some(Arc::clone(&controller)));
        let active = ActiveController { leader, voters, here };
        let quorum = Arc::clone(controller.quorum());
        let vanished = move |leader| quorum.voter_vanished(leader);
        let background = vec![
            env.spawner.spawn("controller", Arc::clone(&controller).run()),
            env.spawn("quorum leader watch", watch_leader(env, &active, vanished)),
            watch_metadata_log(env, controller.stopped(), failure.clone()),
        ];
        Ok(MetadataLog { controller: Some(controller), follower: None, active, background })
    }

    fn start_follower(&self) -> Result<MetadataFollower, StartError> {
        let Self { env, config, .. } = self;
        let options = FollowerOptions {
            node_id: config.node.node_id.0,
            directory_id: self.metadata_dir_id(),
            cluster_id: self.parsed_cluster_id()?,
            voters: voters_of(config).into_iter().chain(servers_of(config)).collect(),
            request_timeout: config.quorum.request_timeout,
            retry_backoff: config.quorum.retry_backoff,
        };
        let transport = Arc::new(VoterConnections::new(env));
        Ok(MetadataFollower::start(env, options, self.cache.applier(), transport))
    }

    fn parsed_cluster_id(&self) -> Result<Uuid, StartError> {
        parse_uuid(&self.cluster_id).map_err(|_| StartError::ClusterId(self.cluster_id.clone()))
    }

    /// `directory.id` of `metadata.log.dir`.
    fn metadata_dir_id(&self) -> Uuid {
        if let Some(dir) = &self.metadata_dir {
            return dir.id();
        }
        let dir = &self.config.node.metadata_log_dir;
        let found = self.logs.dirs().find(|it| it.path() == dir);
        found.and_then(|dir| dir.id()).unwrap_or(Uuid::ZERO)
    }

    /// Starts the controller, which others reach at `endpoint`.
    async fn start_controller(
        &self,
        endpoint: Option<Voter>,
    ) -> Result<Arc<ControllerHost>, StartError> {
        let Self { env, config, logs, cache, quotas, .. } = self;
        let dir = config.node.metadata_log_dir.clone();
        let alone = QuorumOptions::new(config.node.node_id.0, self.parsed_cluster_id()?, dir);
        let (voters, bootstrap) = (voters_of(config), servers_of(config));
        let options = QuorumOptions {
            directory_id: self.metadata_dir_id(),
            voters: if voters.is_empty() && bootstrap.is_empty() { alone.voters } else { voters },
            bootstrap,
            endpoint,
            auto_join: config.quorum.auto_join,
            election_timeout: config.quorum.election_timeout,
            fetch_timeout: config.quorum.fetch_timeout,
            request_timeout: config.quorum.request_timeout,
            max_bytes_between_snapshots: config.quorum.max_bytes_between_snapshots,
            max_snapshot_interval: config.quorum.max_snapshot_interval,
            max_retention_bytes: config.quorum.max_retention_bytes,
            max_retention: config.quorum.max_retention,
            segment_time: config.quorum.segment_time,
            segment_bytes: config.quorum.segment_bytes.min(alone.segment_bytes),
            ..alone
        };
        let host = ControllerHost::start(
            env,
            options,
            (Arc::clone(config), Arc::clone(cache)),
            (Arc::clone(logs), Arc::clone(quotas)),
            Arc::new(VoterConnections::new(env)),
        );
        Ok(host.await?)
    }

    /// Registers the broker, opens what it holds, and returns when it is in service.
    async fn start_broker(
        &self,
        active: ActiveController,
        clients: BoundSockets,
        advertised: Vec<Listener>,
        (metrics, failure): (Option<MetricsListener>, watch::Sender<Option<String>>),
    ) -> Result<RunningBroker, StartError> {
        let Self { env, config, cache, logs, .. } = self;
        let id = config.node.node_id;
        let channel =
            |active| ControllerChannel::new(env, active, config.node.controller_socket_timeout);
        let registration = self.registration(advertised);
        let (own, shared) = (channel(active.clone()), channel(active));
        let lifecycle = BrokerLifecycle::new(env, Arc::clone(config), own, registration);
        let refused = |reason: RegisterError| StartError::Registration {
            id: id.0,
            reason: reason.to_string(),
        };
        let epoch = lifecycle.register().await.map_err(refused)?;
        cache.wait_for(Offset(epoch.0)).await;
        let broker = Arc::new(Broker::new(
            env,
            Arc::clone(config),
            (self.cluster_id.clone(), epoch),
            (Arc::clone(cache), shared),
            (Arc::clone(logs), Arc::clone(&self.cold_reads), Arc::clone(&self.quotas)),
        ));
        broker.follow_metadata();
        let handling = Arc::clone(&broker);
        let sockets = SocketServer::start(
            env,
            clients,
            &config.socket_server,
            (config.fetch.sendfile, Arc::clone(broker.cold_reads())),
            (
                Arc::new(move |connection, frame| dispatch(&handling, connection, frame)),
                Arc::clone(broker.quotas()),
            ),
        );
        let quotas = Arc::clone(sockets.quotas());
        broker.dynamic_config().follow(move |config| quotas.reconfigure(&config.socket_server));
        let mut background = start_background(env, &broker, logs);
        let watching = log_dirs::watch_dirs(Arc::clone(&broker), failure);
        background.push(env.spawn("log directories", watching));
        let heartbeats = Arc::clone(&lifecycle).run(Arc::clone(&broker));
        background.push(env.spawn("heartbeats", heartbeats));
        background.extend(metrics.map(|metrics| metrics.serve(env, &broker)));
        lifecycle.ready(&broker);
        cache.wait_image(|image| image.broker(id).is_some_and(|broker| !broker.fenced)).await;
        lifecycle.in_service().await;
        Ok(RunningBroker { broker, lifecycle, sockets, background })
    }

    fn registration(&self, listeners: Vec<Listener>) -> BrokerRegistrationRequest {
        let Self { env, config, cluster_id, logs, .. } = self;
        let incarnation = env.rng.next_u128();
        message!(BrokerRegistrationRequest {
            broker_id: config.node.node_id.0,
            cluster_id: StrBytes::from(cluster_id.as_str()),
            incarnation_id: Uuid::from_bytes(incarnation.to_be_bytes()),
            listeners: listeners,
            features: SUPPORTED_FEATURES.iter().map(feature).collect(),
            rack: config.node.rack.as_deref().map(StrBytes::from),
            log_dirs: logs.online_dirs(),
            previous_broker_epoch: logs.previous_epoch(),
        })
    }
}

/// Serves the listeners of the controller, which are open before there is one.
fn serve_nodes(
    env: &Env,
    config: &BrokerConfig,
    bound: BoundSockets,
    listener: &Arc<ControllerListener>,
    cold_reads: &Arc<ColdReads>,
) -> Option<SocketServer> {
    if bound.addresses().is_empty() {
        return None;
    }
    let listener = Arc::clone(listener);
    // Other nodes are held to no quota.
    let quotas = Arc::new(ClientQuotas::new(config.quotas));
    Some(SocketServer::start(
        env,
        bound,
        &config.socket_server,
        (config.fetch.sendfile, Arc::clone(cold_reads)),
        (Arc::new(move |connection, frame| listener.dispatch(connection, frame)), quotas),
    ))
}

/// The cluster that this node belongs to; `None` if it is alone and has none yet.
async fn known_cluster_id(
    env: &Env,
    config: &Arc<BrokerConfig>,
    listener: &ControllerListener,
) -> Option<String> {
    let apart = config.node.metadata_log_dir_apart().map(Path::to_owned);
    let dirs: Vec<_> = config.node.log_dirs.iter().cloned().chain(apart).collect();
    let disk = Arc::clone(&env.disk);
    let known = env.run_blocking(move || ottla_storage::known_cluster_id(&*disk, &dirs)).await;
    let id = match known {
        Some(id) => id,
        None if !config.quorum.bootstrap_servers.is_empty() => {
            find_cluster_id(env, config, &listener.newcomer).await
        }
        None if config.quorum.voters.len() > 1 || !config.node.is_controller => {
            agree_on_cluster_id(env, config).await
        }
        None => return None,
    };
    listener.cluster_id.get_or_init(|| id.clone());
    Some(id)
}

async fn bind_metrics(
    env: &Env,
    config: &BrokerConfig,
) -> Result<Option<MetricsListener>, StartError> {
    let Some(address) = &config.metrics_listener else { return Ok(None) };
    if !config.node.is_broker {
        warn!(%address, "metrics.listener is not opened: what is told there is a broker's, and this node is none");
        return Ok(None);
    }
    let bound = MetricsListener::bind(env, address).await;
    let refused = |error| format!("cannot listen on metrics.listener={address}: {error}");
    bound.map(Some).map_err(|error| StartError::Listen(refused(error)))
}

/// The quotas of clients, as the image says.
fn follow_quotas(config: &BrokerConfig, cache: &MetadataCache) -> Arc<ClientQuotas> {
    let quotas = Arc::new(ClientQuotas::new(config.quotas));
    let followed = Arc::clone(&quotas);
    cache.listen(Box::new(move |delta, image| {
        if delta.client_quotas {
            followed.update(image);
        }
    }));
    quotas
}

async fn open_logs(
    env: &Env,
    config: &BrokerConfig,
    cluster_id: Option<String>,
) -> Result<LogManager, OpenError> {
    let options = LogManagerOptions {
        dirs: config.node.log_dirs.clone(),
        node_id: config.node.node_id,
        cluster_id,
        config: config.log_manager.clone(),
        max_open_files: config.log_manager.max_open_files,
    };
    LogManager::open(env.clone(), options).await
}

/// Whether this node would found a cluster anew whose metadata only it had: the directory of the metadata log is empty, and
/// others say that there was one. To be asked before any directory is made this node's. Where others vote as well they know
/// that it has lost its log (KIP-853).
async fn lost_metadata(
    env: &Env,
    config: &BrokerConfig,
    bound: &[(Arc<str>, SocketAddr)],
) -> Option<StartError> {
    let dir = config.node.own_metadata_log_dir()?.to_owned();
    let is_here = |it: &Voter| {
        let here = controller_endpoint(config, bound);
        here.is_some_and(|here| (here.host, here.port) == (it.host.clone(), it.port))
    };
    let is_alone = match (&voters_of(config)[..], &servers_of(config)[..]) {
        ([], []) => true,
        ([voter], []) => voter.node_id == config.node.node_id.0,
        ([], [server]) => is_here(server),
        _ => false,
    };
    let (disk, dirs) = (Arc::clone(&env.disk), config.node.log_dirs.clone());
    let look = move || {
        let is_there = disk.exists(&dir.join("meta.properties"));
        let cluster_id = ottla_storage::known_cluster_id(&*disk, &dirs).filter(|_| !is_there)?;
        Some(StartError::MetadataLost { dir, cluster_id })
    };
    if is_alone { env.run_blocking(look).await } else { None }
}

fn feature(supported: &SupportedFeature) -> Feature {
    message!(Feature {
        name: StrBytes::from(supported.name),
        min_supported_version: supported.min,
        max_supported_version: supported.max,
    })
}

fn start_background(env: &Env, broker: &Arc<Broker>, logs: &Arc<LogManager>) -> Vec<TaskHandle> {
    let config = broker.config();
    let groups = broker.groups();
    let checkpoints = config.replica_manager.high_watermark_checkpoint_interval;
    let expiry = config.offsets.retention_check_interval;
    let mut tasks = vec![
        env.spawner.spawn("group timers", Arc::clone(groups).run_timers()),
        env.spawner.spawn("offset expiry", Arc::clone(groups).run_expiry(expiry)),
        env.spawn("client telemetry", Arc::clone(broker.telemetry()).run_expiry(env.clone())),
        env.spawner.spawn(
            "log housekeeping",
            every(env, HOUSEKEEPING_INTERVAL, logs, |logs, now| logs.housekeeping(now)),
        ),
        env.spawner.spawn(
            "high watermark checkpoints",
            every(env, checkpoints, logs, |logs, _| logs.checkpoint_high_watermarks()),
        ),
    ];
    tasks.extend(start_replication(env, broker));
    if config.log_cleaner.enable {
        let cleaner = LogCleaner::new(env, Arc::clone(logs), &config.log_cleaner);
        let reconfigured = Arc::clone(&cleaner);
        let follower = move |config: &BrokerConfig| reconfigured.reconfigure(&config.log_cleaner);
        broker.dynamic_config().follow(follower);
        tasks.push(env.spawn("log cleaners", cleaner.run()));
    }
    tasks
}

/// What a leader does beside its requests: it looks after its ISRs.
fn start_replication(env: &Env, broker: &Arc<Broker>) -> [TaskHandle; 2] {
    // As often as in Kafka: a follower leaves the ISR after one and a half times the lag time at the latest.
    let interval = broker.config().replica_manager.lag_time_max / 2;
    let (asking, checking, clock) =
        (Arc::clone(broker), Arc::clone(broker), Arc::clone(&env.clock));
    let changes = broker.replicas().run_isr_changes(
        env,
        Box::new(move |request| {
            let broker = Arc::clone(&asking);
            Box::pin(async move {
                broker.channel().call(&request).await.map_err(|error| error.to_string())
            })
        }),
    );
    let checks = async move {
        loop {
            clock.sleep(interval).await;
            checking.replicas().check_isrs();
        }
    };
    [env.spawn("ISR changes", changes), env.spawn("ISR checks", checks)]
}

/// Says in `failure` when the metadata log has failed.
fn watch_metadata_log(
    env: &Env,
    stopped: impl Future<Output = String> + Send + 'static,
    failure: watch::Sender<Option<String>>,
) -> TaskHandle {
    env.spawn("metadata log", async move {
        let reason = format!("the metadata log has failed: {}", stopped.await);
        error!(%reason, "the node cannot go on");
        failure.send_replace(Some(reason));
    })
}

/// Does `work` on the logs every `interval`, where blocking hurts nobody.
fn every(
    env: &Env,
    interval: Duration,
    logs: &Arc<LogManager>,
    work: fn(&LogManager, ottla_protocol::Timestamp),
) -> BoxFuture<'static, ()> {
    let (env, logs) = (env.clone(), Arc::clone(logs));
    Box::pin(async move {
        loop {
            env.clock.sleep(interval).await;
            let (logs, now) = (Arc::clone(&logs), env.clock.wall());
            env.run_blocking(move || work(&logs, now)).await;
        }
    })
}
