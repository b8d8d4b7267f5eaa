//! Batches and records.

use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use ottla_coordinator::records::CoordinatorRecord;
use ottla_metadata::MetadataRecord;
use ottla_protocol::record_batch::{ControlRecordType, Record, RecordBatch, TimestampType};
use ottla_storage::inspect::{BatchAt, BatchStream, MAX_DECOMPRESSED, partition_of};
use serde_json::{Value, json};

use super::super::output::Output;
use super::super::text;
use super::small_files::about;
use super::{Decode, Dump};

impl Dump<'_> {
    /// Prints a `.log` file, or a snapshot of the metadata, which has the same form.
    pub(super) fn batches(&mut self, path: &Path) -> Result<()> {
        let decode = self.options.decode.unwrap_or_else(|| Decode::of(path));
        let with_records = self.options.records || self.options.decode.is_some();
        let offsets = self.options.offsets.clone().unwrap_or(0..i64::MAX);
        let mut stream = BatchStream::open(self.disk, path, 0)?;
        loop {
            let damage = match stream.next()? {
                None => return Ok(()),
                Some(Ok(BatchAt { batch, .. })) if batch.last_offset().0 < offsets.start => {
                    continue;
                }
                Some(Ok(BatchAt { batch, .. })) if batch.base_offset().0 >= offsets.end => {
                    return Ok(());
                }
                Some(Ok(at)) => {
                    print_batch(&mut self.output, path, &at)?;
                    let mut printed = Ok(());
                    if with_records {
                        let output = &mut self.output;
                        let mut print = |record: Record<'_>| {
                            if printed.is_ok() && offsets.contains(&at.batch.offset_of(&record).0) {
                                printed = print_record(output, path, &at.batch, &record, decode);
                            }
                            Ok::<(), ottla_protocol::record_batch::RecordError>(())
                        };
                        let read = at.batch.visit_records(
                            &mut self.decompressor,
                            MAX_DECOMPRESSED,
                            &mut print,
                        );
                        printed?;
                        if let Err(error) = read {
                            let (position, reason) = (at.position, error.to_string());
                            self.damaged(path, Some(position), &reason)?;
                        }
                    }
                    continue;
                }
                Some(Err(damage)) => damage,
            };
            self.damaged(path, Some(damage.position), &damage.damage.to_string())?;
            if !stream.resume(ottla_protocol::Offset(0))? {
                return Ok(());
            }
        }
    }
}

impl Decode {
    /// By the topic whose directory the file lies in.
    fn of(path: &Path) -> Self {
        let partition = path.parent().and_then(partition_of);
        match partition.as_ref().map_or("", |partition| &*partition.topic) {
            "__consumer_offsets" => Self::Offsets,
            "__cluster_metadata" => Self::Metadata,
            _ => Self::None,
        }
    }

    /// What a record says, in the words of its schema; `None` where it is only bytes.
    fn decode(self, record: &Record<'_>) -> Option<String> {
        let copy = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
        let (key, value) = (copy(record.key), copy(record.value));
        match self {
            Self::None => None,
            Self::Offsets => Some(match CoordinatorRecord::decode(key.as_ref(), value.as_ref()) {
                Ok(Some(record)) => format!("{record:?}"),
                Ok(None) => "a record of a newer group protocol".to_owned(),
                Err(error) => format!("cannot be decoded: {error}"),
            }),
            Self::Metadata => Some(match MetadataRecord::decode(value.unwrap_or_default()) {
                Ok(record) => format!("{record:?}"),
                Err(error) => format!("cannot be decoded: {error}"),
            }),
        }
    }
}

