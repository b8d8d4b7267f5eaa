//! Runs the controller on the metadata quorum: decides, proposes, and applies what is committed. Kafka: `QuorumController`'s
//! event queue.
//!
//! ```text
//!            leads the quorum, all applied           told, or found, that another leads
//! standby ───────────────────────────────► active ───────────────────────────────────► standby
//!                                            │
//!  decide(&Controller) ─► records ─► MetadataQuorum::propose_in ─► committed ─► MetadataCache ─► node
//! ```
//!
//! # Invariants
//! - One decision at a time: each is made on everything that was committed before it.
//! - When a decision is answered, this node has applied it: a topic that was created can be produced to.
//! - Only the active controller decides; what it knows of sessions begins anew with each time that it is.
//!
//! # Dead brokers
//! A broker that says nothing is fenced when its session ends. One whose process is dead need not be waited for: its
//! connection breaks, and its port refuses. Either alone proves nothing; both together are the end of a process.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use ottla_config::BrokerConfig;
use ottla_env::{BoxFuture, Env};
use ottla_metadata::controller::TaskReport;
use ottla_metadata::{
    BrokerEpoch, Controller, ControllerConfig, MetadataImage, MetadataRecord, Outcome,
    patience_with_brokers,
};
use ottla_protocol::{BrokerId, ErrorCode};
use ottla_storage::{LogDirFailure, LogManager};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use tracing::{error, info, warn};

use crate::metadata_cache::MetadataCache;
use crate::quorum::{
    LeaderAndEpoch, MetadataQuorum, ProposeError, QuorumError, QuorumOptions, VoterTransport,
};
use crate::quotas::ClientQuotas;
use crate::voter_connections::{Known, wait_dead};

/// How long to wait after a decision of the controller's own could not be committed.
const RETRY_BACKOFF: Duration = Duration::from_millis(100);
/// A timer that is this late says that the whole process stood still.
const STOOD_STILL: Duration = Duration::from_secs(1);
/// No epoch in which this node is active.
const NOT_ACTIVE: i32 = -1;

/// The controller of this node, active or not.
pub(crate) struct ControllerHost {
    env: Env,
    config: Arc<BrokerConfig>,
    cache: Arc<MetadataCache>,
    quorum: Arc<MetadataQuorum>,
    /// What clients may create and delete; follows the image.
    quotas: Arc<ClientQuotas>,
    /// The logs of this node: it makes those of new partitions if it is alone.
    logs: Arc<LogManager>,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The epoch of the quorum in which this node has taken over, and may decide.
    active_in: AtomicI32,
    /// Who led the quorum last, if that was another node.
    led_before: AtomicI32,
    /// Brokers whose connection broke.
    suspects: Mutex<BTreeSet<BrokerId>>,
    suspected: Notify,
}

/// Why something was not decided.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControllerError {
    /// It could not be committed.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// A record could not be applied.
    #[error("the metadata log holds a record that this release cannot apply: {0}")]
    Fault(String),
    /// There is no directory, or no room, for the logs that it would make.
    #[error(transparent)]
    NoRoom(#[from] LogDirFailure),
}

impl ControllerError {
    /// The code that a client is told.
    pub(crate) fn error_code(&self) -> ErrorCode {
        match self {
            Self::Propose(
                ProposeError::NotLeader { .. }
                | ProposeError::LostLead
                | ProposeError::ShuttingDown,
            ) => ErrorCode::NotController,
            Self::Propose(ProposeError::TooLarge { .. }) => ErrorCode::PolicyViolation,
            Self::Propose(ProposeError::Empty) | Self::Fault(_) => ErrorCode::UnknownServerError,
            Self::Propose(ProposeError::Fault(_) | ProposeError::NoRoom { .. })
            | Self::NoRoom(_) => ErrorCode::KafkaStorageError,
        }
    }
}

