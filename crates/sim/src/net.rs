//! turmoil's network behind the Env door.
//!
//! Beyond what turmoil does (latency, reordering of connections) a stream here takes
//! short writes and gives short reads, as sockets do, falls silent when its node is dead, and hears
//! nothing while the way to it is cut (see `links`).
//!
//! When a node crashes, its runtime drops the tasks in an order that depends on task ids, which
//! count up over the whole process. The sockets must not close in that order, or the peers would
//! not hear of it in the order that the seed says: so the first one dropped closes all of them,
//! oldest first.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use ottla_env::{BoxFuture, File, Listener, Net, ReadHalf, Stream, WriteHalf};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use turmoil::net::{TcpListener, TcpStream};

use crate::event_log::EventLog;
use crate::links::Links;
use crate::power::Power;
use crate::rng::SimRng;

/// Most bytes that one write moves.
const SEGMENT: usize = 64 * 1024;
/// Most bytes that one read moves; room for them is cleared before each, also where nothing has come.
const WINDOW: usize = 8 * 1024;
/// How often a read or write moves fewer bytes than it could.
const SHORT: f64 = 0.05;

/// A node's network in one of its lives.
#[derive(Clone)]
pub(crate) struct SimNet(Arc<Shared>);

struct Shared {
    node: String,
    life: u64,
    power: Arc<Power>,
    rng: SimRng,
    log: EventLog,
    links: Links,
    sockets: Mutex<Sockets>,
}

/// The halves of a life's connections, to be closed in order.
#[derive(Default)]
struct Sockets {
    opened: u64,
    read: BTreeMap<u64, Weak<Mutex<Option<OwnedReadHalf>>>>,
    write: BTreeMap<u64, Weak<Mutex<Option<OwnedWriteHalf>>>>,
}

impl SimNet {
    pub(crate) fn new(
        node: &str,
        (life, seed): (u64, u64),
        power: Arc<Power>,
        log: EventLog,
        links: Links,
    ) -> Self {
        let rng = SimRng::new(seed, &format!("net of {node} in life {life}"));
        Self(Arc::new(Shared {
            node: node.to_owned(),
            life,
            power,
            rng,
            log,
            links,
            sockets: Mutex::default(),
        }))
    }

    fn is_alive(&self) -> bool {
        self.0.power.is_alive(self.0.life)
    }

    fn fold(&self, what: std::fmt::Arguments<'_>, bytes: &[u8]) {
        self.0.log.fold(&self.0.node, what, bytes);
    }

    /// How many of `len` bytes move at once.
    fn step(&self, len: usize) -> usize {
        let most = len.min(SEGMENT);
        if most > 1 && self.0.rng.chance(SHORT) {
            1 + self.0.rng.below(most as u64 - 1) as usize
        } else {
            most
        }
    }
}

impl Net for SimNet {
    fn listen(&self, address: &str, _backlog: u32) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let address = address.to_owned();
        Box::pin(async move {
            let port = port.ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidInput, format!("{address} is not host:port"))
            })?;
            // A host has one interface: whatever name it is given, that is the one.
            let listener = TcpListener::bind(("0.0.0.0", port)).await?;
            self.fold(format_args!("listen {}", listener.local_addr()?), &[]);
            Ok(Box::new(SimListener { listener, net: self.clone() }) as Box<dyn Listener>)
        })
    }

    fn connect(&self, address: &str) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        let address = address.to_owned();
        Box::pin(async move {
            let peer = address.rsplit_once(':').map_or(&*address, |(host, _)| host);
            self.0.links.open_both(&self.0.node, peer).await;
            let connected = TcpStream::connect(&*address).await;
            if !self.is_alive() {
                return std::future::pending().await;
            }
            let what = format_args!("connect {address} {}", connected.is_ok());
            self.fold(what, &[]);
            self.stream(connected?)
        })
    }
}

impl SimNet {
    fn stream(&self, stream: TcpStream) -> io::Result<Box<dyn Stream>> {
        let link = format!("{}>{}", stream.local_addr()?, stream.peer_addr()?);
        let ip = stream.peer_addr()?.ip();
        let peer = turmoil::reverse_lookup(ip).unwrap_or_else(|| ip.to_string());
        let (read, write) = stream.into_split();
        let (read, write) = (Arc::new(Mutex::new(Some(read))), Arc::new(Mutex::new(Some(write))));
        let mut sockets = self.0.sockets.lock();
        let id = sockets.opened;
        sockets.opened += 1;
        sockets.read.insert(id, Arc::downgrade(&read));
        sockets.write.insert(id, Arc::downgrade(&write));
        let read = SimReadHalf { half: read, id, net: self.clone(), link: link.clone(), peer };
        let write = SimWriteHalf { half: write, id, net: self.clone(), link, shut: false };
        Ok(Box::new(SimStream { read, write }))
    }

