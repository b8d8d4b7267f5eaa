//! Runs the controller on the metadata quorum: decides, proposes, and applies what is committed.
//!
//! ```text
//! decide(&Controller) ─► records ─► MetadataQuorum::propose ─► committed ─► Controller::replay ─► MetadataImage ─► node
//! ```
//!
//! # Invariants
//! - One decision at a time: each is made on everything that was committed before it.
//! - When a decision is answered, this node has applied it: a topic that was created can be produced to.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use ottla_env::Env;
use ottla_metadata::controller::bootstrap_records;
use ottla_metadata::{
    Controller, ControllerConfig, METADATA_VERSION, MetadataDelta, MetadataImage, MetadataPosition,
    MetadataRecord, Outcome,
};
use ottla_protocol::{BrokerId, ErrorCode, LeaderEpoch, Offset, StrBytes};
use ottla_storage::LogDirFailure;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::quorum::{
    CommittedBatch, MetadataApplier, MetadataQuorum, NoTransport, ProposeError, QuorumDescription,
    QuorumError, QuorumOptions,
};

/// Told of every change of the image, in order, before readers see the new one.
pub(crate) type ImageListener = Box<dyn Fn(&MetadataDelta, &MetadataImage) + Send + Sync>;

/// The controller of this node and the metadata that it and all others decided.
pub(crate) struct ControllerHost {
    env: Env,
    state: Arc<MetadataState>,
    quorum: Arc<MetadataQuorum>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// What the metadata log adds up to here.
struct MetadataState {
    controller: Mutex<Controller>,
    image: ArcSwap<MetadataImage>,
    listener: Mutex<Option<ImageListener>>,
    /// A committed record that this release cannot apply. Nothing after it is applied.
    fault: Mutex<Option<String>>,
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
    /// What it holds.
    #[error(
        "the metadata log holds a record that this release cannot apply: {0}. Start the release that wrote it"
    )]
    Fault(String),
    /// Its first records.
    #[error(transparent)]
    Bootstrap(#[from] ControllerError),
}

impl ControllerHost {
    /// Opens the metadata log and replays it; returns when this node is the active controller.
    pub(crate) async fn start(
        env: &Env,
        options: QuorumOptions,
        config: ControllerConfig,
    ) -> Result<Self, ControllerStartError> {
        let controller = Controller::new(config, MetadataImage::default(), env.clock.now());
        let state = Arc::new(MetadataState {
            controller: Mutex::new(controller),
            image: ArcSwap::default(),
            listener: Mutex::new(None),
            fault: Mutex::new(None),
        });
        let applier = Applier { state: Arc::clone(&state) };
        let quorum =
            MetadataQuorum::start(env.clone(), options, applier, Arc::new(NoTransport)).await?;
        if let Some(fault) = state.fault.lock().take() {
            return Err(ControllerStartError::Fault(fault));
        }
        state.controller.lock().activate(env.clock.now());
        let (quorum, turn) = (Arc::new(quorum), Arc::default());
        let host = Self { env: env.clone(), state, quorum, turn };
        host.bootstrap().await?;
        Ok(host)
    }

    /// Writes the first records of a new cluster.
    async fn bootstrap(&self) -> Result<(), ControllerError> {
        self.decide(|controller, _| {
            let is_new = controller.image().feature_level(METADATA_VERSION) == 0;
            let records = if is_new { bootstrap_records() } else { Vec::new() };
            Outcome { records, answer: () }
        })
        .await
    }

    /// What every node knows, as of now.
    pub(crate) fn image(&self) -> Arc<MetadataImage> {
        self.state.image.load_full()
    }

    /// The active controller.
    pub(crate) fn leader(&self) -> Option<BrokerId> {
        self.quorum.leader().borrow().leader.map(BrokerId)
    }

    /// The metadata quorum as this node knows it.
    pub(crate) fn describe_quorum(&self) -> QuorumDescription {
        self.quorum.describe()
    }

    /// Calls `listener` with everything there is, then with every change.
    pub(crate) fn listen(&self, listener: ImageListener) {
        // Holding the lock keeps a commit from slipping between the first call and the next.
        let mut slot = self.state.listener.lock();
        let image = self.image();
        listener(&MetadataDelta::between(&MetadataImage::default(), &image), &image);
        *slot = Some(listener);
    }

