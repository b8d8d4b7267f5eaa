//! Snapshots: files `<end offset>-<epoch>.checkpoint` beside the log, in Kafka's form (KIP-630).
//!
//! A control batch with the `SnapshotHeader` and the voter sets, batches of metadata records with
//! offsets counted from 0, a control batch with the `SnapshotFooter`. What Raft needs besides goes
//! into one tagged field of the header, which Kafka's tools skip.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ottla_env::{DirEntry, Env, OpenMode};
use ottla_protocol::record_batch::{ControlRecordType, RecordBatch, RecordBatchBuilder};
use ottla_protocol::{LeaderEpoch, Offset, Timestamp};

use super::batch::{control_records, corrupt, read_batch, values};
use super::entry_codec::append_metadata_record;
use super::raft_config::{LogId, SnapshotMeta, StoredMembership, epoch_of, log_id};
use super::voter_sets::{append_voters, decode_voters, get_tags, put_unsigned_varint};

/// Tag of the field in the header that is ours, far from any that Kafka may come to use.
const RAFT_TAG: u64 = 10_000;
const RAFT_FIELD_LEN: usize = 5 * 8;
/// The first batch of a file is no larger: it has a header, and a record for each voter.
const HEADER_BATCH_BYTES: usize = 1 << 16;
/// Records are gathered into batches of about so many bytes.
const BATCH_BYTES: usize = 1 << 20;

/// A snapshot in memory.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Checkpoint {
    pub(super) meta: SnapshotMeta,
    /// Offset of the first record that it does not contain.
    pub(super) end_offset: i64,
    /// When the last record in it was written, milliseconds since the Unix epoch.
    pub(super) timestamp: i64,
    pub(super) records: Vec<Bytes>,
}

impl Checkpoint {
    /// Leader epoch of the last record in it.
    pub(super) fn epoch(&self) -> io::Result<i32> {
        epoch_of(self.meta.last_log_id.map_or(0, |last| last.leader_id.term))
    }

    /// Refuses numbers that no snapshot has, which arithmetic on them would trip over.
    pub(super) fn check(&self) -> io::Result<()> {
        let is_sound =
            |log_id: &LogId| log_id.index < 1 << 62 && epoch_of(log_id.leader_id.term).is_ok();
        let membership = &self.meta.last_membership;
        let last = self.meta.last_log_id.as_ref();
        if !(0..1 << 62).contains(&self.end_offset)
            || !last.is_some_and(is_sound)
            || !membership.log_id().as_ref().is_some_and(is_sound)
            || membership.log_id().as_ref() > last
        {
            return Err(corrupt("a snapshot of nothing"));
        }
        Ok(())
    }

    /// Its name in Kafka's form.
    pub(super) fn file_name(&self) -> io::Result<String> {
        let epoch = self.epoch()?;
        Ok(format!("{:020}-{epoch:010}.checkpoint", self.end_offset))
    }

    /// The contents of its file.
    pub(super) fn encode(&self) -> io::Result<Bytes> {
        let epoch = LeaderEpoch(self.epoch()?);
        let timestamp = Timestamp(self.timestamp);
        let mut out = BytesMut::new();
        let mut offset = 0;
        let batch_at = |offset| RecordBatchBuilder::new().base_offset(offset).leader_epoch(epoch);
        let mut put = |batch: RecordBatchBuilder| {
            offset += batch.len() as i64;
            out.put(batch.build());
            Offset(offset)
        };

        let mut batch = batch_at(Offset(0)).control();
        batch.append_control(ControlRecordType::SnapshotHeader, timestamp, &self.header());
        append_voters(&mut batch, timestamp, self.meta.last_membership.membership())?;
        let mut batch = batch_at(put(batch));
        for value in &self.records {
            append_metadata_record(&mut batch, self.timestamp, value);
            if batch.size() >= BATCH_BYTES {
                batch = batch_at(put(batch));
            }
        }
        let mut footer = if batch.is_empty() { batch } else { batch_at(put(batch)) }.control();
        // `SnapshotFooterRecord` version 0 without tags.
        footer.append_control(ControlRecordType::SnapshotFooter, timestamp, &[0, 0, 0]);
        put(footer);
        Ok(out.freeze())
    }

    /// `SnapshotHeaderRecord` version 0.
    fn header(&self) -> BytesMut {
        let mut value = BytesMut::new();
        value.put_i16(0);
        value.put_i64(self.timestamp);
        put_unsigned_varint(&mut value, 1);
        put_unsigned_varint(&mut value, RAFT_TAG);
        put_unsigned_varint(&mut value, RAFT_FIELD_LEN as u64);
        value.put_i64(self.end_offset);
        put_log_id(&mut value, self.meta.last_log_id);
        put_log_id(&mut value, *self.meta.last_membership.log_id());
        value
    }

    /// The snapshot that [`Checkpoint::encode`] wrote; a file without its footer is refused.
    pub(super) fn decode(mut bytes: Bytes) -> io::Result<Self> {
        let mut checkpoint: Option<Self> = None;
        loop {
            let batch = read_batch(&bytes)?;
            let next = batch.len();
            match &mut checkpoint {
                Some(checkpoint) if !batch.is_control() => {
                    checkpoint.records.extend(values(&bytes, &batch)?);
                }
                Some(_) => match control_records(&bytes, &batch)?.first() {
                    Some((ControlRecordType::SnapshotFooter, _)) if next == bytes.len() => break,
                    other => return Err(corrupt(format!("{other:?} instead of a footer"))),
                },
                None => match control_records(&bytes, &batch)?.split_first() {
                    Some(((ControlRecordType::SnapshotHeader, header), voters)) => {
                        checkpoint = Some(Self::decode_header(header.clone(), voters)?);
                    }
                    other => return Err(corrupt(format!("{other:?} instead of a header"))),
                },
            }
            bytes.advance(next);
        }
        checkpoint.ok_or_else(|| corrupt("a snapshot without header"))
    }