fn print_batch(output: &mut Output, path: &Path, at: &BatchAt<'_>) -> Result<()> {
    let BatchAt { position, batch } = at;
    let codec = batch.compression().map_or_else(|error| error.to_string(), |it| it.to_string());
    let by_broker = batch.timestamp_type() == TimestampType::LogAppendTime;
    output.text(|| {
        let mut line = format!(
            "  byte {position}  offsets {}..={}  {} records  {} bytes  {codec}  epoch {}  {}",
            batch.base_offset(),
            batch.last_offset(),
            batch.records_count(),
            batch.len(),
            batch.leader_epoch(),
            text::time(batch.max_timestamp()),
        );
        if by_broker {
            line.push_str("  log append time");
        }
        if batch.has_producer_id() {
            line.push_str(&format!(
                "  producer {} epoch {} sequences {}..={}",
                batch.producer_id(),
                batch.producer_epoch(),
                batch.base_sequence(),
                batch.last_sequence(),
            ));
        }
        for (set, word) in
            [(batch.is_transactional(), "  transactional"), (batch.is_control(), "  control")]
        {
            line.push_str(if set { word } else { "" });
        }
        if let Some(horizon) = batch.delete_horizon() {
            line.push_str(&format!("  delete horizon {}", text::time(horizon)));
        }
        line
    })?;
    output.json(|| {
        let mut object = json!({
            "size": batch.len(), "baseOffset": batch.base_offset().0,
            "lastOffset": batch.last_offset().0, "count": batch.records_count(),
            "leaderEpoch": batch.leader_epoch().0, "compression": codec,
            "timestampType": if by_broker { "LogAppendTime" } else { "CreateTime" },
            "baseTimestamp": batch.base_timestamp().0, "maxTimestamp": batch.max_timestamp().0,
            "producerId": batch.producer_id().0, "producerEpoch": batch.producer_epoch().0,
            "baseSequence": batch.base_sequence(), "lastSequence": batch.last_sequence(),
            "isTransactional": batch.is_transactional(), "isControl": batch.is_control(),
            "deleteHorizon": batch.delete_horizon().map(|horizon| horizon.0),
            "crc": batch.crc(),
        });
        about(&mut object, path, "batch", Some(*position));
        object
    })
}

fn print_record(
    output: &mut Output,
    path: &Path,
    batch: &RecordBatch<'_>,
    record: &Record<'_>,
    decode: Decode,
) -> Result<()> {
    let (offset, timestamp) = (batch.offset_of(record), batch.timestamp_of(record));
    let marker = batch.is_control().then(|| Marker::of(record));
    let meaning = match batch.is_control() {
        true => None,
        false => decode.decode(record),
    };
    output.text(|| {
        let mut line = format!("    {offset}  {}", text::time(timestamp));
        match (&marker, &meaning) {
            (Some(marker), _) => line.push_str(&format!("  {}", marker.text())),
            (None, Some(meaning)) => line.push_str(&format!("  {meaning}")),
            (None, None) => {
                let (key, value) = (text::bytes(record.key), text::bytes(record.value));
                line.push_str(&format!("  key {key}  value {value}"));
            }
        }
        for header in record.headers.iter() {
            let (key, value) = (String::from_utf8_lossy(header.key), text::bytes(header.value));
            line.push_str(&format!("  {key}: {value}"));
        }
        line
    })?;
    output.json(|| {
        let headers: Vec<Value> = record
            .headers
            .iter()
            .map(|header| {
                let key = String::from_utf8_lossy(header.key).into_owned();
                json!({ "key": key, "value": text::json_bytes(header.value) })
            })
            .collect();
        let mut object = json!({
            "offset": offset.0, "timestamp": timestamp.0, "key": text::json_bytes(record.key),
            "value": text::json_bytes(record.value), "headers": headers,
        });
        if let Some(meaning) = meaning {
            object["decoded"] = json!(meaning);
        }
        if let Some(Marker { kind, coordinator_epoch }) = marker {
            object["control"] = json!(kind);
            object["coordinatorEpoch"] = json!(coordinator_epoch);
        }
        about(&mut object, path, "record", None);
        object
    })
}

/// A control record.
struct Marker {
    kind: &'static str,
    /// Of the end of a transaction.
    coordinator_epoch: Option<i32>,
}

impl Marker {
    fn of(record: &Record<'_>) -> Self {
        let kind = record.key.and_then(ControlRecordType::from_key);
        let epoch = || {
            let bytes = record.value?.get(2..6)?.first_chunk()?;
            Some(i32::from_be_bytes(*bytes))
        };
        let (kind, coordinator_epoch) = match kind {
            Some(ControlRecordType::Abort) => ("abort", epoch()),
            Some(ControlRecordType::Commit) => ("commit", epoch()),
            Some(ControlRecordType::LeaderChange) => ("leader-change", None),
            Some(ControlRecordType::SnapshotHeader) => ("snapshot-header", None),
            Some(ControlRecordType::SnapshotFooter) => ("snapshot-footer", None),
            Some(ControlRecordType::KraftVersion) => ("kraft-version", None),
            Some(ControlRecordType::KraftVoters) => ("kraft-voters", None),
            None => ("unknown", None),
        };
        Self { kind, coordinator_epoch }
    }

    fn text(&self) -> String {
        match self.coordinator_epoch {
            Some(epoch) => format!("{}  coordinator epoch {epoch}", self.kind),
            None => self.kind.to_owned(),
        }
    }
}
