//! Between processors and handlers: Kafka's `RequestChannel`.
//!
//! Kafka queues requests here for a pool of handler threads. Ottla handles a request on the task that read it
//! (a hand-over to another thread costs 15 to 40 % more CPU per batch), so what is left of the queue are its bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use ottla_config::{Sendfile, SocketServerConfig};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{ConnectionContext, Reply};
use crate::cold_reads::ColdReads;

/// Answers one request frame, without its length prefix.
pub(crate) type Handler = Arc<dyn Fn(&ConnectionContext, Bytes) -> Reply + Send + Sync>;

/// The bounds that all connections share, and the handler behind them.
pub(crate) struct RequestChannel {
    config: SocketServerConfig,
    sendfile: Sendfile,
    cold_reads: Arc<ColdReads>,
    memory: Option<Semaphore>,
    connections: AtomicU64,
    handler: Handler,
}

impl RequestChannel {
    pub(super) fn new(
        config: SocketServerConfig,
        (sendfile, cold_reads): (Sendfile, Arc<ColdReads>),
        handler: Handler,
    ) -> Self {
        let memory = config
            .queued_max_request_bytes
            .map(|bytes| Semaphore::new(bytes.min(Semaphore::MAX_PERMITS)));
        let connections = AtomicU64::new(0);
        Self { config, sendfile, cold_reads, memory, connections, handler }
    }

    pub(super) fn config(&self) -> &SocketServerConfig {
        &self.config
    }

    pub(super) fn sendfile(&self) -> Sendfile {
        self.sendfile
    }

    pub(super) fn cold_reads(&self) -> &Arc<ColdReads> {
        &self.cold_reads
    }

    /// The number of a new connection.
    pub(super) fn next_connection_id(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits until there is memory for a request of `len` bytes (`queued.max.request.bytes`).
    ///
    /// A request larger than the whole budget takes all of it, so that it is delayed and not starved.
    pub(super) async fn admit(&self, len: usize) -> Option<SemaphorePermit<'_>> {
        let memory = self.memory.as_ref()?;
        let budget = self.config.queued_max_request_bytes.unwrap_or(usize::MAX);
        let permits = u32::try_from(len.min(budget)).unwrap_or(u32::MAX);
        // The semaphore is never closed; without a permit there would be no bound, and that is all that is lost.
        memory.acquire_many(permits).await.ok()
    }

    /// Hands a request to its handler.
    pub(super) fn dispatch(&self, context: &ConnectionContext, frame: Bytes) -> Reply {
        (self.handler)(context, frame)
    }
}
