//! A topic that was deleted and made anew: what is committed is of the one before, whose leader epochs were higher.

use ottla_protocol::messages::ListOffsetsResponse;
use ottla_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};

use super::*;

/// A consumer whose group has committed offset 5 of epoch 9, of a topic that has three records of epoch 1.
async fn of_a_topic_made_anew(reset: AutoOffsetReset) -> Consumer {
    let brokers = Brokers::start(&[(ApiKey::OffsetFetch, 5)], |asked| {
        #[allow(clippy::wildcard_enum_match_arm, reason = "the rest is as usual")]
        match &asked.request {
            Request::OffsetFetch(_) => Some(five_committed(9)),
            Request::OffsetForLeaderEpoch(request) => {
                // It has never heard of that epoch.
                assert_eq!(request.topics[0].partitions[0].leader_epoch, 9);
                let row = message!(EpochEndOffset { leader_epoch: -1, end_offset: -1 });
                let topic = StrBytes::from(TOPIC);
                let topic =
                    message!(OffsetForLeaderTopicResult { topic: topic, partitions: vec![row] });
                Some(message!(OffsetForLeaderEpochResponse { topics: vec![topic] }).into())
            }
            Request::ListOffsets(request) => {
                let earliest = request.topics[0].partitions[0].timestamp == -2;
                let offset = if earliest { 0 } else { 3 };
                let row =
                    message!(ListOffsetsPartitionResponse { offset: offset, leader_epoch: 1 });
                let name = StrBytes::from(TOPIC);
                let topic =
                    message!(ListOffsetsTopicResponse { name: name, partitions: vec![row] });
                Some(message!(ListOffsetsResponse { topics: vec![topic] }).into())
            }
            Request::Fetch(_) if fetch_offset(asked) == Some(0) => {
                Some(fetched(asked.version, records(1, 0..3)))
            }
            _ => None,
        }
    });
    let options = ConsumerOptions {
        auto_commit: false,
        auto_offset_reset: reset,
        ..ConsumerOptions::in_group("g")
    };
    let mut consumer = consumer(&brokers.await, options).await;
    consumer.assign([t0()]).unwrap();
    consumer
}

#[tokio::test]
async fn a_topic_that_was_made_anew_is_read_from_where_the_reset_policy_says() {
    let mut consumer = of_a_topic_made_anew(AutoOffsetReset::Earliest).await;
    assert_eq!(next_offset(&mut consumer).await, 0);
}

#[tokio::test]
async fn that_what_is_committed_is_of_another_topic_is_told_where_nothing_may_be_reset() {
    let mut consumer = of_a_topic_made_anew(AutoOffsetReset::None).await;
    let error = Env::os().timeout(PATIENCE, consumer.recv()).await.unwrap().unwrap_err();
    let told = matches!(
        error,
        ConsumerError::LogTruncated { position: Offset(5), diverged_at: Offset::NONE, .. }
    );
    assert!(told, "{error}");
}
