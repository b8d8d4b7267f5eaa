//! Bodies of answers.

use std::io;

use bytes::{BufMut, BytesMut};
use openraft::raft::{AppendEntriesResponse, VoteResponse};

use super::fields::{
    Fields, put_address, put_leader, put_list, put_log_id, put_maybe, put_text, put_vote,
};
use super::{Joined, Pulled, PulledData, Response, SnapshotAnswer, unknown};

const REFUSED: u8 = 0;
const HELLO: u8 = 1;
const APPEND: u8 = 2;
const VOTE: u8 = 3;
const TRANSFER: u8 = 5;
const SNAPSHOT: u8 = 6;
const PULL: u8 = 7;
const JOIN: u8 = 8;
const STOPPING: u8 = 9;

const SUCCESS: u8 = 0;
const PARTIAL_SUCCESS: u8 = 1;
const CONFLICT: u8 = 2;
const HIGHER_VOTE: u8 = 3;

const NOT_LEADER: u8 = 0;
const BATCHES: u8 = 1;
const SNAPSHOT_PIECE: u8 = 2;
const DIVERGED: u8 = 3;

impl Response {
    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::Refused(_) => REFUSED,
            Self::Stopping => STOPPING,
            Self::Hello { .. } => HELLO,
            Self::Append(_) => APPEND,
            Self::Vote(_) => VOTE,
            Self::Transfer(_) => TRANSFER,
            Self::Snapshot(_) => SNAPSHOT,
            Self::Pull(_) => PULL,
            Self::Join(_) => JOIN,
        }
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Refused(why) => put_text(out, why),
            Self::Stopping => {}
            Self::Hello { is_empty, founders, endpoint } => {
                out.put_u8(u8::from(*is_empty));
                put_list(out, founders, |out, founder| put_text(out, founder));
                put_maybe(out, endpoint.as_ref(), put_address);
            }
            Self::Append(AppendEntriesResponse::Success) => out.put_u8(SUCCESS),
            Self::Append(AppendEntriesResponse::PartialSuccess(upto)) => {
                out.put_u8(PARTIAL_SUCCESS);
                put_log_id(out, *upto);
            }
            Self::Append(AppendEntriesResponse::Conflict) => out.put_u8(CONFLICT),
            Self::Append(AppendEntriesResponse::HigherVote(vote)) => {
                out.put_u8(HIGHER_VOTE);
                put_vote(out, vote);
            }
            Self::Vote(response) => {
                put_vote(out, &response.vote);
                out.put_u8(u8::from(response.vote_granted));
                put_log_id(out, response.last_log_id);
            }
            Self::Transfer(taken) => out.put_u8(u8::from(*taken)),
            Self::Snapshot(SnapshotAnswer::Continue(position)) => {
                out.put_u8(0);
                out.put_u64(*position);
            }
            Self::Snapshot(SnapshotAnswer::Done(vote)) => {
                out.put_u8(1);
                put_vote(out, vote);
            }
            Self::Pull(pulled) => encode_pulled(pulled, out),
            Self::Join(joined) => {
                out.put_u8(u8::from(joined.is_done));
                put_leader(out, joined.leader);
                put_list(out, &joined.voters, put_address);
            }
        }
    }

    pub(super) fn decode(kind: u8, fields: &mut Fields) -> io::Result<Self> {
        Ok(match kind {
            REFUSED => Self::Refused(fields.text()?),
            STOPPING => Self::Stopping,
            HELLO => Self::Hello {
                is_empty: fields.flag()?,
                founders: fields.list(Fields::text)?,
                endpoint: fields.maybe(Fields::address)?,
            },
            APPEND => Self::Append(match fields.u8()? {
                SUCCESS => AppendEntriesResponse::Success,
                PARTIAL_SUCCESS => AppendEntriesResponse::PartialSuccess(fields.log_id()?),
                CONFLICT => AppendEntriesResponse::Conflict,
                HIGHER_VOTE => AppendEntriesResponse::HigherVote(fields.vote()?),
                other => return Err(unknown(other)),
            }),
            VOTE => {
                let (vote, vote_granted) = (fields.vote()?, fields.flag()?);
                let last_log_id = fields.log_id()?;
                Self::Vote(VoteResponse { vote, vote_granted, last_log_id })
            }
            TRANSFER => Self::Transfer(fields.flag()?),
            SNAPSHOT => Self::Snapshot(match fields.flag()? {
                false => SnapshotAnswer::Continue(fields.u64()?),
                true => SnapshotAnswer::Done(fields.vote()?),
            }),
            PULL => Self::Pull(decode_pulled(fields)?),
            JOIN => Self::Join(Joined {
                is_done: fields.flag()?,
                leader: fields.leader()?,
                voters: fields.list(Fields::address)?,
            }),
            other => return Err(unknown(other)),
        })
    }
}

fn encode_pulled(pulled: &Pulled, out: &mut BytesMut) {
    put_leader(out, pulled.leader);
    put_list(out, &pulled.voters, put_address);
    out.put_i64(pulled.high_watermark);
    match &pulled.data {
        PulledData::NotLeader => out.put_u8(NOT_LEADER),
        PulledData::Batches(bytes) => {
            out.put_u8(BATCHES);
            out.put_slice(bytes);
        }
        PulledData::Snapshot { end_offset, epoch, total, position, bytes } => {
            out.put_u8(SNAPSHOT_PIECE);
            out.put_i64(*end_offset);
            out.put_i32(*epoch);
            out.put_u64(*total);
            out.put_u64(*position);
            out.put_slice(bytes);
        }
        PulledData::Diverged => out.put_u8(DIVERGED),
    }
}

fn decode_pulled(fields: &mut Fields) -> io::Result<Pulled> {
    let (leader, voters) = (fields.leader()?, fields.list(Fields::address)?);
    let high_watermark = fields.offset()?;
    let data = match fields.u8()? {
        NOT_LEADER => PulledData::NotLeader,
        BATCHES => PulledData::Batches(fields.rest()),
        SNAPSHOT_PIECE => PulledData::Snapshot {
            end_offset: fields.offset()?,
            epoch: fields.epoch()?,
            total: fields.u64()?,
            position: fields.u64()?,
            bytes: fields.rest(),
        },
        DIVERGED => PulledData::Diverged,
        other => return Err(unknown(other)),
    };
    Ok(Pulled { leader, voters, high_watermark, data })
}