    /// Calls `act` while the image stands still, in turn with the listener.
    pub(crate) fn between_changes(&self, act: impl FnOnce(&MetadataImage)) {
        let _no_change = self.state.listener.lock();
        act(&self.image());
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
        self.check_applied()?;
        let Outcome { records, answer } = {
            let controller = self.state.controller.lock();
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
            let _nobody_waits = done.send(quorum.propose(records).await);
            drop(turn);
        };
        self.env.spawner.spawn("metadata proposal", Box::pin(proposal));
        applied.await.map_err(|_stopped| ProposeError::ShuttingDown)??;
        self.check_applied()?;
        Ok(answer)
    }

    /// Refuses to decide on an image that stands still in the middle of a batch.
    fn check_applied(&self) -> Result<(), ControllerError> {
        self.state.fault.lock().clone().map_or(Ok(()), |fault| Err(ControllerError::Fault(fault)))
    }

    /// Creates those of `topics` that are missing, with the cluster's defaults. Failures are logged: whoever needs a topic
    /// finds it missing.
    pub(crate) async fn auto_create_topics(&self, topics: Vec<StrBytes>) {
        let created = self
            .decide(|controller, random| {
                let image = controller.image();
                let missing = topics.iter().filter(|name| image.topic(name).is_none());
                controller.auto_create_topics(missing.map(StrBytes::as_str), random)
            })
            .await;
        match created {
            Ok(response) => {
                for topic in response.topics {
                    match (ErrorCode::from_wire(topic.error_code), topic.error_message) {
                        (ErrorCode::None, _) => {
                            info!(topic = %topic.name, "topic created on first use")
                        }
                        (error, message) => {
                            let message = message.unwrap_or_default();
                            warn!(topic = %topic.name, %error, %message, "could not create a topic on first use");
                        }
                    }
                }
            }
            Err(error) => warn!(%error, "could not create topics on first use"),
        }
    }

    /// Stops taking part in the quorum; what was proposed is answered first.
    pub(crate) async fn shutdown(&self) {
        if let Err(error) = self.quorum.shutdown().await {
            error!(%error, "the metadata log could not be closed");
        }
    }
}

/// Applies committed batches; the quorum calls it from one task.
struct Applier {
    state: Arc<MetadataState>,
}

impl Applier {
    fn replay(&self, batch: CommittedBatch) -> Result<(), String> {
        let last = batch.base_offset + batch.records.len() as i64 - 1;
        let mut controller = self.state.controller.lock();
        for bytes in batch.records {
            let record = MetadataRecord::decode(bytes).map_err(|error| error.to_string())?;
            controller.replay(&record).map_err(|error| error.to_string())?;
        }
        let position = MetadataPosition { offset: Offset(last), epoch: LeaderEpoch(batch.epoch) };
        controller.advance_to(position);
        let image = Arc::new(controller.image().clone());
        drop(controller);
        self.publish(image);
        Ok(())
    }

    fn publish(&self, image: Arc<MetadataImage>) {
        let listener = self.state.listener.lock();
        if let Some(listener) = listener.as_ref() {
            let delta = MetadataDelta::between(&self.state.image.load(), &image);
            listener(&delta, &image);
        }
        self.state.image.store(image);
    }

    fn fail(&self, reason: String) {
        error!(%reason, "the metadata log holds a record that cannot be applied: nothing after it is");
        *self.state.fault.lock() = Some(reason);
    }
}

impl MetadataApplier for Applier {
    fn apply(&mut self, batch: CommittedBatch) {
        if self.state.fault.lock().is_none()
            && let Err(reason) = self.replay(batch)
        {
            self.fail(reason);
        }
    }

    fn snapshot(&self) -> Vec<Bytes> {
        self.state.image.load().to_records().map(|record| record.to_bytes()).collect()
    }

    fn install(&mut self, records: Vec<Bytes>, end_offset: i64, epoch: i32) {
        let mut image = MetadataImage::default();
        for bytes in records {
            let applied = MetadataRecord::decode(bytes)
                .map_err(|error| error.to_string())
                .and_then(|record| image.replay(&record).map_err(|error| error.to_string()));
            if let Err(reason) = applied {
                return self.fail(reason);
            }
        }
        let position =
            MetadataPosition { offset: Offset(end_offset - 1), epoch: LeaderEpoch(epoch) };
        image.advance_to(position);
        self.state.controller.lock().install(image.clone());
        self.publish(Arc::new(image));
    }
}