/// Why the metadata quorum did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControllerStartError {
    /// The quorum itself.
    #[error(transparent)]
    Quorum(#[from] QuorumError),
    /// Its first records.
    #[error(transparent)]
    Bootstrap(#[from] ControllerError),
}

impl ControllerHost {
    /// Opens the metadata log and replays it. A lone voter is active when this returns; one of several becomes active, or
    /// not, while [`run`](Self::run) runs.
    pub(crate) async fn start(
        env: &Env,
        options: QuorumOptions,
        (config, cache): (Arc<BrokerConfig>, Arc<MetadataCache>),
        (logs, quotas): (Arc<LogManager>, Arc<ClientQuotas>),
        transport: Arc<dyn VoterTransport>,
    ) -> Result<Arc<Self>, ControllerStartError> {
        let quorum =
            MetadataQuorum::start(env.clone(), options, cache.applier(), transport).await?;
        let host = Arc::new(Self {
            env: env.clone(),
            config,
            cache,
            quorum: Arc::new(quorum),
            quotas,
            logs,
            turn: Arc::default(),
            active_in: AtomicI32::new(NOT_ACTIVE),
            led_before: AtomicI32::new(NOT_ACTIVE),
            suspects: Mutex::default(),
            suspected: Notify::new(),
        });
        let leader = *host.quorum.leader().borrow();
        if host.leads(leader) {
            host.take_over(leader.epoch);
            host.bootstrap().await?;
        }
        Ok(host)
    }

    /// What a controller needs to know before it knows anything.
    pub(crate) fn standby(env: &Env, config: ControllerConfig) -> Controller {
        Controller::new(config, MetadataImage::default(), env.clock.now())
    }

    /// Becomes the active controller in `epoch`: decides on all that was committed before it, and nothing else.
    fn take_over(&self, epoch: i32) {
        let now = self.env.clock.now();
        // Voters choose another leader when the one there was is silent. If it gave the lead away instead, it will be heard in
        // time. A majority may have heard it when this node did not any more, but not long before the election.
        let timeout = self.config.quorum.fetch_timeout;
        let heard = self.quorum.leader_heard();
        let silent_since = heard.map_or(now - timeout, |heard| heard.max(now - timeout * 3 / 2));
        let led_before = BrokerId(self.led_before.load(Ordering::Acquire));
        {
            let mut controller = self.cache.controller();
            controller.activate(now);
            controller.silent_since(led_before, silent_since);
        }
        self.active_in.store(epoch, Ordering::Release);
        info!(epoch, "this node is the active controller");
    }

    /// Writes the first records of a new cluster, unless they are there.
    async fn bootstrap(&self) -> Result<(), ControllerError> {
        self.decide(|controller, _| controller.bootstrap()).await
    }

    /// Does what the active controller does by itself, whenever this node is that. Runs until the quorum stops.
    pub(crate) fn run(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let mut leader = self.quorum.leader();
            loop {
                let now = *leader.borrow_and_update();
                if self.leads(now) {
                    if self.lead(now, &mut leader).await.is_err() {
                        return;
                    }
                } else {
                    self.active_in.store(NOT_ACTIVE, Ordering::Release);
                    if let Some(other) = now.leader {
                        self.led_before.store(other, Ordering::Release);
                    }
                    if leader.changed().await.is_err() {
                        return;
                    }
                }
            }
        })
    }

    /// Leads until another does; an error says that the quorum has stopped.
    async fn lead(
        self: &Arc<Self>,
        term: LeaderAndEpoch,
        leader: &mut watch::Receiver<LeaderAndEpoch>,
    ) -> Result<(), watch::error::RecvError> {
        if self.active_in.load(Ordering::Acquire) != term.epoch {
            self.take_over(term.epoch);
        }
        // Also where this has failed before in this epoch: there may be room on the disk now.
        if let Err(reason) = self.bootstrap().await {
            warn!(%reason, "could not take over as the active controller");
            self.env.clock.sleep(RETRY_BACKOFF).await;
            return leader.has_changed().map(|_| ());
        }
        // Whoever died with the last controller, or before it noticed, has to be found now.
        let unfenced = self.cache.image();
        let own = self.config.node.node_id;
        let others = unfenced.brokers().filter(|broker| !broker.fenced && broker.id != own);
        self.suspects.lock().extend(others.map(|broker| broker.id));
        self.suspected.notify_one();
        let patience = patience_with_brokers(self.config.node.session_timeout);
        while *leader.borrow() == term {
            let now = self.env.clock.now();
            let (due, task) = {
                let controller = self.cache.controller();
                (controller.next_fencing(), controller.next_task_due())
            };
            // What is due and yet cannot be done now is not tried without a pause.
            let task = task.map_or(Duration::MAX, |due| due.since(now).max(RETRY_BACKOFF));
            // Nobody may be in service now, and somebody a moment later.
            let wait = due.map_or(patience, |due| due.since(now).max(RETRY_BACKOFF));
            tokio::select! {
                biased;
                changed = leader.changed() => changed?,
                () = self.suspected.notified() => self.probe_suspects(),
                () = self.env.clock.sleep(task), if task < wait => self.run_due_tasks().await,
                () = self.env.clock.sleep(wait) => {
                    if due.is_some_and(|due| self.env.clock.now().since(due) > STOOD_STILL) {
                        // Whoever did not run did not hear: nobody is to be blamed for that.
                        self.cache.controller().activate(self.env.clock.now());
                    }
                    self.fence_the_silent().await;
                }
            }
        }
        Ok(())
    }

    /// Fences brokers whose session is about to end.
    async fn fence_the_silent(&self) {
        loop {
            let now = self.env.clock.now();
            match self.decide(|controller, _| controller.fence_stale_broker(now)).await {
                Ok(Some(broker)) => {
                    warn!(%broker, "the broker is fenced: it was silent for its session timeout")
                }
                Ok(None) => return,
                Err(reason) => {
                    warn!(%reason, "could not fence a broker");
                    return self.env.clock.sleep(RETRY_BACKOFF).await;
                }
            }
        }
    }

    /// Does what is due from time to time, and says so.
    async fn run_due_tasks(&self) {
        loop {
            let now = self.env.clock.now();
            let decided = self.decide(|controller, _| controller.run_due_task(now)).await;
            let TaskReport { task, lines, .. } = match &decided {
                Ok(Some(report)) => report,
                Ok(None) => return,
                Err(reason) => {
                    warn!(%reason, "could not do what is due");
                    return self.env.clock.sleep(RETRY_BACKOFF).await;
                }
            };
            for line in lines {
                info!(?task, "{line}");
            }
            if let Ok(Some(report)) = decided {
                self.cache.controller().task_done(&report, now);
            }
        }
    }

    /// The connection of a broker broke: it may be dead.
    pub(crate) fn connection_lost(&self, broker: BrokerId) {
        self.suspects.lock().insert(broker);
        self.suspected.notify_one();
    }

    fn probe_suspects(self: &Arc<Self>) {
        for broker in std::mem::take(&mut *self.suspects.lock()) {
            let host = Arc::clone(self);
            let _detached = self.env.spawn("broker probe", async move {
                let session = host.config.node.session_timeout;
                // Whoever is alive is not to be watched for longer than silence would take to tell.
                if let Ok(Some(epoch)) = host.env.timeout(session, host.wait_dead(broker)).await {
                    host.fence_dead(broker, epoch).await;
                }
            });
        }
    }

    /// Waits until the port of a suspect refuses; answers its registration, if it has one that is not fenced. A process that
    /// is just dying may close its port last.
    async fn wait_dead(&self, broker: BrokerId) -> Option<BrokerEpoch> {
        let image = self.cache.image();
        let registered = image.broker(broker).filter(|broker| !broker.fenced)?;
        // A controller that is no broker need not know what the brokers' own listener is called.
        let inter_broker = registered.listener(&self.config.node.inter_broker_listener_name);
        let listener = inter_broker.or(registered.listeners.first())?;
        let address = format!("{}:{}", listener.host, listener.port);
        wait_dead(&self.env, &address, Known::WasThere).await;
        Some(registered.epoch)
    }

    async fn fence_dead(&self, broker: BrokerId, epoch: BrokerEpoch) {
        let fenced = self.decide(|controller, _| controller.fence_dead_broker(broker, epoch)).await;
        // Else it has registered again meanwhile, or another controller is active.
        if fenced.is_ok_and(|was_alive| was_alive) {
            warn!(%broker, "the broker is fenced: its process is gone, for its connection broke and its port refuses");
        }
    }

    /// The quorum as this node knows it.
    pub(crate) fn quorum(&self) -> &Arc<MetadataQuorum> {
        &self.quorum
    }

    /// What the metadata log adds up to here.
    pub(crate) fn cache(&self) -> &Arc<MetadataCache> {
        &self.cache
    }

    pub(crate) fn env(&self) -> &Env {
        &self.env
    }

    /// Whether a request is meant for this cluster; one that does not say is.
    pub(crate) fn is_cluster(&self, named: Option<&str>) -> bool {
        named.is_none_or(|named| named == self.logs.cluster_id())
    }

    pub(crate) fn config(&self) -> &Arc<BrokerConfig> {
        &self.config
    }

    /// What clients may create and delete.
    pub(crate) fn quotas(&self) -> &Arc<ClientQuotas> {
        &self.quotas
    }

    /// Whether this node is the active controller, as far as it knows.
    pub(crate) fn is_active(&self) -> bool {
        self.check_active().is_ok()
    }

    fn leads(&self, leader: LeaderAndEpoch) -> bool {
        leader.leader == Some(self.config.node.node_id.0)
    }

    /// Completes when the metadata log has failed, or was closed; answers why.
    pub(crate) fn stopped(&self) -> impl Future<Output = String> + Send + 'static {
        let quorum = Arc::clone(&self.quorum);
        async move {
            let mut leader = quorum.leader();
            while leader.changed().await.is_ok() {}
            quorum.why_stopped()
        }
    }

    /// Decides, commits and applies; then gives the answer.
    pub(crate) async fn decide<A>(
        &self,
        decide: impl FnOnce(&Controller, &mut dyn FnMut() -> u64) -> Outcome<A>,
    ) -> Result<A, ControllerError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let epoch = self.check_active()?;
        let Outcome { records, answer } = {
            let controller = self.cache.controller();
            decide(&controller, &mut || self.env.rng.next_u64())
        };
        if records.is_empty() {
            return Ok(answer);
        }
        let records = records.iter().map(MetadataRecord::to_bytes).collect();
        let (done, applied) = oneshot::channel();
        let quorum = Arc::clone(&self.quorum);
        // A client that goes away drops this future, but a proposal cannot be withdrawn: a task of its own holds the turn
        // until the records are applied, so that nobody decides without them.
        let proposal = async move {
            let _nobody_waits = done.send(quorum.propose_in(epoch, records).await);
            drop(turn);
        };
        self.env.spawner.spawn("metadata proposal", Box::pin(proposal));
        applied.await.map_err(|_stopped| ProposeError::ShuttingDown)??;
        self.check_fault()?;
        Ok(answer)
    }

    /// [`decide`](Self::decide) for what makes logs: a node that is alone refuses, before anything is decided, where it has
    /// no room for them.
    pub(crate) async fn decide_logs<A>(
        &self,
        decide: impl FnOnce(&Controller, &mut dyn FnMut() -> u64) -> Outcome<A>,
    ) -> Result<A, ControllerError> {
        if self.cache.image().brokers().all(|broker| broker.id == self.config.node.node_id) {
            self.logs.check_room()?;
        }
        self.decide(decide).await
    }

    /// The epoch in which this node decides. Refuses to decide for others, or on an image that stands still in the middle of
    /// a batch.
    fn check_active(&self) -> Result<i32, ControllerError> {
        self.check_fault()?;
        let leader = *self.quorum.leader().borrow();
        match self.leads(leader) && self.active_in.load(Ordering::Acquire) == leader.epoch {
            true => Ok(leader.epoch),
            false => Err(ProposeError::NotLeader { leader: leader.leader }.into()),
        }
    }

    /// Has a majority of the voters confirm that nobody else leads.
    pub(crate) async fn make_sure_to_lead(&self) -> Result<(), ControllerError> {
        Ok(self.quorum.read_barrier().await?)
    }

    fn check_fault(&self) -> Result<(), ControllerError> {
        self.cache.fault().map_or(Ok(()), |fault| Err(ControllerError::Fault(fault)))
    }

    /// Stops taking part in the quorum; what was proposed is answered first.
    pub(crate) async fn shutdown(&self) {
        if let Err(error) = self.quorum.shutdown().await {
            error!(%error, "the metadata log could not be closed");
        }
    }
}
