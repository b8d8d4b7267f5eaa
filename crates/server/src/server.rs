//! Starting and stopping a node. Kafka's `BrokerLifecycleManager` and `BrokerServer.startup`.
//!
//! ```text
//! log dirs locked, logs recovered ─► sockets bound ─► metadata quorum elected ─► broker registered, unfenced
//!                                          ─► partitions opened, groups loading ─► requests served
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ottla_config::{BrokerConfig, ListenerAddress, SecurityProtocol};
use ottla_env::{BoxFuture, Env, TaskHandle};
use ottla_metadata::controller::{SUPPORTED_FEATURES, SupportedFeature};
use ottla_metadata::{BrokerEpoch, ControllerConfig};
use ottla_protocol::messages::broker_registration_request::{Feature, Listener};
use ottla_protocol::messages::{BrokerHeartbeatRequest, BrokerRegistrationRequest};
use ottla_protocol::{ErrorCode, StrBytes, Uuid, message, parse_uuid};
use ottla_storage::{LogCleaner, LogManager, LogManagerOptions, OpenError};
use tokio::sync::watch;
use tracing::{error, info};

use crate::broker::Broker;
use crate::controller_host::{ControllerError, ControllerHost, ControllerStartError};
use crate::handlers::dispatch;
use crate::log_dirs;
use crate::metrics::MetricsListener;
use crate::network::{BoundSockets, ListenError, SocketServer};
use crate::quorum::{QuorumOptions, Voter};

/// How often retention, flushes and checkpoints are looked at; each has its own interval.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);

/// A running node.
pub struct Server {
    broker: Arc<Broker>,
    logs: Arc<LogManager>,
    sockets: SocketServer,
    addresses: Vec<(Arc<str>, SocketAddr)>,
    metrics_address: Option<SocketAddr>,
    background: Vec<TaskHandle>,
    epoch: BrokerEpoch,
    failure: watch::Receiver<Option<String>>,
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

impl From<ControllerError> for StartError {
    fn from(error: ControllerError) -> Self {
        Self::Metadata(error.to_string())
    }
}

impl Server {
    /// Starts a node and returns when it serves requests.
    pub async fn start(env: Env, config: BrokerConfig) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let logs = Arc::new(open_logs(&env, &config).await?);
        if let Some(reason) = log_dirs::cannot_go_on(&logs, &config.node.metadata_log_dir) {
            return Err(StartError::MetadataDir(reason));
        }
        let cluster_id = logs.cluster_id().to_owned();
        let listeners: Vec<_> = config
            .node
            .listeners
            .iter()
            .map(|listener| (Arc::from(listener.name.as_str()), listener.socket_address()))
            .collect();
        let bound = BoundSockets::bind(&env, &listeners, &config.socket_server).await?;
        let addresses = bound.addresses();
        let metrics = match &config.metrics_listener {
            Some(address) => {
                let bound = MetricsListener::bind(&env, address).await;
                let refused =
                    |error| format!("cannot listen on metrics.listener={address}: {error}");
                Some(bound.map_err(|error| StartError::Listen(refused(error)))?)
            }
            None => None,
        };
        let controller = start_controller(&env, &config, (&cluster_id, &logs)).await?;
        let advertised = advertised(&config, &addresses);
        let epoch = register(&env, &config, &controller, (&cluster_id, &logs), advertised).await?;
        let identity = (cluster_id, epoch);
        let broker =
            Arc::new(Broker::new(&env, Arc::clone(&config), identity, controller, logs.clone()));
        broker.follow_metadata();
        let handling = Arc::clone(&broker);
        let sockets = SocketServer::start(
            &env,
            bound,
            &config.socket_server,
            (config.fetch.sendfile, Arc::clone(broker.cold_reads())),
            (
                Arc::new(move |connection, frame| dispatch(&handling, connection, frame)),
                Arc::clone(broker.quotas()),
            ),
        );
        let quotas = Arc::clone(sockets.quotas());
        broker.dynamic_config().follow(move |config| quotas.reconfigure(&config.socket_server));
        let (tell_failure, failure) = watch::channel(None);
        let mut background = start_background(&env, &broker, &logs);
        background.extend(watch_disks(&env, &broker, tell_failure));
        let metrics_address = metrics.as_ref().map(MetricsListener::address);
        background.extend(metrics.map(|metrics| metrics.serve(&env, &broker)));
        Ok(Self { broker, logs, sockets, addresses, metrics_address, background, epoch, failure })
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
        self.broker.cluster_id()
    }

    /// Stops in order: no new requests, connections closed, everything on the disk, marked as cleanly stopped.
    pub async fn shutdown(self) {
        info!("stopping");
        self.sockets.shutdown().await;
        for task in self.background {
            task.abort();
            task.wait().await;
        }
        // First the quorum: a topic that is still being created must not get a log behind the mark of a clean stop.
        self.broker.controller().shutdown().await;
        self.logs.shutdown(self.epoch.0).await;
        info!("stopped");
    }
}

async fn open_logs(env: &Env, config: &BrokerConfig) -> Result<LogManager, OpenError> {
    let options = LogManagerOptions {
        dirs: config.node.log_dirs.clone(),
        node_id: config.node.node_id,
        cluster_id: None,
        config: config.log_manager.clone(),
        max_open_files: config.log_manager.max_open_files,
    };
    LogManager::open(env.clone(), options).await
}

