//! What a client sees of its session.

use bytes::Bytes;
use ottla_protocol::fetch::{FetchTopic, ForgottenTopic};

use super::*;

const NOW: Monotonic = Monotonic(Duration::ZERO);

fn topic() -> TopicRef {
    TopicRef::Name("events".into())
}

fn request(session_id: i32, session_epoch: i32, partitions: &[i32]) -> FetchRequest {
    let partitions =
        partitions.iter().map(|&partition| FetchPartition { partition, ..Default::default() });
    let topics = vec![FetchTopic { topic: topic(), partitions: partitions.collect() }];
    FetchRequest { session_id, session_epoch, topics, ..Default::default() }
}

fn ids() -> impl FnMut() -> u64 {
    let mut next = 0;
    move || {
        next += 1;
        next << 33
    }
}

/// Answers each partition of the context with a high watermark and some records.
fn answer(
    context: &FetchContext,
    high_watermark: i64,
    records: &[i32],
) -> Vec<(TopicRef, PartitionData<Bytes>)> {
    let data = |fetch: &FetchPartition| {
        let mut data = PartitionData::failed(fetch.partition, ErrorCode::None);
        data.high_watermark = Offset(high_watermark);
        if records.contains(&fetch.partition) {
            data.records = Bytes::from_static(b"records");
        }
        data
    };
    context.partitions.iter().map(|(topic, fetch)| (topic.clone(), data(fetch))).collect()
}

fn told(answers: &[(TopicRef, PartitionData<Bytes>)]) -> Vec<i32> {
    answers.iter().map(|(_, data)| data.partition_index).collect()
}

fn order(context: &FetchContext) -> Vec<i32> {
    context.partitions.iter().map(|(_, fetch)| fetch.partition).collect()
}

#[test]
fn a_followers_session_looks_only_at_what_has_news() {
    let sessions = FetchSessions::new(10);
    let begin = |id, epoch, partitions: &[i32]| {
        let asked = request(id, epoch, partitions);
        let asked = FetchRequest { replica_id: ottla_protocol::BrokerId(2), ..asked };
        sessions.begin(&asked, NOW, ids()).unwrap()
    };
    let full = begin(0, 0, &[0, 1, 2]);
    assert_eq!(order(&full), [0, 1, 2]);
    let answers = answer(&full, 5, &[1]);
    // A limit kept records of 2 back; and whoever was sent records may ask from the same place again.
    let (id, _) = sessions.finish(full, answers, |_, fetch| fetch.partition == 2);
    let more = begin(id, 1, &[]);
    assert_eq!(order(&more), [2, 1], "those behind a busy one have their turn");
    let answers = answer(&more, 5, &[]);
    sessions.finish(more, answers, |_, _| false);
    let idle = begin(id, 2, &[]);
    assert!(idle.partitions.is_empty() && idle.changes.is_some());
    assert_eq!(order(&begin(id, 3, &[0])), [0], "it is asked for from another place");
}

#[test]
fn news_that_come_while_a_follower_waits_are_looked_at_once() {
    let sessions = FetchSessions::new(10);
    let begin = |id, epoch, partitions: &[i32]| {
        let asked = request(id, epoch, partitions);
        let asked = FetchRequest { replica_id: ottla_protocol::BrokerId(2), ..asked };
        sessions.begin(&asked, NOW, ids()).unwrap()
    };
    let mut full = begin(0, 0, &[0, 1, 2, 3]);
    let changes = full.changes.clone().unwrap();
    changes.mark(2);
    sessions.refresh(&mut full);
    assert_eq!(order(&full), [0, 1, 2, 3], "all of them are looked at by now");
    let answers = answer(&full, 5, &[1]);
    let (id, _) = sessions.finish(full, answers, |_, _| false);
    let mut waiting = begin(id, 1, &[]);
    assert_eq!(order(&waiting), [1]);
    [0, 1, 3].into_iter().for_each(|number| changes.mark(number));
    sessions.refresh(&mut waiting);
    assert_eq!(order(&waiting), [1, 3, 0]);
    [0, 2].into_iter().for_each(|number| changes.mark(number));
    sessions.refresh(&mut waiting);
    assert_eq!(order(&waiting), [1, 3, 0, 2]);
}

