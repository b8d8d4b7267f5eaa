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

#[cfg(test)]
mod tests {
    use std::os::fd::BorrowedFd;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::process::ProcessStats;
    use crate::{Disk, OpenMode, send_file};

    /// Two ends of a connection over loopback.
    async fn pair() -> (Box<dyn Stream>, Box<dyn Stream>) {
        let mut listener = OsNet.listen("127.0.0.1:0", 16).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (ours, accepted) = tokio::join!(OsNet.connect(&address), listener.accept());
        (ours.unwrap(), accepted.unwrap().0)
    }

    fn file_of(dir: &tempfile::TempDir, bytes: &[u8]) -> std::sync::Arc<dyn File> {
        let disk = crate::os::OsDisk;
        let file = disk.open(&dir.path().join("segment"), OpenMode::Create).unwrap();
        file.write_all_at(&mut [IoSlice::new(bytes)], 0).unwrap();
        file
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
    }

    /// A file that hides its descriptor, as the simulator's files have none.
    struct Hidden(std::sync::Arc<dyn File>);

    impl File for Hidden {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            self.0.read_at(buffer, offset)
        }
        fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            self.0.try_read_at(buffer, offset)
        }
        fn write_all_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
            self.0.write_all_at(slices, offset)
        }
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }
        fn allocate(&self, len: u64) -> io::Result<()> {
            self.0.allocate(len)
        }
        fn sync_data(&self) -> io::Result<()> {
            self.0.sync_data()
        }
        fn start_writeback(&self, _offset: u64, _len: u64) {}
        fn will_need(&self, _offset: u64, _len: u64) {}
        fn as_fd(&self) -> Option<BorrowedFd<'_>> {
            None
        }
    }

    /// A file range between two writes arrives as those bytes, though it is larger than any socket
    /// buffer and the reader starts late.
    async fn sends(hide: bool) {
        let dir = tempfile::tempdir().unwrap();
        let bytes = pattern(9_000_001);
        let file = file_of(&dir, &bytes);
        let (mut ours, theirs) = pair().await;
        let sender = async {
            let (_read, mut write) = theirs.into_split();
            write.write_all(b"head").await.unwrap();
            if hide {
                send_file(&mut *write, &Hidden(file), 1, bytes.len() - 1).await.unwrap();
            } else {
                send_file(&mut *write, &*file, 1, bytes.len() - 1).await.unwrap();
            }
            write.write_all(b"tail").await.unwrap();
        };
        let receiver = async {
            let mut received = Vec::new();
            ours.read_to_end(&mut received).await.unwrap();
            received
        };
        let ((), received) = tokio::join!(sender, receiver);
        assert!(received == [b"head", &bytes[1..], b"tail"].concat());
    }

    #[tokio::test]
    async fn a_file_range_is_sent_by_the_kernel() {
        sends(false).await;
    }

    #[tokio::test]
    async fn a_file_without_descriptor_is_sent_by_copying() {
        sends(true).await;
    }

    #[tokio::test]
    async fn a_file_that_ends_early_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = file_of(&dir, b"short");
        let (_ours, mut theirs) = pair().await;
        let error = send_file(&mut *theirs, &*file, 0, 6).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn sending_to_a_peer_that_left_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = file_of(&dir, &pattern(9_000_000));
        let (ours, mut theirs) = pair().await;
        drop(ours);
        assert!(send_file(&mut *theirs, &*file, 0, 9_000_000).await.is_err());
    }

    #[tokio::test]
    async fn one_direction_may_close_before_the_other() {
        let (mut ours, theirs) = pair().await;
        ours.set_buffer_sizes(Some(64 * 1024), None).unwrap();
        let (mut read, mut write) = theirs.into_split();
        ours.write_all(b"question").await.unwrap();
        ours.shutdown().await.unwrap();
        let mut question = String::new();
        read.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "question");
        write.write_all(b"answer").await.unwrap();
        drop(write);
        let mut answer = String::new();
        ours.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
    }

    #[tokio::test]
    async fn addresses_that_cannot_be_listened_on_are_errors() {
        let first = OsNet.listen("127.0.0.1:0", 1).await.unwrap();
        let taken = first.local_addr().unwrap().to_string();
        let error = OsNet.listen(&taken, 1).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(OsNet.listen("no port", 1).await.is_err());
        let everywhere = OsNet.listen(":0", 1).await.unwrap();
        assert!(everywhere.local_addr().unwrap().ip().is_unspecified());
    }

    /// `sendfile` keeps the bytes in the kernel: 256 MiB pass through without our memory growing.
    #[tokio::test]
    async fn sending_a_large_file_takes_no_memory() {
        const LEN: usize = 256 << 20;
        let dir = tempfile::tempdir().unwrap();
        let file = file_of(&dir, b"");
        file.set_len(LEN as u64).unwrap();
        let (mut ours, mut theirs) = pair().await;
        let before = ProcessStats::own().unwrap().resident_bytes;
        let receiver = async {
            let mut buffer = vec![0; 256 * 1024];
            let mut received = 0;
            while received < LEN {
                received += ours.read(&mut buffer).await.unwrap();
            }
        };
        let (sent, ()) = tokio::join!(send_file(&mut *theirs, &*file, 0, LEN), receiver);
        sent.unwrap();
        let grown = ProcessStats::own().unwrap().resident_bytes.saturating_sub(before);
        // Other tests of this process hold some tens of megabytes at the same time.
        assert!(grown < (LEN / 2) as u64, "grew by {grown} bytes");
    }
}
