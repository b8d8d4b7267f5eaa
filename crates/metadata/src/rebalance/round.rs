//! One round of a plan: what is decided so far, and what brokers would have by it.

mod even;
mod leaders;

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::{BrokerId, TopicPartition};

use super::{Layout, Limits, Move, Placement};

/// What a broker has by what is decided so far.
struct State {
    id: BrokerId,
    weight: u32,
    /// What bytes are shared by: its disks, or its weight.
    capacity: u64,
    /// Whether an assignment may name it.
    is_registered: bool,
    /// Whether it may be given replicas and leaders.
    is_usable: bool,
    /// Number of its rack.
    rack: Option<usize>,
    replicas: BTreeSet<usize>,
    bytes: u64,
    leads: usize,
}

struct Part<'a> {
    name: &'a TopicPartition,
    placement: &'a Placement,
    /// Positions of brokers.
    replicas: Vec<usize>,
    /// Whether it may be changed.
    is_settled: bool,
    is_moved: bool,
    reasons: Vec<String>,
}

pub(super) struct Round<'a> {
    tolerance_percent: u32,
    moves_left: usize,
    orders_left: usize,
    brokers: Vec<State>,
    parts: Vec<Part<'a>>,
    /// The racks of brokers that may be used; none if they do not count.
    racks: Vec<&'a str>,
    /// Partitions in the order in which they were decided on.
    changed: Vec<usize>,
}

impl<'a> Round<'a> {
    pub(super) fn new(layout: &'a Layout, limits: Limits) -> Self {
        let racks = racks(layout);
        let mut brokers = states(layout, &racks);
        let places: BTreeMap<BrokerId, usize> =
            brokers.iter().enumerate().map(|(place, broker)| (broker.id, place)).collect();
        let parts: Vec<Part<'a>> = layout
            .partitions
            .iter()
            .map(|(name, placement)| {
                let replicas = placement.replicas.iter().filter_map(|id| places.get(id).copied());
                let (replicas, reasons) = (replicas.collect(), Vec::new());
                let is_settled = placement.is_settled;
                Part { name, placement, replicas, is_settled, is_moved: false, reasons }
            })
            .collect();
        for (number, part) in parts.iter().enumerate() {
            for place in &part.replicas {
                brokers[*place].replicas.insert(number);
                brokers[*place].bytes += part.placement.bytes;
            }
            if let Some(first) = part.replicas.first() {
                brokers[*first].leads += 1;
            }
        }
        Self {
            tolerance_percent: limits.tolerance_percent,
            moves_left: limits.moves,
            orders_left: limits.orders,
            brokers,
            parts,
            racks,
            changed: Vec::new(),
        }
    }

    /// Whether no replica has to move any more, or may.
    pub(super) fn is_done(&self) -> bool {
        self.moves_left > 0 || self.changed.is_empty()
    }

    pub(super) fn into_moves(self) -> Vec<Move> {
        let ids = |places: &[usize]| places.iter().map(|place| self.brokers[*place].id).collect();
        let changed = self.changed.iter().map(|number| {
            let part = &self.parts[*number];
            let from = part.placement.replicas.clone();
            let to: Vec<BrokerId> = ids(&part.replicas);
            let new = to.iter().filter(|id| !from.contains(id)).count() as u64;
            Move {
                partition: part.name.clone(),
                bytes: new.saturating_mul(part.placement.bytes),
                reasons: part.reasons.clone(),
                from,
                to,
            }
        });
        changed.filter(|it| it.from != it.to).collect()
    }

    /// Takes replicas from brokers that are not registered: all of a partition's at once, for no
    /// assignment may name one. Where there is nowhere to go the partition stays as it is.
    pub(super) fn replace_unregistered(&mut self) {
        for number in 0..self.parts.len() {
            match self.ways_out(number) {
                Some(ways) => {
                    for (from, to) in ways {
                        let reason = format!("broker {} is not registered", self.brokers[from].id);
                        self.relocate(number, from, to, reason);
                    }
                }
                None => self.parts[number].is_settled = false,
            }
        }
    }

    /// Each replica of a partition on a broker that is not registered, and where it goes; `None` if
    /// not all can go.
    fn ways_out(&self, number: usize) -> Option<Vec<(usize, usize)>> {
        let before = &self.parts[number].replicas;
        let (mut after, mut ways) = (before.clone(), Vec::new());
        for from in before.iter().copied().filter(|place| !self.brokers[*place].is_registered) {
            self.movable(number)?;
            let to = self.refuge(&after, from)?;
            after = replaced(&after, from, to);
            ways.push((from, to));
        }
        Some(ways)
    }

