//! Several voters in the simulator, and between them a transport that loses, delays, doubles and cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use ottla_env::{Env, timeout};
use ottla_protocol::{Monotonic, Uuid};
use ottla_sim::{Crash, EventLog, Node, SimRng, Simulation};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{CLUSTER, Recorder, record, voters};
use crate::metadata_follower::{FollowerOptions, MetadataFollower};
use crate::quorum::{
    ChangeVotersError, Committed, LeaderAndEpoch, MetadataQuorum, ProposeError, QuorumDescription,
    QuorumOptions, Voter, VoterTransport,
};

/// Nodes from this id on have no vote, and follow.
pub(super) const FIRST_FOLLOWER: i32 = 100;

/// What a node is told to do.
pub(super) enum Order {
    /// And whose answer is due, if anybody waits for it.
    Answer(Bytes, Option<u64>),
    Propose(Bytes, Outcome<Result<Committed, ProposeError>>),
    Vanished(i32),
    Add(Voter, Uuid, Outcome<Result<(), ChangeVotersError>>),
    Remove(i32, Uuid, Outcome<Result<(), ChangeVotersError>>),
    Snapshot,
    /// Bytes that mean nothing, in order, to the node itself.
    Noise(Vec<Bytes>, Outcome<Vec<Bytes>>),
    Shutdown(Outcome<()>),
}

/// Where the result of an order appears.
pub(super) type Outcome<T> = Arc<Mutex<Option<T>>>;

/// What happens to messages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    pub(super) lost: f64,
    pub(super) doubled: f64,
    pub(super) longest_delay_ms: u64,
}

/// The network, and who is on it.
pub(super) struct Board {
    rng: SimRng,
    pub(super) weather: Weather,
    /// No message passes from the one to the other.
    cut: BTreeSet<(i32, i32)>,
    inboxes: BTreeMap<i32, mpsc::UnboundedSender<Order>>,
    /// Who waits for answers, by who owes them. Not in the tasks that owe them: those of a node that
    /// dies are dropped in an order that no seed decides.
    due: BTreeMap<(i32, u64), oneshot::Sender<Bytes>>,
    calls: u64,
    quorums: BTreeMap<i32, Arc<MetadataQuorum>>,
    pub(super) applied: BTreeMap<i32, Recorder>,
    pub(super) followers: BTreeMap<i32, Arc<MetadataFollower>>,
    /// Directories of nodes: the number of their disk.
    disks: BTreeMap<i32, u8>,
    /// Where nodes listen that have moved.
    ports: BTreeMap<i32, u16>,
    /// Messages that passed, if somebody wants to see them.
    tap: Option<Arc<Mutex<Vec<Bytes>>>>,
    /// Why nodes did not start.
    pub(super) refusals: BTreeMap<i32, String>,
    machines: BTreeMap<i32, Node>,
}

type Shared = Arc<Mutex<Board>>;

/// A node's end of the network.
struct Wire {
    env: Env,
    me: i32,
    board: Shared,
}

/// What becomes of one message.
enum Fate {
    Lost,
    Delayed(Duration),
}

impl Board {
    /// The node at an address; none has the id -1.
    fn who_is_at(&self, place: &Voter) -> i32 {
        let id = place.host.strip_prefix("node-").and_then(|id| id.parse().ok());
        id.filter(|id| self.port_of(*id) == place.port).unwrap_or(-1)
    }

    fn port_of(&self, id: i32) -> u16 {
        self.ports.get(&id).copied().unwrap_or(voter(id).port)
    }

    fn fate(&self, from: i32, to: i32) -> Fate {
        if self.cut.contains(&(from, to)) || self.rng.chance(self.weather.lost) {
            return Fate::Lost;
        }
        Fate::Delayed(Duration::from_millis(self.rng.below(self.weather.longest_delay_ms + 1)))
    }
}

