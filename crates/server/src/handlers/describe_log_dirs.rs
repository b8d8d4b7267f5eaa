//! DescribeLogDirs: what lies where, and which disk has failed (KIP-113, KIP-827).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use ottla_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use ottla_protocol::{ErrorCode, StrBytes, TopicPartition, message};
use ottla_storage::{Log, LogDir};
use tracing::warn;

use super::Answer;
use crate::broker::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: DescribeLogDirsRequest) -> Answer {
    let broker = Arc::clone(broker);
    // Asking a file system may take its time.
    Answer::later(async move {
        let env = broker.env().clone();
        env.run_blocking(move || describe(&broker, &request)).await
    })
}

fn describe(broker: &Broker, request: &DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let wanted: Option<BTreeSet<TopicPartition>> = request.topics.as_ref().map(|topics| {
        let partitions = topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|index| TopicPartition::new(topic.topic.as_str(), *index))
        });
        partitions.collect()
    });
    let logs = broker.logs();
    // Before the logs: a move that ends in between is seen twice then. In the other order it would be seen nowhere,
    // and whoever waits for its end would take it for given up.
    let mut moves = logs.moves();
    moves.retain(|it| wanted.as_ref().is_none_or(|wanted| wanted.contains(it.partition())));
    let mut shown = logs.logs();
    shown.retain(|log| wanted.as_ref().is_none_or(|wanted| wanted.contains(log.partition())));
    let results = logs.dirs().map(|dir| {
        let here = |log: &Log| Arc::ptr_eq(log.log_dir(), dir);
        let held = shown.iter().filter(|log| here(log)).map(|log| Replica {
            log,
            // A current replica's log ends where its high watermark is, or beyond.
            offset_lag: (log.high_watermark().0 - log.log_end_offset().0).max(0),
            is_future: false,
        });
        let coming = moves.iter().filter(|it| here(it.future())).map(|it| Replica {
            log: it.future(),
            offset_lag: it.lag(),
            is_future: true,
        });
        describe_dir(dir, held.chain(coming))
    });
    message!(DescribeLogDirsResponse { results: results.collect() })
}

/// A log in a directory: that of the partition, or a copy that is to take its place.
struct Replica<'a> {
    log: &'a Arc<Log>,
    /// How many offsets it is behind: the high watermark, or the log that it was copied from.
    offset_lag: i64,
    is_future: bool,
}

fn describe_dir<'a>(
    dir: &LogDir,
    replicas: impl Iterator<Item = Replica<'a>>,
) -> DescribeLogDirsResult {
    let path = dir.path();
    let mut result = message!(DescribeLogDirsResult {
        log_dir: StrBytes::from(path.to_string_lossy().into_owned()),
        error_code: ErrorCode::KafkaStorageError.code(),
        total_bytes: -1,
        usable_bytes: -1,
    });
    if dir.failure().is_some() {
        return result;
    }
    match dir.space() {
        Ok((usable, total)) => {
            result.total_bytes = signed(total);
            result.usable_bytes = signed(usable);
        }
        Err(error) => {
            warn!(dir = %path.display(), %error, "cannot tell how large its file system is");
            return result;
        }
    }
    result.error_code = ErrorCode::None.code();
    let mut topics: BTreeMap<Arc<str>, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for Replica { log, offset_lag, is_future } in replicas {
        let name = log.partition();
        topics.entry(Arc::clone(&name.topic)).or_default().push(message!(
            DescribeLogDirsPartition {
                partition_index: name.partition,
                partition_size: signed(log.size()),
                offset_lag: offset_lag,
                is_future_key: is_future,
            }
        ));
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        message!(DescribeLogDirsTopic { name: StrBytes::from(&*name), partitions: partitions })
    });
    result.topics = topics.collect();
    result
}

/// Kafka's numbers are signed, and its largest stands for what is larger.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