    fn decode_header(mut value: Bytes, voters: &[(ControlRecordType, Bytes)]) -> io::Result<Self> {
        if value.len() < 10 {
            return Err(corrupt("the header of a snapshot is cut short"));
        }
        value.advance(2);
        let timestamp = value.get_i64();
        for (tag, mut field) in get_tags(&mut value)? {
            if tag != RAFT_TAG {
                continue;
            }
            if field.len() < RAFT_FIELD_LEN {
                return Err(corrupt("the header of a snapshot has too short a Raft field"));
            }
            let end_offset = field.get_i64();
            let last_log_id = get_log_id(&mut field);
            let membership_id = get_log_id(&mut field);
            let last_membership = if voters.is_empty() {
                StoredMembership::default()
            } else {
                StoredMembership::new(membership_id, decode_voters(voters)?)
            };
            let meta = SnapshotMeta { last_log_id, last_membership };
            return Ok(Self { meta, end_offset, timestamp, records: Vec::new() });
        }
        Err(corrupt("the snapshot was not written by this program: it has no Raft field"))
    }
}

/// Writes a log id as its index plus one, 0 being none, and its term.
fn put_log_id(out: &mut BytesMut, log_id: Option<LogId>) {
    out.put_u64(log_id.map_or(0, |log_id| log_id.index + 1));
    out.put_u64(log_id.map_or(0, |log_id| log_id.leader_id.term));
}

fn get_log_id(field: &mut Bytes) -> Option<LogId> {
    let (next_index, term) = (field.get_u64(), field.get_u64());
    next_index.checked_sub(1).map(|index| log_id(term, index))
}

/// A snapshot on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SnapshotFile {
    pub(super) path: PathBuf,
    /// See [`Checkpoint::end_offset`].
    pub(super) end_offset: i64,
    pub(super) bytes: u64,
    /// See [`Checkpoint::timestamp`].
    pub(super) written: Timestamp,
}

/// The snapshots in `dir`, oldest first.
pub(super) fn list(env: &Env, dir: &Path) -> io::Result<Vec<SnapshotFile>> {
    let mut files = Vec::new();
    for (entry, end_offset) in entries(env, dir)? {
        let written = timestamp(env, &entry.path)?;
        files.push(SnapshotFile { path: entry.path, end_offset, bytes: entry.len, written });
    }
    Ok(files)
}

/// Whether there is any snapshot in `dir`.
pub(super) fn exists(env: &Env, dir: &Path) -> io::Result<bool> {
    entries(env, dir).map(|entries| !entries.is_empty())
}

/// The files of snapshots in `dir` with their end offsets, oldest first.
fn entries(env: &Env, dir: &Path) -> io::Result<Vec<(DirEntry, i64)>> {
    // Fixed width: the order of names is the order of offsets, then epochs.
    let entries = env.disk.read_dir(dir)?.into_iter().filter(|entry| !entry.is_dir);
    Ok(entries.filter_map(|entry| end_offset(&entry.name).map(|end| (entry, end))).collect())
}

/// The end offset in the name of a snapshot's file.
fn end_offset(name: &str) -> Option<i64> {
    let digits =
        |part: &str, width| part.len() == width && part.bytes().all(|b| b.is_ascii_digit());
    let (offset, epoch) = name.strip_suffix(".checkpoint")?.split_once('-')?;
    (digits(offset, 20) && digits(epoch, 10)).then(|| offset.parse().ok())?
}

/// The time in the first batch of a snapshot's file, which is that of the last record in it. A file that is damaged is as old
/// as can be.
fn timestamp(env: &Env, path: &Path) -> io::Result<Timestamp> {
    let mut start = vec![0; HEADER_BATCH_BYTES];
    let len = env.disk.open(path, OpenMode::Read)?.read_at(&mut start, 0)?;
    let batch = RecordBatch::parse(start.get(..len).unwrap_or_default());
    Ok(batch.map_or(Timestamp::NONE, |batch| batch.max_timestamp()))
}

/// Reads the newest snapshot in `dir`, if there is one.
pub(super) fn read_newest(env: &Env, dir: &Path) -> io::Result<Option<Checkpoint>> {
    let Some((DirEntry { path, .. }, _)) = entries(env, dir)?.pop() else { return Ok(None) };
    let checkpoint = Checkpoint::decode(Bytes::from(env.disk.read(&path)?)).map_err(|error| {
        io::Error::new(error.kind(), format!("the snapshot {} is damaged: {error}", path.display()))
    })?;
    Ok(Some(checkpoint))
}

/// Makes `checkpoint` the newest snapshot in `dir`, durably.
pub(super) fn write(env: &Env, dir: &Path, checkpoint: &Checkpoint) -> io::Result<()> {
    env.disk.write_atomic(&dir.join(checkpoint.file_name()?), &checkpoint.encode()?)
}
