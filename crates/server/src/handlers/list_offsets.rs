//! ListOffsets: the first offset, the last, and offsets by time (KIP-79, KIP-734, KIP-1005).

use std::sync::Arc;

use ottla_protocol::messages::list_offsets_request::ListOffsetsPartition;
use ottla_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use ottla_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use ottla_protocol::{ErrorCode, LeaderEpoch, Offset, Timestamp, TopicRef, message};
use ottla_storage::{ReadError, TimestampAndOffset};
use tracing::warn;

use super::produce::missing;
use super::{Answer, RequestContext};
use crate::broker::Broker;
use crate::replica::{Partition, ReadBound};

/// Timestamps that mean something else.
mod special {
    /// The end of what may be read.
    pub(super) const LATEST: i64 = -1;
    /// The first offset.
    pub(super) const EARLIEST: i64 = -2;
    /// The record with the largest timestamp (KIP-734).
    pub(super) const MAX_TIMESTAMP: i64 = -3;
    /// The first offset on this node's own disks; without tiered storage the first of all (KIP-405).
    pub(super) const EARLIEST_LOCAL: i64 = -4;
    /// The last offset in tiered storage, of which there is none (KIP-1005).
    pub(super) const LATEST_TIERED: i64 = -5;
    /// The first offset not yet in tiered storage, of which there is none (KIP-1023).
    pub(super) const EARLIEST_PENDING_UPLOAD: i64 = -6;
}

/// The wire's number for `isolation.level=read_committed`.
const READ_COMMITTED: i8 = 1;

/// The version from which on a timestamp that means something else is known; `None` if it never was.
fn first_version_of(timestamp: i64) -> Option<i16> {
    match timestamp {
        special::LATEST | special::EARLIEST => Some(1),
        special::MAX_TIMESTAMP => Some(7),
        special::EARLIEST_LOCAL => Some(8),
        special::LATEST_TIERED => Some(9),
        special::EARLIEST_PENDING_UPLOAD => Some(11),
        0.. => Some(0),
        _ => None,
    }
}

/// From this version on an offset comes with its leader epoch (KIP-320).
const FIRST_VERSION_WITH_EPOCH: i16 = 4;

/// From this version on a client knows `OFFSET_NOT_AVAILABLE` (KIP-207).
const FIRST_VERSION_WITH_NOT_AVAILABLE: i16 = 5;

pub(super) fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: &ListOffsetsRequest,
) -> Answer {
    let mut asked = request.topics.iter().flat_map(|topic| &topic.partitions);
    if !asked.any(|asked| asked.timestamp >= 0 || asked.timestamp == special::MAX_TIMESTAMP) {
        return Answer::now(answer(broker, context, request));
    }
    // Who asks for a time mostly asks for the past, which has long left memory.
    let (broker, context, request) = (Arc::clone(broker), context.clone(), request.clone());
    let cold_reads = Arc::clone(broker.cold_reads());
    Answer::later(async move { cold_reads.run(move || answer(&broker, &context, &request)).await })
}

fn answer(
    broker: &Broker,
    context: &RequestContext,
    request: &ListOffsetsRequest,
) -> ListOffsetsResponse {
    let with_epoch = context.version() >= FIRST_VERSION_WITH_EPOCH;
    let bound = match request.isolation_level {
        _ if request.replica_id >= 0 => ReadBound::LogEnd,
        READ_COMMITTED => ReadBound::LastStableOffset,
        _ => ReadBound::HighWatermark,
    };
    let topics = request.topics.iter().map(|topic| {
        let name = TopicRef::Name(topic.name.clone());
        let partitions = topic.partitions.iter().map(|asked| {
            let known = first_version_of(asked.timestamp).is_some_and(|it| it <= context.version());
            let found = match known {
                true => find(broker, &name, asked, bound),
                false => Err(ErrorCode::UnsupportedVersion),
            };
            let (error, found) = match found {
                Ok(found) => (ErrorCode::None, found),
                Err(ErrorCode::OffsetNotAvailable)
                    if context.version() < FIRST_VERSION_WITH_NOT_AVAILABLE =>
                {
                    (ErrorCode::LeaderNotAvailable, None)
                }
                Err(error) => (error, None),
            };
            message!(ListOffsetsPartitionResponse {
                partition_index: asked.partition_index,
                error_code: error.code(),
                timestamp: found.map_or(Timestamp::NONE, |found| found.timestamp).0,
                offset: found.map_or(-1, |found| found.offset.0),
                leader_epoch: match found {
                    Some(found) if with_epoch => found.leader_epoch.0,
                    Some(_) | None => LeaderEpoch::NONE.0,
                },
            })
        });
        message!(ListOffsetsTopicResponse {
            name: topic.name.clone(),
            partitions: partitions.collect(),
        })
    });
    message!(ListOffsetsResponse { topics: topics.collect() })
}

fn find(
    broker: &Broker,
    topic: &TopicRef,
    asked: &ListOffsetsPartition,
    bound: ReadBound,
) -> Result<Option<TimestampAndOffset>, ErrorCode> {
    let partition = broker
        .replicas()
        .find(topic, asked.partition_index)
        .ok_or_else(|| missing(broker, topic, asked.partition_index))?;
    partition.check_reader(LeaderEpoch(asked.current_leader_epoch))?;
    // A client must not be told of an earlier end than by the leader before (KIP-207).
    let is_behind = bound != ReadBound::LogEnd && partition.is_behind_earlier_leader();
    let end = partition.upper_bound(bound);
    let log = partition.log();
    let found = match asked.timestamp {
        special::LATEST if is_behind => return Err(ErrorCode::OffsetNotAvailable),
        special::LATEST => return Ok(Some(at(end, partition.leader_epoch()))),
        special::EARLIEST | special::EARLIEST_LOCAL => {
            let start = log.log_start_offset();
            let epoch = log.epoch_for_offset(start).unwrap_or(LeaderEpoch::NONE);
            return Ok(Some(at(start, epoch)));
        }
        special::LATEST_TIERED | special::EARLIEST_PENDING_UPLOAD => return Ok(None),
        special::MAX_TIMESTAMP => partition.look(ottla_storage::Log::max_timestamp),
        time => partition.look(|log| log.offset_for_timestamp(Timestamp(time))),
    };
    match found {
        // What is not committed yet is not there for a client.
        Ok(Some(found)) if found.offset < end => Ok(Some(found)),
        Ok(_) if is_behind => Err(ErrorCode::OffsetNotAvailable),
        Ok(_) => Ok(None),
        Err(error) => Err(unreadable(&partition, &error)),
    }
}

/// An offset that stands for no record: without a time.
fn at(offset: Offset, leader_epoch: LeaderEpoch) -> TimestampAndOffset {
    TimestampAndOffset { timestamp: Timestamp::NONE, offset, leader_epoch }
}

fn unreadable(partition: &Partition, error: &ReadError) -> ErrorCode {
    warn!(partition = %partition.name(), %error, "could not look an offset up");
    error.error_code()
}