#[test]
fn only_news_is_repeated() {
    let sessions = FetchSessions::new(10);
    let full = sessions.begin(&request(0, 0, &[0, 1, 2]), NOW, ids()).unwrap();
    let answers = answer(&full, 5, &[]);
    let (id, answers) = sessions.finish(full, answers, |_, _| false);
    assert_eq!(told(&answers), [0, 1, 2]);

    let quiet = sessions.begin(&request(id, 1, &[]), NOW, ids()).unwrap();
    let answers = answer(&quiet, 5, &[]);
    assert!(sessions.finish(quiet, answers, |_, _| false).1.is_empty());

    let busy = sessions.begin(&request(id, 2, &[]), NOW, ids()).unwrap();
    let answers = answer(&busy, 5, &[1]);
    assert_eq!(told(&sessions.finish(busy, answers, |_, _| false).1), [1]);

    let moved = sessions.begin(&request(id, 3, &[]), NOW, ids()).unwrap();
    let answers = answer(&moved, 6, &[]);
    assert_eq!(told(&sessions.finish(moved, answers, |_, _| false).1).len(), 3);
}

#[test]
fn a_partition_with_an_error_is_told_again() {
    let sessions = FetchSessions::new(10);
    let full = sessions.begin(&request(0, 0, &[0]), NOW, ids()).unwrap();
    let failed = vec![(topic(), PartitionData::<Bytes>::failed(0, ErrorCode::KafkaStorageError))];
    let (id, _) = sessions.finish(full, failed, |_, _| false);
    let recovered = sessions.begin(&request(id, 1, &[]), NOW, ids()).unwrap();
    let answers = answer(&recovered, 0, &[]);
    assert_eq!(told(&sessions.finish(recovered, answers, |_, _| false).1), [0]);
}

#[test]
fn a_wrong_epoch_or_an_unknown_session_is_refused() {
    let sessions = FetchSessions::new(10);
    let full = sessions.begin(&request(0, 0, &[0]), NOW, ids()).unwrap();
    let refused = |id, epoch| sessions.begin(&request(id, epoch, &[]), NOW, ids()).err().unwrap();
    assert_eq!(refused(full.session_id, 2), ErrorCode::InvalidFetchSessionEpoch);
    assert_eq!(refused(full.session_id + 1, 1), ErrorCode::FetchSessionIdNotFound);
}

#[test]
fn epochs_wrap_to_one() {
    let sessions = FetchSessions::new(10);
    let full = sessions.begin(&request(0, 0, &[0]), NOW, ids()).unwrap();
    let id = full.session_id;
    sessions.sessions.lock().get_mut(&id).unwrap().epoch = i32::MAX;
    sessions.begin(&request(id, i32::MAX, &[]), NOW, ids()).unwrap();
    sessions.begin(&request(id, 1, &[]), NOW, ids()).unwrap();
}

#[test]
fn partitions_come_and_go_and_the_last_one_takes_the_session_along() {
    let sessions = FetchSessions::new(10);
    let full = sessions.begin(&request(0, 0, &[0]), NOW, ids()).unwrap();
    let id = full.session_id;
    let more = sessions.begin(&request(id, 1, &[1]), NOW, ids()).unwrap();
    assert_eq!(order(&more), [0, 1]);
    let mut forget = request(id, 2, &[]);
    forget.forgotten_topics = vec![ForgottenTopic { topic: topic(), partitions: vec![0, 1] }];
    let empty = sessions.begin(&forget, NOW, ids()).unwrap();
    assert_eq!(empty.session_id, NO_SESSION);
    assert!(sessions.sessions.lock().is_empty());
}

#[test]
fn the_partition_behind_a_busy_one_has_its_turn() {
    let sessions = FetchSessions::new(10);
    let full = sessions.begin(&request(0, 0, &[0, 1, 2]), NOW, ids()).unwrap();
    let answers = answer(&full, 5, &[0]);
    let (id, _) = sessions.finish(full, answers, |_, _| false);
    let next = sessions.begin(&request(id, 1, &[]), NOW, ids()).unwrap();
    assert_eq!(order(&next), [1, 2, 0]);
}

