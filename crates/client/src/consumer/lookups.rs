//! Questions to leaders: which offset is meant, and whether a position still is in the log.
//! Kafka: `OffsetFetcher`.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use ottla_protocol::messages::{
    ListOffsetsRequest, OffsetForLeaderEpochRequest, RequestResponsePair,
};
use ottla_protocol::{
    ApiKey, BrokerId, ErrorCode, LeaderEpoch, Offset, StrBytes, Timestamp, TopicPartition, message,
};

use super::options::IsolationLevel;
use super::partitions::Position;
use super::{OffsetSpec, by_topic};
use crate::client::Purpose;
use crate::silence::Patience;
use crate::{Client, ClientError};

/// An offset that was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset; -1 if no record has the time that was asked for, or a later one.
    pub offset: Offset,
    /// The time of the record there, or -1.
    pub timestamp: Timestamp,
    /// The epoch in which it was appended, or -1.
    pub leader_epoch: LeaderEpoch,
}

/// What each partition came to.
pub(super) type Answers<T> = BTreeMap<TopicPartition, Result<T, ClientError>>;

/// What is asked of each leader, and where it was when it became known: it may be no broker any more before it is asked.
type ByLeader = BTreeMap<BrokerId, (String, BTreeMap<TopicPartition, LeaderEpoch>)>;

/// Which offsets are meant. One request to each leader, all at once.
pub(super) async fn list_offsets(
    client: Client,
    wishes: BTreeMap<TopicPartition, OffsetSpec>,
    isolation: IsolationLevel,
) -> Answers<FoundOffset> {
    let (leaders, mut answers) = leaders(&client, wishes.keys()).await;
    let asked = leaders.iter().map(|(leader, (address, partitions))| {
        let topics = by_topic(partitions.keys()).into_iter().map(|(topic, numbers)| {
            let rows = numbers.into_iter().filter_map(|number| {
                let partition = TopicPartition::new(topic.clone(), number);
                Some(message!(ListOffsetsPartition {
                    partition_index: number,
                    current_leader_epoch: partitions.get(&partition)?.0,
                    timestamp: wishes.get(&partition)?.code(),
                }))
            });
            message!(ListOffsetsTopic {
                name: StrBytes::from(&**topic),
                partitions: rows.collect()
            })
        });
        let isolation_level = i8::from(isolation == IsolationLevel::ReadCommitted);
        let request = message!(ListOffsetsRequest {
            replica_id: -1,
            isolation_level: isolation_level,
            topics: topics.collect(),
        });
        ask_leader(&client, (*leader, address, ApiKey::ListOffsets), partitions, request)
    });
    for ((_, partitions), response) in leaders.values().zip(join_all(asked).await) {
        let rows = response.map(|response| {
            let topics = response.topics.into_iter();
            let rows = topics.flat_map(|topic| {
                topic.partitions.into_iter().map(move |row| {
                    let found = FoundOffset {
                        offset: Offset(row.offset),
                        timestamp: Timestamp(row.timestamp),
                        leader_epoch: LeaderEpoch(row.leader_epoch),
                    };
                    let partition = TopicPartition::new(topic.name.as_str(), row.partition_index);
                    (partition, (row.error_code, found))
                })
            });
            rows.collect::<BTreeMap<_, _>>()
        });
        take(&client, partitions, rows, &mut answers);
    }
    answers
}

/// Where the epochs of `positions` end on the leaders (KIP-320): the first offset whose record
/// is not of that epoch or an earlier one.
pub(super) async fn epoch_ends(
    client: Client,
    positions: BTreeMap<TopicPartition, Position>,
) -> Answers<Position> {
    let (leaders, mut answers) = leaders(&client, positions.keys()).await;
    let asked = leaders.iter().map(|(leader, (address, partitions))| {
        let topics = by_topic(partitions.keys()).into_iter().map(|(topic, numbers)| {
            let rows = numbers.into_iter().filter_map(|number| {
                let partition = TopicPartition::new(topic.clone(), number);
                Some(message!(OffsetForLeaderPartition {
                    partition: number,
                    current_leader_epoch: partitions.get(&partition)?.0,
                    leader_epoch: positions.get(&partition)?.epoch.0,
                }))
            });
            let topic = StrBytes::from(&**topic);
            message!(OffsetForLeaderTopic { topic: topic, partitions: rows.collect() })
        });
        let request =
            message!(OffsetForLeaderEpochRequest { replica_id: -1, topics: topics.collect() });
        ask_leader(&client, (*leader, address, ApiKey::OffsetForLeaderEpoch), partitions, request)
    });
    for ((_, partitions), response) in leaders.values().zip(join_all(asked).await) {
        let rows = response.map(|response| {
            let topics = response.topics.into_iter();
            let rows = topics.flat_map(|topic| {
                topic.partitions.into_iter().map(move |row| {
                    let (offset, epoch) = (Offset(row.end_offset), LeaderEpoch(row.leader_epoch));
                    let partition = TopicPartition::new(topic.topic.as_str(), row.partition);
                    (partition, (row.error_code, Position { offset, epoch }))
                })
            });
            rows.collect::<BTreeMap<_, _>>()
        });
        take(&client, partitions, rows, &mut answers);
    }
    answers
}

/// Asks a leader, as long as it is that.
async fn ask_leader<R: RequestResponsePair>(
    client: &Client,
    (leader, address, api): (BrokerId, &str, ApiKey),
    partitions: &BTreeMap<TopicPartition, LeaderEpoch>,
    request: R,
) -> Result<R::Response, ClientError> {
    let asking =
        async { client.connection_for(address, Purpose::Requests).await?.call(&request).await };
    client.unless_another_leads((leader, api), partitions.keys(), Patience::SHORT, asking).await
}

/// The leaders of `partitions`, and what is known already of the others.
async fn leaders<'p, T>(
    client: &Client,
    partitions: impl Iterator<Item = &'p TopicPartition>,
) -> (ByLeader, Answers<T>) {
    let (mut leaders, mut failed) = (ByLeader::new(), Answers::new());
    for partition in partitions {
        let found = client.leader_of(partition).await.and_then(|(leader, epoch, _)| {
            let address = client.metadata().brokers.get(&leader).cloned();
            let nowhere = || ClientError::refused(ErrorCode::LeaderNotAvailable);
            Ok((leader, address.ok_or_else(nowhere)?, epoch))
        });
        match found {
            Ok((leader, address, epoch)) => {
                let (_, asked) = leaders.entry(leader).or_insert((address, BTreeMap::new()));
                asked.insert(partition.clone(), epoch);
            }
            Err(error) => {
                failed.insert(partition.clone(), Err(error));
            }
        }
    }
    (leaders, failed)
}

/// Takes what one leader answered. Who leads is asked again where it may not be right any more.
fn take<T: Copy>(
    client: &Client,
    partitions: &BTreeMap<TopicPartition, LeaderEpoch>,
    rows: Result<BTreeMap<TopicPartition, (i16, T)>, ClientError>,
    answers: &mut Answers<T>,
) {
    for partition in partitions.keys() {
        let answer = match &rows {
            Ok(rows) => match rows.get(partition) {
                Some((code, found)) => {
                    ClientError::check(ErrorCode::from_wire(*code), None).map(|()| *found)
                }
                None => Err(ClientError::Nonsense(format!("nothing about {partition}"))),
            },
            Err(error) => Err(error.again()),
        };
        if answer.as_ref().is_err_and(ClientError::is_retriable) {
            client.forget_topic(&partition.topic);
        }
        answers.insert(partition.clone(), answer);
    }
}
