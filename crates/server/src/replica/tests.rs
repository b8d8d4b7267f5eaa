//! Two brokers with real logs, and nothing between them: what a follower's log is after its leader's answers.

mod fetching;

use std::sync::Arc;

use bytes::Bytes;
use ottla_config::BrokerConfig;
use ottla_protocol::fetch::{EpochEndOffset, FetchPartition, PartitionData};
use ottla_protocol::record_batch::{NewRecord, RecordBatchBuilder, batches};
use ottla_protocol::{
    BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp,
};
use ottla_replication::FollowerFetch;
use ottla_storage::AppendOrigin;

use super::one_of_two::OneOfTwo;
use super::partition::{Fetched, Truncation};
use super::{FetchingReplica, Partition};

const TOPIC: &str = "orders";
const ENOUGH: i32 = 1 << 20;

/// A broker that holds partition 0 together with another.
struct Side {
    id: i32,
    broker: OneOfTwo,
}

impl Side {
    async fn start(id: i32) -> Self {
        let (config, _) = BrokerConfig::parse(&[], &[]).unwrap();
        Self { id, broker: OneOfTwo::start(id, TOPIC, config).await }
    }

    fn hear(&mut self, leader: i32, epoch: i32, isr: &[i32]) {
        let _applied = self.broker.hear(leader, epoch, isr);
    }

    fn partition(&self) -> Arc<Partition> {
        self.broker.partition()
    }

    fn append(&self, value: &str) -> Offset {
        self.append_batch(&batch(value, None))
    }

    fn append_batch(&self, batch: &Bytes) -> Offset {
        let origin = AppendOrigin::Client;
        let appended = self.partition().append(batch, origin, false, Timestamp(0)).unwrap();
        appended.info.first_offset
    }

    /// Everything in its log, byte by byte.
    fn log(&self) -> Vec<u8> {
        let partition = self.partition();
        let log = partition.log();
        let from = log.log_start_offset();
        log.read(from, usize::MAX, true, Offset(i64::MAX)).unwrap().read().unwrap().to_vec()
    }

    fn end(&self) -> i64 {
        self.partition().log().log_end_offset().0
    }

    /// What this broker, as the leader, answers to `asked`; it notes how far the follower is.
    fn answer(&self, follower: &Side, asked: &FetchPartition) -> PartitionData<Bytes> {
        let partition = self.partition();
        let replica = FetchingReplica {
            id: BrokerId(follower.id),
            broker_epoch: BrokerEpoch(i64::from(follower.id)),
        };
        let epoch = partition.check_follower(replica, asked.current_leader_epoch).unwrap();
        let mut data = PartitionData::failed(0, ErrorCode::None);
        let known = partition.end_offset_for_epoch(asked.last_fetched_epoch);
        let diverges = known.filter(|end| {
            end.epoch < asked.last_fetched_epoch || end.end_offset < asked.fetch_offset
        });
        if let Some(end) = diverges {
            let (epoch, end_offset) = (end.epoch, end.end_offset);
            data.diverging_epoch = Some(EpochEndOffset { epoch, end_offset });
            return data;
        }
        let log = partition.log();
        let read = log.read(asked.fetch_offset, ENOUGH as usize, true, Offset(i64::MAX)).unwrap();
        data.records = read.read().unwrap();
        partition
            .follower_fetched(&FollowerFetch {
                follower: replica.id,
                broker_epoch: replica.broker_epoch,
                leader_epoch: epoch,
                offset: asked.fetch_offset,
                log_start: asked.log_start_offset,
                leader_log_start: log.log_start_offset(),
                leader_log_end: log.log_end_offset(),
            })
            .unwrap();
        data.high_watermark = partition.high_watermark();
        data.log_start_offset = log.log_start_offset();
        data
    }

    fn asked(&self) -> FetchPartition {
        self.partition().fetch_request(ENOUGH).unwrap().1
    }