#[test]
fn a_full_cache_evicts_only_what_is_long_unused() {
    let sessions = FetchSessions::new(1);
    let mut ids = ids();
    let first = sessions.begin(&request(0, 0, &[0]), NOW, &mut ids).unwrap();
    let second = sessions.begin(&request(0, 0, &[0]), NOW, &mut ids).unwrap();
    assert_ne!(first.session_id, NO_SESSION);
    assert_eq!(second.session_id, NO_SESSION);
    let later = NOW + EVICTABLE_AFTER;
    let third = sessions.begin(&request(0, 0, &[0]), later, &mut ids).unwrap();
    assert_ne!(third.session_id, NO_SESSION);
    assert_eq!(sessions.sessions.lock().len(), 1);
}

#[test]
fn followers_take_the_place_of_what_is_long_unused_first_and_then_of_consumers() {
    let sessions = FetchSessions::new(3);
    let mut ids = ids();
    let mut begin = |replica: i32, id, epoch, now| {
        let asked = request(id, epoch, if epoch == 0 { &[0] } else { &[] });
        let asked = FetchRequest { replica_id: ottla_protocol::BrokerId(replica), ..asked };
        sessions.begin(&asked, now, &mut ids).map(|context| context.session_id)
    };
    let later = NOW + EVICTABLE_AFTER;
    let dead = begin(2, 0, 0, NOW).unwrap();
    let consumer = begin(-1, 0, 0, NOW).unwrap();
    let follower = begin(3, 0, 0, NOW).unwrap();
    assert_eq!(begin(3, follower, 1, later), Ok(follower));
    assert_eq!(begin(-1, consumer, 1, later), Ok(consumer));
    // The session of a follower that is not there any more, and not that of a consumer who is.
    let second = begin(4, 0, 0, later).unwrap();
    assert_ne!(second, NO_SESSION);
    assert_eq!(begin(2, dead, 1, later), Err(ErrorCode::FetchSessionIdNotFound));
    assert_eq!(begin(-1, consumer, 2, later), Ok(consumer));
    // Nothing is unused: the consumer can do without.
    let third = begin(5, 0, 0, later).unwrap();
    assert_ne!(third, NO_SESSION);
    assert_eq!(begin(-1, consumer, 3, later), Err(ErrorCode::FetchSessionIdNotFound));
    // Followers that are there leave no place, to anybody.
    assert_eq!(begin(6, 0, 0, later), Ok(NO_SESSION));
    assert_eq!(begin(-1, 0, 0, later), Ok(NO_SESSION));
    for (follower, id, epoch) in [(3, follower, 2), (4, second, 1), (5, third, 1)] {
        assert_eq!(begin(follower, id, epoch, later), Ok(id));
    }
    // All slots are of followers that are dead by now.
    assert_ne!(begin(6, 0, 0, later + EVICTABLE_AFTER), Ok(NO_SESSION));
}

#[test]
fn a_session_names_topics_one_way() {
    let sessions = FetchSessions::new(10);
    let full = sessions.begin(&request(0, 0, &[0]), NOW, ids()).unwrap();
    let mut by_id = request(full.session_id, 1, &[0]);
    by_id.topics[0].topic = TopicRef::Id(ottla_protocol::TopicId::ZERO);
    let refused = sessions.begin(&by_id, NOW, ids()).err().unwrap();
    assert_eq!(refused, ErrorCode::FetchSessionTopicIdError);
}

#[test]
fn a_partition_named_twice_is_read_once() {
    let sessions = FetchSessions::new(10);
    let mut twice = request(0, FetchMetadata::FINAL_EPOCH, &[1, 0, 1]);
    twice.topics[0].partitions[2].fetch_offset = Offset(7);
    let context = sessions.begin(&twice, NOW, ids()).unwrap();
    assert_eq!(order(&context), [1, 0]);
    assert_eq!(context.partitions[0].1.fetch_offset, Offset(7));
}
