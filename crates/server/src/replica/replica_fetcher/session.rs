//! The follower's half of an incremental fetch session (KIP-227): says what changed since the last request. Its cost grows with
//! what changed, not with what is followed.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::fetch::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use ottla_protocol::{ErrorCode, TopicRef};

use super::Key;

/// A session with one leader. Kafka's `FetchSessionHandler`.
#[derive(Debug, Default)]
pub(super) struct FetchSession {
    id: i32,
    /// That of the next request; 0 asks for a new session.
    epoch: i32,
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
        (request.session_id, request.session_epoch) = (self.id, self.epoch);
        let is_new = self.epoch == 0;
        if is_new {
            self.changed.extend(std::mem::take(&mut self.asked).into_keys());
        }
        for key in std::mem::take(&mut self.changed) {
            match wanted(&key) {
                Some(row) if self.asked.get(&key) == Some(&row) => {}
                Some(row) => {
                    add(&mut request.topics, key, row.clone());
                    self.asked.insert(key, row);
                }
                None if self.asked.remove(&key).is_some() => {
                    forget(&mut request.forgotten_topics, key);
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
        if error != ErrorCode::None {
            // The leader has forgotten the session, or is at another place in it.
            self.restart();
            return false;
        }
        if session_id == 0 {
            // The leader has no room for a session: everything is said each time.
            self.restart();
            self.id = 0;
        } else {
            self.id = session_id;
            self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
        }
        true
    }

    /// Begins anew with the next request, which also ends the old session.
    pub(super) fn restart(&mut self) {
        self.epoch = 0;
    }
}

fn add(topics: &mut Vec<FetchTopic>, (topic, _): Key, row: FetchPartition) {
    let topic = TopicRef::Id(topic);
    match topics.last_mut().filter(|last| last.topic == topic) {
        Some(last) => last.partitions.push(row),
        None => topics.push(FetchTopic { topic, partitions: vec![row] }),
    }
}

fn forget(topics: &mut Vec<ForgottenTopic>, (topic, index): Key) {
    let topic = TopicRef::Id(topic);
    match topics.last_mut().filter(|last| last.topic == topic) {
        Some(last) => last.partitions.push(index),
        None => topics.push(ForgottenTopic { topic, partitions: vec![index] }),
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