impl VoterTransport for Wire {
    fn call(
        &self,
        to: &Voter,
        request: Bytes,
        limit: Duration,
    ) -> BoxFuture<'static, io::Result<Bytes>> {
        let (env, me, board) = (self.env.clone(), self.me, Arc::clone(&self.board));
        let to = board.lock().who_is_at(to);
        let clock = Arc::clone(&env.clock);
        let travel = move |from, to, board: Shared| {
            let fate = board.lock().fate(from, to);
            let clock = Arc::clone(&clock);
            async move {
                match fate {
                    Fate::Lost => pending().await,
                    Fate::Delayed(time) => clock.sleep(time).await,
                }
            }
        };
        let clock = Arc::clone(&env.clock);
        let call = async move {
            travel(me, to, Arc::clone(&board)).await;
            let (answer, answered) = oneshot::channel();
            {
                let mut board = board.lock();
                if let Some(tap) = &board.tap {
                    tap.lock().push(request.clone());
                }
                let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
                let inbox = board.inboxes.get(&to).ok_or_else(refused)?.clone();
                if board.rng.chance(board.weather.doubled) {
                    inbox.send(Order::Answer(request.clone(), None)).ok();
                }
                board.calls += 1;
                let call = board.calls;
                board.due.insert((to, call), answer);
                inbox.send(Order::Answer(request, Some(call))).map_err(|_dead| refused())?;
            }
            let broken = |_| io::Error::from(io::ErrorKind::ConnectionReset);
            let answer = answered.await.map_err(broken)?;
            travel(to, me, board).await;
            Ok(answer)
        };
        let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut));
        async move { timeout(&*clock, limit, call).await.unwrap_or_else(late) }.boxed()
    }
}

/// Nodes that agree, or are to.
pub(super) struct Cluster {
    pub(super) world: Simulation,
    pub(super) board: Shared,
    pub(super) rng: SimRng,
    ids: Vec<i32>,
    /// The longest history that any node applied.
    history: Vec<Bytes>,
}

/// The directory of a node's `disk`-th disk.
pub(super) fn directory(node_id: i32, disk: u8) -> Uuid {
    let mut id = [disk; 16];
    id[0] = node_id as u8;
    Uuid::from_bytes(id)
}

pub(super) fn voter(node_id: i32) -> Voter {
    voters(&[node_id]).remove(0)
}

fn name(node_id: i32) -> String {
    format!("node-{node_id}")
}

impl Cluster {
    /// Nodes `ids`, of which `first` are configured as voters, all running.
    pub(super) fn new(
        seed: u64,
        ids: &[i32],
        first: &[i32],
        adjust: impl Fn(&mut QuorumOptions) + Clone + 'static,
    ) -> Self {
        let mut world = Simulation::new(seed, Duration::from_secs(36_000), EventLog::new(false));
        let board = Arc::new(Mutex::new(Board {
            rng: SimRng::new(seed, "board"),
            weather: Weather { longest_delay_ms: 2, ..Weather::default() },
            cut: BTreeSet::new(),
            inboxes: BTreeMap::new(),
            due: BTreeMap::new(),
            calls: 0,
            quorums: BTreeMap::new(),
            applied: BTreeMap::new(),
            followers: BTreeMap::new(),
            disks: ids.iter().map(|id| (*id, 1)).collect(),
            ports: BTreeMap::new(),
            tap: None,
            refusals: BTreeMap::new(),
            machines: BTreeMap::new(),
        }));
        for id in ids {
            let (id, first, shared) = (*id, voters(first), Arc::clone(&board));
            let adjust = adjust.clone();
            let prepare = |node: &Node| {
                board.lock().machines.insert(id, node.clone());
                (1..=3).try_for_each(|disk| {
                    node.install_dir(&PathBuf::from(format!("/disk-{disk}")))
                })?;
                Ok(())
            };
            let software = move |env: Env| {
                let (board, first, adjust) = (Arc::clone(&shared), first.clone(), adjust.clone());
                async move {
                    let disk = board.lock().disks[&id];
                    let dir = PathBuf::from(format!("/disk-{disk}"));
                    let mut options = QuorumOptions {
                        directory_id: directory(id, disk),
                        voters: first,
                        ..QuorumOptions::new(id, CLUSTER, dir)
                    };
                    adjust(&mut options);
                    let port = board.lock().port_of(id);
                    options.endpoint.iter_mut().for_each(|endpoint| endpoint.port = port);
                    match id < FIRST_FOLLOWER {
                        true => live(env, id, options, board).await,
                        false => follow(env, id, options, board).await,
                    }
                }
            };
            world.host(&name(id), prepare, software).unwrap();
        }
        let rng = SimRng::new(seed, "driver");
        Self { world, board, rng, ids: ids.to_vec(), history: Vec::new() }
    }