    /// Closes what a dead life left open, oldest first.
    fn close_all(&self) {
        let Sockets { read, write, .. } = std::mem::take(&mut *self.0.sockets.lock());
        for (id, half) in write {
            drop(half.upgrade().and_then(|half| half.lock().take()));
            let half = read.get(&id).and_then(Weak::upgrade);
            drop(half.and_then(|half| half.lock().take()));
        }
    }
}

struct SimListener {
    listener: TcpListener,
    net: SimNet,
}

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            if !self.net.is_alive() {
                return std::future::pending().await;
            }
            self.net.fold(format_args!("accept {peer}"), &[]);
            Ok((self.net.stream(stream)?, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct SimStream {
    read: SimReadHalf,
    write: SimWriteHalf,
}

struct SimReadHalf {
    half: Arc<Mutex<Option<OwnedReadHalf>>>,
    id: u64,
    net: SimNet,
    link: String,
    /// Who sends.
    peer: String,
}

struct SimWriteHalf {
    half: Arc<Mutex<Option<OwnedWriteHalf>>>,
    id: u64,
    net: SimNet,
    link: String,
    shut: bool,
}

impl Drop for SimReadHalf {
    fn drop(&mut self) {
        if !self.net.is_alive() {
            self.net.close_all();
        }
        self.net.0.sockets.lock().read.remove(&self.id);
    }
}

impl Drop for SimWriteHalf {
    fn drop(&mut self) {
        if !self.net.is_alive() {
            self.net.close_all();
        }
        self.net.0.sockets.lock().write.remove(&self.id);
    }
}

impl Stream for SimStream {
    fn set_buffer_sizes(&self, _send: Option<usize>, _receive: Option<usize>) -> io::Result<()> {
        Ok(())
    }

    fn into_split(self: Box<Self>) -> (Box<dyn ReadHalf>, Box<dyn WriteHalf>) {
        (Box::new(self.read), Box::new(self.write))
    }
}

impl ReadHalf for SimReadHalf {}
impl ReadHalf for SimStream {}

impl WriteHalf for SimWriteHalf {
    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &dyn File,
        offset: u64,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        // Without a copy between: what leaves is what the file holds when it leaves.
        let mut chunk = vec![0; len.min(SEGMENT)];
        let count = file.read_at(&mut chunk, offset)?;
        if count == 0 {
            return Poll::Ready(Ok(0));
        }
        Pin::new(self).poll_write(cx, &chunk[..count])
    }
}

impl WriteHalf for SimStream {
    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &dyn File,
        offset: u64,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        self.write.poll_send_file(cx, file, offset, len)
    }
}

impl AsyncRead for SimReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.net.is_alive() {
            return Poll::Pending;
        }
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        ready!(self.net.0.links.poll_open(&self.peer, &self.net.0.node, cx));
        let step = self.net.step(buffer.remaining().min(WINDOW));
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(step));
        let polled = match self.half.lock().as_mut() {
            Some(half) => Pin::new(half).poll_read(cx, &mut part),
            None => Poll::Pending,
        };
        let outcome = ready!(polled);
        let count = part.filled().len();
        buffer.advance(count);
        let from = buffer.filled().len() - count;
        let what = format_args!("recv {} {count} {}", self.link, outcome.is_ok());
        self.net.fold(what, &buffer.filled()[from..]);
        Poll::Ready(outcome)
    }
}

impl AsyncWrite for SimWriteHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.net.is_alive() {
            return Poll::Pending;
        }
        let step = self.net.step(bytes.len());
        let polled = match self.half.lock().as_mut() {
            Some(half) => Pin::new(half).poll_write(cx, &bytes[..step]),
            None => Poll::Pending,
        };
        let written = ready!(polled);
        let count = *written.as_ref().unwrap_or(&0);
        let what = format_args!("send {} {count} {}", self.link, written.is_ok());
        self.net.fold(what, &bytes[..count]);
        Poll::Ready(written)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.net.is_alive() {
            return Poll::Pending;
        }
        // A socket may be shut down twice; turmoil's may not.
        if std::mem::replace(&mut self.shut, true) {
            return Poll::Ready(Ok(()));
        }
        self.net.fold(format_args!("shut {}", self.link), &[]);
        match self.half.lock().as_mut() {
            Some(half) => Pin::new(half).poll_shutdown(cx),
            None => Poll::Pending,
        }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, buffer)
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_shutdown(cx)
    }
}