async fn start_controller(
    env: &Env,
    config: &Arc<BrokerConfig>,
    (cluster_id, logs): (&str, &LogManager),
) -> Result<ControllerHost, StartError> {
    let id = parse_uuid(cluster_id).map_err(|_| StartError::ClusterId(cluster_id.to_owned()))?;
    let dir = config.node.metadata_log_dir.clone();
    let metadata_dir = logs.dirs().find(|it| it.path() == dir);
    let alone = QuorumOptions::new(config.node.node_id.0, id, dir.clone());
    let quorum = QuorumOptions {
        directory_id: metadata_dir.and_then(|dir| dir.id()).unwrap_or(Uuid::ZERO),
        voters: match config.quorum.voters.as_slice() {
            [] => alone.voters,
            voters => voters
                .iter()
                .map(|it| Voter { node_id: it.node_id.0, host: it.host.clone(), port: it.port })
                .collect(),
        },
        election_timeout: config.quorum.election_timeout,
        fetch_timeout: config.quorum.fetch_timeout,
        request_timeout: config.quorum.request_timeout,
        max_bytes_between_snapshots: config.quorum.max_bytes_between_snapshots,
        ..alone
    };
    let config = ControllerConfig { cluster_id: Arc::from(cluster_id), broker: Arc::clone(config) };
    Ok(ControllerHost::start(env, quorum, config).await?)
}

/// Where clients are told to connect: as configured, with the port that the system chose where the configured one is 0.
fn advertised(config: &BrokerConfig, bound: &[(Arc<str>, SocketAddr)]) -> Vec<Listener> {
    let port_of = |listener: &ListenerAddress| match listener.port {
        0 => bound.iter().find(|(name, _)| **name == *listener.name).map_or(0, |it| it.1.port()),
        port => port,
    };
    let advertised = config.node.advertised_listeners.iter();
    advertised
        .map(|listener| {
            message!(Listener {
                name: StrBytes::from(listener.name.as_str()),
                host: StrBytes::from(listener.host.as_str()),
                port: port_of(listener),
                security_protocol: match listener.protocol {
                    SecurityProtocol::Plaintext => 0,
                    SecurityProtocol::Ssl => 1,
                    SecurityProtocol::SaslPlaintext => 2,
                    SecurityProtocol::SaslSsl => 3,
                },
            })
        })
        .collect()
}

/// Registers the broker and has it unfenced: it is its own cluster, and has caught up with it.
async fn register(
    env: &Env,
    config: &BrokerConfig,
    controller: &ControllerHost,
    (cluster_id, logs): (&str, &LogManager),
    listeners: Vec<Listener>,
) -> Result<BrokerEpoch, StartError> {
    let id = config.node.node_id.0;
    let incarnation = env.rng.next_u128();
    let request = message!(BrokerRegistrationRequest {
        broker_id: id,
        cluster_id: StrBytes::from(cluster_id),
        incarnation_id: Uuid::from_bytes(incarnation.to_be_bytes()),
        listeners: listeners,
        features: SUPPORTED_FEATURES.iter().map(feature).collect(),
        rack: config.node.rack.as_deref().map(StrBytes::from),
        log_dirs: logs.online_dirs(),
    });
    let now = env.clock.now();
    let mut reason = None;
    let registered = controller
        .decide(|controller, _| {
            let (outcome, refused) = controller.register_broker(&request, now);
            reason = refused.map(|refused| refused.to_string());
            outcome
        })
        .await?;
    if let Some(reason) = reason {
        return Err(StartError::Registration { id, reason });
    }
    let heartbeat = message!(BrokerHeartbeatRequest {
        broker_id: id,
        broker_epoch: registered.broker_epoch,
        current_metadata_offset: controller.image().position().offset.0,
    });
    let unfenced =
        controller.decide(|controller, _| controller.broker_heartbeat(&heartbeat)).await?;
    let refused = |reason: String| StartError::Registration { id, reason };
    ErrorCode::from_wire(unfenced.error_code).ok().map_err(|error| refused(error.to_string()))?;
    if unfenced.is_fenced {
        return Err(refused(
            "it stays fenced: it has not caught up with the metadata log".to_owned(),
        ));
    }
    Ok(BrokerEpoch(registered.broker_epoch))
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
    if config.log_cleaner.enable {
        let cleaner = LogCleaner::new(env, Arc::clone(logs), &config.log_cleaner);
        let reconfigured = Arc::clone(&cleaner);
        let follower = move |config: &BrokerConfig| reconfigured.reconfigure(&config.log_cleaner);
        broker.dynamic_config().follow(follower);
        tasks.push(env.spawn("log cleaners", cleaner.run()));
    }
    tasks
}

/// Says in `failure` when the node cannot go on.
fn watch_disks(
    env: &Env,
    broker: &Arc<Broker>,
    failure: watch::Sender<Option<String>>,
) -> [TaskHandle; 2] {
    let stopped = broker.controller().stopped();
    let quorum_failure = failure.clone();
    [
        env.spawn("log directories", log_dirs::watch_dirs(Arc::clone(broker), failure)),
        env.spawn("metadata log", async move {
            let reason = format!("the metadata log has failed: {}", stopped.await);
            error!(%reason, "the node cannot go on");
            quorum_failure.send_replace(Some(reason));
        }),
    ]
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
