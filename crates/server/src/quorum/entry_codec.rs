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

use super::batch::{
    BatchHeader, Record, corrupt, decode_batch, encode_batch, get_unsigned_varint,
    put_unsigned_varint,
};
use super::raft_config::{LogEntry, Membership, Payload, Proposal, VoterId};
use super::raft_config::{epoch_of, log_id, node_id_of, voter_of};

const LEADER_CHANGE: i16 = 2;
const VOTERS: i16 = 6;

/// Appends `entry` to `out` as the batch at `base_offset`. `leader` wrote it.
pub(super) fn encode_entry(
    out: &mut BytesMut,
    entry: &LogEntry,
    base_offset: i64,
    leader: VoterId,
) -> io::Result<()> {
    let at = (base_offset, epoch_of(entry.log_id.leader_id.term)?);
    match &entry.payload {
        Payload::Normal(proposal) => {
            let records: Vec<_> = proposal
                .records
                .iter()
                .map(|value| Record { key: None, value: value.clone() })
                .collect();
            encode_batch(out, at, proposal.timestamp, false, &records)
        }
        Payload::Blank => encode_batch(out, at, 0, true, &[leader_change(leader)?]),
        Payload::Membership(membership) => {
            encode_batch(out, at, 0, true, &voter_records(membership)?)
        }
    }
}

/// The entry number `index` from the batch that `bytes` begins with.
pub(super) fn decode_entry(bytes: &Bytes, index: u64) -> io::Result<(BatchHeader, LogEntry)> {
    let (header, records) = decode_batch(bytes)?;
    let payload = if header.is_control {
        match records.first().map(control_type).transpose()? {
            Some(LEADER_CHANGE) => Payload::Blank,
            Some(VOTERS) => Payload::Membership(decode_voters(&records)?),
            other => return Err(corrupt(format!("control record of type {other:?} in the log"))),
        }
    } else {
        let records = records.into_iter().map(|record| record.value).collect();
        Payload::Normal(Proposal { timestamp: header.timestamp, records })
    };
    let term = u64::try_from(header.epoch).map_err(corrupt)?;
    let log_id = log_id(term, index);
    Ok((header, LogEntry { log_id, base_offset: Some(header.base_offset), payload }))
}

/// A control record of `kind`, version 0.
pub(super) fn control_record(kind: i16, value: BytesMut) -> Record {
    let mut key = BytesMut::with_capacity(4);
    key.put_i16(0);
    key.put_i16(kind);
    Record { key: Some(key.freeze()), value: value.freeze() }
}

/// The type of a control record.
pub(super) fn control_type(record: &Record) -> io::Result<i16> {
    match &record.key {
        Some(key) if key.len() >= 4 => Ok(key.slice(2..).get_i16()),
        Some(_) | None => Err(corrupt("a control record without type")),
    }
}

/// `LeaderChangeMessage` version 0. Who voted is not known to the log: both lists stay empty.
fn leader_change(leader: VoterId) -> io::Result<Record> {
    let mut value = BytesMut::new();
    value.put_i16(0);
    value.put_i32(node_id_of(leader)?);
    let (no_voters, no_granting_voters, no_tags) = (1, 1, 0);
    value.put_slice(&[no_voters, no_granting_voters, no_tags]);
    Ok(control_record(LEADER_CHANGE, value))
}

/// `VotersRecord` version 0, one for each voter set of `membership`.
pub(super) fn voter_records(membership: &Membership) -> io::Result<Vec<Record>> {
    if membership.learner_ids().next().is_some() {
        return Err(io::Error::other("a membership with learners has no form in the metadata log"));
    }
    membership.get_joint_config().iter().map(voters_record).collect()
}

fn voters_record(voters: &BTreeSet<VoterId>) -> io::Result<Record> {
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
    Ok(control_record(VOTERS, value))
}

/// The membership that [`voter_records`] wrote.
pub(super) fn decode_voters(records: &[Record]) -> io::Result<Membership> {
    let mut configs = Vec::new();
    for record in records {
        if control_type(record)? != VOTERS {
            return Err(corrupt("a voter set was expected"));
        }
        configs.push(decode_voter_set(record.value.clone())?);
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
