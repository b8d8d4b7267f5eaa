//! Preferred leaders: which replica of a partition stands first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Round, compare_loads, counted, gain};

/// By the broker that a partition prefers, and another that has a replica of it: those partitions.
type Edges = BTreeMap<usize, BTreeMap<usize, BTreeSet<usize>>>;

impl Round<'_> {
    /// Gives partitions another preferred leader, until every broker has its share. Where two brokers
    /// share no partition, others between them pass one on.
    pub(in super::super) fn even_leaders(&mut self) {
        if !self.is_uneven(|broker| broker.leads) {
            return;
        }
        let mut edges = self.edges();
        while let Some(path) = self.path(&edges) {
            if path.len() > self.orders_left {
                return;
            }
            self.orders_left -= path.len();
            let reason = self.why_passed_on(&path);
            for (number, to) in path {
                self.remove_edges(&mut edges, number);
                self.prefer(number, to, reason.clone());
                self.insert_edges(&mut edges, number);
            }
        }
    }

    /// Has partitions prefer another than a broker that is to have nothing, even where it keeps a replica
    /// because there is nowhere else to put it.
    pub(in super::super) fn relieve_leaders(&mut self) {
        for number in 0..self.parts.len() {
            let part = &self.parts[number];
            let Some((first, others)) = part.replicas.split_first() else { continue };
            let is_relieved = self.brokers[*first].weight > 0;
            if is_relieved || !part.is_settled || self.orders_left == 0 {
                continue;
            }
            let others = others.iter().copied().filter(|place| self.brokers[*place].is_usable);
            let load = |place: usize| (self.brokers[place].leads, self.brokers[place].weight);
            let Some(to) = others.min_by(|one, other| compare_loads(load(*one), load(*other)))
            else {
                continue;
            };
            let reason = format!("broker {} is to lead nothing", self.brokers[*first].id);
            self.orders_left -= 1;
            self.prefer(number, to, reason);
        }
    }

    fn why_passed_on(&self, path: &[(usize, usize)]) -> String {
        let leads = |place: usize| {
            let share = self.share(place, |broker| broker.leads);
            let broker = &self.brokers[place];
            let by = counted(broker.leads, "partition");
            format!("broker {} is preferred by {by}, its share is {share:.1}", broker.id)
        };
        let ends = path.first().zip(path.last());
        ends.map_or_else(String::new, |((first, _), (_, last))| {
            format!("{}; {}", leads(self.parts[*first].replicas[0]), leads(*last))
        })
    }

    fn edges(&self) -> Edges {
        let mut edges = Edges::new();
        for number in 0..self.parts.len() {
            self.insert_edges(&mut edges, number);
        }
        edges
    }

    /// The first replica, and the others, if they may be led from elsewhere.
    fn ends(&self, number: usize) -> Option<(usize, Vec<usize>)> {
        let part = &self.parts[number];
        let (first, others) = part.replicas.split_first()?;
        let may_lead = |place: &usize| self.brokers[*place].is_usable;
        let others = others.iter().copied().filter(may_lead).collect();
        (part.is_settled && may_lead(first)).then_some((*first, others))
    }

    fn insert_edges(&self, edges: &mut Edges, number: usize) {
        let Some((first, others)) = self.ends(number) else { return };
        let from = edges.entry(first).or_default();
        for to in others {
            from.entry(to).or_default().insert(number);
        }
    }

    fn remove_edges(&self, edges: &mut Edges, number: usize) {
        let Some((first, others)) = self.ends(number) else { return };
        let Some(from) = edges.get_mut(&first) else { return };
        for to in others {
            if let Some(parts) = from.get_mut(&to) {
                parts.remove(&number);
            }
        }
    }

    /// Partitions, each with the replica to prefer, that take a leader from a broker with many to one
    /// with few.
    fn path(&self, edges: &Edges) -> Option<Vec<(usize, usize)>> {
        let load = |place: usize| (self.brokers[place].leads, self.brokers[place].weight);
        let mut places: Vec<usize> = self.usable().collect();
        places.sort_by(|one, other| compare_loads(load(*one), load(*other)));
        places.iter().rev().find_map(|from| {
            let back = reachable(edges, *from);
            let mut fewer = places.iter().filter(|to| gain(load(*from), load(**to)) > 0);
            let mut at = *fewer.find(|to| back.contains_key(to))?;
            let mut path = Vec::new();
            while let Some((before, number)) = back.get(&at) {
                path.push((*number, at));
                at = *before;
            }
            path.reverse();
            Some(path)
        })
    }

    fn prefer(&mut self, number: usize, to: usize, reason: String) {
        let part = &mut self.parts[number];
        let first = part.replicas[0];
        part.replicas.retain(|place| *place != to);
        part.replicas.insert(0, to);
        let is_new = part.reasons.is_empty();
        part.reasons.push(reason);
        self.brokers[first].leads -= 1;
        self.brokers[to].leads += 1;
        if is_new {
            self.changed.push(number);
        }
    }
}

/// Every broker that `from` can pass leadership on to, with who passes it there and by which partition.
fn reachable(edges: &Edges, from: usize) -> BTreeMap<usize, (usize, usize)> {
    let mut back = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        for (to, parts) in edges.get(&at).into_iter().flatten() {
            let Some(number) = parts.first() else { continue };
            if *to != from && !back.contains_key(to) {
                back.insert(*to, (at, *number));
                queue.push_back(*to);
            }
        }
    }
    back
}
