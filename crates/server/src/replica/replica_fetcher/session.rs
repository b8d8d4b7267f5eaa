//! The follower's half of an incremental fetch session (KIP-227): says what changed since the last request. Its cost grows with
//! what changed, not with what is followed.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::fetch::{FetchMetadata, FetchPartition, FetchRequest};
use ottla_protocol::{ErrorCode, TopicRef};

use super::Key;

/// A session with one leader. Kafka's `FetchSessionHandler`.
#[derive(Debug, Default)]
pub(super) struct FetchSession {
    metadata: FetchMetadata,
    /// The broker's epoch that the last request named (KIP-903).
    replica_epoch: i64,
    /// What the leader was asked for last, of each partition in the session.
    asked: BTreeMap<Key, FetchPartition>,
    /// Partitions that may have to be said anew.
    changed: BTreeSet<Key>,
}

impl FetchSession {
    /// What is wanted of a partition may have changed, or nothing is wanted of it any more.
    pub(super) fn changed(&mut self, key: Key) {
        self.changed.insert(key);
    }

    /// Whether the leader is asked for anything.
    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// Fills in what changed; `wanted` answers what is wanted of a partition now, if anything.
    pub(super) fn fill(
        &mut self,
        request: &mut FetchRequest,
        wanted: impl Fn(&Key) -> Option<FetchPartition>,
    ) {
        if std::mem::replace(&mut self.replica_epoch, request.replica_epoch)
            != request.replica_epoch
        {
            // The leader notes it of partitions that are said, and lets none into an ISR that it knows by an earlier epoch.
            self.restart();
        }
        self.metadata.stamp(request);
        if self.metadata.is_full() {
            self.changed.extend(std::mem::take(&mut self.asked).into_keys());
        }
        for key in std::mem::take(&mut self.changed) {
            match wanted(&key) {
                Some(row) if self.asked.get(&key) == Some(&row) => {}
                Some(row) => {
                    request.add(TopicRef::Id(key.0), row.clone());
                    self.asked.insert(key, row);
                }
                None if self.asked.remove(&key).is_some() => {
                    request.forget(TopicRef::Id(key.0), key.1);
                }
                None => {}
            }
        }
    }

    /// What a partition was asked for when the answer that is read now was asked for.
    pub(super) fn asked(&self, key: &Key) -> Option<&FetchPartition> {
        self.asked.get(key)
    }

    /// A response came. Whether it may be used; if not, the next request begins anew.
    pub(super) fn answered(&mut self, error: ErrorCode, session_id: i32) -> bool {
        self.metadata.answered(error, session_id)
    }

    /// Begins anew with the next request, which also ends the old session.
    pub(super) fn restart(&mut self) {
        self.metadata.restart();
    }
}

#[cfg(test)]
mod tests {
    use ottla_protocol::{Offset, Uuid};

    use super::*;

    const TOPIC: Uuid = Uuid::from_bytes([7; 16]);

    fn row(index: i32, offset: i64) -> FetchPartition {
        let fetch_offset = Offset(offset);
        FetchPartition { partition: index, fetch_offset, ..FetchPartition::default() }
    }

    /// Session epoch, partitions and offsets, forgotten partitions.
    fn ask(
        session: &mut FetchSession,
        wanted: &BTreeMap<i32, i64>,
    ) -> (i32, Vec<(i32, i64)>, Vec<i32>) {
        let mut request = FetchRequest::default();
        session.fill(&mut request, |(_, index)| wanted.get(index).map(|it| row(*index, *it)));
        let rows = request.topics.iter().flat_map(|topic| &topic.partitions);
        let forgotten = request.forgotten_topics.iter().flat_map(|topic| &topic.partitions);
        (
            request.session_epoch,
            rows.map(|row| (row.partition, row.fetch_offset.0)).collect(),
            forgotten.copied().collect(),
        )
    }

    #[test]
    fn only_what_changed_is_said() {
        let mut session = FetchSession::default();
        let mut wanted = BTreeMap::from([(0, 10), (1, 20)]);
        (0..2).for_each(|index| session.changed((TOPIC, index)));
        assert_eq!(ask(&mut session, &wanted), (0, vec![(0, 10), (1, 20)], vec![]));
        assert!(session.answered(ErrorCode::None, 5));
        assert_eq!(ask(&mut session, &wanted), (1, vec![], vec![]));
        assert!(session.answered(ErrorCode::None, 5));
        wanted.insert(1, 25);
        (0..2).for_each(|index| session.changed((TOPIC, index)));
        assert_eq!(ask(&mut session, &wanted), (2, vec![(1, 25)], vec![]));
        assert!(session.answered(ErrorCode::None, 5));
        wanted.remove(&0);
        session.changed((TOPIC, 0));
        assert_eq!(ask(&mut session, &wanted), (3, vec![], vec![0]));
    }

    #[test]
    fn a_session_that_is_lost_begins_anew_with_everything() {
        let mut session = FetchSession::default();
        let wanted = BTreeMap::from([(0, 10), (1, 20)]);
        (0..2).for_each(|index| session.changed((TOPIC, index)));
        ask(&mut session, &wanted);
        session.answered(ErrorCode::None, 5);
        ask(&mut session, &wanted);
        assert!(!session.answered(ErrorCode::FetchSessionIdNotFound, 0));
        assert_eq!(ask(&mut session, &wanted), (0, vec![(0, 10), (1, 20)], vec![]));
        assert!(session.answered(ErrorCode::None, 0), "no room for a session");
        assert_eq!(ask(&mut session, &wanted), (0, vec![(0, 10), (1, 20)], vec![]));
    }
}
