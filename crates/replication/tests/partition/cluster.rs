//! Three replicas with logs that are lists, a controller that is a register, and a network that loses and delays everything.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_protocol::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Monotonic, Offset};
use ottla_replication::{
    BrokerStatus, Brokers, EpochEnd, FollowerFetch, IsrAnswer, IsrProposal, Moment, Partition,
    Replicas, Terms, truncation_offset,
};

/// A record: the epoch it was written in, and a number that no other has.
type Record = (LeaderEpoch, u64);

/// What the controller says, as every node learns of it in turn.
#[derive(Clone)]
struct News {
    replicas: Replicas,
    brokers: Brokers,
}

struct Node {
    id: BrokerId,
    /// `None` while it is down.
    partition: Option<Partition>,
    log: Vec<Record>,
    /// Which epoch began where.
    epochs: Vec<(LeaderEpoch, usize)>,
    high_watermark: Offset,
    broker_epoch: BrokerEpoch,
    /// How many of the news it has heard.
    heard: usize,
    /// An answer of its leader on the way to it.
    answer: Option<FetchAnswer>,
}

struct FetchAnswer {
    epoch: LeaderEpoch,
    offset: usize,
    diverging: Option<EpochEnd>,
    records: Vec<Record>,
    high_watermark: Offset,
}

/// A proposal, or the answer to it, on its way.
struct Asked {
    leader: BrokerId,
    proposal: IsrProposal,
    answer: Option<IsrAnswer>,
}

pub(crate) struct Cluster {
    nodes: Vec<Node>,
    news: Vec<News>,
    brokers: BTreeMap<BrokerId, BrokerStatus>,
    asked: Vec<Asked>,
    now: Monotonic,
    min_isr: usize,
    written: u64,
    /// Everything that a leader has ever called committed.
    committed: Vec<Record>,
}

/// Something that happens. Nodes are numbered from 0; what cannot happen does not.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Append(usize),
    /// The follower's fetch reaches the leader, which sends so many records.
    Fetch(usize, usize),
    /// The leader's answer reaches the follower, or is lost.
    Fetched(usize, bool),
    Expand(usize),
    Shrink(usize),
    /// The proposal reaches the controller, or the answer its leader.
    Deliver(usize),
    Lose(usize),
    /// Of so many news at once, as a node that stood still.
    Hear(usize, usize),
    Fence(usize),
    Unfence(usize),
    Elect(usize),
    Crash(usize),
    /// With so many records less, if nobody counts on it.
    Restart(usize, usize),
    Wait(u64),
}

impl Cluster {
    pub(crate) fn new(min_isr: usize) -> Self {
        let ids = [BrokerId(0), BrokerId(1), BrokerId(2)];
        let status =
            |id: BrokerId| BrokerStatus { epoch: BrokerEpoch(i64::from(id.0)), is_active: true };
        let brokers: BTreeMap<_, _> = ids.iter().map(|id| (*id, status(*id))).collect();
        let replicas = Replicas {
            leader: ids[0],
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            assigned: ids.to_vec(),
            in_sync: ids.into_iter().collect(),
        };
        let news = News { replicas, brokers: brokers.clone().into_iter().collect() };
        let mut cluster = Self {
            nodes: Vec::new(),
            news: vec![news],
            brokers,
            asked: Vec::new(),
            now: Monotonic::default(),
            min_isr,
            written: 0,
            committed: Vec::new(),
        };
        cluster.nodes = ids.map(|id| Node::new(id, &cluster)).into();
        cluster
    }

    pub(crate) fn committed(&self) -> usize {
        self.committed.len()
    }

    fn terms(&self) -> Terms {
        let lag_time_max = Duration::from_millis(1000);
        Terms { min_insync_replicas: self.min_isr, lag_time_max }
    }

    fn current(&self) -> &News {
        self.news.last().unwrap()
    }

    pub(crate) fn happen(&mut self, event: Event) {
        match event {
            Event::Append(node) => self.append(node),
            Event::Fetch(follower, count) => self.fetch(follower, count),
            Event::Fetched(node, arrives) => {
                if let Some(answer) = self.nodes[node].answer.take()
                    && arrives
                {
                    self.nodes[node].take(answer);
                }
            }
            Event::Expand(node) => self.propose(node, Partition::propose_expansion),
            Event::Shrink(node) => self.propose(node, Partition::propose_shrink),
            Event::Deliver(which) => self.deliver(which),
            Event::Lose(which) => self.lose(which),
            Event::Hear(node, count) => self.hear(node, count),
            Event::Fence(node) => self.fence(BrokerId(node as i32)),
            Event::Unfence(node) => self.unfence(BrokerId(node as i32)),
            Event::Elect(node) => self.elect(BrokerId(node as i32)),
            Event::Crash(node) => {
                let node = &mut self.nodes[node];
                if let Some(partition) = node.partition.take() {
                    // A checkpoint may be older than what it stands for.
                    node.high_watermark = Offset(partition.high_watermark().0 / 2 * 2);
                    node.answer = None;
                }
            }
            Event::Restart(node, lost) => self.restart(node, lost),
            Event::Wait(millis) => self.now = self.now + Duration::from_millis(millis),
        }
        self.check();
    }

