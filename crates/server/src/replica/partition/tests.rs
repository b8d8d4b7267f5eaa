//! What comes of a flush that ends when its time is over.

use ottla_config::BrokerConfig;
use ottla_protocol::record_batch::{NewRecord, RecordBatchBuilder};

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

fn append(broker: &OneOfTwo) {
    let mut batch = RecordBatchBuilder::new();
    batch.append(&NewRecord { value: Some(b"v"), ..NewRecord::default() });
    let (batch, origin) = (batch.build(), AppendOrigin::Client);
    let appended = broker.partition().append(&batch, origin, false, Timestamp(0)).unwrap();
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
