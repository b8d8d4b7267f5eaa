//! Small TCP relays in front of every listener of every node: links that can be cut, one way or both, and delayed.
//!
//! What is sent on a way that is cut is held back until it is healed, as a network does that loses packets and sends them
//! again; nobody is told. A relay whose node is dead refuses connections, as the system does in the node's place: its port
//! stays taken, but nobody listens. One thing differs from a real cut: a connection that is new is accepted, and then silent.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::peer::{Connections, sockets_of};

/// Between two looks whether a node that was started listens.
const LOOK: Duration = Duration::from_millis(2);
const BACKLOG: u32 = 512;

/// Who talks: a node by its id, or clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Clients,
    Node(i32),
}

/// What happens on the way from one place to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) cut: bool,
    /// Every piece that is read is passed on so much later.
    pub(crate) delay: Duration,
}

/// All ways, and the processes of the nodes, by which relays know who connects.
#[derive(Clone)]
pub(crate) struct Links {
    ways: watch::Sender<BTreeMap<(Place, Place), Way>>,
    processes: Arc<Mutex<BTreeMap<i32, u32>>>,
    /// Connections that are to be looked up.
    unknowns: Arc<Mutex<Vec<Arc<Unknown>>>>,
}

impl Links {
    /// All ways are open.
    pub(crate) fn new() -> Self {
        Self {
            ways: watch::Sender::new(BTreeMap::new()),
            processes: Arc::default(),
            unknowns: Arc::default(),
        }
    }

    /// Changes ways, all at once.
    pub(crate) fn set(&self, changes: impl IntoIterator<Item = ((Place, Place), Way)>) {
        self.ways.send_modify(|ways| ways.extend(changes));
    }

    /// Opens all ways.
    pub(crate) fn heal(&self) {
        self.ways.send_modify(BTreeMap::clear);
    }

    /// Says which process a node is now; `None` when it has ended.
    pub(crate) fn set_process(&self, node: i32, pid: Option<u32>) {
        let mut processes = self.processes.lock();
        match pid {
            Some(pid) => processes.insert(node, pid),
            None => processes.remove(&node),
        };
    }

    /// Finds out who is at the other end of an accepted connection, together with all others that are asked about by then.
    fn look_up(&self, unknown: Arc<Unknown>) {
        let mut unknowns = self.unknowns.lock();
        unknowns.push(unknown);
        if unknowns.len() == 1 {
            let links = self.clone();
            tokio::task::spawn_blocking(move || links.find_out());
        }
    }

    fn find_out(&self) {
        let unknowns = std::mem::take(&mut *self.unknowns.lock());
        let processes = self.processes.lock().clone();
        let connections = Connections::read();
        let sockets: Vec<_> =
            processes.into_iter().map(|(node, pid)| (node, sockets_of(pid))).collect();
        for unknown in unknowns {
            let socket = connections.socket_between(unknown.peer, unknown.own);
            let holder = socket.and_then(|it| sockets.iter().find(|(_, open)| open.contains(&it)));
            let place = holder.map_or(Place::Clients, |(node, _)| Place::Node(*node));
            unknown.found.send_replace(Some(place));
        }
    }

    /// Waits until the way is open; answers its delay.
    async fn open(ways: &mut Ways, from: &mut End, to: &mut End) -> Duration {
        if ways.borrow().is_empty() {
            return Duration::ZERO;
        }
        let (from, to) = (from.place().await, to.place().await);
        let way = |ways: &BTreeMap<_, Way>| ways.get(&(from, to)).copied().unwrap_or_default();
        // The sender lives as long as the relays do.
        let open = ways.wait_for(|ways| !way(ways).cut).await;
        open.map_or(Duration::ZERO, |ways| way(&ways).delay)
    }
}

type Ways = watch::Receiver<BTreeMap<(Place, Place), Way>>;

/// Who is at one end of a connection; found out when that matters, for as long as all ways are open it does not.
#[derive(Clone)]
struct End {
    found: watch::Receiver<Option<Place>>,
    unknown: Option<(Links, Arc<Unknown>)>,
}