    /// A node acts on what it has heard so far.
    fn act<T>(&mut self, node: usize, act: impl FnOnce(&mut Node, &Moment<'_>) -> T) -> Option<T> {
        let node = &mut self.nodes[node];
        node.partition.as_ref()?;
        let brokers = &self.news[node.heard - 1].brokers;
        let moment = Moment { now: self.now, brokers };
        Some(act(node, &moment))
    }

    fn append(&mut self, node: usize) {
        self.written += 1;
        let value = self.written;
        self.act(node, |node, moment| {
            let partition = node.partition.as_mut().unwrap();
            if partition.leadership().is_leader() {
                node.log.push((partition.leadership().epoch(), value));
                partition.appended(Offset(node.log.len() as i64), moment);
            }
        });
    }

    fn fetch(&mut self, follower: usize, count: usize) {
        let node = &self.nodes[follower];
        let position = node.partition.as_ref().and_then(Partition::fetch_position);
        let Some(position) = position.filter(|_| node.answer.is_none()) else { return };
        let offset = node.log.len();
        assert_eq!(position.offset, Offset(offset as i64));
        let last_epoch = node.epochs.last().map(|(epoch, _)| *epoch);
        let who = (node.id, node.broker_epoch);
        let answer = self.act(position.leader.0 as usize, |leader, moment| {
            let partition = leader.partition.as_mut().unwrap();
            let epoch = position.leader_epoch;
            partition.check_follower(who, epoch, moment).ok()?;
            let leader_log_end = Offset(leader.log.len() as i64);
            let end = last_epoch.and_then(|last| end_of(&leader.epochs, &leader.log, last));
            let diverging = end
                .filter(|end| end.epoch < last_epoch.unwrap() || end.end < Offset(offset as i64));
            let mut records = Vec::new();
            if diverging.is_none() {
                records.extend(leader.log.iter().skip(offset).take(count));
                let fetch = FollowerFetch {
                    follower: who.0,
                    broker_epoch: who.1,
                    leader_epoch: epoch,
                    offset: Offset(offset as i64),
                    log_start: Offset(0),
                    leader_log_start: Offset(0),
                    leader_log_end,
                };
                partition.follower_fetched(&fetch, moment).unwrap();
            }
            let high_watermark = partition.high_watermark();
            Some(FetchAnswer { epoch, offset, diverging, records, high_watermark })
        });
        self.nodes[follower].answer = answer.flatten();
    }

    fn propose(
        &mut self,
        node: usize,
        propose: fn(&mut Partition, &Moment<'_>) -> Option<IsrProposal>,
    ) {
        let proposal =
            self.act(node, |node, moment| propose(node.partition.as_mut().unwrap(), moment));
        if let Some(proposal) = proposal.flatten() {
            let leader = BrokerId(node as i32);
            self.asked.push(Asked { leader, proposal, answer: None });
        }
    }

    fn deliver(&mut self, which: usize) {
        if self.asked.is_empty() {
            return;
        }
        let mut asked = self.asked.remove(which % self.asked.len());
        match asked.answer.take() {
            None => {
                asked.answer = Some(self.decide(asked.leader, &asked.proposal));
                self.asked.push(asked);
            }
            Some(answer) => self.answered(&asked, answer),
        }
    }

    /// It may have reached the controller all the same: the leader is told that it should try again, and does.
    fn lose(&mut self, which: usize) {
        if self.asked.is_empty() {
            return;
        }
        let asked = self.asked.remove(which % self.asked.len());
        self.answered(&asked, IsrAnswer::Refused(ErrorCode::RequestTimedOut));
    }

    fn answered(&mut self, asked: &Asked, answer: IsrAnswer) {
        let retry = self.act(asked.leader.0 as usize, |node, moment| {
            let partition = node.partition.as_mut().unwrap();
            partition.isr_answered(&asked.proposal, answer, moment).retry
        });
        if let Some(proposal) = retry.flatten() {
            self.asked.push(Asked { leader: asked.leader, proposal, answer: None });
        }
    }

    /// Kafka's controller: epochs first, then whether the members may be in it.
    fn decide(&mut self, leader: BrokerId, proposal: &IsrProposal) -> IsrAnswer {
        let known = self.current().replicas.clone();
        if proposal.leader_epoch != known.leader_epoch || known.leader != leader {
            return IsrAnswer::Refused(ErrorCode::FencedLeaderEpoch);
        }
        if proposal.partition_epoch != known.partition_epoch {
            return IsrAnswer::Refused(ErrorCode::InvalidUpdateVersion);
        }
        let eligible = proposal.isr.iter().filter(|member| member.id != leader).all(|member| {
            let broker = self.brokers[&member.id];
            let same = member.broker_epoch == BrokerEpoch::NONE;
            broker.is_active && (same || member.broker_epoch == broker.epoch)
        });
        if !eligible {
            return IsrAnswer::Refused(ErrorCode::IneligibleReplica);
        }
        let in_sync: std::collections::BTreeSet<_> =
            proposal.isr.iter().map(|member| member.id).collect();
        let replicas = Replicas { in_sync: in_sync.clone(), ..known };
        let (leader_epoch, partition_epoch) = (replicas.leader_epoch, replicas.partition_epoch + 1);
        self.record(replicas);
        IsrAnswer::Changed { leader_epoch, partition_epoch, isr: in_sync }
    }

    fn record(&mut self, mut replicas: Replicas) {
        replicas.partition_epoch += 1;
        let brokers = self.brokers.clone().into_iter().collect();
        self.news.push(News { replicas, brokers });
    }

    fn hear(&mut self, node: usize, count: usize) {
        let heard = (self.nodes[node].heard + count).min(self.news.len());
        if heard == self.nodes[node].heard {
            return;
        }
        self.nodes[node].heard = heard;
        let news = self.news[heard - 1].clone();
        self.act(node, |node, moment| {
            let log_end = Offset(node.log.len() as i64);
            let partition = node.partition.as_mut().unwrap();
            let before = partition.leadership();
            partition.replicas_changed(news.replicas, log_end, moment);
            node.note_election(Some(before.epoch()));
        });
    }

    fn fence(&mut self, id: BrokerId) {
        if !self.brokers[&id].is_active {
            return;
        }
        self.brokers.get_mut(&id).unwrap().is_active = false;
        let mut replicas = self.current().replicas.clone();
        if replicas.in_sync.len() > 1 {
            replicas.in_sync.remove(&id);
        }
        if replicas.leader == id {
            self.choose_leader(&mut replicas);
        }
        self.record(replicas);
    }

    fn unfence(&mut self, id: BrokerId) {
        if self.brokers[&id].is_active || self.nodes[id.0 as usize].partition.is_none() {
            return;
        }
        self.brokers.get_mut(&id).unwrap().is_active = true;
        let mut replicas = self.current().replicas.clone();
        if replicas.leader == BrokerId::NONE {
            self.choose_leader(&mut replicas);
        }
        self.record(replicas);
    }

    fn elect(&mut self, id: BrokerId) {
        let mut replicas = self.current().replicas.clone();
        if replicas.in_sync.contains(&id) && self.brokers[&id].is_active {
            replicas.leader = id;
            replicas.leader_epoch.0 += 1;
            self.record(replicas);
        }
    }

    /// Nobody outside the ISR is elected.
    fn choose_leader(&self, replicas: &mut Replicas) {
        let active = replicas.in_sync.iter().find(|id| self.brokers[id].is_active);
        let leader = active.copied().unwrap_or(BrokerId::NONE);
        if leader != BrokerId::NONE || replicas.leader != BrokerId::NONE {
            replicas.leader = leader;
            replicas.leader_epoch.0 += 1;
        }
    }

    fn restart(&mut self, node: usize, lost: usize) {
        if self.nodes[node].partition.is_some() {
            return;
        }
        let id = BrokerId(node as i32);
        self.fence(id);
        let epoch = BrokerEpoch(100 + self.news.len() as i64);
        self.brokers.get_mut(&id).unwrap().epoch = epoch;
        self.record(self.current().replicas.clone());
        let is_counted_on = self.current().replicas.in_sync.contains(&id);
        let mut restarted = Node::new(id, self);
        let before = &mut self.nodes[node];
        if !is_counted_on {
            before.truncate(before.log.len().saturating_sub(lost));
        }
        restarted.broker_epoch = epoch;
        restarted.log = std::mem::take(&mut before.log);
        restarted.epochs = std::mem::take(&mut before.epochs);
        restarted.high_watermark = before.high_watermark;
        restarted.open(self.news.last().unwrap(), self.terms(), self.now);
        self.nodes[node] = restarted;
    }

    /// Nothing committed is ever lost, and nobody takes for committed what is not.
    fn check(&mut self) {
        for node in &self.nodes {
            let Some(partition) = &node.partition else { continue };
            assert!(partition.log_end().0 as usize <= node.log.len());
            let committed = &node.log[..partition.high_watermark().0 as usize];
            if partition.leadership().is_leader() && committed.len() > self.committed.len() {
                self.committed = committed.to_vec();
            }
        }
        for node in &self.nodes {
            let Some(partition) = &node.partition else { continue };
            let committed = &node.log[..partition.high_watermark().0 as usize];
            assert!(
                self.committed.starts_with(committed),
                "node {} holds {committed:?} for committed, where others had {:?}",
                node.id,
                self.committed
            );
        }
        let leader = self.current().replicas.leader;
        if leader != BrokerId::NONE {
            let log = &self.nodes[leader.0 as usize].log;
            assert!(
                log.starts_with(&self.committed),
                "{leader} is elected with {log:?} where {:?} is committed",
                self.committed
            );
        }
    }
}

impl Node {
    fn new(id: BrokerId, cluster: &Cluster) -> Self {
        let mut node = Self {
            id,
            partition: None,
            log: Vec::new(),
            epochs: Vec::new(),
            high_watermark: Offset(0),
            broker_epoch: BrokerEpoch(i64::from(id.0)),
            heard: cluster.news.len(),
            answer: None,
        };
        node.open(cluster.current(), cluster.terms(), cluster.now);
        node
    }

    fn open(&mut self, news: &News, terms: Terms, now: Monotonic) {
        let log = (Offset(self.log.len() as i64), self.high_watermark);
        let moment = Moment { now, brokers: &news.brokers };
        self.partition = Some(Partition::new(self.id, news.replicas.clone(), log, terms, &moment));
        self.note_election(None);
    }

    fn note_election(&mut self, before: Option<LeaderEpoch>) {
        let leadership = self.partition.as_ref().unwrap().leadership();
        if leadership.is_leader() && before != Some(leadership.epoch()) {
            self.assign(leadership.epoch(), self.log.len());
        }
    }

    fn assign(&mut self, epoch: LeaderEpoch, start: usize) {
        if self.epochs.last().is_none_or(|(last, _)| *last < epoch) {
            self.epochs.retain(|(_, known)| *known < start);
            self.epochs.push((epoch, start));
        }
    }

    fn truncate(&mut self, end: usize) {
        self.log.truncate(end);
        self.epochs.retain(|(_, start)| *start < self.log.len());
        self.high_watermark = self.high_watermark.min(Offset(self.log.len() as i64));
    }

    /// What the shell does with an answer: nothing, if it was not asked in this epoch and from here.
    fn take(&mut self, answer: FetchAnswer) {
        let Some(partition) = self.partition.as_mut() else { return };
        let position = partition.fetch_position();
        let is_current = position.is_some_and(|it| {
            it.leader_epoch == answer.epoch && it.offset.0 == answer.offset as i64
        });
        if !is_current {
            return;
        }
        if let Some(diverging) = answer.diverging {
            let own = end_of(&self.epochs, &self.log, diverging.epoch);
            let end = truncation_offset(diverging, own, partition.log_end());
            partition.truncated(end);
            self.truncate(end.0 as usize);
            return;
        }
        for record in answer.records {
            let start = self.log.len();
            self.log.push(record);
            self.assign(record.0, start);
        }
        let end = Offset(self.log.len() as i64);
        let partition = self.partition.as_mut().unwrap();
        partition.fetched(answer.epoch, end, answer.high_watermark);
    }
}

/// Where the largest epoch up to `asked` ended (KIP-101, KIP-279).
fn end_of(epochs: &[(LeaderEpoch, usize)], log: &[Record], asked: LeaderEpoch) -> Option<EpochEnd> {
    let end = |end: usize| Offset(end as i64);
    let (last, _) = epochs.last()?;
    if *last == asked {
        return Some(EpochEnd { epoch: asked, end: end(log.len()) });
    }
    let higher = epochs.iter().position(|(epoch, _)| *epoch > asked)?;
    let floor = higher.checked_sub(1).map_or(asked, |floor| epochs[floor].0);
    Some(EpochEnd { epoch: floor, end: end(epochs[higher].1) })
}
