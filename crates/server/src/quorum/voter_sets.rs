//! Memberships as Kafka writes them: `VotersRecord` version 0, one for each voter set (KIP-853).
//!
//! Kafka does not note who merely follows. Here a new voter follows first, as a learner, and all
//! voters have to know of it: learners go into a tagged field, which Kafka's tools skip.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ottla_protocol::record_batch::{ControlRecordType, RecordBatchBuilder};
use ottla_protocol::{Timestamp, Uuid};

use super::batch::corrupt;
use super::raft_config::{Membership, VoterId, VoterNode, node_id_of, voter_of};

/// Tag of the field with learners, far from any that Kafka may come to use.
const LEARNERS_TAG: u64 = 10_000;
/// What the endpoint of a voter is called.
const LISTENER: &[u8] = b"CONTROLLER";

/// Adds a record for each voter set of `membership`; the first also names the learners.
pub(super) fn append_voters(
    batch: &mut RecordBatchBuilder,
    timestamp: Timestamp,
    membership: &Membership,
) -> io::Result<()> {
    let mut learners: BTreeSet<_> = membership.learner_ids().collect();
    for voters in membership.get_joint_config() {
        let mut value = BytesMut::new();
        value.put_i16(0);
        put_voters(&mut value, voters, membership)?;
        if learners.is_empty() {
            value.put_u8(0);
        } else {
            let mut field = BytesMut::new();
            put_voters(&mut field, &std::mem::take(&mut learners), membership)?;
            put_unsigned_varint(&mut value, 1);
            put_unsigned_varint(&mut value, LEARNERS_TAG);
            put_unsigned_varint(&mut value, field.len() as u64);
            value.put(field);
        }
        batch.append_control(ControlRecordType::KraftVoters, timestamp, &value);
    }
    Ok(())
}

fn put_voters(
    out: &mut BytesMut,
    voters: &BTreeSet<VoterId>,
    membership: &Membership,
) -> io::Result<()> {
    put_unsigned_varint(out, voters.len() as u64 + 1);
    for voter in voters {
        let node = membership.get_node(voter).cloned().unwrap_or_default();
        out.put_i32(node_id_of(*voter)?);
        out.put_slice(node.directory_id.as_bytes());
        if node.host.is_empty() {
            put_unsigned_varint(out, 1);
        } else {
            put_unsigned_varint(out, 2);
            put_string(out, LISTENER);
            put_string(out, node.host.as_bytes());
            out.put_u16(node.port);
            out.put_u8(0);
        }
        out.put_i16(0); // lowest kraft.version
        out.put_i16(0); // highest kraft.version
        out.put_slice(&[0, 0]); // no tags in the version range, none in the voter
    }
    Ok(())
}

/// The membership that [`append_voters`] wrote.
pub(super) fn decode_voters(records: &[(ControlRecordType, Bytes)]) -> io::Result<Membership> {
    let mut configs = Vec::new();
    let mut nodes = BTreeMap::new();
    for (kind, value) in records {
        if *kind != ControlRecordType::KraftVoters {
            return Err(corrupt("a voter set was expected"));
        }
        let mut value = value.clone();
        let _version = value.try_get_i16().map_err(corrupt)?;
        let voters = get_voters(&mut value)?;
        configs.push(voters.keys().copied().collect());
        nodes.extend(voters);
        for (tag, mut field) in get_tags(&mut value)? {
            if tag == LEARNERS_TAG {
                nodes.extend(get_voters(&mut field)?);
            }
        }
    }
    if configs.is_empty() || configs.iter().any(BTreeSet::is_empty) {
        return Err(corrupt("a membership without voters"));
    }
    Membership::new(configs, nodes).map_err(corrupt)
}

fn get_voters(value: &mut Bytes) -> io::Result<BTreeMap<VoterId, VoterNode>> {
    let mut voters = BTreeMap::new();
    for _ in 1..get_unsigned_varint(value)? {
        let voter = voter_of(value.try_get_i32().map_err(corrupt)?)?;
        let mut node = VoterNode { directory_id: get_uuid(value)?, ..VoterNode::default() };
        for endpoint in 1..get_unsigned_varint(value)? {
            let _listener = get_string(value)?;
            let host = get_string(value)?;
            let port = value.try_get_u16().map_err(corrupt)?;
            get_tags(value)?;
            if endpoint == 1 {
                (node.host, node.port) = (host, port);
            }
        }
        let _versions = value.try_get_i32().map_err(corrupt)?;
        get_tags(value)?;
        get_tags(value)?;
        voters.insert(voter, node);
    }
    Ok(voters)
}

/// The tagged fields at the end of a structure.
pub(super) fn get_tags(value: &mut Bytes) -> io::Result<Vec<(u64, Bytes)>> {
    let mut fields = Vec::new();
    for _ in 0..get_unsigned_varint(value)? {
        let tag = get_unsigned_varint(value)?;
        let len = get_unsigned_varint(value)?;
        let len = usize::try_from(len).ok().filter(|len| *len <= value.len());
        let len = len.ok_or_else(|| corrupt("a tagged field is cut short"))?;
        fields.push((tag, value.split_to(len)));
    }
    Ok(fields)
}

/// Reads sixteen bytes as an id.
pub(super) fn get_uuid(value: &mut Bytes) -> io::Result<Uuid> {
    let mut id = [0; 16];
    value.try_copy_to_slice(&mut id).map_err(corrupt)?;
    Ok(Uuid::from_bytes(id))
}

/// Writes a compact string.
pub(super) fn put_string(out: &mut BytesMut, text: &[u8]) {
    put_unsigned_varint(out, text.len() as u64 + 1);
    out.put_slice(text);
}

/// Reads what [`put_string`] wrote.
pub(super) fn get_string(value: &mut Bytes) -> io::Result<String> {
    let len = get_unsigned_varint(value)?.checked_sub(1).and_then(|len| usize::try_from(len).ok());
    let len =
        len.filter(|len| *len <= value.len()).ok_or_else(|| corrupt("a string is cut short"))?;
    String::from_utf8(value.split_to(len).to_vec()).map_err(corrupt)
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