    /// Fetches once; answers where the log was cut, if it was.
    fn fetch(&self, leader: &Side) -> Option<i64> {
        let asked = self.asked();
        let data = leader.answer(self, &asked);
        match self.partition().take_fetched(&asked, &data).unwrap() {
            Fetched::Appended { .. } => None,
            Fetched::BeginsWithinBatch => panic!("nothing was deleted"),
            Fetched::Outdated => panic!("nothing else happened meanwhile"),
            Fetched::Diverging(end) => {
                let (logs, epoch) = (self.broker.replicas.logs(), asked.current_leader_epoch);
                self.partition().truncate(logs, epoch, Truncation::Diverging(end)).unwrap();
                Some(self.end())
            }
        }
    }
}

fn batch(value: &str, producer: Option<i32>) -> Bytes {
    let mut batch = RecordBatchBuilder::new();
    if let Some(sequence) = producer {
        batch = batch.producer(ProducerId(7), ProducerEpoch(0), sequence);
    }
    batch.append(&NewRecord { value: Some(value.as_bytes()), ..NewRecord::default() });
    batch.build()
}

async fn both() -> (Side, Side) {
    let (mut a, mut b) = (Side::start(1).await, Side::start(2).await);
    a.hear(1, 0, &[1, 2]);
    b.hear(1, 0, &[1, 2]);
    (a, b)
}

fn elect(sides: [&mut Side; 2], leader: i32, epoch: i32, isr: &[i32]) {
    sides.into_iter().for_each(|side| side.hear(leader, epoch, isr));
}

#[tokio::test]
async fn a_follower_repeats_its_leaders_bytes_and_learns_what_is_committed() {
    let (a, b) = both().await;
    a.append("one");
    a.append("two");
    assert_eq!(b.fetch(&a), None);
    assert_eq!(b.log(), a.log());
    assert_eq!(a.partition().high_watermark(), Offset(0), "nobody has said that it is there");
    b.fetch(&a);
    assert_eq!(a.partition().high_watermark(), Offset(2));
    assert_eq!(b.partition().high_watermark(), Offset(2));
}

#[tokio::test]
async fn what_only_a_deposed_leader_has_is_cut_by_epoch() {
    let (mut a, mut b) = both().await;
    a.append("one");
    b.fetch(&a);
    a.append("only here");
    a.append("this too");
    elect([&mut a, &mut b], 2, 1, &[1, 2]);
    b.append("two");
    b.append("three");
    b.append("four");
    // By the high watermark alone nothing would be wrong: both logs end behind it.
    assert_eq!(a.fetch(&b), Some(1));
    assert_eq!(a.fetch(&b), None);
    assert_eq!(a.log(), b.log());
    assert_eq!(a.end(), 4);
}

#[tokio::test]
async fn an_epoch_that_the_leader_never_heard_of_takes_two_cuts() {
    let (mut a, mut b) = both().await;
    a.append("one");
    b.fetch(&a);
    a.append("epoch 0, not replicated");
    // Unclean elections, of which the other hears too late.
    b.hear(2, 1, &[2]);
    b.append("epoch 1");
    a.hear(1, 2, &[1]);
    a.append("epoch 2");
    elect([&mut a, &mut b], 2, 3, &[2]);
    b.append("epoch 3");
    let mut cuts = Vec::new();
    for _ in 0..5 {
        cuts.extend(a.fetch(&b));
    }
    assert_eq!(cuts, [2, 1]);
    assert_eq!(a.log(), b.log());
}

#[tokio::test]
async fn a_leader_that_wrote_nothing_leaves_no_trace() {
    let (mut a, mut b) = both().await;
    a.append("one");
    b.fetch(&a);
    elect([&mut a, &mut b], 2, 1, &[1, 2]);
    elect([&mut a, &mut b], 1, 2, &[1, 2]);
    a.append("two");
    assert_eq!(b.fetch(&a), Some(1), "it notes an epoch 1 that its leader does not know");
    assert_eq!(b.fetch(&a), None);
    assert_eq!(b.log(), a.log());
}

