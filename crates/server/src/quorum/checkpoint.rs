//! Snapshots: files `<end offset>-<epoch>.checkpoint` beside the log, in Kafka's form (KIP-630).
//!
//! A control batch with the `SnapshotHeader` and the voter sets, batches of metadata records with
//! offsets counted from 0, a control batch with the `SnapshotFooter`. What Raft needs besides goes
//! into one tagged field of the header, which Kafka's tools skip.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ottla_env::Env;

use super::batch::{
    Record, corrupt, decode_batch, encode_batch, get_unsigned_varint, put_unsigned_varint,
};
use super::entry_codec::{control_record, control_type, decode_voters, voter_records};
use super::raft_config::{LogId, SnapshotMeta, StoredMembership, epoch_of, log_id};

const SNAPSHOT_HEADER: i16 = 3;
const SNAPSHOT_FOOTER: i16 = 4;
/// Tag of the field in the header that is ours, far from any that Kafka may come to use.
const RAFT_TAG: u64 = 10_000;
const RAFT_FIELD_LEN: usize = 5 * 8;
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
    fn epoch(&self) -> io::Result<i32> {
        epoch_of(self.meta.last_log_id.map_or(0, |last| last.leader_id.term))
    }

    /// Its name in Kafka's form.
    pub(super) fn file_name(&self) -> io::Result<String> {
        let epoch = self.epoch()?;
        Ok(format!("{:020}-{epoch:010}.checkpoint", self.end_offset))
    }

    /// The contents of its file.
    pub(super) fn encode(&self) -> io::Result<Bytes> {
        let epoch = self.epoch()?;
        let mut out = BytesMut::new();
        let mut header = vec![self.header_record()];
        header.extend(voter_records(self.meta.last_membership.membership())?);
        encode_batch(&mut out, (0, epoch), self.timestamp, true, &header)?;
        let mut offset = header.len() as i64;
        let mut batch = Vec::new();
        let mut bytes = 0;
        for value in &self.records {
            batch.push(Record { key: None, value: value.clone() });
            bytes += value.len();
            if bytes >= BATCH_BYTES {
                encode_batch(&mut out, (offset, epoch), self.timestamp, false, &batch)?;
                offset += batch.len() as i64;
                batch.clear();
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            encode_batch(&mut out, (offset, epoch), self.timestamp, false, &batch)?;
            offset += batch.len() as i64;
        }
        let mut footer = BytesMut::new();
        footer.put_i16(0);
        footer.put_u8(0);
        let footer = control_record(SNAPSHOT_FOOTER, footer);
        encode_batch(&mut out, (offset, epoch), self.timestamp, true, &[footer])?;
        Ok(out.freeze())
    }

    /// `SnapshotHeaderRecord` version 0.
    fn header_record(&self) -> Record {
        let mut value = BytesMut::new();
        value.put_i16(0);
        value.put_i64(self.timestamp);
        put_unsigned_varint(&mut value, 1);
        put_unsigned_varint(&mut value, RAFT_TAG);
        put_unsigned_varint(&mut value, RAFT_FIELD_LEN as u64);
        value.put_i64(self.end_offset);
        put_log_id(&mut value, self.meta.last_log_id);
        put_log_id(&mut value, *self.meta.last_membership.log_id());
        control_record(SNAPSHOT_HEADER, value)
    }

    /// The snapshot that [`Checkpoint::encode`] wrote; a file without its footer is refused.
    pub(super) fn decode(mut bytes: Bytes) -> io::Result<Self> {
        let (header, control) = decode_batch(&bytes)?;
        let Some((first, voters)) = control.split_first() else {
            return Err(corrupt("a snapshot without header"));
        };
        if !header.is_control || control_type(first)? != SNAPSHOT_HEADER {
            return Err(corrupt("a snapshot without header"));
        }
        let mut checkpoint = Self::decode_header(first.value.clone(), voters)?;
        bytes.advance(header.len);
        loop {
            let (header, records) = decode_batch(&bytes)?;
            bytes.advance(header.len);
            if !header.is_control {
                checkpoint.records.extend(records.into_iter().map(|record| record.value));
                continue;
            }
            return match records.first().map(control_type).transpose()? {
                Some(SNAPSHOT_FOOTER) if bytes.is_empty() => Ok(checkpoint),
                _ => Err(corrupt("a snapshot does not end with its footer")),
            };
        }
    }

    fn decode_header(mut value: Bytes, voters: &[Record]) -> io::Result<Self> {
        if value.len() < 10 {
            return Err(corrupt("the header of a snapshot is cut short"));
        }
        value.advance(2);
        let timestamp = value.get_i64();
        for _ in 0..get_unsigned_varint(&mut value)? {
            let tag = get_unsigned_varint(&mut value)?;
            let len = get_unsigned_varint(&mut value)?;
            let len = usize::try_from(len).ok().filter(|len| *len <= value.len());
            let mut field = match len {
                Some(len) => value.split_to(len),
                None => return Err(corrupt("a field in the header of a snapshot is cut short")),
            };
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

/// The snapshot files in `dir`, oldest first.
pub(super) fn list(env: &Env, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<_> = env
        .disk
        .read_dir(dir)?
        .into_iter()
        .filter(|entry| !entry.is_dir && is_name(&entry.name))
        .map(|entry| entry.path)
        .collect();
    // Fixed width: the order of names is the order of offsets, then epochs.
    files.sort();
    Ok(files)
}

fn is_name(name: &str) -> bool {
    let digits =
        |part: &str, width| part.len() == width && part.bytes().all(|b| b.is_ascii_digit());
    name.strip_suffix(".checkpoint")
        .and_then(|stem| stem.split_once('-'))
        .is_some_and(|(offset, epoch)| digits(offset, 20) && digits(epoch, 10))
}

/// Reads the newest snapshot in `dir`, if there is one.
pub(super) fn read_newest(env: &Env, dir: &Path) -> io::Result<Option<Checkpoint>> {
    let Some(path) = list(env, dir)?.pop() else { return Ok(None) };
    let checkpoint = Checkpoint::decode(Bytes::from(env.disk.read(&path)?)).map_err(|error| {
        io::Error::new(error.kind(), format!("the snapshot {} is damaged: {error}", path.display()))
    })?;
    Ok(Some(checkpoint))
}

/// Makes `checkpoint` the newest snapshot in `dir`, durably, and removes the older ones.
pub(super) fn write(env: &Env, dir: &Path, checkpoint: &Checkpoint) -> io::Result<()> {
    let path = dir.join(checkpoint.file_name()?);
    env.disk.write_atomic(&path, &checkpoint.encode()?)?;
    for older in list(env, dir)?.into_iter().filter(|other| *other < path) {
        env.disk.remove_file(&older)?;
    }
    Ok(())
}
