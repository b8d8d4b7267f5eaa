//! The consumer's half of an incremental fetch session (KIP-227): says what changed since the
//! last request. Pure. Kafka: `FetchSessionHandler`.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::fetch::{FetchMetadata, FetchPartition, FetchRequest};
use ottla_protocol::{ErrorCode, LeaderEpoch, Offset, StrBytes, TopicId, TopicPartition, TopicRef};

/// What is wanted of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) topic_id: TopicId,
    pub(super) offset: Offset,
    /// The epoch of the record before `offset`, or -1. Not sent, but kept for what comes back.
    pub(super) epoch: LeaderEpoch,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) max_bytes: i32,
}

/// A session with one broker.
#[derive(Debug, Default)]
pub(super) struct FetchSession {
    metadata: FetchMetadata,
    by_id: bool,
    partitions: BTreeMap<TopicPartition, Wanted>,
    names: BTreeMap<TopicRef, Arc<str>>,
}

impl FetchSession {
    /// Turns `request` into one for exactly `wanted`. Topics are named by id from version 13 on.
    pub(super) fn fill(
        &mut self,
        request: &mut FetchRequest,
        wanted: &BTreeMap<TopicPartition, Wanted>,
        by_id: bool,
    ) {
        if by_id != self.by_id {
            self.restart();
            self.by_id = by_id;
        }
        self.metadata.stamp(request);
        if self.metadata.is_full() {
            self.partitions.clear();
            self.names.clear();
        }
        let gone = |(it, known): &(&TopicPartition, &Wanted)| {
            wanted.get(*it).is_none_or(|now| now.topic_id != known.topic_id)
        };
        let forgotten: Vec<_> =
            self.partitions.iter().filter(gone).map(|(it, known)| (it.clone(), *known)).collect();
        for (partition, known) in forgotten {
            self.partitions.remove(&partition);
            let topic = self.topic_ref(&partition, &known);
            request.forget(topic, partition.partition);
        }
        for (partition, wanted) in wanted {
            if self.partitions.get(partition) != Some(wanted) {
                self.partitions.insert(partition.clone(), *wanted);
                self.add(request, partition, wanted);
            }
        }
    }

    fn add(&mut self, request: &mut FetchRequest, partition: &TopicPartition, wanted: &Wanted) {
        let topic = self.topic_ref(partition, wanted);
        let row = FetchPartition {
            partition: partition.partition,
            current_leader_epoch: wanted.leader_epoch,
            fetch_offset: wanted.offset,
            partition_max_bytes: wanted.max_bytes,
            ..FetchPartition::default()
        };
        self.names.entry(topic.clone()).or_insert_with(|| Arc::clone(&partition.topic));
        request.add(topic, row);
    }

    fn topic_ref(&self, partition: &TopicPartition, wanted: &Wanted) -> TopicRef {
        match self.by_id {
            true => TopicRef::Id(wanted.topic_id),
            false => TopicRef::Name(StrBytes::from(&*partition.topic)),
        }
    }

    /// A response came. Whether it may be used; if not, the next request begins anew.
    pub(super) fn answered(&mut self, code: ErrorCode, session_id: i32) -> bool {
        self.metadata.answered(code, session_id)
    }

    /// Begins anew with the next request, which also ends the old session.
    pub(super) fn restart(&mut self) {
        self.metadata.restart();
    }

    /// The name of the topic that a response calls `topic`.
    pub(super) fn name(&self, topic: &TopicRef) -> Option<Arc<str>> {
        self.names.get(topic).cloned()
    }

    /// The request that ends the session, if there is one.
    pub(super) fn end(&self) -> Option<FetchRequest> {
        let mut request = FetchRequest::default();
        self.metadata.close()?.stamp(&mut request);
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(offset: i64) -> Wanted {
        Wanted {
            topic_id: TopicId::from_bytes([7; 16]),
            offset: Offset(offset),
            epoch: LeaderEpoch::NONE,
            leader_epoch: LeaderEpoch(2),
            max_bytes: 100,
        }
    }

    fn map(rows: &[(i32, i64)]) -> BTreeMap<TopicPartition, Wanted> {
        let row =
            |(number, offset): &(i32, i64)| (TopicPartition::new("t", *number), wanted(*offset));
        rows.iter().map(row).collect()
    }

    /// `session/epoch +partition@offset -partition`.
    fn ask(session: &mut FetchSession, rows: &[(i32, i64)]) -> String {
        let mut request = FetchRequest::default();
        session.fill(&mut request, &map(rows), true);
        let mut text = format!("{}/{}", request.session_id, request.session_epoch);
        for row in request.topics.iter().flat_map(|topic| &topic.partitions) {
            text += &format!(" +{}@{}", row.partition, row.fetch_offset);
        }
        for number in request.forgotten_topics.iter().flat_map(|topic| &topic.partitions) {
            text += &format!(" -{number}");
        }
        text
    }

    #[test]
    fn only_what_changed_is_said() {
        let mut session = FetchSession::default();
        assert_eq!(ask(&mut session, &[(0, 5), (1, 6)]), "0/0 +0@5 +1@6");
        assert!(session.answered(ErrorCode::None, 9));
        assert_eq!(ask(&mut session, &[(0, 5), (1, 7)]), "9/1 +1@7");
        assert!(session.answered(ErrorCode::None, 9));
        assert_eq!(ask(&mut session, &[(1, 7), (2, 0)]), "9/2 +2@0 -0");
        assert!(session.answered(ErrorCode::None, 9));
        assert_eq!(ask(&mut session, &[(1, 7), (2, 0)]), "9/3");
        assert_eq!(session.name(&TopicRef::Id(TopicId::from_bytes([7; 16]))).as_deref(), Some("t"));
    }

    #[test]
    fn a_session_that_is_gone_begins_anew_and_ends_the_old_one() {
        let mut session = FetchSession::default();
        ask(&mut session, &[(0, 5)]);
        session.answered(ErrorCode::None, 9);
        ask(&mut session, &[(0, 6)]);
        assert!(!session.answered(ErrorCode::FetchSessionIdNotFound, 0));
        assert_eq!(ask(&mut session, &[(0, 6)]), "9/0 +0@6");
    }

    #[test]
    fn without_room_for_a_session_everything_is_said_each_time() {
        let mut session = FetchSession::default();
        ask(&mut session, &[(0, 5)]);
        assert!(session.answered(ErrorCode::None, 0));
        assert_eq!(ask(&mut session, &[(0, 5)]), "0/0 +0@5");
        assert_eq!(session.end(), None);
    }

    #[test]
    fn a_topic_that_was_made_anew_is_another() {
        let mut session = FetchSession::default();
        ask(&mut session, &[(0, 5)]);
        session.answered(ErrorCode::None, 9);
        let mut rows = map(&[(0, 5)]);
        for row in rows.values_mut() {
            row.topic_id = TopicId::from_bytes([8; 16]);
        }
        let mut request = FetchRequest::default();
        session.fill(&mut request, &rows, true);
        assert_eq!(request.forgotten_topics[0].topic, TopicRef::Id(TopicId::from_bytes([7; 16])));
        assert_eq!(request.topics[0].topic, TopicRef::Id(TopicId::from_bytes([8; 16])));
    }
}
