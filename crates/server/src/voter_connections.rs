//! How the voters of the metadata quorum reach each other: one connection to each, to its controller listener.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use ottla_client::{ClientError, Connection, ConnectionOptions};
use ottla_env::Env;
use ottla_protocol::ApiKey;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt as _;

use crate::quorum::{MAX_MESSAGE_BYTES, Voter, VoterTransport};

/// Carries [`ApiKey::QuorumMessage`]; connects when there is something to say.
pub(crate) struct VoterConnections(Arc<Shared>);

struct Shared {
    env: Env,
    /// By address. A slot is locked while it connects, so that one connection is made and not several.
    connections: Mutex<BTreeMap<String, Slot>>,
}

type Slot = Arc<tokio::sync::Mutex<Option<Connection>>>;

impl VoterConnections {
    pub(crate) fn new(env: &Env) -> Self {
        Self(Arc::new(Shared { env: env.clone(), connections: Mutex::default() }))
    }
}

impl VoterTransport for VoterConnections {
    fn call(
        &self,
        to: &Voter,
        request: Bytes,
        limit: Duration,
    ) -> BoxFuture<'static, io::Result<Bytes>> {
        let (shared, address) = (Arc::clone(&self.0), to.address());
        async move {
            let connection = shared.connection(&address, limit).await?;
            let called = connection.call_opaque(ApiKey::QuorumMessage, &request, limit).await;
            called.map_err(io_error)
        }
        .boxed()
    }
}

impl Shared {
    async fn connection(&self, address: &str, limit: Duration) -> io::Result<Connection> {
        let slot = Arc::clone(self.connections.lock().entry(address.to_owned()).or_default());
        let mut kept = slot.lock().await;
        if let Some(connection) = kept.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let options = ConnectionOptions {
            client_id: "metadata-quorum".to_owned(),
            connect_timeout: limit,
            request_timeout: limit,
            max_idle: None,
            max_frame_bytes: MAX_MESSAGE_BYTES,
            ..ConnectionOptions::default()
        };
        let connection =
            Connection::connect(&self.env, address, options).await.map_err(io_error)?;
        *kept = Some(connection.clone());
        Ok(connection)
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "all others end a connection")]
fn io_error(error: ClientError) -> io::Error {
    let kind = match &error {
        ClientError::Connect { error, .. } => error.kind(),
        ClientError::TimedOut { .. } => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, error.to_string())
}

/// What is known of a process before it is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It may never have been there.
    Nothing,
    /// It was there a moment ago.
    WasThere,
}

/// Between two tries to connect to what is not there, or does not keep the connection.
const RETRY: Duration = Duration::from_millis(50);

/// Completes when nobody listens at `address` any more, where somebody did before: the process is dead.
pub(crate) async fn wait_dead(env: &Env, address: &str, known: Known) {
    let mut was_there = known == Known::WasThere;
    loop {
        match env.net.connect(address).await {
            Ok(stream) => {
                was_there = true;
                let began = env.clock.now();
                let (mut reader, _writer) = stream.into_split();
                // Nothing is ever said: whoever reads waits for the end.
                let mut nothing = [0; 1];
                while reader.read(&mut nothing).await.is_ok_and(|read| read > 0) {}
                // A node that has enough connections closes this one at once.
                let lasted = env.clock.now().since(began);
                if lasted < RETRY {
                    env.clock.sleep(RETRY - lasted).await;
                }
            }
            Err(error) if was_there && error.kind() == io::ErrorKind::ConnectionRefused => return,
            Err(_) => env.clock.sleep(RETRY).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use ottla_sim::{EventLog, Simulation};

    use super::*;

    #[test]
    fn who_closes_each_connection_at_once_is_not_tried_without_a_pause() {
        let mut world = Simulation::new(1, Duration::from_secs(60), EventLog::new(false));
        let connected = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connected);
        let full = move |env: Env| {
            let counted = Arc::clone(&counted);
            async move {
                let mut listener = env.net.listen("0.0.0.0:9000", 16).await?;
                loop {
                    drop(listener.accept().await?);
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        world.host("full", |_| Ok(()), full).unwrap();
        world.client("watch", |env, _| async move {
            let watching = wait_dead(&env, "full:9000", Known::WasThere);
            let _alive = env.timeout(Duration::from_secs(5), watching).await;
            Ok(())
        });
        world.run().unwrap();
        let connected = connected.load(Ordering::Relaxed);
        assert!((10..=101).contains(&connected), "{connected} connections in 5 s");
    }
}
