//! What comes of flushes when a leader is deposed, and who waits for a partition that another broker leads.

use std::time::Duration;

use ottla_config::BrokerConfig;
use ottla_env::Env;
use ottla_protocol::record_batch::{NewRecord, RecordBatchBuilder};
use ottla_protocol::{BrokerEpoch, BrokerId};

use super::*;
use crate::replica::one_of_two::OneOfTwo;

/// A broker that leads in epoch 5, and has appended a record that is not flushed.
async fn leader() -> OneOfTwo {
    let (config, _) = BrokerConfig::parse(&["log.flush.interval.messages=1\n"], &[]).unwrap();
    let mut broker = OneOfTwo::start(1, "orders", config).await;
    let _applied = broker.hear(1, 5, &[1]);
    append(&broker);
    broker
}

fn batch() -> Bytes {
    let mut batch = RecordBatchBuilder::new();
    batch.append(&NewRecord { value: Some(b"v"), ..NewRecord::default() });
    batch.build()
}

fn append(broker: &OneOfTwo) {
    let origin = AppendOrigin::Client;
    let appended = broker.partition().append(&batch(), origin, false, Timestamp(0)).unwrap();
    assert!(appended.info.flush_due);
}

#[tokio::test]
async fn a_flush_of_what_was_cut_since_commits_nothing() {
    let mut broker = leader().await;
    let _applied = broker.hear(2, 6, &[2]);
    let partition = broker.partition();
    let nothing = Truncation::OutOfRange { start: Offset(0), end: Offset(0) };
    partition.truncate(broker.replicas.logs(), LeaderEpoch(6), nothing).unwrap();
    let _applied = broker.hear(1, 7, &[1]);
    // The disk was busy all the time.
    partition.flushed(LeaderEpoch(5), Offset(1));
    assert_eq!(
        (partition.high_watermark(), partition.log().log_end_offset()),
        (Offset(0), Offset(0))
    );
    append(&broker);
    assert_eq!(partition.high_watermark(), Offset(0), "that is not flushed either");
    partition.flushed(LeaderEpoch(7), Offset(1));
    assert_eq!(partition.high_watermark(), Offset(1));
}

#[tokio::test]
async fn a_flush_counts_for_a_leader_that_is_elected_again() {
    let mut broker = leader().await;
    let _applied = broker.hear(1, 6, &[1]);
    broker.partition().flushed(LeaderEpoch(5), Offset(1));
    assert_eq!(broker.partition().high_watermark(), Offset(1));
}

#[tokio::test]
async fn nobody_waits_for_a_truncation_to_hear_that_another_leads() {
    let mut broker = leader().await;
    let _applied = broker.hear(2, 6, &[2]);
    let partition = broker.partition();
    let (told, begun) = oneshot::channel();
    let (done, end) = oneshot::channel::<()>();
    let truncated = Arc::clone(&partition);
    let truncation = Env::os().run_blocking(move || {
        let _replica = truncated.replica.lock();
        told.send(()).unwrap();
        end.blocking_recv()
    });
    let asking = async {
        begun.await.unwrap();
        let asked = Env::os().run_blocking(move || {
            let (batch, origin, now) = (batch(), AppendOrigin::Client, Timestamp(0));
            let follower = FetchingReplica { id: BrokerId(2), broker_epoch: BrokerEpoch(2) };
            [
                partition.append(&batch, origin, false, now).unwrap_err().error_code(),
                partition
                    .append_in_epoch(LeaderEpoch(5), &batch, origin, now)
                    .unwrap_err()
                    .error_code(),
                partition.delete_records(Offset(0)).unwrap_err().error_code(),
                partition.low_watermark().unwrap_err(),
                partition.check_follower(follower, LeaderEpoch(6)).unwrap_err(),
                partition.check_follower(follower, LeaderEpoch(5)).unwrap_err(),
            ]
        });
        let answers = Env::os().timeout(Duration::from_secs(10), asked).await;
        done.send(()).unwrap();
        answers
    };
    let (answers, ended) = tokio::join!(asking, truncation);
    ended.unwrap();
    let mut expected = [ErrorCode::NotLeaderOrFollower; 6];
    expected[5] = ErrorCode::FencedLeaderEpoch;
    assert_eq!(answers.expect("they wait for the truncation"), expected);
}

#[tokio::test]
async fn a_deposed_leader_tells_nothing_that_it_has_not_flushed() {
    let mut broker = leader().await;
    let _applied = broker.hear(2, 6, &[1, 2]);
    let partition = broker.partition();
    assert!(partition.fetch_request(1).is_none(), "the next leader would count it as held");
    // As its fetcher does.
    partition.begin_flush(Offset(1)).await.unwrap();
    assert_eq!(partition.fetch_request(1).unwrap().1.fetch_offset, Offset(1));
}