#[tokio::test]
async fn a_producer_goes_on_at_the_next_leader() {
    let (mut a, mut b) = both().await;
    assert_eq!(a.append_batch(&batch("first", Some(0))), Offset(0));
    assert_eq!(a.append_batch(&batch("second", Some(1))), Offset(1));
    b.fetch(&a);
    elect([&mut a, &mut b], 2, 1, &[2]);
    assert_eq!(b.append_batch(&batch("second", Some(1))), Offset(1), "it is there already");
    assert_eq!(b.append_batch(&batch("third", Some(2))), Offset(2));
    let origin = AppendOrigin::Client;
    let gap = b.partition().append(&batch("fifth", Some(4)), origin, false, Timestamp(0));
    assert_eq!(gap.unwrap_err().error_code(), ErrorCode::OutOfOrderSequenceNumber);
}

#[tokio::test]
async fn an_answer_of_another_epoch_is_not_taken() {
    let (mut a, mut b) = both().await;
    a.append("one");
    let asked = b.asked();
    let late = a.answer(&b, &asked);
    elect([&mut a, &mut b], 1, 1, &[1, 2]);
    let taken = b.partition().take_fetched(&asked, &late).unwrap();
    assert!(matches!(taken, Fetched::Outdated));
    assert_eq!(b.end(), 0);
    // Nor is a batch that its leader cannot have written yet.
    let asked = b.asked();
    let mut forged = a.answer(&b, &asked);
    a.hear(1, 9, &[1, 2]);
    a.append("two");
    let log = a.log();
    forged.records = Bytes::from(log);
    assert_eq!(batches(&forged.records).count(), 2);
    assert!(b.partition().take_fetched(&asked, &forged).is_err());
    assert_eq!(b.end(), 0);
}

#[tokio::test]
async fn a_follower_that_was_away_too_long_begins_where_its_leader_does() {
    let (mut a, mut b) = both().await;
    a.append("one");
    b.fetch(&a);
    elect([&mut a, &mut b], 1, 1, &[1]);
    for value in ["two", "three", "four"] {
        a.append(value);
    }
    a.partition().delete_records(Offset(3)).unwrap();
    let partition = b.partition();
    let range = Truncation::OutOfRange { start: Offset(3), end: Offset(4) };
    partition.truncate(b.broker.replicas.logs(), LeaderEpoch(1), range).unwrap();
    let log = partition.log();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(3), Offset(3)));
    assert_eq!(b.fetch(&a), None);
    assert_eq!(b.end(), 4);
    assert_eq!(partition.log().log_start_offset(), Offset(3));
}

#[tokio::test]
async fn an_append_is_acknowledged_by_the_leader_of_its_epoch_or_not_at_all() {
    let (mut a, mut b) = both().await;
    let append = |side: &Side| {
        let origin = AppendOrigin::Client;
        side.partition().append(&batch("one", None), origin, true, Timestamp(0)).unwrap()
    };
    let appended = append(&a);
    assert!(!appended.committed);
    let end = appended.info.last_offset.next();
    let committed = a.partition().wait_committed(appended.epoch, end);
    b.fetch(&a);
    b.fetch(&a);
    assert_eq!(committed.await, Ok(()));
    let appended = append(&a);
    let end = appended.info.last_offset.next();
    let lost = a.partition().wait_committed(appended.epoch, end);
    elect([&mut a, &mut b], 2, 1, &[1, 2]);
    // Even if it leads again, and all that is there is committed.
    elect([&mut a, &mut b], 1, 2, &[1]);
    assert_eq!(lost.await, Err(ErrorCode::NotLeaderOrFollower));
}

#[tokio::test]
async fn a_new_leader_does_not_tell_an_earlier_end() {
    let (mut a, mut b) = both().await;
    a.append("one");
    b.fetch(&a);
    elect([&mut a, &mut b], 2, 1, &[1, 2]);
    assert!(b.partition().is_behind_earlier_leader(), "a may have told that it is committed");
    a.fetch(&b);
    assert!(!b.partition().is_behind_earlier_leader());
    assert_eq!(b.partition().high_watermark(), Offset(1));
}
