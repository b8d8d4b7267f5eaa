//! Sockets.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{BoxFuture, File};

/// Opens sockets.
pub trait Net: Send + Sync {
    /// Listens on `host:port`; port 0 asks the system for a free one.
    fn listen(&self, address: &str, backlog: u32) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;
    /// Connects to `host:port`.
    fn connect(&self, address: &str) -> BoxFuture<'_, io::Result<Box<dyn Stream>>>;
}

/// A listening socket.
pub trait Listener: Send {
    /// The next connection and the address of its peer.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>>;
    /// Where it listens, with the port that the system chose.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {
    /// Sends up to `len` bytes of `file` from `offset`, without copying where the system can.
    /// Returns how many bytes went out; 0 means that the file ended.
    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &dyn File,
        offset: u64,
        len: usize,
    ) -> Poll<io::Result<usize>>;
    /// Sets `SO_SNDBUF` and `SO_RCVBUF` in bytes; `None` keeps the system's default.
    fn set_buffer_sizes(&self, send: Option<usize>, receive: Option<usize>) -> io::Result<()>;
}
