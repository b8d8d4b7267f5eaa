//! What a log promised, held against what it gave back.
//!
//! A workload notes in a [`History`] what it sent and what was acknowledged; at the end it reads
//! the whole partition. [`History::check`] is the judge: it knows nothing of how either was done.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

/// One record of a workload: no two are alike.
pub type RecordId = String;

/// What the broker promised for the faults of this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Nothing that was acknowledged is lost.
    KeepsAcknowledged,
    /// Of what was acknowledged in one life of the broker a prefix survives: the page cache was
    /// lost, and with it an end of the log, but never a hole.
    KeepsPrefix,
}

#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    offset: i64,
    /// The life of the broker in which it was acknowledged, if that is certain.
    life: Option<u64>,
}

/// What a workload did.
#[derive(Debug, Default)]
pub struct History {
    /// How many times each record was sent.
    sent: BTreeMap<RecordId, u32>,
    acknowledged: BTreeMap<RecordId, Acknowledged>,
    /// Those of which the client said that they are surely not stored.
    refused: BTreeSet<RecordId>,
    /// The order in which each producer's records were acknowledged.
    order: BTreeMap<String, Vec<RecordId>>,
}

/// A broken promise.
#[derive(Debug, Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Violation {
    #[error("acknowledged {id} at offset {offset} is lost; there is {found:?}")]
    Lost { id: RecordId, offset: i64, found: Option<RecordId> },
    #[error("life {life}: {lost} at offset {offset} is lost, though a later one of it survived")]
    Hole { life: u64, lost: RecordId, offset: i64 },
    #[error("offset {found} was read after offset {previous}")]
    OffsetsNotDense { previous: i64, found: i64 },
    #[error("{id} at offset {offset} was never sent")]
    NeverSent { id: RecordId, offset: i64 },
    #[error("{id} at offset {offset} was refused for good")]
    Refused { id: RecordId, offset: i64 },
    #[error("{id} was sent {sent} times and stored {stored} times")]
    Duplicated { id: RecordId, sent: u32, stored: u32 },
    #[error("producer {producer}: {later} is stored before {earlier}")]
    Reordered { producer: String, earlier: RecordId, later: RecordId },
}

impl History {
    /// Notes that a record is about to be sent, for the first time or once more.
    pub fn sending(&mut self, id: &str) {
        let sent = self.sent.entry(id.to_owned()).or_default();
        *sent = sent.saturating_add(1);
    }

    /// Notes that a record is sent by a client that tries again of itself, nobody knows how often.
    pub fn sending_until_acknowledged(&mut self, id: &str) {
        self.sent.insert(id.to_owned(), u32::MAX);
    }

    /// Notes that a record will surely not be stored.
    pub fn refused(&mut self, id: &str) {
        self.refused.insert(id.to_owned());
    }

    /// Notes that a record of `producer` was acknowledged at `offset`, in this life of the broker
    /// if that is certain.
    pub fn acknowledged(&mut self, producer: &str, id: &str, offset: i64, life: Option<u64>) {
        self.acknowledged.insert(id.to_owned(), Acknowledged { offset, life });
        self.order.entry(producer.to_owned()).or_default().push(id.to_owned());
    }

    /// How many records were acknowledged.
    pub fn acknowledged_count(&self) -> usize {
        self.acknowledged.len()
    }

    /// Where those that were acknowledged lie.
    pub fn acknowledged_offsets(&self) -> impl Iterator<Item = i64> {
        self.acknowledged.values().map(|acknowledged| acknowledged.offset)
    }

    /// Holds `read`, all records of the partition from its start in the order they came, against
    /// what was promised. With `idempotent` a record sent twice must be stored once.
    pub fn check(
        &self,
        read: &[(i64, RecordId)],
        promise: Promise,
        idempotent: bool,
    ) -> Result<(), Violation> {
        check_offsets(read)?;
        self.check_origin(read, idempotent)?;
        self.check_order(read)?;
        let by_offset = read.iter().map(|(offset, id)| (*offset, id)).collect();
        match promise {
            Promise::KeepsAcknowledged => self.check_all_kept(&by_offset),
            Promise::KeepsPrefix => self.check_prefix_kept(&by_offset),
        }
    }

    /// Nothing comes from nowhere, and nothing comes more often than it was sent.
    fn check_origin(&self, read: &[(i64, RecordId)], idempotent: bool) -> Result<(), Violation> {
        let mut stored: BTreeMap<&RecordId, u32> = BTreeMap::new();
        for (offset, id) in read {
            let Some(&sent) = self.sent.get(id) else {
                return Err(Violation::NeverSent { id: id.clone(), offset: *offset });
            };
            if self.refused.contains(id) {
                return Err(Violation::Refused { id: id.clone(), offset: *offset });
            }
            let count = stored.entry(id).or_default();
            *count += 1;
            if *count > if idempotent { 1 } else { sent } {
                return Err(Violation::Duplicated { id: id.clone(), sent, stored: *count });
            }
        }
        Ok(())
    }

