//! The way from a node to the active controller. Kafka: `NodeToControllerChannelManager`, `ForwardingManager`.
//!
//! Where the active controller is this node, a request is answered in process; else it goes to the listener of the node that
//! leads the metadata quorum. Who that is, [`ActiveController`] tells.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_client::{ClientError, Connection, ConnectionOptions};
use ottla_env::Env;
use ottla_protocol::messages::{EnvelopeRequest, EnvelopeResponse, RequestResponsePair};
use ottla_protocol::{ApiKey, ErrorCode, Monotonic, Request, Response, envelope, message};
use tokio::sync::watch;
use tracing::warn;

use crate::controller_host::ControllerHost;
use crate::handlers::controller_apis;
use crate::metadata_cache::MetadataCache;
use crate::network::ConnectionContext;
use crate::quorum::{LeaderAndEpoch, Voter};
use crate::replica::FetchedRecords;
use crate::voter_connections::{Known, wait_dead};

/// Between two tries of a request that found no active controller.
const RETRY_BACKOFF: Duration = Duration::from_millis(50);

/// Who the active controller is, and where.
#[derive(Clone)]
pub(crate) struct ActiveController {
    /// The leader of the quorum, as this node knows it.
    pub(crate) leader: watch::Receiver<LeaderAndEpoch>,
    /// Where controllers listen, as configured or as the quorum told.
    pub(crate) voters: watch::Receiver<Arc<[Voter]>>,
    /// The controller of this node, if it has that role.
    pub(crate) here: Option<Arc<ControllerHost>>,
}

impl ActiveController {
    /// Where the controller `id` listens, as the quorum knows it, or else the configuration.
    fn address(&self, id: i32) -> Option<String> {
        let known = self.here.as_ref().map(|host| host.quorum().describe().addresses);
        let known = known.unwrap_or_default();
        let told = self.voters.borrow();
        let mut voters = known.iter().chain(&**told);
        voters.find(|voter| voter.node_id == id).map(Voter::address)
    }

    /// Whether `id` is this node.
    fn is_here(&self, id: i32) -> bool {
        self.here.as_ref().is_some_and(|host| host.config().node.node_id.0 == id)
    }
}

/// Watches whoever leads the metadata quorum from elsewhere, and tells when its process is dead: an election, or asking
/// others, need not wait for silence to last.
pub(crate) fn watch_leader(
    env: &Env,
    active: &ActiveController,
    vanished: impl Fn(i32) + Send + Sync + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    let (env, active) = (env.clone(), active.clone());
    async move {
        let mut leader = active.leader.clone();
        loop {
            let elsewhere = leader.borrow_and_update().leader.filter(|id| !active.is_here(*id));
            let dead = async {
                if let Some((id, address)) =
                    elsewhere.and_then(|id| Some((id, active.address(id)?)))
                {
                    wait_dead(&env, &address, Known::Nothing).await;
                    warn!(
                        id,
                        "the leader of the metadata quorum is dead: its connection broke and its port refuses"
                    );
                    vanished(id);
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                changed = leader.changed() => if changed.is_err() { return },
                () = dead => {}
            }
        }
    }
}

/// Why there is no answer of the active controller.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    /// Nobody is known to be it.
    #[error("there is no active controller now, or none that this node knows of")]
    NoController,
    /// It could not be reached, or did not answer.
    #[error("the active controller, node {id}, does not answer: {reason}")]
    Unreachable {
        /// Its id.
        id: i32,
        /// Why.
        reason: ClientError,
    },
    /// It answered something else.
    #[error("the controller answered {0}")]
    Nonsense(ApiKey),
}

impl ChannelError {
    /// The code that a client is told.
    pub(crate) fn error_code(&self) -> ErrorCode {
        match self {
            Self::NoController | Self::Unreachable { .. } => ErrorCode::NotController,
            Self::Nonsense(_) => ErrorCode::UnknownServerError,
        }
    }
}

/// A connection to whoever is the active controller.
pub(crate) struct ControllerChannel {
    env: Env,
    options: ConnectionOptions,
    active: ActiveController,
    /// To the node of that id.
    connection: tokio::sync::Mutex<Option<(i32, Connection)>>,
}

impl ControllerChannel {
    /// A channel on which a request may take `request_timeout`.
    pub(crate) fn new(env: &Env, active: ActiveController, request_timeout: Duration) -> Self {
        let options = ConnectionOptions {
            client_id: "controller-channel".to_owned(),
            connect_timeout: request_timeout,
            request_timeout,
            max_idle: None,
            ..ConnectionOptions::default()
        };
        Self { env: env.clone(), options, active, connection: tokio::sync::Mutex::default() }
    }

    /// The id of the active controller, as this node knows it.
    pub(crate) fn leader(&self) -> Option<i32> {
        self.active.leader.borrow().leader
    }

