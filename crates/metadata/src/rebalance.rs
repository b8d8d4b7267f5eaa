//! Where replicas and leaders should be, and which moves lead there: a new broker gets its share, a
//! broker that is to go is emptied. Kafka has no such planner in the box.
//!
//! [`Layout`] is what there is; [`Layout::plan`] says what to do next. A plan is one round of bounded
//! work. It is carried out, and asked for again, until there is nothing to do:
//!
//! ```text
//! 1. who must go       replicas of brokers that are drained, or not registered any more
//! 2. racks             a partition with two replicas in a rack while another rack has none
//! 3. numbers           from who has more than its share to who has less
//! 4. bytes             from the fullest disks to the emptiest, by moves and by exchanges
//! 5. preferred leaders another order of the same replicas: nothing is copied; last of all, for they move
//!                      with the replicas
//! ```
//!
//! A share is what a broker's weight makes of the whole; of bytes, what its disks make. Each step takes
//! the replica that leaves disks the most even, and of those the smallest.
//!
//! # Invariants
//! - A round moves no partition twice, and leaves alone what is on its way or has no leader.
//! - No move names a broker that is not registered: a partition that cannot get rid of one stays as it is.
//! - No move has fewer racks than there could be, unless there were as few before.
//! - It ends: each step lowers, in this order, who must go, missing racks, the spread of numbers, that
//!   of bytes, that of leaders, and raises none of the earlier ones.
//! - What is within the tolerance is left alone. So after the last round another plan is empty, and
//!   every broker that may be used is within `max(1, tolerance)` of its share of replicas, and of
//!   leaders, as far as racks and replication factors allow.

mod round;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ottla_protocol::{BrokerId, TopicPartition};

use crate::image::MetadataImage;
use round::Round;

/// A broker that has replicas, or may be given some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerShare {
    /// Its rack, if told. Racks count when every broker that may be used has one.
    pub rack: Option<Arc<str>>,
    /// Its share, relative to that of the others; 0 is none: it is emptied.
    pub weight: u32,
    /// Bytes of its disks, if known of all; then bytes are shared by it.
    pub disk_bytes: Option<u64>,
    /// Whether it is there. If not, it is given nothing, and keeps what it has unless its weight is 0.
    pub is_active: bool,
}

/// A partition as it is, or as the move under way leaves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Its replicas, the preferred leader first. No duplicates.
    pub replicas: Vec<BrokerId>,
    /// Bytes of one replica.
    pub bytes: u64,
    /// Whether it may be moved: it has a leader, and is not on its way.
    pub is_settled: bool,
}

/// What a plan starts from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Every registered broker.
    pub brokers: BTreeMap<BrokerId, BrokerShare>,
    /// Every partition.
    pub partitions: BTreeMap<TopicPartition, Placement>,
}

/// How much a round may do, and what is not worth a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Partitions that get a replica elsewhere.
    pub moves: usize,
    /// Partitions that only get another preferred leader.
    pub orders: usize,
    /// By how many percent of its share a broker may have more or less.
    pub tolerance_percent: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { moves: 10, orders: 500, tolerance_percent: 10 }
    }
}

/// What is to be done with one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub partition: TopicPartition,
    /// Its replicas as they are.
    pub from: Vec<BrokerId>,
    /// Its replicas as they should be.
    pub to: Vec<BrokerId>,
    /// Bytes that have to be copied.
    pub bytes: u64,
    /// Why, in words.
    pub reasons: Vec<String>,
}

impl Move {
    /// Whether it is only another preferred leader.
    pub fn is_order(&self) -> bool {
        self.to.iter().all(|id| self.from.contains(id))
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = |ids: &[BrokerId]| {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            ids.join(",")
        };
        let (partition, from, to) = (&self.partition, ids(&self.from), ids(&self.to));
        write!(f, "{partition} from {from} to {to}: {}", self.reasons.join(", and "))
    }
}

impl Layout {
    /// The layout of a cluster, with the bytes of a partition's replica as they are known, and the
    /// weights that are configured (`cluster.rebalance.weight`).
    pub fn of(image: &MetadataImage, bytes: impl Fn(&str, i32) -> u64) -> Self {
        let brokers = image.brokers().map(|broker| {
            let share = BrokerShare {
                rack: broker.rack.clone(),
                weight: image.broker_weight(broker.id),
                disk_bytes: None,
                is_active: broker.is_active(),
            };
            (broker.id, share)
        });
        let partitions = image.topics().flat_map(|topic| {
            let bytes = &bytes;
            topic.partitions.iter().map(move |(number, partition)| {
                let stays = |id: &BrokerId| !partition.removing_replicas.contains(id);
                let placement = Placement {
                    replicas: partition.replicas.iter().copied().filter(stays).collect(),
                    bytes: bytes(&topic.name, *number),
                    is_settled: partition.leader.is_some() && !partition.is_reassigning(),
                };
                (TopicPartition { topic: topic.name.clone(), partition: *number }, placement)
            })
        });
        Self { brokers: brokers.collect(), partitions: partitions.collect() }
    }

    /// What to do next; nothing if all is well, or cannot be better. The order is that of urgency.
    pub fn plan(&self, limits: Limits) -> Vec<Move> {
        let mut round = Round::new(self, limits);
        round.replace_unregistered();
        round.empty_brokers();
        round.spread_over_racks();
        round.even_numbers();
        round.even_bytes();
        round.relieve_leaders();
        if round.is_done() {
            // Else replicas go on moving, and leaders with them.
            round.even_leaders();
        }
        round.into_moves()
    }

    /// The layout once a move is done.
    pub fn apply(&mut self, done: &Move) {
        if let Some(placement) = self.partitions.get_mut(&done.partition) {
            placement.replicas.clone_from(&done.to);
        }
    }

    /// All that there is to do, round by round, if nothing else happens meanwhile.
    pub fn plan_all(&self, limits: Limits) -> Vec<Vec<Move>> {
        let mut layout = self.clone();
        let mut rounds = Vec::new();
        loop {
            let moves = layout.plan(limits);
            if moves.is_empty() {
                return rounds;
            }
            moves.iter().for_each(|it| layout.apply(it));
            rounds.push(moves);
        }
    }
}
