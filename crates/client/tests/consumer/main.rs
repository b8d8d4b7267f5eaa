//! A consumer, and a producer, against brokers that are old, that move, that cut their logs, that send them elsewhere, or are silent.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod administrators;
mod broker;
mod incarnations;
mod rebalances;
mod silence;
mod spawned;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker::{Asked, Brokers, TOPIC, fetched, nothing_fetched, records, refused};
use ottla_client::{
    Admin, AutoOffsetReset, Client, ClientError, CommittedOffset, CommonClientConfig,
    ConnectionOptions, Consumer, ConsumerError, ConsumerOptions, OffsetAndMetadata,
};
use ottla_env::Env;
use ottla_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use ottla_protocol::messages::offset_fetch_response::{
    OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use ottla_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use ottla_protocol::messages::{
    OffsetCommitResponse, OffsetFetchResponse, OffsetForLeaderEpochResponse,
};
use ottla_protocol::{
    ApiKey, BrokerId, ErrorCode, LeaderEpoch, Offset, Request, Response, StrBytes, TopicPartition,
    message,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// What a test notes of the requests.
type Notes = Arc<Mutex<Vec<String>>>;

async fn consumer(brokers: &Brokers, options: ConsumerOptions) -> Consumer {
    let connection = ConnectionOptions {
        retry_backoff: Duration::from_millis(5),
        ..ConnectionOptions::default()
    };
    let client = Client::connect(&Env::os(), vec![brokers.address()], connection).await.unwrap();
    Consumer::new(client, options)
}

fn t0() -> TopicPartition {
    TopicPartition::new(TOPIC, 0)
}

/// The offset that a Fetch asks for, if it names the partition.
fn fetch_offset(asked: &Asked) -> Option<i64> {
    let Request::Fetch(fetch) = &asked.request else { return None };
    Some(fetch.topics.first()?.partitions.first()?.fetch_offset.0)
}

async fn next_offset(consumer: &mut Consumer) -> i64 {
    Env::os().timeout(PATIENCE, consumer.recv()).await.unwrap().unwrap().offset.0
}

#[tokio::test]
async fn an_old_broker_is_spoken_to_in_its_versions_and_a_coordinator_that_moves_is_found_again() {
    let old = [
        (ApiKey::FindCoordinator, 3),
        (ApiKey::OffsetFetch, 5),
        (ApiKey::OffsetCommit, 5),
        (ApiKey::Fetch, 4),
        (ApiKey::Metadata, 5),
    ];
    let notes = Notes::default();
    let (noted, mut commits) = (Arc::clone(&notes), 0);
    let brokers = Brokers::start(&old, move |asked| {
        #[allow(clippy::wildcard_enum_match_arm, reason = "the rest is as usual")]
        match &asked.request {
            Request::FindCoordinator(_) => {
                noted.lock().unwrap().push(format!("find v{}", asked.version));
                None
            }
            Request::OffsetFetch(request) => {
                let group = request.group_id.as_str();
                noted.lock().unwrap().push(format!("committed of {group}?"));
                Some(five_committed(-1))
            }
            Request::OffsetCommit(request) => {
                commits += 1;
                let code = if commits == 1 { ErrorCode::NotCoordinator } else { ErrorCode::None };
                let offset = request.topics[0].partitions[0].committed_offset;
                noted.lock().unwrap().push(format!("commit {offset}: {}", code.name()));
                Some(committed(code))
            }
            Request::Fetch(_) if fetch_offset(asked) == Some(5) => {
                Some(fetched(asked.version, records(0, 5..7)))
            }
            _ => None,
        }
    });
    let options = ConsumerOptions { auto_commit: false, ..ConsumerOptions::in_group("g") };
    let mut consumer = consumer(&brokers.await, options).await;
    consumer.assign([t0()]).unwrap();
    assert_eq!(next_offset(&mut consumer).await, 5);
    consumer.commit().await.unwrap();
    let expected =
        ["find v3", "committed of g?", "commit 6: NOT_COORDINATOR", "find v3", "commit 6: NONE"];
    assert_eq!(*notes.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_later_commit_does_not_overtake_one_that_is_tried_again() {
    let notes = Notes::default();
    let noted = Arc::clone(&notes);
    let brokers = Brokers::start(&[], move |asked| {
        let Request::OffsetCommit(request) = &asked.request else { return None };
        let mut noted = noted.lock().unwrap();
        let code = match noted.len() {
            0 => ErrorCode::CoordinatorLoadInProgress,
            _ => ErrorCode::None,
        };
        let offset = request.topics[0].partitions[0].committed_offset;
        noted.push(format!("commit {offset}: {}", code.name()));
        Some(committed(code))
    });
    let options = ConsumerOptions { auto_commit: false, ..ConsumerOptions::in_group("g") };
    let mut consumer = consumer(&brokers.await, options).await;
    let at = |offset| BTreeMap::from([(t0(), OffsetAndMetadata::new(Offset(offset)))]);
    consumer.commit_async(Some(at(1)), |done| done.unwrap()).unwrap();
    consumer.commit_offsets(at(2)).await.unwrap();
    let expected = ["commit 1: COORDINATOR_LOAD_IN_PROGRESS", "commit 1: NONE", "commit 2: NONE"];
    assert_eq!(*notes.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_member_that_has_no_place_in_its_group_commits_nothing() {
    let brokers = Brokers::start(&[], |_| None).await;
    brokers.owe(1, ApiKey::JoinGroup);
    let options = ConsumerOptions { auto_commit: false, ..ConsumerOptions::in_group("g") };
    let mut consumer = consumer(&brokers, options).await;
    consumer.subscribe([TOPIC]).unwrap();
    let at = |offset| BTreeMap::from([(t0(), OffsetAndMetadata::new(Offset(offset)))]);
    // As a member of none, a group without members would take it: this broker, for one, has no word for an OffsetCommit.
    let refused = consumer.commit_offsets(at(1)).await.unwrap_err();
    assert!(
        matches!(refused, ConsumerError::CommitFailed(ErrorCode::UnknownMemberId)),
        "{refused}"
    );
    while !brokers.owes(1, ApiKey::JoinGroup) {
        consumer.poll(Duration::from_millis(5)).await.unwrap();
    }
    let refused = consumer.commit_offsets(at(1)).await.unwrap_err();
    assert!(matches!(refused, ConsumerError::RebalanceInProgress), "{refused}");
}

#[tokio::test]
async fn a_commit_that_was_given_up_is_not_sent_later() {
    let notes = Notes::default();
    let noted = Arc::clone(&notes);
    let brokers = Brokers::start(&[], move |asked| {
        let Request::OffsetCommit(request) = &asked.request else { return None };
        let offset = request.topics[0].partitions[0].committed_offset;
        noted.lock().unwrap().push(format!("commit {offset}"));
        Some(committed(ErrorCode::None))
    })
    .await;
    let options = ConsumerOptions {
        auto_commit: false,
        default_api_timeout: Duration::from_millis(50),
        ..ConsumerOptions::in_group("g")
    };
    let mut consumer = consumer(&brokers, options).await;
    let at = |offset| BTreeMap::from([(t0(), OffsetAndMetadata::new(Offset(offset)))]);
    for node in [1, 2] {
        brokers.owe(node, ApiKey::FindCoordinator);
    }
    consumer.commit_offsets(at(1)).await.unwrap_err();
    for node in [1, 2] {
        brokers.pay(node, ApiKey::FindCoordinator);
    }
    // However often it is tried: what was given up must not come in between.
    while consumer.commit_offsets(at(2)).await.is_err() {}
    assert_eq!(notes.lock().unwrap().first().map(String::as_str), Some("commit 2"));
    consumer.commit_offsets(at(3)).await.unwrap();
    assert!(!notes.lock().unwrap().contains(&"commit 1".to_owned()));
}

fn committed(code: ErrorCode) -> Response {
    let row = message!(OffsetCommitResponsePartition { error_code: code.code() });
    let topic =
        message!(OffsetCommitResponseTopic { name: StrBytes::from(TOPIC), partitions: vec![row] });
    message!(OffsetCommitResponse { topics: vec![topic] }).into()
}

/// The answer of a broker of then to whoever asks what is committed: offset 5, after a record of this leader epoch.
fn five_committed(leader_epoch: i32) -> Response {
    let row = message!(OffsetFetchResponsePartition {
        committed_offset: 5,
        committed_leader_epoch: leader_epoch,
    });
    let topic =
        message!(OffsetFetchResponseTopic { name: StrBytes::from(TOPIC), partitions: vec![row] });
    message!(OffsetFetchResponse { topics: vec![topic] }).into()
}

/// Commits as an administrator while the coordinator says `codes`, one after the other; what that comes to.
async fn altered_while(codes: &'static [ErrorCode]) -> Result<(), ClientError> {
    let mut codes = codes.iter();
    let brokers = Brokers::start(&[], move |asked| {
        let Request::OffsetCommit(_) = &asked.request else { return None };
        Some(committed(codes.next().copied().unwrap_or(ErrorCode::None)))
    });
    let address = brokers.await.address();
    let given = [("bootstrap.servers", &*address), ("retry.backoff.ms", "5")];
    let (config, _warnings) = CommonClientConfig::from_properties(given).unwrap();
    let admin = Admin::connect(&Env::os(), &config).await.unwrap();
    let offsets = BTreeMap::from([(t0(), CommittedOffset::at(Offset(7)))]);
    let altering = Box::pin(admin.alter_group_offsets("g", &offsets));
    let mut answers = Env::os().timeout(PATIENCE, altering).await.unwrap().unwrap();
    answers.remove(&t0()).unwrap()
}

#[tokio::test]
async fn offsets_are_altered_once_the_coordinator_has_loaded_and_is_found() {
    let unready = &[ErrorCode::CoordinatorLoadInProgress, ErrorCode::NotCoordinator];
    altered_while(unready).await.unwrap();
    // The partition's own trouble is told, however it would come out later.
    let refused = altered_while(&[ErrorCode::UnknownTopicOrPartition]).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::UnknownTopicOrPartition));
}

fn end_of_epoch_1(end_offset: i64) -> Response {
    let row = message!(EpochEndOffset { leader_epoch: 1, end_offset: end_offset });
    let topic = StrBytes::from(TOPIC);
    let topic = message!(OffsetForLeaderTopicResult { topic: topic, partitions: vec![row] });
    message!(OffsetForLeaderEpochResponse { topics: vec![topic] }).into()
}

/// A consumer that has read the records 0 to 9 of epoch 1 from a log that then is cut at 4, and a
/// leader of epoch 2 that has records from there on.
async fn after_a_truncation(reset: AutoOffsetReset) -> (Consumer, Notes) {
    let notes = Notes::default();
    let noted = Arc::clone(&notes);
    let brokers = Brokers::start(&[], move |asked| {
        if let Request::OffsetForLeaderEpoch(request) = &asked.request {
            let row = &request.topics[0].partitions[0];
            let text = format!("end of {} at {}?", row.leader_epoch, row.current_leader_epoch);
            noted.lock().unwrap().push(text);
            let end_offset = if row.current_leader_epoch == 2 { 4 } else { 10 };
            return Some(end_of_epoch_1(end_offset));
        }
        let Request::Fetch(fetch) = &asked.request else { return None };
        let row = fetch.topics.first()?.partitions.first()?;
        Some(match (row.current_leader_epoch, row.fetch_offset) {
            (LeaderEpoch(1), Offset(0)) => fetched(asked.version, records(1, 0..10)),
            (LeaderEpoch(1), _) => fetched(asked.version, refused(ErrorCode::FencedLeaderEpoch)),
            (LeaderEpoch(2), Offset(4)) => fetched(asked.version, records(2, 4..6)),
            _ => nothing_fetched().into(),
        })
    });
    let brokers = brokers.await;
    let options = ConsumerOptions { auto_offset_reset: reset, ..ConsumerOptions::default() };
    let mut consumer = consumer(&brokers, options).await;
    consumer.assign([t0()]).unwrap();
    consumer.seek(&t0(), Offset(0)).unwrap();
    for offset in 0..10 {
        assert_eq!(next_offset(&mut consumer).await, offset);
    }
    brokers.set_epoch(2);
    (consumer, notes)
}

#[tokio::test]
async fn a_log_that_was_cut_is_noticed_and_read_from_where_it_differs() {
    let (mut consumer, notes) = after_a_truncation(AutoOffsetReset::Earliest).await;
    assert_eq!(next_offset(&mut consumer).await, 4);
    assert!(notes.lock().unwrap().iter().any(|it| it == "end of 1 at 2?"));
}

#[tokio::test]
async fn a_log_that_was_cut_is_an_error_where_nothing_may_be_reset() {
    let (mut consumer, _) = after_a_truncation(AutoOffsetReset::None).await;
    let error = Env::os().timeout(PATIENCE, consumer.recv()).await.unwrap().unwrap_err();
    let cut = matches!(
        error,
        ConsumerError::LogTruncated { position: Offset(10), diverged_at: Offset(4), .. }
    );
    assert!(cut, "{error}");
    consumer.seek(&t0(), Offset(4)).unwrap();
    assert_eq!(next_offset(&mut consumer).await, 4);
}

#[tokio::test]
async fn a_new_leader_is_asked_again_where_reading_went_on_while_it_was_asked() {
    let notes = Notes::default();
    let noted = Arc::clone(&notes);
    let brokers = Brokers::start(&[], move |asked| {
        if let Request::OffsetForLeaderEpoch(request) = &asked.request {
            let row = &request.topics[0].partitions[0];
            noted.lock().unwrap().push(format!("end of {}?", row.leader_epoch));
            return Some(end_of_epoch_1(10));
        }
        let Request::Fetch(fetch) = &asked.request else { return None };
        let row = fetch.topics.first()?.partitions.first()?;
        Some(match (row.current_leader_epoch, row.fetch_offset) {
            (LeaderEpoch(1), Offset(0)) => fetched(asked.version, records(1, 0..10)),
            (LeaderEpoch(1), _) => fetched(asked.version, refused(ErrorCode::FencedLeaderEpoch)),
            (LeaderEpoch(2), Offset(10)) => fetched(asked.version, records(2, 10..12)),
            _ => nothing_fetched().into(),
        })
    })
    .await;
    let mut consumer = consumer(&brokers, ConsumerOptions::default()).await;
    consumer.assign([t0()]).unwrap();
    consumer.seek(&t0(), Offset(0)).unwrap();
    assert_eq!(next_offset(&mut consumer).await, 0);
    brokers.owe(1, ApiKey::OffsetForLeaderEpoch);
    brokers.set_epoch(2);
    // Nothing is handed out until the question is on its way.
    consumer.pause(&[t0()]).unwrap();
    while !brokers.owes(1, ApiKey::OffsetForLeaderEpoch) {
        assert!(consumer.poll(Duration::from_millis(5)).await.unwrap().is_empty());
    }
    consumer.resume(&[t0()]).unwrap();
    for offset in 1..10 {
        assert_eq!(next_offset(&mut consumer).await, offset);
    }
    brokers.pay(1, ApiKey::OffsetForLeaderEpoch);
    assert_eq!(next_offset(&mut consumer).await, 10);
    assert_eq!(*notes.lock().unwrap(), ["end of 1?", "end of 1?"]);
}

#[tokio::test]
async fn the_nearer_replica_is_read_from_until_it_lacks_something() {
    let notes = Notes::default();
    let noted = Arc::clone(&notes);
    let brokers = Brokers::start(&[], move |asked| {
        let Request::Fetch(request) = &asked.request else { return None };
        let offset = fetch_offset(asked)?;
        noted.lock().unwrap().push(format!("{}@{offset} {}", asked.node, request.rack_id));
        let data = match (asked.node, offset) {
            (1, 0) => {
                let mut data = refused(ErrorCode::None);
                data.preferred_read_replica = BrokerId(2);
                data
            }
            (2, 0) => records(1, 0..2),
            (2, 2) => refused(ErrorCode::OffsetOutOfRange),
            (1, 2) => records(1, 2..3),
            _ => return None,
        };
        Some(fetched(asked.version, data))
    });
    let options = ConsumerOptions { client_rack: "r".to_owned(), ..ConsumerOptions::default() };
    let mut consumer = consumer(&brokers.await, options).await;
    consumer.assign([t0()]).unwrap();
    consumer.seek(&t0(), Offset(0)).unwrap();
    for offset in 0..3 {
        assert_eq!(next_offset(&mut consumer).await, offset);
    }
    let notes = notes.lock().unwrap();
    assert_eq!(notes[..4], ["1@0 r", "2@0 r", "2@2 r", "1@2 r"]);
}

#[tokio::test]
async fn polls_that_are_dropped_lose_no_record() {
    let brokers = Brokers::start(&[], |asked| {
        let offset = fetch_offset(asked)?;
        (offset < 20).then(|| fetched(asked.version, records(1, offset..offset + 1)))
    });
    let mut consumer = consumer(&brokers.await, ConsumerOptions::default()).await;
    consumer.assign([t0()]).unwrap();
    consumer.seek(&t0(), Offset(0)).unwrap();
    let mut read = Vec::new();
    while read.len() < 20 {
        {
            let mut dropped = Box::pin(consumer.recv());
            if let std::task::Poll::Ready(record) = futures_util::poll!(&mut dropped) {
                read.push(record.unwrap().offset.0);
                continue;
            }
        }
        read.push(next_offset(&mut consumer).await);
    }
    assert_eq!(read, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_corrupt_batch_is_named_and_can_be_passed_over() {
    let brokers = Brokers::start(&[], |asked| {
        let mut data = match fetch_offset(asked)? {
            0 => records(1, 0..3),
            3 => return Some(fetched(asked.version, records(1, 3..4))),
            _ => return None,
        };
        let mut bytes = data.records.to_vec();
        *bytes.last_mut()? ^= 1;
        data.records = bytes.into();
        Some(fetched(asked.version, data))
    });
    let mut consumer = consumer(&brokers.await, ConsumerOptions::default()).await;
    consumer.assign([t0()]).unwrap();
    consumer.seek(&t0(), Offset(0)).unwrap();
    let error = Env::os().timeout(PATIENCE, consumer.recv()).await.unwrap().unwrap_err();
    let said = error.to_string();
    assert!(said.ends_with("its checksum does not fit; seek to 3 to pass over it"), "{said}");
    consumer.seek(&t0(), Offset(3)).unwrap();
    assert_eq!(next_offset(&mut consumer).await, 3);
}

#[tokio::test]
async fn what_cannot_be_done_says_what_to_do() {
    let brokers = Brokers::start(&[], |_| None::<Response>).await;
    let mut consumer = consumer(&brokers, ConsumerOptions::default()).await;
    let said = |error: ConsumerError| {
        assert!(!error.is_retriable());
        error.to_string()
    };
    let error = consumer.poll(PATIENCE).await.unwrap_err();
    assert_eq!(said(error), "the consumer reads nothing: subscribe or assign first");
    let error = consumer.subscribe([TOPIC]).unwrap_err();
    assert_eq!(said(error), "groups and committed offsets need group.id: set it");
    let error = consumer.seek(&t0(), Offset(0)).unwrap_err();
    assert_eq!(said(error), "t-0 is not assigned to this consumer: assign or subscribe first");
    let error = consumer.commit().await.unwrap_err();
    assert_eq!(said(error), "groups and committed offsets need group.id: set it");
    let offsets = BTreeMap::from([(t0(), OffsetAndMetadata::new(Offset(1)))]);
    assert!(consumer.commit_offsets(offsets).await.is_err());
}
