//! Sockets.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{BoxFuture, File};

/// Opens sockets.
pub trait Net: Send + Sync {
    /// Listens on `host:port`; port 0 asks the system for a free one, an empty host means every
    /// interface.
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

/// A connected byte stream. Small writes leave at once (`TCP_NODELAY`).
pub trait Stream: ReadHalf + WriteHalf {
    /// Sets `SO_SNDBUF` and `SO_RCVBUF` in bytes; `None` keeps the system's default.
    fn set_buffer_sizes(&self, send: Option<usize>, receive: Option<usize>) -> io::Result<()>;
    /// Two halves that two tasks may own. Dropping the write half tells the peer that no more
    /// comes; dropping both closes.
    fn into_split(self: Box<Self>) -> (Box<dyn ReadHalf>, Box<dyn WriteHalf>);
}

/// What can be read of a stream.
pub trait ReadHalf: AsyncRead + Send + Sync + Unpin {}

/// What can be written to a stream.
pub trait WriteHalf: AsyncWrite + Send + Sync + Unpin {
    /// Sends up to `len` bytes of `file` from `offset`, without copying where the system can.
    /// Returns how many bytes went out; 0 means that the file ended, or that `len` is 0.
    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &dyn File,
        offset: u64,
        len: usize,
    ) -> Poll<io::Result<usize>>;
}

/// Sends `len` bytes of `file` from `offset`; `UnexpectedEof` if the file ends before.
pub async fn send_file<W: WriteHalf + ?Sized>(
    stream: &mut W,
    file: &dyn File,
    offset: u64,
    len: usize,
) -> io::Result<()> {
    let mut sent = 0;
    while sent < len {
        let at = offset + sent as u64;
        let step = poll_fn(|cx| stream.poll_send_file(cx, file, at, len - sent)).await?;
        if step == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        sent += step;
    }
    Ok(())
}
