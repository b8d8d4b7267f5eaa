//! Where the replicas of new partitions go. Kafka: `AdminUtils.assignReplicasToBrokers` (KIP-36 for
//! racks).
//!
//! First replicas go round the brokers from a random start. The others follow at a distance, the
//! shift, that grows by one each time the first replicas have been once round, so that partitions
//! with the same leader have different followers:
//!
//! ```text
//! brokers      b0  b1  b2  b3  b4        start 0, shift 0
//! 1st replica  p0  p1  p2  p3  p4
//! 2nd replica  p4  p0  p1  p2  p3        next to the first
//! 1st replica  p5  p6  p7  p8  p9        second time round: shift 1
//! 2nd replica  p8  p9  p5  p6  p7        one further
//! ```
//!
//! When every broker names its rack, the brokers are first put in an order that alternates racks,
//! and a follower is not placed in a rack that has a replica while another rack has none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_protocol::BrokerId;

/// A broker that may be given replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsableBroker {
    /// Its id.
    pub id: BrokerId,
    /// Its rack, if told.
    pub rack: Option<Arc<str>>,
}

/// Where the walk round the brokers begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Position of the first replica of partition 0, modulo the number of brokers.
    pub index: usize,
    /// Distance from the first replica to the second, less one.
    pub shift: usize,
}

impl Start {
    /// A start drawn at random for this many brokers.
    pub fn random(brokers: usize, random: &mut dyn FnMut() -> u64) -> Self {
        let mut draw = || usize::try_from(random() % brokers.max(1) as u64).unwrap_or(0);
        Self { index: draw(), shift: draw() }
    }
}

/// Which partitions to place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacementSpec {
    /// Number of the first partition: above 0 when a topic grows.
    pub first_partition: usize,
    /// How many partitions.
    pub partitions: usize,
    /// Replicas of each.
    pub replication_factor: usize,
}

/// The factor asked for cannot be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("replication factor {factor} is not between 1 and the number of brokers, {brokers}")]
pub struct PlacementError {
    /// What was asked for.
    pub factor: usize,
    /// How many brokers there are.
    pub brokers: usize,
}

/// Chooses the replicas of each partition, the preferred leader first.
pub fn place(
    brokers: &[UsableBroker],
    spec: PlacementSpec,
    start: Start,
) -> Result<Vec<Vec<BrokerId>>, PlacementError> {
    let factor = spec.replication_factor;
    if factor == 0 || factor > brokers.len() {
        return Err(PlacementError { factor, brokers: brokers.len() });
    }
    let racks: Option<Vec<Arc<str>>> = brokers.iter().map(|broker| broker.rack.clone()).collect();
    let circle = match racks {
        Some(racks) => Circle::alternating(brokers, &racks),
        // Kafka's tools refuse when only some brokers name a rack; the controller then places
        // without racks.
        None => Circle::without_racks(brokers),
    };
    let mut shift = start.shift;
    let partitions = spec.first_partition..spec.first_partition.saturating_add(spec.partitions);
    Ok(partitions
        .map(|partition| {
            if partition > 0 && partition % brokers.len() == 0 {
                shift += 1;
            }
            circle.replicas(partition + start.index, shift, factor)
        })
        .collect())
}

/// The brokers in the order of the walk, each with the number of its rack.
struct Circle {
    brokers: Vec<(BrokerId, usize)>,
    racks: usize,
}

impl Circle {
    /// Each broker is its own rack, as it were: no two replicas share one, and the order is as
    /// given.
    fn without_racks(brokers: &[UsableBroker]) -> Self {
        let brokers = brokers.iter().enumerate().map(|(rack, broker)| (broker.id, rack)).collect();
        Self { brokers, racks: 1 }
    }

    /// One broker of each rack in turn, until all are in.
    fn alternating(brokers: &[UsableBroker], racks: &[Arc<str>]) -> Self {
        let mut by_rack: BTreeMap<&str, BTreeSet<BrokerId>> = BTreeMap::new();
        for (broker, rack) in brokers.iter().zip(racks) {
            by_rack.entry(rack).or_default().insert(broker.id);
        }
        let racks = by_rack.len();
        let mut queues: Vec<_> = by_rack.into_values().map(BTreeSet::into_iter).collect();
        let mut order = Vec::with_capacity(brokers.len());
        while order.len() < brokers.len() {
            for (rack, queue) in queues.iter_mut().enumerate() {
                order.extend(queue.next().map(|broker| (broker, rack)));
            }
        }
        Self { brokers: order, racks }
    }

    fn replicas(&self, first: usize, shift: usize, factor: usize) -> Vec<BrokerId> {
        let count = self.brokers.len();
        let first = first % count;
        let mut replicas = Vec::with_capacity(factor);
        let mut racks = BTreeSet::new();
        let mut take = |(broker, rack): (BrokerId, usize), replicas: &mut Vec<BrokerId>| {
            let rack_has_one = racks.contains(&rack) && racks.len() < self.racks;
            if !rack_has_one && !replicas.contains(&broker) {
                replicas.push(broker);
                racks.insert(rack);
            }
        };
        take(self.brokers[first], &mut replicas);
        let mut step = 0;
        while replicas.len() < factor {
            // The first replica's own place is left out of the walk, so that the shift never lands
            // on it.
            let distance = 1 + (shift * self.racks + step) % (count - 1);
            take(self.brokers[(first + distance) % count], &mut replicas);
            step += 1;
        }
        replicas
    }
}
