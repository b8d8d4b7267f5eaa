//! TCP, with `sendfile`.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::fs::sendfile;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

use crate::{BoxFuture, File, Listener, Net, ReadHalf, Stream, WriteHalf};

/// Bytes copied at once where a file has no descriptor to send from.
const COPY_CHUNK: usize = 64 * 1024;

/// The kernel's TCP.
pub(crate) struct OsNet;

impl Net for OsNet {
    fn listen(&self, address: &str, backlog: u32) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        let address = address.to_owned();
        Box::pin(async move {
            let listener = match address.strip_prefix(':') {
                // Every interface: both families where the system has both, else IPv4.
                Some(port) => match listen_on(&format!("[::]:{port}"), backlog).await {
                    Ok(listener) => listener,
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
                    Err(_) => listen_on(&format!("0.0.0.0:{port}"), backlog).await?,
                },
                None => listen_on(&address, backlog).await?,
            };
            Ok(Box::new(OsListener(listener)) as Box<dyn Listener>)
        })
    }

    fn connect(&self, address: &str) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        let address = address.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(OsStream(stream)) as Box<dyn Stream>)
        })
    }
}

/// Listens on the first address of `host:port` that can be had.
async fn listen_on(address: &str, backlog: u32) -> io::Result<TcpListener> {
    let mut failure = None;
    for resolved in lookup_host(address).await? {
        match listen_at(resolved, backlog) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address"))
    }))
}

fn listen_at(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

struct OsListener(TcpListener);

impl Listener for OsListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(OsStream(stream)) as Box<dyn Stream>, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

struct OsStream(TcpStream);
struct OsReadHalf(OwnedReadHalf);
struct OsWriteHalf(OwnedWriteHalf);

impl Stream for OsStream {
    fn set_buffer_sizes(&self, send: Option<usize>, receive: Option<usize>) -> io::Result<()> {
        let socket = SockRef::from(&self.0);
        send.map_or(Ok(()), |bytes| socket.set_send_buffer_size(bytes))?;
        receive.map_or(Ok(()), |bytes| socket.set_recv_buffer_size(bytes))
    }

    fn into_split(self: Box<Self>) -> (Box<dyn ReadHalf>, Box<dyn WriteHalf>) {
        let (read, write) = self.0.into_split();
        (Box::new(OsReadHalf(read)), Box::new(OsWriteHalf(write)))
    }
}

impl ReadHalf for OsStream {}
impl ReadHalf for OsReadHalf {}

impl WriteHalf for OsStream {
    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &dyn File,
        offset: u64,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        poll_send_file(&self.0, cx, file, offset, len)
    }
}

impl WriteHalf for OsWriteHalf {
    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &dyn File,
        offset: u64,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        poll_send_file(self.0.as_ref(), cx, file, offset, len)
    }
}

fn poll_send_file(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    file: &dyn File,
    offset: u64,
    len: usize,
) -> Poll<io::Result<usize>> {
    if len == 0 {
        return Poll::Ready(Ok(0));
    }
    let Some(from) = file.as_fd() else {
        return poll_copy(stream, cx, file, offset, len);
    };
    loop {
        ready!(stream.poll_write_ready(cx))?;
        let sent = stream.try_io(Interest::WRITABLE, || {
            let mut position = offset;
            Ok(sendfile(stream, from, Some(&mut position), len)?)
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            sent => return Poll::Ready(sent),
        }
    }
}

/// Reads and writes, for a file without a descriptor.
fn poll_copy(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    file: &dyn File,
    offset: u64,
    len: usize,
) -> Poll<io::Result<usize>> {
    ready!(stream.poll_write_ready(cx))?;
    let mut chunk = vec![0; len.min(COPY_CHUNK)];
    let read = file.read_at(&mut chunk, offset)?;
    loop {
        match stream.try_write(&chunk[..read]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready!(stream.poll_write_ready(cx))?;
            }
            written => return Poll::Ready(written),
        }
    }
}

impl AsyncRead for OsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncRead for OsReadHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

/// Both the whole stream and its write half hand every call to the tokio type inside.
macro_rules! write_through {
    ($($stream:ty),+) => {$(
        impl AsyncWrite for $stream {
            fn poll_write(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.0).poll_write(cx, bytes)
            }

            fn poll_write_vectored(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.0).poll_write_vectored(cx, slices)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.0).poll_flush(cx)
            }

            fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.0).poll_shutdown(cx)
            }
        }
    )+};
}

write_through!(OsStream, OsWriteHalf);