    /// Lets time pass until `done`, at most `limit`; answers how long it took, or fails.
    pub(super) fn wait(
        &mut self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Duration {
        let began = self.world.elapsed();
        loop {
            if done(self) {
                return self.world.elapsed() - began;
            }
            let waited = self.world.elapsed() - began;
            assert!(waited < limit, "after {waited:?} not yet: {what}; {:?}", self.leaders());
            self.step();
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.world.elapsed() + time;
        while self.world.elapsed() < end {
            self.step();
        }
    }

    fn step(&mut self) {
        self.world.step().unwrap();
        for id in self.ids.clone() {
            if !self.world.is_running(&name(id)) {
                self.forget(id);
            }
        }
        self.check();
    }

    fn forget(&mut self, id: i32) {
        let mut board = self.board.lock();
        board.inboxes.remove(&id);
        board.applied.remove(&id);
        let due: Vec<_> = board.due.extract_if((id, 0)..=(id, u64::MAX), |_, _| true).collect();
        drop(due);
        let (quorum, follower) = (board.quorums.remove(&id), board.followers.remove(&id));
        drop(board);
        drop((quorum, follower));
    }

    /// All nodes have applied the same, as far as they are.
    fn check(&mut self) {
        let board = self.board.lock();
        for (id, applied) in &board.applied {
            let applied = applied.0.lock();
            let common = applied.records.len().min(self.history.len());
            // The ends suffice: what is before them was compared when it was the end, unless it was replaced.
            let from = if applied.installs > 0 { 0 } else { common.saturating_sub(8) };
            assert_eq!(
                applied.records[from..common],
                self.history[from..common],
                "node {id} went astray"
            );
            if applied.records.len() > self.history.len() {
                self.history = applied.records.clone();
            }
        }
    }

    pub(super) fn leaders(&self) -> BTreeMap<i32, LeaderAndEpoch> {
        let board = self.board.lock();
        board.quorums.iter().map(|(id, quorum)| (*id, *quorum.leader().borrow())).collect()
    }

    /// The node that says it leads; of several the one of the highest epoch.
    pub(super) fn leader(&self) -> Option<i32> {
        let leaders = self.leaders();
        let own = leaders.iter().filter(|(id, told)| told.leader == Some(**id));
        own.max_by_key(|(_, told)| told.epoch).map(|(id, _)| *id)
    }

    pub(super) fn wait_for_leader(&mut self) -> i32 {
        self.wait("a leader", Duration::from_secs(20), |cluster| cluster.leader().is_some());
        self.leader().unwrap()
    }

    pub(super) fn order(&self, id: i32, order: Order) {
        if let Some(inbox) = self.board.lock().inboxes.get(&id) {
            inbox.send(order).ok();
        }
    }

    /// Has a node propose, and waits for the result.
    pub(super) fn propose(&mut self, id: i32, text: &str) -> Result<Committed, ProposeError> {
        let outcome = Outcome::default();
        self.order(id, Order::Propose(record(text), Arc::clone(&outcome)));
        self.result(outcome)
    }

    pub(super) fn result<T>(&mut self, outcome: Outcome<T>) -> T {
        self.wait("an outcome", Duration::from_secs(60), |_| outcome.lock().is_some());
        outcome.lock().take().unwrap()
    }

    pub(super) fn add(&mut self, to: i32, id: i32, disk: u8) -> Result<(), ChangeVotersError> {
        let outcome = Outcome::default();
        self.order(to, Order::Add(voter(id), directory(id, disk), Arc::clone(&outcome)));
        self.result(outcome)
    }

    pub(super) fn remove(&mut self, from: i32, id: i32, disk: u8) -> Result<(), ChangeVotersError> {
        let outcome = Outcome::default();
        self.order(from, Order::Remove(id, directory(id, disk), Arc::clone(&outcome)));
        self.result(outcome)
    }

    /// When a leader last spoke to a node.
    pub(super) fn leader_heard(&self, id: i32) -> Option<Monotonic> {
        self.board.lock().quorums[&id].leader_heard()
    }

    pub(super) fn describe(&self, id: i32) -> QuorumDescription {
        self.board.lock().quorums[&id].describe()
    }

    pub(super) fn records(&self, id: i32) -> Vec<Bytes> {
        self.board.lock().applied.get(&id).map(Recorder::records).unwrap_or_default()
    }

    pub(super) fn is_running(&mut self, id: i32) -> bool {
        self.world.is_running(&name(id))
    }

    pub(super) fn kill(&mut self, id: i32, crash: Crash) {
        self.world.crash(&name(id), crash).unwrap();
        self.forget(id);
    }

    pub(super) fn revive(&mut self, id: i32) {
        self.world.restart(&name(id)).unwrap();
    }

    /// Has whatever a node asks of its disk take up to so long.
    pub(super) fn slow_down(&mut self, id: i32, longest: Duration) {
        self.board.lock().machines[&id].set_disk_delay(longest);
    }

    /// Has a node find an empty disk, with a directory id of its own, when it starts next.
    pub(super) fn change_disk(&mut self, id: i32, disk: u8) {
        self.board.lock().disks.insert(id, disk);
    }

    /// Has a node listen elsewhere when it starts next.
    pub(super) fn move_to(&mut self, id: i32, port: u16) {
        self.board.lock().ports.insert(id, port);
    }

    /// Where messages are kept from now on.
    pub(super) fn tap(&mut self) -> Arc<Mutex<Vec<Bytes>>> {
        let tap = Arc::default();
        self.board.lock().tap = Some(Arc::clone(&tap));
        tap
    }

    /// Lets no message pass between the two.
    pub(super) fn cut(&mut self, one: i32, other: i32) {
        self.board.lock().cut.extend([(one, other), (other, one)]);
    }

    /// Lets no message pass to or from a node.
    pub(super) fn cut_off(&mut self, id: i32) {
        for other in self.ids.clone() {
            self.cut(id, other);
        }
    }

    pub(super) fn mend(&mut self) {
        self.board.lock().cut.clear();
    }

    /// Waits until all of `ids` have applied all of `expected`, in this order and nothing twice.
    pub(super) fn wait_until_applied(&mut self, ids: &[i32], expected: &[Bytes]) {
        self.wait("everything applied everywhere", Duration::from_secs(60), |cluster| {
            ids.iter().all(|id| {
                let applied = cluster.records(*id);
                let mut rest = applied.iter();
                expected.iter().all(|value| rest.any(|applied| applied == value))
            })
        });
        let mut unique = self.history.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), self.history.len(), "something was applied twice");
    }
}

