//! `.log` files, and snapshots of the metadata, which have the same form.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use ottla_env::{Disk, File, OpenMode};
use ottla_protocol::compression::Decompressor;
use ottla_protocol::record_batch::{
    LOG_OVERHEAD, MAGIC, NO_SEQUENCE, Record, RecordBatch, RecordError, TimestampType,
    increment_sequence,
};
use ottla_storage::inspect::MAX_DECOMPRESSED;

use super::decoder::{Decoder, control_record};
use crate::scripts::{Outcome, Stop, java};

/// Bytes up to and with the magic byte, which every format has at the same place.
const UP_TO_MAGIC: u64 = 17;
/// The shortest length field, of format 0.
const LEAST_LENGTH: i32 = 14;

/// The batches of a file one after the other, whether their checksums fit or not.
pub(super) struct LogFile {
    file: Arc<dyn File>,
    name: String,
    /// Where reading ends, in bytes.
    end: u64,
    position: u64,
    buffer: Vec<u8>,
}

impl LogFile {
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let file = disk.open(path, OpenMode::Read)?;
        let end = file.len()?;
        let name = path.display().to_string();
        Ok(Self { file, name, end, position: 0, buffer: Vec::new() })
    }

    /// Bytes up to where reading ends.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Where the next batch begins.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Reads on at `position`, and no further than `most` bytes from there.
    pub(super) fn slice(&mut self, position: u64, most: u64) -> Outcome {
        let len = self.file.len()?;
        if position > len {
            return Err(Stop::failed(format!(
                "Slice from position {position} exceeds end position of {}",
                self.name
            )));
        }
        self.position = position;
        self.end = len.min(position.saturating_add(most));
        Ok(())
    }

    /// The next batch; `None` where what is left is no whole one.
    pub(super) fn next(&mut self) -> Outcome<Option<RecordBatch<'_>>> {
        let (from, left) = (self.position, self.end.saturating_sub(self.position));
        if left <= UP_TO_MAGIC {
            return Ok(None);
        }
        self.read(UP_TO_MAGIC)?;
        let length = self.buffer.get(8..).and_then(|it| it.first_chunk()).copied();
        let length = i32::from_be_bytes(length.unwrap_or_default());
        if length < LEAST_LENGTH {
            return Err(Stop::failed(format!(
                "Found record size {length} smaller than minimum record overhead ({LEAST_LENGTH}) in file {}.",
                self.name
            )));
        }
        let size = LOG_OVERHEAD as u64 + u64::from(length.unsigned_abs());
        if size > left {
            return Ok(None);
        }
        self.read(size)?;
        let magic = self.buffer.get(16).copied().unwrap_or_default().cast_signed();
        if magic != MAGIC {
            return Err(Stop::failed(format!(
                "The batch at position {from} of {} has format {magic}: only format {MAGIC} is read, as brokers of Kafka 4 do (KIP-724).",
                self.name
            )));
        }
        self.position = from + size;
        RecordBatch::parse(&self.buffer).map(Some).map_err(|error| Stop::failed(error.to_string()))
    }

    /// Has the next `wanted` bytes in the buffer.
    fn read(&mut self, wanted: u64) -> Outcome {
        let wanted = usize::try_from(wanted).map_err(|_too_long| {
            Stop::failed(format!("{}: a batch of {wanted} bytes is too long", self.name))
        })?;
        self.buffer.resize(wanted, 0);
        let read = self.file.read_at(&mut self.buffer, self.position)?;
        if read < wanted {
            return Err(Stop::failed(format!("{} was cut while it was read", self.name)));
        }
        Ok(())
    }
}

/// How a log is shown.
pub(super) struct LogDump {
    pub(super) deep: bool,
    pub(super) contents: bool,
    pub(super) skip_metadata: bool,
    pub(super) max_bytes: i32,
}

/// Offsets that are followed by another than the next.
pub(super) type Gaps = BTreeMap<i64, i64>;