    /// Told when another node becomes the active controller.
    pub(crate) fn leader_changes(&self) -> watch::Receiver<LeaderAndEpoch> {
        self.active.leader.clone()
    }

    /// The controller of this node, if it is the active one.
    pub(crate) fn here(&self) -> Option<&Arc<ControllerHost>> {
        self.active.here.as_ref().filter(|host| host.is_active())
    }

    /// Asks the active controller once. What it refuses, it says in its answer.
    pub(crate) async fn call<R>(&self, request: &R) -> Result<R::Response, ChannelError>
    where
        R: RequestResponsePair + Clone + Into<Request>,
        R::Response: TryFrom<Response<FetchedRecords>, Error = ApiKey>,
    {
        if let Some(host) = self.here() {
            let answer = controller_apis::answer_own(host, request.clone().into()).await;
            return R::Response::try_from(answer).map_err(ChannelError::Nonsense);
        }
        let asked = self.leader().ok_or(ChannelError::NoController)?;
        let mut leader = self.leader_changes();
        let call = async {
            let (id, connection) = self.connect().await?;
            let called = connection.call(request).await;
            called.map_err(|reason| ChannelError::Unreachable { id, reason })
        };
        tokio::select! {
            biased;
            called = call => called,
            // Who stands still or is cut off does not answer, and a successor wants to hear from everybody.
            Ok(_) = leader.wait_for(|it| it.leader.is_some_and(|it| it != asked)) => {
                Err(ChannelError::NoController)
            }
        }
    }

    async fn connect(&self) -> Result<(i32, Connection), ChannelError> {
        let id = self.leader().ok_or(ChannelError::NoController)?;
        let mut kept = self.connection.lock().await;
        if let Some((_, connection)) =
            kept.as_ref().filter(|(to, connection)| *to == id && !connection.is_closed())
        {
            return Ok((id, connection.clone()));
        }
        // A connection to a former controller is of no use; nor is one to ourselves, for we do not know yet that we are it.
        *kept = None;
        if self.active.is_here(id) {
            return Err(ChannelError::NoController);
        }
        let address = self.active.address(id).ok_or(ChannelError::NoController)?;
        let connected = Connection::connect(&self.env, &address, self.options.clone()).await;
        let connection = connected.map_err(|reason| ChannelError::Unreachable { id, reason })?;
        *kept = Some((id, connection.clone()));
        Ok((id, connection))
    }

    /// Passes a client's request on as it came (KIP-590), again until a controller takes it or `deadline` has passed, and
    /// answers when this node has followed what it changed. The answer is the response without its length, and for how long the
    /// client has to be silent.
    pub(crate) async fn forward(
        &self,
        (client, frame): (&ConnectionContext, Bytes),
        cache: &MetadataCache,
        deadline: Monotonic,
    ) -> Result<(Bytes, Duration), ChannelError> {
        let client_address = match client.peer.ip() {
            std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
            std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let request = message!(EnvelopeRequest {
            request_data: frame,
            request_principal: Some(Bytes::new()),
            client_host_address: Bytes::from(client_address),
        });
        let refused = |it: &EnvelopeResponse| is_not_controller(it.error_code);
        let response = self.call_until(&request, deadline, refused).await?;
        let note = envelope::Note::of(&response);
        if let Some(offset) = note.metadata_offset {
            // If it does not come to it, the client is answered all the same: what it asked for is done.
            let _followed = cache.wait_until(&self.env, offset, deadline).await;
        }
        let data = response.response_data.ok_or(ChannelError::Nonsense(ApiKey::Envelope))?;
        Ok((data, note.throttle))
    }

    /// Asks until an active controller answers, or `deadline` has passed; `refused` tells an answer of one that is not active.
    pub(crate) async fn call_until<R>(
        &self,
        request: &R,
        deadline: Monotonic,
        refused: fn(&R::Response) -> bool,
    ) -> Result<R::Response, ChannelError>
    where
        R: RequestResponsePair + Clone + Into<Request>,
        R::Response: TryFrom<Response<FetchedRecords>, Error = ApiKey>,
    {
        let mut leader = self.leader_changes();
        loop {
            leader.mark_unchanged();
            let error = match self.call(request).await {
                Ok(response) if refused(&response) => ChannelError::NoController,
                Ok(response) => return Ok(response),
                Err(error @ ChannelError::Nonsense(_)) => return Err(error),
                Err(error @ (ChannelError::NoController | ChannelError::Unreachable { .. })) => {
                    error
                }
            };
            if self.env.clock.now() >= deadline {
                return Err(error);
            }
            tokio::select! {
                biased;
                changed = leader.changed() => if changed.is_err() { return Err(error) },
                () = self.env.clock.sleep(RETRY_BACKOFF) => {}
            }
        }
    }
}

/// Whether an answer says that the node which gave it is not the active controller.
pub(crate) fn is_not_controller(code: i16) -> bool {
    ErrorCode::from_wire(code) == ErrorCode::NotController
}
