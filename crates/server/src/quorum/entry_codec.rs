//! One Raft entry as one record batch, in the form that KRaft gives its metadata log (KIP-595).
//!
//! | entry | batch |
//! |---|---|
//! | a decision of the controller | the metadata records as values, without keys |
//! | a leader's first, empty entry | a control batch with one `LeaderChange` record |
//! | a membership | a control batch with one `KRaftVoters` record per voter set (KIP-853), two while joint |
//!
//! The batch's leader epoch is the entry's term; its index is how many batches precede it.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use ottla_protocol::record_batch::{ControlRecordType, NewRecord, RecordBatch, RecordBatchBuilder};
use ottla_protocol::{LeaderEpoch, Offset, Timestamp};

use super::batch::{control_records, corrupt, read_batch, values};
use super::raft_config::{LogEntry, Payload, Proposal, StoredBatch, VoterId};
use super::raft_config::{epoch_of, log_id, node_id_of};
use super::voter_sets::{append_voters, decode_voters};

/// `entry` as the batch at `base_offset`. `leader` wrote it, at `now` if it is the quorum's own.
pub(super) fn encode_entry(
    entry: &LogEntry,
    base_offset: i64,
    leader: VoterId,
    now: Timestamp,
) -> io::Result<Bytes> {
    let mut batch = RecordBatchBuilder::new()
        .base_offset(Offset(base_offset))
        .leader_epoch(LeaderEpoch(epoch_of(entry.log_id.leader_id.term)?));
    match &entry.payload {
        Payload::Normal(proposal) => {
            for value in &proposal.records {
                append_metadata_record(&mut batch, proposal.timestamp, value);
            }
        }
        Payload::Blank => {
            batch = batch.control();
            let value = leader_change(leader)?;
            batch.append_control(ControlRecordType::LeaderChange, now, &value);
        }
        Payload::Membership(membership) => {
            batch = batch.control();
            append_voters(&mut batch, now, membership)?;
        }
    }
    Ok(batch.build())
}

/// Adds a metadata record: a value without key.
pub(super) fn append_metadata_record(batch: &mut RecordBatchBuilder, timestamp: i64, value: &[u8]) {
    let timestamp = Timestamp(timestamp);
    batch.append(&NewRecord { timestamp, value: Some(value), ..NewRecord::default() });
}

/// The entry number `index` from the batch that `bytes` begins with, and the batch.
pub(super) fn decode_entry(bytes: &Bytes, index: u64) -> io::Result<(RecordBatch<'_>, LogEntry)> {
    let batch = read_batch(bytes)?;
    let payload = if batch.is_control() {
        let records = control_records(bytes, &batch)?;
        match records.first() {
            Some((ControlRecordType::LeaderChange, _)) => Payload::Blank,
            Some((ControlRecordType::KraftVoters, _)) => {
                Payload::Membership(decode_voters(&records)?)
            }
            other => return Err(corrupt(format!("a control record {other:?} in the log"))),
        }
    } else {
        let records = values(bytes, &batch)?;
        Payload::Normal(Proposal { timestamp: batch.max_timestamp().0, records })
    };
    let term = u64::try_from(batch.leader_epoch().0).map_err(corrupt)?;
    let base_offset = batch.base_offset().0;
    let stored = Some(StoredBatch { base_offset, bytes: bytes.slice(..batch.len()) });
    Ok((batch, LogEntry { log_id: log_id(term, index), batch: stored, payload }))
}

/// `LeaderChangeMessage` version 0. Who voted is not known to the log: both lists stay empty.
fn leader_change(leader: VoterId) -> io::Result<BytesMut> {
    let mut value = BytesMut::new();
    value.put_i16(0);
    value.put_i32(node_id_of(leader)?);
    let (no_voters, no_granting_voters, no_tags) = (1, 1, 0);
    value.put_slice(&[no_voters, no_granting_voters, no_tags]);
    Ok(value)
}
