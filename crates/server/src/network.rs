//! Sockets to requests and back: Kafka's `SocketServer`.
//!
//! ```text
//! Acceptor ──► Processor (one task per connection) ──► RequestChannel::admit ──► handler
//!    │ connection quotas     ▲                                                     │
//!    ▼                       └──────── responses, in the order of requests ◄── Reply┘
//! ```
//!
//! # Invariants
//! - Responses leave a connection in the order in which its requests arrived.
//! - A connection's memory follows what its peer has really sent, never what a length field claims.
//! - What one connection does ends at worst that connection.
//!
//! # Not here
//! What a request means: `handlers`.

mod acceptor;
mod connection;
mod connection_quotas;
mod mute;
mod processor;
mod readahead;
mod request_channel;
mod response_writer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ottla_config::{Sendfile, SocketServerConfig};
use ottla_env::{BoxFuture, Env, Listener, TaskHandle};
use tokio::sync::watch;

use crate::cold_reads::ColdReads;
use crate::quotas::ClientQuotas;

use acceptor::Acceptor;
pub(crate) use acceptor::ListenError;
pub(crate) use connection::{Connection, ConnectionContext};
use connection_quotas::ConnectionQuotas;
pub(crate) use request_channel::Handler;
use request_channel::RequestChannel;
pub(crate) use response_writer::Part;

/// A response on its way.
pub(crate) struct Outgoing {
    /// Its bytes; none, if no response is due.
    pub(crate) parts: Vec<Part>,
    /// When it has left, nothing is read from the connection for this long (KIP-219).
    pub(crate) throttle: Duration,
}

impl From<Vec<Part>> for Outgoing {
    fn from(parts: Vec<Part>) -> Self {
        Self { parts, throttle: Duration::ZERO }
    }
}

/// A response that is not there yet; or why there will be none, and the connection is closed.
pub(crate) type PendingResponse = BoxFuture<'static, Result<Outgoing, String>>;

/// What a handler gives back for one request.
pub(crate) enum Reply {
    /// The response, now.
    Ready(Outgoing),
    /// The response, when the future is done; no parts, if none is due. Later requests of the connection are handled
    /// meanwhile.
    Later(PendingResponse),
    /// The response, when the future is done. Later requests of the connection wait, as all do in Kafka:
    /// they may build on what this one changes.
    Held(PendingResponse),
    /// No response is due (`acks=0`).
    Nothing,
    /// The node has not come so far in its start that it could answer; the connection is closed for this reason, which is
    /// nobody's fault.
    NotYet(String),
    /// The request cannot be answered; the connection is closed for this reason.
    Close(String),
}

/// Completes when the node stops; a sender that is gone has stopped as well.
async fn wait_stopped(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Listeners that are open but not served yet: a node learns its ports before it is ready for requests.
pub(crate) struct BoundSockets {
    listeners: Vec<(Arc<str>, SocketAddr, Box<dyn Listener>)>,
}

impl BoundSockets {
    /// Listens on each `(listener name, host:port)`; port 0 asks the system for a free one.
    pub(crate) async fn bind(
        env: &Env,
        listeners: &[(Arc<str>, String)],
        config: &SocketServerConfig,
    ) -> Result<Self, ListenError> {
        let mut bound = Vec::with_capacity(listeners.len());
        for (name, address) in listeners {
            let (local, listener) = acceptor::listen(env, name, address, config).await?;
            bound.push((Arc::clone(name), local, listener));
        }
        Ok(Self { listeners: bound })
    }

    /// Name and address of each listener.
    pub(crate) fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        self.listeners.iter().map(|(name, local, _)| (Arc::clone(name), *local)).collect()
    }
}

/// All listeners of a node and the connections that came in by them.
pub(crate) struct SocketServer {
    stop: watch::Sender<bool>,
    acceptors: Vec<TaskHandle>,
    quotas: Arc<ConnectionQuotas>,
}

impl SocketServer {
    /// Serves what comes in by `bound` with `handler`.
    pub(crate) fn start(
        env: &Env,
        bound: BoundSockets,
        config: &SocketServerConfig,
        (sendfile, cold_reads): (Sendfile, Arc<ColdReads>),
        (handler, client_quotas): (Handler, Arc<ClientQuotas>),
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let quotas = Arc::new(ConnectionQuotas::new(config));
        let channel =
            Arc::new(RequestChannel::new(config.clone(), (sendfile, cold_reads), handler));
        let mut acceptors = Vec::new();
        for (name, _, listener) in bound.listeners {
            let acceptor = Acceptor {
                env: env.clone(),
                name,
                quotas: Arc::clone(&quotas),
                client_quotas: Arc::clone(&client_quotas),
                channel: Arc::clone(&channel),
                stopped: stopped.clone(),
            };
            acceptors.push(env.spawner.spawn("acceptor", Box::pin(acceptor.run(listener))));
        }
        Self { stop, acceptors, quotas }
    }

    /// How many connections there may be.
    pub(crate) fn quotas(&self) -> &Arc<ConnectionQuotas> {
        &self.quotas
    }

    /// Stops accepting, closes every connection and waits until the last has ended.
    pub(crate) async fn shutdown(self) {
        let _ = self.stop.send(true);
        for acceptor in self.acceptors {
            acceptor.wait().await;
        }
        self.quotas.wait_all_closed().await;
    }
}

#[cfg(test)]
mod tests;
