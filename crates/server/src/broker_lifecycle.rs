//! A broker's standing with the controller: registration, heartbeats, controlled shutdown. Kafka's `BrokerLifecycleManager`.
//!
//! ```text
//! registered, fenced ─ has read that it is ─► unfenced ─ asked to stop ─► leads nothing ─► gone
//!        ▲                                                   │
//!        └──────────── silent, or its epoch is stale ────────┘
//! ```
//!
//! Heartbeats have a connection of their own: when it breaks, the controller looks whether the process is dead.

use std::sync::Arc;
use std::time::Duration;

use ottla_config::BrokerConfig;
use ottla_env::Env;
use ottla_metadata::BrokerEpoch;
use ottla_protocol::messages::{
    BrokerHeartbeatRequest, BrokerHeartbeatResponse, BrokerRegistrationRequest,
    BrokerRegistrationResponse,
};
use ottla_protocol::{ErrorCode, message};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::broker::Broker;
use crate::controller_channel::{ChannelError, ControllerChannel, is_not_controller};

/// How soon a fenced broker, or one that stops, asks again.
const IMPATIENT: Duration = Duration::from_millis(50);

/// Why a broker is not registered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegisterError {
    /// The controller does not let it in.
    #[error("{}", .0.message())]
    Refused(ErrorCode),
    /// No controller was found in time.
    #[error(transparent)]
    NoController(#[from] ChannelError),
}

/// What the controller last said of this broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// It may lead partitions.
    pub(crate) is_unfenced: bool,
    /// It leads nothing any more, and may stop.
    pub(crate) may_stop: bool,
}

/// Keeps the broker registered.
pub(crate) struct BrokerLifecycle {
    env: Env,
    config: Arc<BrokerConfig>,
    channel: ControllerChannel,
    registration: BrokerRegistrationRequest,
    standing: watch::Sender<Standing>,
    /// The broker serves requests.
    is_ready: watch::Sender<bool>,
    wants_to_stop: watch::Sender<bool>,
}

impl BrokerLifecycle {
    pub(crate) fn new(
        env: &Env,
        config: Arc<BrokerConfig>,
        channel: ControllerChannel,
        registration: BrokerRegistrationRequest,
    ) -> Arc<Self> {
        Arc::new(Self {
            env: env.clone(),
            config,
            channel,
            registration,
            standing: watch::Sender::default(),
            is_ready: watch::Sender::default(),
            wants_to_stop: watch::Sender::default(),
        })
    }

    /// Registers the broker, fenced; tries for `initial.broker.registration.timeout.ms`.
    pub(crate) async fn register(&self) -> Result<BrokerEpoch, RegisterError> {
        let deadline = self.env.clock.now() + self.config.node.initial_registration_timeout;
        loop {
            let refused = |it: &BrokerRegistrationResponse| is_not_controller(it.error_code);
            let response = self.channel.call_until(&self.registration, deadline, refused).await?;
            let refused = ErrorCode::from_wire(response.error_code);
            if refused == ErrorCode::None {
                return Ok(BrokerEpoch(response.broker_epoch));
            }
            // A former life of this broker may not have ended there yet.
            let may_pass = refused == ErrorCode::DuplicateBrokerRegistration;
            if !may_pass || self.env.clock.now() >= deadline {
                return Err(RegisterError::Refused(refused));
            }
            self.env.clock.sleep(IMPATIENT).await;
        }
    }

    /// From now on the broker asks to be unfenced.
    pub(crate) fn ready(&self, broker: &Broker) {
        self.is_ready.send_replace(true);
        broker.news().notify_one();
    }

    /// Waits until the controller has answered that the broker is in service.
    pub(crate) async fn in_service(&self) {
        let mut standing = self.standing.subscribe();
        // An error means that the node stops.
        let _served_or_gone = standing.wait_for(|standing| standing.is_unfenced).await;
    }

    /// Has the broker give up what it leads, and waits until it has, or `limit` is over; whether it has.
    pub(crate) async fn controlled_shutdown(&self, broker: &Broker, limit: Duration) -> bool {
        self.wants_to_stop.send_replace(true);
        broker.news().notify_one();
        let mut standing = self.standing.subscribe();
        let gone = standing.wait_for(|standing| standing.may_stop);
        self.env.timeout(limit, gone).await.is_ok_and(|standing| standing.is_ok())
    }

    /// Says that the broker is alive, every `broker.heartbeat.interval.ms`. Runs until the node stops.
    pub(crate) async fn run(self: Arc<Self>, broker: Arc<Broker>) {
        let mut leader = self.channel.leader_changes();
        loop {
            leader.mark_unchanged();
            let wait = match self.heartbeat(&broker).await {
                Ok(standing) => {
                    let at_rest = standing.is_unfenced != *self.wants_to_stop.borrow();
                    if at_rest || !*self.is_ready.borrow() {
                        self.config.node.heartbeat_interval
                    } else {
                        IMPATIENT
                    }
                }
                Err(reason) => {
                    tracing::debug!(%reason, "a heartbeat was not heard");
                    IMPATIENT
                }
            };
            tokio::select! {
                biased;
                // A controller that has just become active hears of everybody soon.
                changed = leader.changed() => if changed.is_err() { return },
                () = broker.news().notified() => {}
                () = self.env.clock.sleep(wait) => {}
            }
        }
    }

    async fn heartbeat(&self, broker: &Broker) -> Result<Standing, ChannelError> {
        let offline = broker.logs().offline_dirs();
        let request = message!(BrokerHeartbeatRequest {
            broker_id: broker.id().0,
            broker_epoch: broker.epoch().0,
            current_metadata_offset: broker.image().position().offset.0,
            want_fence: !*self.is_ready.borrow(),
            want_shut_down: *self.wants_to_stop.borrow(),
            offline_log_dirs: offline.iter().filter_map(|dir| dir.id()).collect(),
        });
        let sent = self.env.clock.now();
        let response: BrokerHeartbeatResponse = self.channel.call(&request).await?;
        let refused = ErrorCode::from_wire(response.error_code);
        if matches!(refused, ErrorCode::StaleBrokerEpoch | ErrorCode::BrokerIdNotRegistered) {
            self.register_again(broker).await;
        } else if refused != ErrorCode::None {
            return Err(ChannelError::NoController);
        }
        let standing = Standing {
            is_unfenced: refused == ErrorCode::None && !response.is_fenced,
            may_stop: response.should_shut_down,
        };
        broker.lease().answered(sent, standing.is_unfenced);
        let before = self.standing.send_replace(standing);
        match (before.is_unfenced, standing.is_unfenced) {
            (false, true) => info!("the broker is in service"),
            (true, false) if !*self.wants_to_stop.borrow() => {
                warn!("the controller has fenced this broker")
            }
            _ => {}
        }
        Ok(standing)
    }

    /// The controller has forgotten this broker, or took another for it.
    async fn register_again(&self, broker: &Broker) {
        match self.channel.call(&self.registration).await {
            Ok(response) if response.error_code == 0 => {
                warn!(epoch = response.broker_epoch, "the broker has registered again");
                broker.replicas().set_epoch(BrokerEpoch(response.broker_epoch));
            }
            Ok(response) => {
                let reason = ErrorCode::from_wire(response.error_code);
                warn!(%reason, "the controller does not let the broker in again");
            }
            Err(reason) => warn!(%reason, "the broker could not register again"),
        }
    }
}
