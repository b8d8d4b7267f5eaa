//! One Raft entry as one record batch, in the form that KRaft gives its metadata log (KIP-595).
//!
//! | entry | batch |
//! |---|---|
//! | a decision of the controller | the metadata records as values, without keys |
//! | a leader's first, empty entry | a control batch with one `LeaderChange` record |
//! | a membership | a control batch with one `KRaftVoters` record per voter set (KIP-853), two while joint |
//!
//! The batch's leader epoch is the entry's term; its index is how many batches precede it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ottla_protocol::record_batch::{ControlRecordType, NewRecord, RecordBatch, RecordBatchBuilder};
use ottla_protocol::{LeaderEpoch, Offset, Timestamp};

use super::batch::{control_records, corrupt, read_batch, values};
use super::raft_config::{LogEntry, Membership, Payload, Proposal, VoterId};
use super::raft_config::{epoch_of, log_id, node_id_of, voter_of};

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
    let base_offset = Some(batch.base_offset().0);
    Ok((batch, LogEntry { log_id: log_id(term, index), base_offset, payload }))
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

/// Adds a `VotersRecord` version 0 for each voter set of `membership`.
pub(super) fn append_voters(
    batch: &mut RecordBatchBuilder,
    timestamp: Timestamp,
    membership: &Membership,
) -> io::Result<()> {
    if membership.learner_ids().next().is_some() {
        return Err(io::Error::other("a membership with learners has no form in the metadata log"));
    }
    for voters in membership.get_joint_config() {
        let value = voters_record(voters)?;
        batch.append_control(ControlRecordType::KraftVoters, timestamp, &value);
    }
    Ok(())
}

fn voters_record(voters: &BTreeSet<VoterId>) -> io::Result<BytesMut> {
    let mut value = BytesMut::new();
    value.put_i16(0);
    put_unsigned_varint(&mut value, voters.len() as u64 + 1);
    for voter in voters {
        value.put_i32(node_id_of(*voter)?);
        value.put_bytes(0, 16); // directory id: not told
        value.put_u8(1); // endpoints: none
        value.put_i16(0); // lowest kraft.version
        value.put_i16(0); // highest kraft.version
        value.put_slice(&[0, 0]); // no tags in the version range, none in the voter
    }
    value.put_u8(0);
    Ok(value)
}

/// The membership that [`append_voters`] wrote.
pub(super) fn decode_voters(records: &[(ControlRecordType, Bytes)]) -> io::Result<Membership> {
    let mut configs = Vec::new();
    for (kind, value) in records {
        if *kind != ControlRecordType::KraftVoters {
            return Err(corrupt("a voter set was expected"));
        }
        configs.push(decode_voter_set(value.clone())?);
    }
    let nodes: BTreeMap<_, _> = configs.iter().flatten().map(|voter| (*voter, ())).collect();
    Membership::new(configs, nodes).map_err(corrupt)
}

fn decode_voter_set(mut value: Bytes) -> io::Result<BTreeSet<VoterId>> {
    const BEFORE_ENDPOINTS: usize = 4 + 16;
    if value.len() < 2 {
        return Err(corrupt("a voter set is cut short"));
    }
    value.advance(2);
    let count = get_unsigned_varint(&mut value)?;
    let mut voters = BTreeSet::new();
    for _ in 1..count {
        // A voter: id, directory id, endpoints (none), version range with tags, tags.
        if value.len() < BEFORE_ENDPOINTS + 1 + 4 + 2 {
            return Err(corrupt("a voter is cut short"));
        }
        voters.insert(voter_of(value.get_i32())?);
        value.advance(16);
        if value.get_u8() != 1 {
            return Err(corrupt("a voter with endpoints, which this version cannot read"));
        }
        value.advance(4 + 2);
    }
    Ok(voters)
}

/// Writes a varint as lengths and tags of flexible messages have it (KIP-482).
pub(super) fn put_unsigned_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Reads what [`put_unsigned_varint`] wrote.
pub(super) fn get_unsigned_varint(bytes: &mut Bytes) -> io::Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().map_err(corrupt)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(corrupt("a varint is too long"))
}
