//! One connection, as handlers see it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

/// The longest name and version that are remembered, in bytes.
const LONGEST_NAME: usize = 255;

/// A connection, for as long as one of its requests is in hand, or another may come.
pub(crate) type ConnectionContext = Arc<Connection>;

/// What is known of a connection.
pub(crate) struct Connection {
    /// A number that no other connection of the node has.
    pub(crate) id: u64,
    /// Who is at the other end.
    pub(crate) peer: SocketAddr,
    /// Name of the listener that it came in by.
    pub(crate) listener: Arc<str>,
    software: OnceLock<ClientSoftware>,
    at_end: OnceLock<Box<dyn FnOnce() + Send + Sync>>,
}

/// What a client uses, by its own words (KIP-511).
#[derive(Debug)]
pub(crate) struct ClientSoftware {
    /// The name of the library.
    pub(crate) name: Box<str>,
    /// Its version.
    pub(crate) version: Box<str>,
}

impl Connection {
    /// The number that no connection has.
    const INTERNAL: u64 = u64::MAX;

    /// A connection of which nothing has been read yet.
    pub(super) fn new(id: u64, peer: SocketAddr, listener: Arc<str>) -> ConnectionContext {
        let (software, at_end) = (OnceLock::new(), OnceLock::new());
        Arc::new(Self { id, peer, listener, software, at_end })
    }

    /// Stands for the node itself, which asks its own controller.
    pub(crate) fn internal(peer: SocketAddr) -> ConnectionContext {
        Self::new(Self::INTERNAL, peer, Arc::from(""))
    }

    /// Whether it stands for the node itself: its end says nothing.
    pub(crate) fn is_internal(&self) -> bool {
        self.id == Self::INTERNAL
    }

    /// What the client uses, once it has said so.
    pub(crate) fn software(&self) -> Option<&ClientSoftware> {
        self.software.get()
    }

    /// The client names what it uses; its first word on it counts.
    pub(crate) fn set_software(&self, name: &str, version: &str) {
        let short = |text: &str| text.chars().take(LONGEST_NAME).collect::<String>().into();
        self.software.get_or_init(|| ClientSoftware { name: short(name), version: short(version) });
    }

    /// Has `act` called when the connection has ended, unless something else is called then already.
    pub(crate) fn at_end(&self, act: impl FnOnce() + Send + Sync + 'static) {
        self.at_end.get_or_init(|| Box::new(act));
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(act) = self.at_end.take() {
            act();
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, peer, listener, software, at_end: _ } = self;
        f.debug_struct("Connection")
            .field("id", id)
            .field("peer", peer)
            .field("listener", listener)
            .field("software", software)
            .finish_non_exhaustive()
    }
}
