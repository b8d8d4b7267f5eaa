//! The parts that messages are made of.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ottla_protocol::Uuid;

use super::Party;
use crate::quorum::LeaderAndEpoch;
use crate::quorum::batch::corrupt;
use crate::quorum::options::Voter;
use crate::quorum::raft_config::{LogId, Vote, VoterId, log_id};
use crate::quorum::voter_sets::{get_string, get_uuid, put_string};

/// Indexes beyond it would overflow in sums, and no log gets there.
const MAX_INDEX: u64 = 1 << 62;
/// Of elements in a list, and of characters in a text.
const MAX_LEN: usize = 1 << 16;

/// What is left of a message that is being read.
pub(super) struct Fields(Bytes);

impl Fields {
    /// The fields after the first byte, which has to be `version`.
    pub(super) fn of_version(bytes: Bytes, version: u8) -> io::Result<Self> {
        let mut fields = Self(bytes);
        match fields.u8()? {
            found if found == version => Ok(fields),
            found => Err(corrupt(format!(
                "a message of version {found}, where this node speaks {version}: run the same release on all nodes"
            ))),
        }
    }

    /// Refuses bytes that are left.
    pub(super) fn end(&self) -> io::Result<()> {
        match self.0.len() {
            0 => Ok(()),
            left => Err(corrupt(format!("{left} bytes follow a message"))),
        }
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.0)
    }

    pub(super) fn u8(&mut self) -> io::Result<u8> {
        self.0.try_get_u8().map_err(corrupt)
    }

    pub(super) fn flag(&mut self) -> io::Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(corrupt(format!("{other} is no flag"))),
        }
    }

    pub(super) fn u32(&mut self) -> io::Result<u32> {
        self.0.try_get_u32().map_err(corrupt)
    }

    pub(super) fn u64(&mut self) -> io::Result<u64> {
        self.0.try_get_u64().map_err(corrupt)
    }

    pub(super) fn i32(&mut self) -> io::Result<i32> {
        self.0.try_get_i32().map_err(corrupt)
    }

    /// A number that is not negative, and far from overflow.
    pub(super) fn offset(&mut self) -> io::Result<i64> {
        let offset = self.0.try_get_i64().map_err(corrupt)?;
        if !(0..=MAX_INDEX as i64).contains(&offset) {
            return Err(corrupt(format!("{offset} is no offset")));
        }
        Ok(offset)
    }

    pub(super) fn epoch(&mut self) -> io::Result<i32> {
        match self.i32()? {
            epoch if epoch >= 0 => Ok(epoch),
            epoch => Err(corrupt(format!("{epoch} is no epoch"))),
        }
    }

    pub(super) fn uuid(&mut self) -> io::Result<Uuid> {
        get_uuid(&mut self.0)
    }

    pub(super) fn text(&mut self) -> io::Result<String> {
        let text = get_string(&mut self.0)?;
        if text.len() > MAX_LEN {
            return Err(corrupt("a text is too long"));
        }
        Ok(text)
    }

    pub(super) fn party(&mut self) -> io::Result<Party> {
        Ok(Party { node_id: self.i32()?, directory_id: self.uuid()? })
    }

    /// A list, each element of which takes at least a byte.
    pub(super) fn list<T>(
        &mut self,
        read: impl Fn(&mut Self) -> io::Result<T>,
    ) -> io::Result<Vec<T>> {
        let count = self.u32()? as usize;
        if count > MAX_LEN || count > self.0.len() {
            return Err(corrupt(format!("{count} elements are too many")));
        }
        (0..count).map(|_| read(self)).collect()
    }

    fn term(&mut self) -> io::Result<u64> {
        Ok(u64::from(self.epoch()?.unsigned_abs()))
    }

    fn voter(&mut self) -> io::Result<VoterId> {
        match self.i32()? {
            voter if voter >= 0 => Ok(VoterId::from(voter.unsigned_abs())),
            voter => Err(corrupt(format!("{voter} is no voter"))),
        }
    }

    pub(super) fn vote(&mut self) -> io::Result<Vote> {
        let (term, voter, committed) = (self.term()?, self.voter()?, self.flag()?);
        Ok(if committed { Vote::new_committed(term, voter) } else { Vote::new(term, voter) })
    }

    pub(super) fn maybe<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    pub(super) fn log_id(&mut self) -> io::Result<Option<LogId>> {
        self.maybe(|fields| {
            let (term, index) = (fields.term()?, fields.u64()?);
            if index > MAX_INDEX {
                return Err(corrupt(format!("{index} is no index")));
            }
            Ok(log_id(term, index))
        })
    }

    pub(super) fn leader(&mut self) -> io::Result<LeaderAndEpoch> {
        Ok(LeaderAndEpoch { leader: self.maybe(Self::i32)?, epoch: self.epoch()? })
    }

    pub(super) fn address(&mut self) -> io::Result<Voter> {
        let (node_id, host) = (self.i32()?, self.text()?);
        let port = self.0.try_get_u16().map_err(corrupt)?;
        Ok(Voter { node_id, host, port })
    }
}

pub(super) fn put_party(out: &mut BytesMut, party: Party) {
    out.put_i32(party.node_id);
    out.put_slice(party.directory_id.as_bytes());
}

/// Writes as much of a list as [`Fields::list`] accepts.
pub(super) fn put_list<T>(out: &mut BytesMut, list: &[T], put: impl Fn(&mut BytesMut, &T)) {
    let count = list.len().min(MAX_LEN);
    out.put_u32(count as u32);
    list.iter().take(count).for_each(|element| put(out, element));
}

/// Writes as much of `text` as [`Fields::text`] accepts.
pub(super) fn put_text(out: &mut BytesMut, text: &str) {
    let end = (0..=text.len().min(MAX_LEN)).rev().find(|end| text.is_char_boundary(*end));
    put_string(out, &text.as_bytes()[..end.unwrap_or(0)]);
}

/// Terms and ids are Kafka's 32-bit numbers: they are checked where they come from.
pub(super) fn put_vote(out: &mut BytesMut, vote: &Vote) {
    out.put_u32(vote.leader_id.term as u32);
    out.put_u32(vote.leader_id.voted_for as u32);
    out.put_u8(u8::from(vote.committed));
}

pub(super) fn put_maybe<T>(
    out: &mut BytesMut,
    value: Option<T>,
    put: impl FnOnce(&mut BytesMut, T),
) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

pub(super) fn put_log_id(out: &mut BytesMut, log_id: Option<LogId>) {
    put_maybe(out, log_id, |out, log_id| {
        out.put_u32(log_id.leader_id.term as u32);
        out.put_u64(log_id.index);
    });
}

pub(super) fn put_leader(out: &mut BytesMut, leader: LeaderAndEpoch) {
    put_maybe(out, leader.leader, BytesMut::put_i32);
    out.put_i32(leader.epoch);
}

pub(super) fn put_address(out: &mut BytesMut, address: &Voter) {
    out.put_i32(address.node_id);
    put_text(out, &address.host);
    out.put_u16(address.port);
}