/// A life of a node without a vote.
async fn follow(env: Env, id: i32, options: QuorumOptions, board: Shared) -> anyhow::Result<()> {
    let applied = Recorder::default();
    let wire = Arc::new(Wire { env: env.clone(), me: id, board: Arc::clone(&board) });
    let options = FollowerOptions {
        node_id: id,
        directory_id: options.directory_id,
        cluster_id: options.cluster_id,
        voters: options.voters.into_iter().chain(options.bootstrap).collect(),
        request_timeout: options.request_timeout,
        retry_backoff: Duration::from_millis(20),
    };
    let follower = MetadataFollower::start(&env, options, applied.clone(), wire);
    {
        let mut board = board.lock();
        board.applied.insert(id, applied);
        board.followers.insert(id, Arc::new(follower));
    }
    pending().await
}

/// A life of a node: does what it is told.
async fn live(env: Env, id: i32, options: QuorumOptions, board: Shared) -> anyhow::Result<()> {
    let applied = Recorder::default();
    let wire = Arc::new(Wire { env: env.clone(), me: id, board: Arc::clone(&board) });
    let (inbox, mut orders) = mpsc::unbounded_channel();
    let started = MetadataQuorum::start(env.clone(), options, applied.clone(), wire).await;
    let quorum = match started {
        Ok(quorum) => Arc::new(quorum),
        Err(error) => {
            board.lock().refusals.insert(id, error.to_string());
            return pending().await;
        }
    };
    {
        let mut board = board.lock();
        board.inboxes.insert(id, inbox);
        board.applied.insert(id, applied);
        board.quorums.insert(id, Arc::clone(&quorum));
    }
    while let Some(order) = orders.recv().await {
        let _detached =
            env.spawn("order", obey(Arc::clone(&quorum), order, (id, Arc::clone(&board))));
    }
    pending().await
}

async fn obey(quorum: Arc<MetadataQuorum>, order: Order, (id, board): (i32, Shared)) {
    match order {
        Order::Answer(message, call) => {
            let answer = quorum.answer(message).await;
            let due = call.and_then(|call| board.lock().due.remove(&(id, call)));
            if let Some(due) = due {
                due.send(answer).ok();
            }
        }
        Order::Propose(record, outcome) => {
            let proposed = quorum.propose(vec![record]).await;
            *outcome.lock() = Some(proposed);
        }
        Order::Vanished(node_id) => quorum.voter_vanished(node_id),
        Order::Add(voter, directory_id, outcome) => {
            let patience = Duration::from_secs(60);
            let added = quorum.add_voter(voter, directory_id, patience).await;
            *outcome.lock() = Some(added);
        }
        Order::Remove(node_id, directory_id, outcome) => {
            let removed = quorum.remove_voter(node_id, directory_id).await;
            *outcome.lock() = Some(removed);
        }
        Order::Noise(messages, outcome) => {
            let mut answers = Vec::new();
            for message in messages {
                answers.push(quorum.answer(message).await);
            }
            *outcome.lock() = Some(answers);
        }
        Order::Snapshot => quorum.take_snapshot().await.unwrap(),
        Order::Shutdown(outcome) => {
            quorum.shutdown().await.unwrap();
            *outcome.lock() = Some(());
        }
    }
}
