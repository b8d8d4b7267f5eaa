//! A consumer in a task of its own, which moves between the threads of a runtime.

use ottla_client::OffsetSpec;

use super::*;

fn may_move<T: Send>(_future: T) {}

/// To compile is all there is to it.
#[allow(dead_code, reason = "it is checked by compiling it")]
fn every_future_of_a_consumer_may_move(mut consumer: Consumer) {
    may_move(consumer.poll(PATIENCE));
    may_move(consumer.recv());
    may_move(consumer.poll_batches(PATIENCE));
    may_move(consumer.stream());
    may_move(consumer.await_position(&t0()));
    may_move(consumer.commit());
    may_move(consumer.commit_offsets(BTreeMap::new()));
    may_move(consumer.committed([t0()]));
    may_move(consumer.offsets(BTreeMap::new()));
    may_move(consumer.offset(&t0(), OffsetSpec::Latest));
    may_move(consumer.partitions_for(TOPIC));
    may_move(consumer.close(PATIENCE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::disallowed_methods, reason = "as a program does it")]
async fn a_consumer_reads_in_a_task_that_was_spawned() {
    let brokers = Brokers::start(&[], |asked| {
        let offset = fetch_offset(asked)?;
        (offset < 3).then(|| fetched(asked.version, records(1, offset..offset + 1)))
    })
    .await;
    let mut consumer = consumer(&brokers, ConsumerOptions::default()).await;
    let reading = tokio::spawn(async move {
        consumer.assign([t0()]).unwrap();
        consumer.seek(&t0(), Offset(0)).unwrap();
        for offset in 0..3 {
            assert_eq!(next_offset(&mut consumer).await, offset);
        }
        assert_eq!(consumer.partitions_for(TOPIC).await.unwrap().len(), 1);
        consumer.close(PATIENCE).await.unwrap();
    });
    reading.await.unwrap();
}