    /// Takes replicas from brokers that are to have none.
    pub(super) fn empty_brokers(&mut self) {
        for from in 0..self.brokers.len() {
            if self.brokers[from].weight > 0 {
                continue;
            }
            let reason = format!("broker {} is to have no replicas", self.brokers[from].id);
            for number in self.brokers[from].replicas.clone() {
                let Some(part) = self.movable(number) else { continue };
                if let Some(to) = self.refuge(&part.replicas, from) {
                    self.relocate(number, from, to, reason.clone());
                }
            }
        }
    }

    /// Where one of these replicas goes that cannot stay: where racks are best, and there is the
    /// least to do.
    fn refuge(&self, replicas: &[usize], from: usize) -> Option<usize> {
        let places = self.usable().filter(|place| !replicas.contains(place));
        places.min_by(|one, other| {
            let missing = |to| self.missing_racks(&replaced(replicas, from, to));
            let replicas = |place: usize| self.brokers[place].replicas.len();
            missing(*one)
                .cmp(&missing(*other))
                .then_with(|| {
                    let (one, other) = (&self.brokers[*one], &self.brokers[*other]);
                    let loads = (one.replicas.len() + 1, other.replicas.len() + 1);
                    compare_loads((loads.0, one.weight), (loads.1, other.weight))
                })
                .then_with(|| self.excess(*one).cmp(&self.excess(*other)))
                .then_with(|| replicas(*one).cmp(&replicas(*other)))
        })
    }

    /// Gives partitions replicas in racks that have none of theirs.
    pub(super) fn spread_over_racks(&mut self) {
        for number in 0..self.parts.len() {
            let Some(part) = self.movable(number) else { continue };
            let before = self.missing_racks(&part.replicas);
            if before == 0 {
                continue;
            }
            let crowded = |place: &usize| {
                let rack = self.brokers[*place].rack;
                let same = part.replicas.iter().filter(|it| self.brokers[**it].rack == rack);
                same.count() > 1
            };
            let candidates = part.replicas.iter().copied().filter(crowded);
            let ways = candidates.filter_map(|from| {
                let to = self.refuge(&part.replicas, from)?;
                let after = self.missing_racks(&replaced(&part.replicas, from, to));
                let load = self.brokers[from].replicas.len();
                (after < before).then_some((after, std::cmp::Reverse(load), from, to))
            });
            let Some((.., from, to)) = ways.min() else { continue };
            let rack = |place: usize| self.brokers[place].rack.and_then(|it| self.racks.get(it));
            let name = |place| rack(place).copied().unwrap_or("?");
            let reason = format!(
                "rack {} had more than one of its replicas, rack {} none",
                name(from),
                name(to)
            );
            self.relocate(number, from, to, reason);
        }
    }