/// An accepted connection of which it is not known whose it is.
struct Unknown {
    peer: SocketAddr,
    own: SocketAddr,
    found: watch::Sender<Option<Place>>,
    asked: AtomicBool,
}

impl End {
    fn known(place: Place) -> Self {
        Self { found: watch::channel(Some(place)).1, unknown: None }
    }

    fn unknown(links: &Links, peer: SocketAddr, own: SocketAddr) -> Self {
        let (found, end) = watch::channel(None);
        let unknown = Arc::new(Unknown { peer, own, found, asked: AtomicBool::new(false) });
        Self { found: end, unknown: Some((links.clone(), unknown)) }
    }

    async fn place(&mut self) -> Place {
        if let Some((links, unknown)) = self.unknown.take()
            && !unknown.asked.swap(true, Ordering::Relaxed)
        {
            links.look_up(unknown);
        }
        let found = self.found.wait_for(Option::is_some).await;
        found.ok().and_then(|found| *found).unwrap_or(Place::Clients)
    }
}

/// A port that stands for one listener of a node, however often the node starts anew on other ports.
pub(crate) struct Relay {
    links: Links,
    node: Place,
    address: SocketAddr,
    /// Keeps the port, and listens to nobody.
    _holder: TcpSocket,
    accepting: Option<JoinHandle<()>>,
}

impl Relay {
    /// Takes a port for the node `node`, and refuses connections to it.
    pub(crate) fn new(links: &Links, node: i32) -> io::Result<Self> {
        let holder = shared_socket(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let address = holder.local_addr()?;
        let (links, node) = (links.clone(), Place::Node(node));
        Ok(Self { links, node, address, _holder: holder, accepting: None })
    }

    /// Where others connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections from when on somebody listens at `target`.
    pub(crate) async fn open(&mut self, target: SocketAddr) {
        self.close().await;
        let (links, node, address) = (self.links.clone(), self.node, self.address);
        self.accepting = Some(tokio::spawn(async move {
            while TcpStream::connect(target).await.is_err() {
                tokio::time::sleep(LOOK).await;
            }
            if let Err(error) = accept(&links, node, address, target).await {
                eprintln!("faults: the relay on {address} ended: {error:#}");
            }
        }));
    }

    /// Refuses connections; those that are there end when one of their ends does.
    pub(crate) async fn close(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            // It has been told to end, and that is how it ended.
            let _cancelled = accepting.await;
        }
    }
}

/// A socket on a port that others of this process may share, if they ask for that too. (With SO_REUSEADDR the system would
/// hand the port out to whoever wants any, while nobody listens there.)
fn shared_socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn accept(links: &Links, node: Place, own: SocketAddr, target: SocketAddr) -> Result<()> {
    let listener: TcpListener = shared_socket(own)?.listen(BACKLOG).context("listening")?;
    loop {
        let (stream, peer) = listener.accept().await.context("accepting")?;
        let links = links.clone();
        tokio::spawn(async move {
            let from = End::unknown(&links, peer, own);
            let Ok(onward) = TcpStream::connect(target).await else {
                // The nearest to refusing that is left.
                return reset(stream);
            };
            relay(&links, (from, stream), (End::known(node), onward)).await;
        });
    }
}

async fn relay(links: &Links, (from, near): (End, TcpStream), (to, far): (End, TcpStream)) {
    if near.set_nodelay(true).is_err() || far.set_nodelay(true).is_err() {
        return;
    }
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let (there, back) = (links.ways.subscribe(), links.ways.subscribe());
    let (there, back) = tokio::join!(
        pump(there, (from.clone(), near_read), (to.clone(), far_write)),
        pump(back, (to, far_read), (from, near_write)),
    );
    for (read, write) in [(there.0, back.1), (back.0, there.1)] {
        if (there.2 || back.2)
            && let Ok(stream) = read.reunite(write)
        {
            reset(stream);
        }
    }
}

