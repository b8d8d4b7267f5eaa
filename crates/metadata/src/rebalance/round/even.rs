//! Numbers of replicas and bytes of disks.

use super::{Round, compare_loads, counted, gain};

/// Less than so many bytes above a share are not worth a copy.
const WORTH_A_COPY: i128 = 256 << 20;

/// A replica that goes, and perhaps another that comes back for it.
struct Exchange {
    given: usize,
    taken: Option<usize>,
    from: usize,
    to: usize,
    /// By how many bytes both together are nearer to their shares.
    gain: i128,
    /// Bytes to be copied.
    cost: i128,
}

impl Round<'_> {
    /// Moves replicas from who has more than its share to who has less.
    pub(in super::super) fn even_numbers(&mut self) {
        if !self.is_uneven(|broker| broker.replicas.len()) {
            return;
        }
        while let Some((number, from, to)) = self.next_by_number() {
            let has = |place: usize| {
                let share = self.share(place, |broker| broker.replicas.len());
                let broker = &self.brokers[place];
                let has = counted(broker.replicas.len(), "replica");
                format!("broker {} has {has}, its share is {share:.1}", broker.id)
            };
            let reason = format!("{}; {}", has(from), has(to));
            self.relocate(number, from, to, reason);
        }
    }

    fn next_by_number(&self) -> Option<(usize, usize, usize)> {
        let load = |place: usize| (self.brokers[place].replicas.len(), self.brokers[place].weight);
        let mut places: Vec<usize> = self.usable().collect();
        places.sort_by(|one, other| compare_loads(load(*one), load(*other)));
        for from in places.iter().rev() {
            let with_less = places.iter().filter(|to| gain(load(*from), load(**to)) > 0);
            for to in with_less {
                let replicas = self.brokers[*from].replicas.iter().copied();
                let candidates = replicas.filter(|number| self.may_go(*number, *from, *to));
                let (over, under) = (self.excess(*from), self.excess(*to));
                let best = candidates.min_by_key(|number| {
                    let bytes = i128::from(self.parts[*number].placement.bytes);
                    ((over - bytes).abs() + (under + bytes).abs(), bytes)
                });
                if let Some(number) = best {
                    return Some((number, *from, *to));
                }
            }
        }
        None
    }

    /// Moves and exchanges replicas between the fullest disks and the emptiest, where what is gained is
    /// worth what is copied.
    pub(in super::super) fn even_bytes(&mut self) {
        while let Some(exchange) = self.next_by_bytes() {
            let Exchange { given, taken, from, to, .. } = exchange;
            let has = |place: usize| {
                format!(
                    "the replicas of broker {} have {}, its share is {}",
                    self.brokers[place].id,
                    size(i128::from(self.brokers[place].bytes)),
                    size(self.byte_share(place))
                )
            };
            let reason = format!("{}; {}", has(from), has(to));
            let back = format!("in exchange for {}, which is larger", self.parts[given].name);
            self.relocate(given, from, to, reason);
            if let Some(taken) = taken {
                self.relocate(taken, to, from, back);
            }
        }
    }

    fn next_by_bytes(&self) -> Option<Exchange> {
        if self.moves_left == 0 {
            return None;
        }
        let mut places: Vec<usize> = self.usable().collect();
        places.sort_by_key(|place| self.excess(*place));
        let too_full = places.iter().rev().take_while(|place| {
            let tolerated = self.byte_share(**place) * i128::from(self.tolerance_percent) / 100;
            self.excess(**place) > tolerated.max(WORTH_A_COPY)
        });
        let pairs = too_full.flat_map(|from| places.iter().map(move |to| (*from, *to)));
        let mut exchanges = pairs.filter_map(|(from, to)| self.best_exchange(from, to));
        exchanges.next()
    }

    fn best_exchange(&self, from: usize, to: usize) -> Option<Exchange> {
        let (over, under) = (self.excess(from), self.excess(to));
        let gap = over - under;
        if gap <= 0 {
            return None;
        }
        let bytes = |number: usize| i128::from(self.parts[number].placement.bytes);
        let exchanges = self.exchanges(from, to, gap).into_iter().filter_map(|(given, taken)| {
            let (given_bytes, taken_bytes) = (bytes(given), taken.map_or(0, bytes));
            let moved = given_bytes - taken_bytes;
            let apart = |moved: i128| (over - moved).abs() + (under + moved).abs();
            let (gain, cost) = (apart(0) - apart(moved), given_bytes + taken_bytes);
            let is_worth_it = 0 < moved && moved < gap && gain > 0 && 2 * gain >= cost;
            is_worth_it.then_some(Exchange { given, taken, from, to, gain, cost })
        });
        exchanges.max_by_key(|it| (it.gain, -it.cost))
    }

    /// What may be given, alone or for which others that leave both brokers the most alike.
    fn exchanges(&self, from: usize, to: usize, gap: i128) -> Vec<(usize, Option<usize>)> {
        let bytes = |number: usize| i128::from(self.parts[number].placement.bytes);
        let on = |place: usize| self.brokers[place].replicas.iter().copied();
        let load = |place: usize| (self.brokers[place].replicas.len(), self.brokers[place].weight);
        // A move alone must not make numbers less even than they are.
        let may_give_alone = gain(load(from), load(to)) >= 0;
        let mut back: Vec<(i128, usize)> =
            on(to).filter(|it| self.may_go(*it, to, from)).map(|it| (bytes(it), it)).collect();
        back.sort_unstable();
        let mut ways = Vec::new();
        for given in on(from).filter(|it| self.may_go(*it, from, to)) {
            if may_give_alone {
                ways.push((given, None));
            }
            if self.moves_left > 1 {
                let place = back.partition_point(|(size, _)| *size < bytes(given) - gap / 2);
                let near = back.iter().skip(place.saturating_sub(1)).take(2);
                ways.extend(near.map(|(_, taken)| (given, Some(*taken))));
            }
        }
        ways
    }
}

/// Bytes for people.
fn size(bytes: i128) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut amount, mut unit) = (bytes as f64, 0);
    while amount.abs() >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}
