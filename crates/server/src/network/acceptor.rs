//! Takes connections in: Kafka's `Acceptor`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ottla_config::SocketServerConfig;
use ottla_env::{Env, Listener, Stream};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::connection::Connection;
use super::connection_quotas::ConnectionPermit;
use super::processor::Processor;
use super::{ConnectionQuotas, RequestChannel, wait_stopped};
use crate::quotas::ClientQuotas;

/// A listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} (listener {listener}): {source}. \
     Choose another address with --listen HOST:PORT or the key `listeners`"
)]
pub(crate) struct ListenError {
    listener: Arc<str>,
    address: String,
    source: io::Error,
}

/// Opens a listener. Returns where it listens.
pub(super) async fn listen(
    env: &Env,
    name: &Arc<str>,
    address: &str,
    config: &SocketServerConfig,
) -> Result<(SocketAddr, Box<dyn Listener>), ListenError> {
    let failed =
        |source| ListenError { listener: Arc::clone(name), address: address.to_owned(), source };
    let listener = env.net.listen(address, config.listen_backlog).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((local, listener))
}

/// Accepts the connections of one listener and starts a [`Processor`] for each.
pub(super) struct Acceptor {
    pub(super) env: Env,
    pub(super) name: Arc<str>,
    pub(super) quotas: Arc<ConnectionQuotas>,
    pub(super) client_quotas: Arc<ClientQuotas>,
    pub(super) channel: Arc<RequestChannel>,
    pub(super) stopped: watch::Receiver<bool>,
}

/// After an `accept` that failed (no file descriptors left, say) the next try waits this long.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

impl Acceptor {
    /// Accepts until the node stops.
    pub(super) async fn run(self, mut listener: Box<dyn Listener>) {
        let mut stopped = self.stopped.clone();
        loop {
            tokio::select! {
                biased;
                () = wait_stopped(&mut stopped) => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.admit(stream, peer),
                    Err(error) => {
                        warn!(listener = %self.name, %error, "could not accept a connection");
                        self.env.clock.sleep(ACCEPT_BACKOFF).await;
                    }
                },
            }
        }
    }

    /// Starts the connection, or closes it by dropping it where a quota is exhausted.
    fn admit(&self, stream: Box<dyn Stream>, peer: SocketAddr) {
        let permit = match self.quotas.admit(peer.ip()) {
            Ok(permit) => permit,
            Err(reason) => return warn!(%peer, %reason, "connection refused"),
        };
        let throttle = self.client_quotas.connected(peer.ip(), self.env.clock.now());
        if !throttle.is_zero() {
            return self.hold_back((stream, permit), peer, throttle);
        }
        let config = self.channel.config();
        let (send, receive) = (config.send_buffer_bytes, config.receive_buffer_bytes);
        if let Err(error) = stream.set_buffer_sizes(send, receive) {
            return debug!(%peer, %error, "connection ended before it began");
        }
        let id = self.channel.next_connection_id();
        let context = Connection::new(id, peer, Arc::clone(&self.name));
        let processor = Processor::new(&self.env, stream, context, Arc::clone(&self.channel));
        let stopped = self.stopped.clone();
        let connection = async move {
            processor.run(stopped).await;
            drop(permit);
        };
        self.env.spawner.spawn("processor", Box::pin(connection));
    }

    /// Lets an address that opens too many connections wait before this one is closed, so that it does not come again at
    /// once (KIP-612). Meanwhile the connection counts as one of those that there may be.
    fn hold_back(
        &self,
        held: (Box<dyn Stream>, ConnectionPermit),
        peer: SocketAddr,
        throttle: Duration,
    ) {
        debug!(%peer, ?throttle, "connection_creation_rate is reached: the connection will be closed");
        let (over, mut stopped) = (self.env.clock.sleep(throttle), self.stopped.clone());
        let waiting = async move {
            tokio::select! {
                biased;
                () = wait_stopped(&mut stopped) => {}
                () = over => {}
            }
            drop(held);
        };
        self.env.spawner.spawn("connection held back", Box::pin(waiting));
    }
}
