//! How many connections there may be, in all and from one address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ottla_config::SocketServerConfig;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Counts connections against `max.connections` and `max.connections.per.ip`.
pub(crate) struct ConnectionQuotas {
    limits: ArcSwap<Limits>,
    counts: Mutex<Counts>,
    closed: Notify,
}

struct Limits {
    max_connections: usize,
    max_per_ip: usize,
    overrides: BTreeMap<IpAddr, usize>,
}

impl Limits {
    fn of(config: &SocketServerConfig) -> Arc<Self> {
        Arc::new(Self {
            max_connections: config.max_connections,
            max_per_ip: config.max_connections_per_ip,
            overrides: config.max_connections_per_ip_overrides.clone(),
        })
    }
}

#[derive(Default)]
struct Counts {
    all: usize,
    per_ip: BTreeMap<IpAddr, usize>,
}

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooManyConnections {
    /// `max.connections` is reached.
    #[error("max.connections={0} is reached")]
    All(usize),
    /// `max.connections.per.ip` is reached.
    #[error("max.connections.per.ip={0} is reached for this address")]
    PerIp(usize),
}

/// A place among the connections, given back when dropped.
pub(super) struct ConnectionPermit {
    quotas: Arc<ConnectionQuotas>,
    address: IpAddr,
}

impl ConnectionQuotas {
    pub(super) fn new(config: &SocketServerConfig) -> Self {
        Self {
            limits: ArcSwap::new(Limits::of(config)),
            counts: Mutex::default(),
            closed: Notify::new(),
        }
    }

    /// Goes on with other limits. Connections that are too many now stay, and no more are let in.
    pub(crate) fn reconfigure(&self, config: &SocketServerConfig) {
        self.limits.store(Limits::of(config));
    }

    /// Takes a place for a connection from `address`.
    pub(super) fn admit(
        self: &Arc<Self>,
        address: IpAddr,
    ) -> Result<ConnectionPermit, TooManyConnections> {
        let limits = self.limits.load();
        let mut counts = self.counts.lock();
        if counts.all >= limits.max_connections {
            return Err(TooManyConnections::All(limits.max_connections));
        }
        let limit = limits.overrides.get(&address).copied().unwrap_or(limits.max_per_ip);
        let of_address = counts.per_ip.get(&address).copied().unwrap_or(0);
        if of_address >= limit {
            return Err(TooManyConnections::PerIp(limit));
        }
        counts.per_ip.insert(address, of_address + 1);
        counts.all += 1;
        Ok(ConnectionPermit { quotas: Arc::clone(self), address })
    }

    /// Waits until no connection is left.
    pub(super) async fn wait_all_closed(&self) {
        loop {
            let closed = self.closed.notified();
            if self.counts.lock().all == 0 {
                return;
            }
            closed.await;
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self.quotas.counts.lock();
        counts.all -= 1;
        if let Some(of_address) = counts.per_ip.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                counts.per_ip.remove(&self.address);
            }
        }
        if counts.all == 0 {
            self.quotas.closed.notify_waiters();
        }
    }
}