    /// A producer that waits for each acknowledgement finds its records in that order.
    fn check_order(&self, read: &[(i64, RecordId)]) -> Result<(), Violation> {
        let mut first = BTreeMap::new();
        let mut last = BTreeMap::new();
        for (offset, id) in read {
            first.entry(id).or_insert(*offset);
            last.insert(id, *offset);
        }
        for (producer, ids) in &self.order {
            let stored: Vec<&RecordId> = ids.iter().filter(|id| first.contains_key(id)).collect();
            for pair in stored.windows(2) {
                // A record sent twice may lie on both sides: one of its copies must be in order.
                if first[pair[0]] > last[pair[1]] {
                    return Err(Violation::Reordered {
                        producer: producer.clone(),
                        earlier: pair[0].clone(),
                        later: pair[1].clone(),
                    });
                }
            }
        }
        Ok(())
    }

    fn check_all_kept(&self, read: &BTreeMap<i64, &RecordId>) -> Result<(), Violation> {
        for (id, Acknowledged { offset, .. }) in &self.acknowledged {
            let found = read.get(offset).copied();
            if found != Some(id) {
                let (id, found) = (id.clone(), found.cloned());
                return Err(Violation::Lost { id, offset: *offset, found });
            }
        }
        Ok(())
    }

    fn check_prefix_kept(&self, read: &BTreeMap<i64, &RecordId>) -> Result<(), Violation> {
        let mut lives: BTreeMap<u64, BTreeSet<(i64, &RecordId)>> = BTreeMap::new();
        for (id, Acknowledged { offset, life }) in &self.acknowledged {
            if let Some(life) = life {
                lives.entry(*life).or_default().insert((*offset, id));
            }
        }
        for (life, acknowledged) in lives {
            let mut lost = None;
            for (offset, id) in acknowledged {
                let survived = read.get(&offset).copied() == Some(id);
                match lost {
                    None if !survived => lost = Some((offset, id)),
                    Some((offset, lost)) if survived => {
                        return Err(Violation::Hole { life, lost: lost.clone(), offset });
                    }
                    None | Some(_) => {}
                }
            }
        }
        Ok(())
    }
}

/// A log without compaction has no gaps.
fn check_offsets(read: &[(i64, RecordId)]) -> Result<(), Violation> {
    for pair in read.windows(2) {
        let (previous, found) = (pair[0].0, pair[1].0);
        if found != previous + 1 {
            return Err(Violation::OffsetsNotDense { previous, found });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three records of one producer, acknowledged at 0, 1 (life 1) and 2 (life 2); the second was
    /// sent twice.
    fn history() -> History {
        let mut history = History::default();
        for (id, offset, life) in [("a", 0, 1), ("b", 1, 1), ("c", 2, 2)] {
            history.sending(id);
            history.acknowledged("p", id, offset, Some(life));
        }
        history.sending("b");
        history
    }

    fn read(records: &[(i64, &str)]) -> Vec<(i64, RecordId)> {
        records.iter().map(|(offset, id)| (*offset, (*id).to_owned())).collect()
    }

    #[track_caller]
    fn judged(records: &[(i64, &str)], promise: Promise) -> String {
        let verdict = history().check(&read(records), promise, false);
        verdict.map_or_else(|violation| violation.to_string(), |()| "kept".to_owned())
    }

    #[test]
    fn what_was_acknowledged_must_be_where_it_was_said_to_be() {
        use Promise::KeepsAcknowledged as Kept;
        assert_eq!(judged(&[(0, "a"), (1, "b"), (2, "c")], Kept), "kept");
        assert_eq!(judged(&[(0, "a"), (1, "b"), (2, "c"), (3, "b")], Kept), "kept");
        let lost = "acknowledged c at offset 2 is lost; there is None";
        assert_eq!(judged(&[(0, "a"), (1, "b")], Kept), lost);
        let moved = "acknowledged c at offset 2 is lost; there is Some(\"b\")";
        assert_eq!(judged(&[(0, "a"), (1, "b"), (2, "b"), (3, "c")], Kept), moved);
    }

    #[test]
    fn a_lost_end_is_a_prefix_and_a_hole_is_not() {
        use Promise::KeepsPrefix as Prefix;
        assert_eq!(judged(&[], Prefix), "kept");
        assert_eq!(judged(&[(0, "a"), (1, "c")], Prefix), "kept");
        assert_eq!(judged(&[(0, "a")], Prefix), "kept");
        let hole = "life 1: a at offset 0 is lost, though a later one of it survived";
        assert_eq!(judged(&[(1, "b"), (2, "c")], Prefix), hole);
    }

    #[test]
    fn a_log_invents_repeats_reorders_and_skips_nothing() {
        use Promise::KeepsPrefix as Prefix;
        assert_eq!(judged(&[(0, "x")], Prefix), "x at offset 0 was never sent");
        assert_eq!(judged(&[(0, "a"), (2, "c")], Prefix), "offset 2 was read after offset 0");
        let order = "producer p: b is stored before a";
        assert_eq!(judged(&[(0, "b"), (1, "a")], Prefix), order);
        let mut refused = history();
        refused.sending("r");
        refused.refused("r");
        let verdict = refused.check(&read(&[(0, "a"), (1, "r")]), Prefix, false);
        assert!(matches!(verdict, Err(Violation::Refused { offset: 1, .. })));
        let twice = "a was sent 1 times and stored 2 times";
        assert_eq!(judged(&[(0, "a"), (1, "a")], Prefix), twice);
        let idempotent = history().check(&read(&[(0, "a"), (1, "b"), (2, "b")]), Prefix, true);
        assert!(matches!(idempotent, Err(Violation::Duplicated { stored: 2, .. })));
    }
}
