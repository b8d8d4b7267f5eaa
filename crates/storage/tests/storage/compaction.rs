//! Of each key only the last record stays; offsets, producers and transactions stay what they were.

use bytes::Bytes;
use ottla_config::{CleanupPolicy, LogConfig};
use ottla_protocol::compression::Decompressor;
use ottla_protocol::record_batch::{NewRecord, RecordBatchBuilder, RecordError, batches};
use ottla_protocol::{Offset, Timestamp};
use ottla_storage::{AppendOrigin, CleanerLimits, CleanerStats};

use crate::single_log::{NOW, SingleLog};

/// Offset, key and value of a record.
type Found = (i64, String, Option<String>);

fn compacted(segment_bytes: u32) -> LogConfig {
    LogConfig {
        cleanup_policy: CleanupPolicy { delete: false, compact: true },
        segment_bytes,
        index_interval_bytes: 1,
        ..LogConfig::default()
    }
}

fn found(offset: i64, key: &str, value: &str) -> Found {
    (offset, key.to_owned(), Some(value.to_owned()))
}

/// A batch of keys and values; no value is a tombstone.
fn batch(records: &[(&str, Option<&str>)]) -> RecordBatchBuilder {
    let mut builder = RecordBatchBuilder::new();
    for (key, value) in records {
        builder.append(&NewRecord {
            timestamp: NOW,
            key: Some(key.as_bytes()),
            value: value.map(str::as_bytes),
            headers: &[("h", Some(b"1"))],
        });
    }
    builder
}

impl SingleLog {
    fn compacted(segment_bytes: u32) -> Self {
        Self::new(compacted(segment_bytes))
    }

    fn put(&self, records: &[(&str, Option<&str>)]) {
        self.append_batch(&batch(records).build());
    }

    fn append_batch(&self, batch: &Bytes) {
        self.append_as(batch, AppendOrigin::Coordinator, 0).unwrap();
    }

    /// Ends the active segment, so that what it holds can be compacted, and commits everything.
    fn seal(&self) {
        let config = self.log.config();
        self.log.update_config(LogConfig { segment_bytes: 110, ..(*config).clone() });
        self.put(&[("seal", Some(""))]);
        self.log.update_config((*config).clone());
        self.log.set_high_watermark(self.log.log_end_offset());
    }

    fn clean_at(&self, now: Timestamp) -> CleanerStats {
        self.log.clean(&CleanerLimits::default(), now).unwrap()
    }

    fn clean(&self) -> CleanerStats {
        self.clean_at(NOW)
    }

    /// Bytes of all batches from `from` to the log's end.
    fn bytes(&self, from: i64) -> Bytes {
        let end = self.log.log_end_offset();
        self.log.read(Offset(from), usize::MAX, true, end).unwrap().read().unwrap()
    }

    /// All records but those that [`seal`](Self::seal) wrote.
    fn records(&self) -> Vec<Found> {
        let mut found = records(&self.bytes(self.log.log_start_offset().0));
        found.retain(|(_, key, _)| key != "seal");
        found
    }
}

fn records(bytes: &Bytes) -> Vec<Found> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut found = Vec::new();
    for batch in batches(bytes) {
        let batch = batch.unwrap();
        assert!(batch.crc_is_valid(), "{batch:?}");
        batch
            .visit_records(&mut Decompressor::new(), 1 << 20, |record| {
                let offset = batch.offset_of(&record).0;
                assert!(offset <= batch.last_offset().0);
                assert_eq!(batch.timestamp_of(&record), NOW);
                assert_eq!(record.headers.len(), usize::from(!batch.is_control()));
                found.push((offset, text(record.key.unwrap()), record.value.map(text)));
                Ok::<_, RecordError>(())
            })
            .unwrap();
    }
    found
}

#[test]
fn of_each_key_the_last_record_stays() {
    let mut log = SingleLog::compacted(1 << 20);
    log.put(&[("a", Some("1")), ("b", Some("1")), ("a", Some("2"))]);
    log.put(&[("a", Some("3")), ("c", Some("1"))]);
    log.put(&[("b", Some("2"))]);
    log.seal();
    let stats = log.clean();
    let kept = [found(3, "a", "3"), found(4, "c", "1"), found(5, "b", "2")];
    assert_eq!(log.records(), kept);
    assert_eq!((stats.keys, stats.records_kept, stats.cleaned_to), (3, 3, Offset(6)));
    log.restart();
    assert_eq!(log.records(), kept);
    log.crash();
    assert_eq!(log.records(), kept);
    assert_eq!(log.log.log_end_offset(), Offset(7));
}