    /// The partition, if it may get a replica elsewhere in this round.
    fn movable(&self, number: usize) -> Option<&Part<'a>> {
        let part = &self.parts[number];
        (self.moves_left > 0 && part.is_settled && !part.is_moved).then_some(part)
    }

    /// Whether a replica may go there, for the sake of evenness.
    fn may_go(&self, number: usize, from: usize, to: usize) -> bool {
        self.movable(number).is_some_and(|part| {
            !part.replicas.contains(&to)
                && self.missing_racks(&replaced(&part.replicas, from, to))
                    <= self.missing_racks(&part.replicas)
        })
    }

    fn relocate(&mut self, number: usize, from: usize, to: usize, reason: String) {
        let part = &mut self.parts[number];
        if part.replicas.first() == Some(&from) {
            self.brokers[from].leads -= 1;
            self.brokers[to].leads += 1;
        }
        part.replicas = replaced(&part.replicas, from, to);
        part.reasons.push(reason);
        if !std::mem::replace(&mut part.is_moved, true) {
            self.changed.push(number);
            self.moves_left -= 1;
        }
        let bytes = part.placement.bytes;
        self.brokers[from].replicas.remove(&number);
        self.brokers[from].bytes -= bytes;
        self.brokers[to].replicas.insert(number);
        self.brokers[to].bytes += bytes;
    }

    fn usable(&self) -> impl Iterator<Item = usize> + Clone + '_ {
        (0..self.brokers.len()).filter(|place| self.brokers[*place].is_usable)
    }

    /// How many racks more these replicas could be in.
    fn missing_racks(&self, replicas: &[usize]) -> usize {
        let racks: BTreeSet<usize> =
            replicas.iter().filter_map(|place| self.brokers[*place].rack).collect();
        self.racks.len().min(replicas.len()).saturating_sub(racks.len())
    }

    /// Whether some broker has by more than the tolerance more or less than its share.
    fn is_uneven(&self, amount: impl Fn(&State) -> usize) -> bool {
        self.usable().any(|place| {
            let share = self.share(place, &amount);
            let tolerated = (share * f64::from(self.tolerance_percent) / 100.0).max(1.0);
            (amount(&self.brokers[place]) as f64 - share).abs() > tolerated + 1e-9
        })
    }

    /// What a broker should have of what all have that may be used.
    fn share(&self, place: usize, amount: impl Fn(&State) -> usize) -> f64 {
        let total: usize = self.usable().map(|it| amount(&self.brokers[it])).sum();
        let weights: f64 = self.usable().map(|it| f64::from(self.brokers[it].weight)).sum();
        total as f64 * f64::from(self.brokers[place].weight) / weights
    }

    /// The bytes that a broker should have.
    fn byte_share(&self, place: usize) -> i128 {
        let total: i128 = self.usable().map(|it| i128::from(self.brokers[it].bytes)).sum();
        let capacity: i128 = self.usable().map(|it| i128::from(self.brokers[it].capacity)).sum();
        total * i128::from(self.brokers[place].capacity) / capacity.max(1)
    }

    /// The bytes that a broker has above its share.
    fn excess(&self, place: usize) -> i128 {
        i128::from(self.brokers[place].bytes) - self.byte_share(place)
    }
}

/// The racks of the brokers that may be used, if all of them have one; of those too that are away.
fn racks(layout: &Layout) -> Vec<&str> {
    let stay = layout.brokers.values().filter(|broker| broker.weight > 0);
    let racks: Option<BTreeSet<&str>> = stay.map(|broker| broker.rack.as_deref()).collect();
    racks.unwrap_or_default().into_iter().collect()
}

/// Every broker that is registered, and those that only have replicas, which are to have none.
fn states(layout: &Layout, racks: &[&str]) -> Vec<State> {
    let disks_are_known = layout.brokers.values().all(|broker| broker.disk_bytes.is_some());
    let replicas = layout.partitions.values().flat_map(|placement| &placement.replicas);
    let ids: BTreeSet<BrokerId> = layout.brokers.keys().chain(replicas).copied().collect();
    let state = |id: BrokerId| {
        let broker = layout.brokers.get(&id);
        let weight = broker.map_or(0, |broker| broker.weight);
        let disk = broker.and_then(|broker| broker.disk_bytes).filter(|_| disks_are_known);
        let rack = broker.and_then(|broker| broker.rack.as_deref());
        State {
            id,
            weight,
            capacity: disk.unwrap_or(u64::from(weight)),
            is_registered: broker.is_some(),
            is_usable: weight > 0 && broker.is_some_and(|broker| broker.is_active),
            rack: rack.and_then(|rack| racks.iter().position(|known| *known == rack)),
            replicas: BTreeSet::new(),
            bytes: 0,
            leads: 0,
        }
    };
    ids.into_iter().map(state).collect()
}

/// These replicas with one in the place of another.
fn replaced(replicas: &[usize], from: usize, to: usize) -> Vec<usize> {
    replicas.iter().map(|place| if *place == from { to } else { *place }).collect()
}

/// So many of something: `1 replica`, `2 replicas` for `replica`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Which of two has more for its weight.
fn compare_loads(one: (usize, u32), other: (usize, u32)) -> std::cmp::Ordering {
    (one.0 as u128 * u128::from(other.1)).cmp(&(other.0 as u128 * u128::from(one.1)))
}

/// By how much one thing less here and one more there lowers the sum of squares, each by its weight;
/// not positive if it does not.
fn gain(from: (usize, u32), to: (usize, u32)) -> i128 {
    let less = (2 * from.0 as i128 - 1) * i128::from(to.1);
    let more = (2 * to.0 as i128 + 1) * i128::from(from.1);
    less - more
}
