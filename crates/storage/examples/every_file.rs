//! Writes a log directory with a file of every kind, for others to read: `cargo xtask interop`.
//! `cargo run -p ottla-storage --example every_file -- DIRECTORY`
#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "a test's helper")]

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use ottla_config::{BrokerConfig, CleanupPolicy, LogConfig, MessageTimestampType};
use ottla_env::Env;
use ottla_protocol::compression::{Compression, Compressor};
use ottla_protocol::record_batch::{ControlRecordType, NewRecord, RecordBatchBuilder};
use ottla_protocol::{
    BrokerId, LeaderEpoch, ProducerEpoch, ProducerId, Timestamp, TopicId, TopicPartition,
};
use ottla_storage::{AppendOrigin, LeaderAppend, Log, LogCleaner, LogManager, LogManagerOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let Some(root) = std::env::args().nth(1).map(PathBuf::from) else {
        eprintln!("usage: every_file DIRECTORY");
        std::process::exit(2);
    };
    let env = Env::os();
    let (config, _warnings) = BrokerConfig::parse(&[BrokerConfig::STANDALONE], &[]).unwrap();
    let options = LogManagerOptions {
        dirs: vec![root],
        node_id: BrokerId(1),
        cluster_id: None,
        config: config.log_manager,
        max_open_files: 100,
    };
    let manager = Arc::new(LogManager::open(env.clone(), options).await.unwrap());
    let now = env.clock.wall();
    for (number, (name, write)) in TOPICS.iter().enumerate() {
        let mut config = LogConfig {
            segment_bytes: 16 << 10,
            index_interval_bytes: 512,
            ..LogConfig::default()
        };
        if *name == "appendtime" {
            config.message_timestamp_type = MessageTimestampType::LogAppendTime;
        }
        if *name == "compacted" {
            config.cleanup_policy = CleanupPolicy { delete: false, compact: true };
        }
        let id = TopicId::from_bytes([number as u8 + 1; 16]);
        let log = manager.create_log(&TopicPartition::new(*name, 0), id, config).unwrap();
        write(&Topic { log, start: Timestamp(now.0 - 3_600_000), now });
    }
    let cleaner = LogCleaner::new(&env, manager.clone(), &config.log_cleaner);
    assert!(cleaner.clean_filthiest().await, "one log is to be compacted");
    manager.shutdown(-1).await;
}

type Write = fn(&Topic);

const TOPICS: [(&str, Write); 6] = [
    ("codecs", codecs),
    ("disorder", disorder),
    ("appendtime", append_time),
    ("reigns", reigns),
    ("transactions", transactions),
    ("compacted", compacted),
];

struct Topic {
    log: Arc<Log>,
    /// Time of the first record.
    start: Timestamp,
    now: Timestamp,
}

impl Topic {
    fn append(&self, batch: &Bytes, origin: AppendOrigin, epoch: i32) {
        let leader_epoch = LeaderEpoch(epoch);
        let append = LeaderAppend { leader_epoch, origin, now: self.now };
        self.log.append_as_leader(batch, append).unwrap();
        self.log.set_high_watermark(self.log.log_end_offset());
    }

    fn client(&self, batch: &Bytes) {
        self.append(batch, AppendOrigin::Client, 0);
    }

    fn at(&self, millis: i64) -> Timestamp {
        Timestamp(self.start.0 + millis)
    }
}

fn value(topic: &str, number: usize) -> String {
    format!("value {number} of {topic} {}", "abcdefghij".repeat(number % 7))
}

fn batch(builder: RecordBatchBuilder, records: &[(Timestamp, &str, &str)]) -> RecordBatchBuilder {
    records.iter().fold(builder, |mut builder, (timestamp, key, value)| {
        builder.append(&NewRecord {
            timestamp: *timestamp,
            key: Some(key.as_bytes()),
            value: Some(value.as_bytes()),
            headers: &[],
        });
        builder
    })
}