/// Passes on what comes until an end; answers whether the end was an error.
async fn pump(
    mut ways: Ways,
    (mut from, mut read): (End, OwnedReadHalf),
    (mut to, mut write): (End, OwnedWriteHalf),
) -> (OwnedReadHalf, OwnedWriteHalf, bool) {
    let mut piece = vec![0; 64 << 10];
    loop {
        // What waits is not read, so that whoever sends too much has to wait too.
        Links::open(&mut ways, &mut from, &mut to).await;
        let length = match read.read(&mut piece).await {
            Ok(length) => length,
            Err(_) => return broken(read, write).await,
        };
        // It may have been cut while nothing came.
        let delay = Links::open(&mut ways, &mut from, &mut to).await;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if length == 0 {
            let failed = write.shutdown().await.is_err();
            return (read, write, failed);
        }
        if write.write_all(&piece[..length]).await.is_err() {
            return broken(read, write).await;
        }
    }
}

/// Ends the other direction too.
async fn broken(
    read: OwnedReadHalf,
    mut write: OwnedWriteHalf,
) -> (OwnedReadHalf, OwnedWriteHalf, bool) {
    // It may have ended already.
    let _ended = write.shutdown().await;
    (read, write, true)
}

/// Has the system tell the other end that the connection is broken.
fn reset(stream: TcpStream) {
    // A connection that has ended already needs no telling.
    let _ended = stream.set_zero_linger();
    drop(stream);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Place = Place::Node(1);

    /// A relay in front of somebody who sends back what comes.
    async fn relay_and_echo(links: &Links) -> Relay {
        let mut relay = Relay::new(links, 1).unwrap();
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = echo.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = echo.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        relay.open(target).await;
        relay
    }

    async fn connected(relay: &Relay) -> TcpStream {
        loop {
            if let Ok(stream) = TcpStream::connect(relay.address()).await {
                return stream;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn echoed(stream: &mut TcpStream, byte: u8) -> u8 {
        stream.write_all(&[byte]).await.unwrap();
        stream.read_u8().await.unwrap()
    }

    #[tokio::test]
    async fn what_is_sent_on_a_way_that_is_cut_comes_when_it_is_healed() {
        let links = Links::new();
        let relay = relay_and_echo(&links).await;
        let mut stream = connected(&relay).await;
        assert_eq!(echoed(&mut stream, 1).await, 1);
        for way in [(Place::Clients, NODE), (NODE, Place::Clients)] {
            links.set([(way, Way { cut: true, ..Way::default() })]);
            stream.write_all(&[2]).await.unwrap();
            let silent = tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await;
            assert!(silent.is_err(), "{silent:?}");
            links.heal();
            assert_eq!(stream.read_u8().await.unwrap(), 2);
        }
    }

    #[tokio::test]
    async fn a_delay_is_added_and_a_closed_relay_refuses() {
        let links = Links::new();
        let mut relay = relay_and_echo(&links).await;
        let mut stream = connected(&relay).await;
        let delay = Duration::from_millis(30);
        links.set([((Place::Clients, NODE), Way { cut: false, delay })]);
        let began = std::time::Instant::now();
        assert_eq!(echoed(&mut stream, 1).await, 1);
        assert!(began.elapsed() >= delay);
        relay.close().await;
        let refused = TcpStream::connect(relay.address()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(echoed(&mut stream, 2).await, 2, "a connection that was there stays");
    }

    #[tokio::test]
    async fn a_relay_knows_which_process_connects() {
        let links = Links::new();
        links.set_process(2, Some(std::process::id()));
        let relay = relay_and_echo(&links).await;
        let mut stream = connected(&relay).await;
        assert_eq!(echoed(&mut stream, 1).await, 1);
        links.set([((Place::Node(2), NODE), Way { cut: true, ..Way::default() })]);
        stream.write_all(&[2]).await.unwrap();
        let silent = tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await;
        assert!(silent.is_err(), "{silent:?}");
        links.heal();
        assert_eq!(stream.read_u8().await.unwrap(), 2);
    }
}
