//! Bodies of messages.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};

use super::fields::{Fields, put_address, put_log_id, put_maybe, put_vote};
use super::{Ballot, Join, Pull, Request, SnapshotPiece, unknown};
use crate::quorum::batch::corrupt;
use crate::quorum::entry_codec::decode_entry;
use crate::quorum::raft_config::{LogEntry, LogId, MetadataRaft, Vote};

const HELLO: u8 = 1;
const APPEND: u8 = 2;
const VOTE: u8 = 3;
const PRE_VOTE: u8 = 4;
const TRANSFER: u8 = 5;
const SNAPSHOT: u8 = 6;
const PULL: u8 = 7;
const JOIN: u8 = 8;

impl Request {
    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::Hello => HELLO,
            Self::Append(_) => APPEND,
            Self::Vote(_) => VOTE,
            Self::PreVote(_) => PRE_VOTE,
            Self::Transfer(_) => TRANSFER,
            Self::Snapshot(_) => SNAPSHOT,
            Self::Pull(_) => PULL,
            Self::Join(_) => JOIN,
        }
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Hello => {}
            Self::Append(append) => {
                put_vote(out, &append.vote);
                put_log_id(out, append.prev_log_id);
                put_log_id(out, append.leader_commit);
                for batch in append.entries.iter().filter_map(|entry| entry.batch.as_ref()) {
                    out.put_slice(&batch.bytes);
                }
            }
            Self::Vote(ballot) | Self::PreVote(ballot) => {
                put_vote(out, &ballot.request.vote);
                put_log_id(out, ballot.request.last_log_id);
                out.put_u8(u8::from(ballot.request.leadership_transfer));
                put_maybe(out, ballot.vanished.as_ref(), put_vote);
            }
            Self::Transfer(transfer) => {
                put_vote(out, transfer.from_leader());
                out.put_u32(*transfer.to_node_id() as u32);
                put_log_id(out, transfer.last_log_id().copied());
            }
            Self::Snapshot(piece) => {
                put_vote(out, &piece.vote);
                out.put_i64(piece.end_offset);
                out.put_i32(piece.epoch);
                out.put_u64(piece.total);
                out.put_u64(piece.position);
                out.put_slice(&piece.bytes);
            }
            Self::Pull(pull) => {
                out.put_i64(pull.offset);
                out.put_i32(pull.epoch);
                out.put_u32(pull.max_bytes);
                out.put_u32(pull.max_wait_ms);
                put_maybe(out, pull.snapshot, |out, (end_offset, epoch, position)| {
                    out.put_i64(end_offset);
                    out.put_i32(epoch);
                    out.put_u64(position);
                });
            }
            Self::Join(join) => {
                put_address(out, &join.endpoint);
                out.put_u8(u8::from(join.wants_vote));
            }
        }
    }

    pub(super) fn decode(kind: u8, fields: &mut Fields) -> io::Result<Self> {
        Ok(match kind {
            HELLO => Self::Hello,
            APPEND => Self::Append(decode_append(fields)?),
            VOTE => Self::Vote(decode_ballot(fields)?),
            PRE_VOTE => Self::PreVote(decode_ballot(fields)?),
            TRANSFER => {
                let (from, to) = (fields.vote()?, u64::from(fields.u32()?));
                if !from.committed {
                    return Err(corrupt("leadership is given away by a candidate"));
                }
                Self::Transfer(TransferLeaderRequest::new(from, to, fields.log_id()?))
            }
            SNAPSHOT => Self::Snapshot(SnapshotPiece {
                vote: leaders_vote(fields)?,
                end_offset: fields.offset()?,
                epoch: fields.epoch()?,
                total: fields.u64()?,
                position: fields.u64()?,
                bytes: fields.rest(),
            }),
            PULL => Self::Pull(Pull {
                offset: fields.offset()?,
                epoch: fields.epoch()?,
                max_bytes: fields.u32()?,
                max_wait_ms: fields.u32()?,
                snapshot: fields
                    .maybe(|fields| Ok((fields.offset()?, fields.epoch()?, fields.u64()?)))?,
            }),
            JOIN => Self::Join(Join { endpoint: fields.address()?, wants_vote: fields.flag()? }),
            other => return Err(unknown(other)),
        })
    }
}

/// A vote that a majority gave: nobody else may append.
fn leaders_vote(fields: &mut Fields) -> io::Result<Vote> {
    let vote = fields.vote()?;
    if !vote.committed {
        return Err(corrupt("only a leader may replicate"));
    }
    Ok(vote)
}

fn decode_ballot(fields: &mut Fields) -> io::Result<Ballot> {
    let (vote, last_log_id) = (fields.vote()?, fields.log_id()?);
    if vote.committed {
        return Err(corrupt("only a candidate may ask for votes"));
    }
    let leadership_transfer = fields.flag()?;
    let request = VoteRequest { vote, last_log_id, leadership_transfer };
    Ok(Ballot { request, vanished: fields.maybe(Fields::vote)? })
}

fn decode_append(fields: &mut Fields) -> io::Result<AppendEntriesRequest<MetadataRaft>> {
    let (vote, prev_log_id, leader_commit) =
        (leaders_vote(fields)?, fields.log_id()?, fields.log_id()?);
    let entries = decode_entries(fields.rest(), prev_log_id, vote.leader_id.term)?;
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

/// Batches as entries that follow `prev`: their offsets without gaps, their terms rising at most to `term`.
fn decode_entries(mut bytes: Bytes, prev: Option<LogId>, term: u64) -> io::Result<Vec<LogEntry>> {
    let mut entries: Vec<LogEntry> = Vec::new();
    let mut index = prev.map_or(0, |prev| prev.index + 1);
    let mut lowest_term = prev.map_or(0, |prev| prev.leader_id.term);
    let mut due_offset = None;
    while bytes.has_remaining() {
        let (batch, entry) = decode_entry(&bytes, index)?;
        let (len, base_offset, next_offset) =
            (batch.len(), batch.base_offset(), batch.next_offset());
        let entry_term = entry.log_id.leader_id.term;
        if !(lowest_term..=term).contains(&entry_term)
            || due_offset.is_some_and(|due| due != base_offset)
        {
            return Err(corrupt(format!("the entry {} is out of order", entry.log_id)));
        }
        if next_offset.0 - base_offset.0 != entry.record_count() as i64 {
            return Err(corrupt(format!("the entry {} has offsets without records", entry.log_id)));
        }
        (index, lowest_term, due_offset) = (index + 1, entry_term, Some(next_offset));
        entries.push(entry);
        bytes.advance(len);
    }
    Ok(entries)
}