/// Every codec, null keys and values, headers.
fn codecs(topic: &Topic) {
    for number in 0..400 {
        let mut builder = RecordBatchBuilder::new();
        for index in 0..4 {
            let number = 4 * number + index;
            let (key, value) = (format!("key {number}"), value("codecs", number));
            builder.append(&NewRecord {
                timestamp: topic.at(number as i64),
                key: (index != 1).then_some(key.as_bytes()),
                value: (index != 2).then_some(value.as_bytes()),
                headers: if index == 3 { &[("trace", Some(b"t")), ("null", None)] } else { &[] },
            });
        }
        let codec = Compression::ALL[number % 5];
        topic.client(&builder.build_compressed(&mut Compressor::new(codec, None)).unwrap());
    }
}

/// Times that go back and forth.
fn disorder(topic: &Topic) {
    for number in 0..600_usize {
        let time = topic.at((number as i64 * 7919) % 600_000);
        let value = value("disorder", number);
        topic.client(&batch(RecordBatchBuilder::new(), &[(time, "k", &value)]).build());
    }
}

/// Times of the broker.
fn append_time(topic: &Topic) {
    for number in 0..100 {
        let value = value("appendtime", number);
        let records = [(topic.start, "k", value.as_str()), (topic.start, "l", value.as_str())];
        topic.client(&batch(RecordBatchBuilder::new(), &records).build());
    }
}

/// Several leaders, and an idempotent producer through all of them.
fn reigns(topic: &Topic) {
    for number in 0..300 {
        let producer = (ProducerId(4000), ProducerEpoch(0), number);
        let builder = RecordBatchBuilder::new().producer(producer.0, producer.1, producer.2);
        let value = value("reigns", number as usize);
        let records = [(topic.at(i64::from(number)), "k", value.as_str())];
        topic.append(&batch(builder, &records).build(), AppendOrigin::Client, 2 * (number / 100));
    }
}

/// Transactions that overlap: every third is aborted, and its values say so.
fn transactions(topic: &Topic) {
    let producer = |id: i64, sequence| {
        let id = ProducerId(5000 + id);
        RecordBatchBuilder::new().producer(id, ProducerEpoch(0), sequence).transactional()
    };
    for round in 0..60 {
        for id in 0..3 {
            let time = topic.at(i64::from(round) * 10 + id);
            let (aborts, number) = (id == 2, round as usize);
            let what = if aborts { "aborted" } else { "committed" };
            let values = [value(what, number), value(what, number + 1)];
            let records = [(time, "k", &*values[0]), (time, "l", &*values[1])];
            let data = batch(producer(id, 2 * round), &records).build();
            topic.append(&data, AppendOrigin::Coordinator, 0);
        }
        for id in [1, 2, 0] {
            let kind = if id == 2 { ControlRecordType::Abort } else { ControlRecordType::Commit };
            let mut marker = producer(id, -1).control();
            marker.append_control(kind, topic.at(i64::from(round) * 10 + 5), &[0, 0, 0, 0, 0, 7]);
            topic.append(&marker.build(), AppendOrigin::Coordinator, 0);
        }
    }
}

/// Twenty keys written over and over, tombstones, and what compaction leaves of it.
fn compacted(topic: &Topic) {
    for number in 0..500 {
        let codec = Compression::ALL[number % 5];
        let (key, value) = (format!("key {}", number % 20), value("compacted", number));
        let producer = (ProducerId(6000), ProducerEpoch(0), 2 * number as i32);
        let mut builder = RecordBatchBuilder::new().producer(producer.0, producer.1, producer.2);
        let timestamp = topic.at(number as i64);
        for (key, value) in [(key, Some(&value)), (format!("gone {}", number % 3), None)] {
            builder.append(&NewRecord {
                timestamp,
                key: Some(key.as_bytes()),
                value: value.map(|value| value.as_bytes()),
                headers: &[],
            });
        }
        topic.client(&builder.build_compressed(&mut Compressor::new(codec, None)).unwrap());
    }
}