impl LogDump {
    pub(super) fn dump(
        &self,
        disk: &dyn Disk,
        path: &Path,
        decoder: &Decoder,
        gaps: &mut Gaps,
    ) -> Outcome {
        let mut log = LogFile::open(disk, path)?;
        log.slice(0, u64::from(self.max_bytes.unsigned_abs()))?;
        let mut last_offset = -1;
        let mut decompressor = Decompressor::new();
        let mut stdout = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
        loop {
            let position = log.position();
            let Some(batch) = log.next()? else { break };
            writeln!(stdout, "{}", batch_line(&batch, position))?;
            if !self.deep {
                continue;
            }
            let mut text = String::new();
            let mut show = |record: Record<'_>| {
                let offset = batch.offset_of(&record).0;
                if offset != last_offset + 1 {
                    gaps.insert(last_offset, offset);
                }
                last_offset = offset;
                self.record(&batch, &record, decoder, &mut text).map_err(Failed::Stopped)
            };
            let read = batch.visit_records(&mut decompressor, MAX_DECOMPRESSED, &mut show);
            stdout.write_all(text.as_bytes())?;
            if let Err(failed) = read {
                stdout.flush()?;
                return Err(match failed {
                    Failed::Stopped(stop) => stop,
                    Failed::Unreadable(error) => Stop::failed(error.to_string()),
                });
            }
        }
        let trailing = log.end() - log.position();
        if trailing > 0 && self.max_bytes == i32::MAX {
            let name = path.file_name().map(|it| it.to_string_lossy()).unwrap_or_default();
            writeln!(stdout, "Found {trailing} invalid bytes at the end of {name}")?;
        }
        Ok(stdout.flush()?)
    }

    fn record(
        &self,
        batch: &RecordBatch<'_>,
        record: &Record<'_>,
        decoder: &Decoder,
        text: &mut String,
    ) -> Outcome {
        if !self.skip_metadata {
            text.push_str(&record_line(batch, record));
            if batch.is_control() {
                text.push_str(&control_record(record)?);
            }
        }
        if self.contents && !batch.is_control() {
            let mut prefix = if self.skip_metadata { "| " } else { " " };
            let (key, value) = decoder.parse(batch.offset_of(record), record)?;
            if let Some(key) = key {
                let _ = write!(text, "{prefix}key: {key}");
                prefix = " ";
            }
            if let Some(value) = value {
                let _ = write!(text, "{prefix}payload: {value}");
            }
        }
        text.push('\n');
        Ok(())
    }
}

/// Why the records of a batch are not shown to their end.
enum Failed {
    Stopped(Stop),
    Unreadable(RecordError),
}

impl From<RecordError> for Failed {
    fn from(error: RecordError) -> Self {
        Self::Unreadable(error)
    }
}

fn time_type(batch: &RecordBatch<'_>) -> &'static str {
    match batch.timestamp_type() {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    }
}

fn batch_line(batch: &RecordBatch<'_>, position: u64) -> String {
    let codec = batch.compression().map_or_else(|error| error.to_string(), |it| it.to_string());
    let horizon = batch.delete_horizon().map(|horizon| horizon.0);
    let cells = [
        format!("baseOffset: {} lastOffset: {}", batch.base_offset(), batch.last_offset()),
        format!("count: {}", batch.records_count()),
        format!("baseSequence: {} lastSequence: {}", batch.base_sequence(), batch.last_sequence()),
        format!("producerId: {}", batch.producer_id()),
        format!("producerEpoch: {}", batch.producer_epoch()),
        format!("partitionLeaderEpoch: {}", batch.leader_epoch()),
        format!("isTransactional: {}", batch.is_transactional()),
        format!("isControl: {}", batch.is_control()),
        format!("deleteHorizonMs: {}", optional(horizon)),
        format!("position: {position}"),
        format!("{}: {}", time_type(batch), batch.max_timestamp().0),
        format!("size: {} magic: {MAGIC}", batch.len()),
        format!("compresscodec: {codec}"),
        format!("crc: {} isvalid: {}", batch.crc(), batch.crc_is_valid()),
    ];
    cells.join(" ")
}

fn record_line(batch: &RecordBatch<'_>, record: &Record<'_>) -> String {
    let size = |bytes: Option<&[u8]>| bytes.map_or("-1".to_owned(), |it| it.len().to_string());
    let sequence = match batch.base_sequence() {
        NO_SEQUENCE => NO_SEQUENCE,
        base => increment_sequence(base, record.offset_delta),
    };
    let headers = record.headers.iter().map(|header| java::string(header.key));
    let headers: Vec<_> = headers.collect();
    format!(
        "| offset: {} {}: {} keySize: {} valueSize: {} sequence: {sequence} headerKeys: [{}]",
        batch.offset_of(record),
        time_type(batch),
        batch.timestamp_of(record).0,
        size(record.key),
        size(record.value),
        headers.join(","),
    )
}

/// As Java's `OptionalLong` writes itself.
pub(super) fn optional(value: Option<i64>) -> String {
    value.map_or("OptionalLong.empty".to_owned(), |value| format!("OptionalLong[{value}]"))
}
