//! The file `quorum-state`: this voter's vote, and from where on its log counts.
//!
//! Two slots of 512 bytes. A write that must last goes to the slot that does not hold the last
//! synced state and is synced before it counts, so that a torn write leaves the older slot.
//!
//! ```text
//! slot: magic 8 | sequence 8 | cluster id 16 | node.id 4 | flags 1 | vote term 8 | voted for 8
//!       | purged index 8 | purged term 8 | log start offset 8 | flushed end offset 8
//!       | directory id 16 | crc32c 4
//! ```
//! The directory id is missing in files that an older release wrote (magic `OTTLAQS1`).

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, BufMut, BytesMut};
use crc_fast::crc32_iscsi as crc32c;
use ottla_env::{Env, File, OpenMode};
use ottla_protocol::Uuid;

use super::batch::corrupt;
use super::raft_config::{LogId, Vote, log_id};

const MAGIC: u64 = u64::from_be_bytes(*b"OTTLAQS2");
const MAGIC_WITHOUT_DIRECTORY: u64 = u64::from_be_bytes(*b"OTTLAQS1");
const SLOT: usize = 512;
const CONTENT: usize = CONTENT_WITHOUT_DIRECTORY + 16;
const CONTENT_WITHOUT_DIRECTORY: usize = 8 + 8 + 16 + 4 + 1 + 6 * 8;
const VOTED: u8 = 1;
const VOTE_COMMITTED: u8 = 2;
const PURGED: u8 = 4;

/// Whose metadata log this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) cluster_id: Uuid,
    pub(super) node_id: i32,
    /// `directory.id` of the directory that it was written in (KIP-853); zero if it is not known.
    pub(super) directory_id: Uuid,
}

/// What the file holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct QuorumState {
    pub(super) owner: Owner,
    pub(super) vote: Option<Vote>,
    /// The last entry that a snapshot has replaced.
    pub(super) purged: Option<LogId>,
    /// Where the entry after `purged` begins.
    pub(super) log_start_offset: i64,
    /// Everything before it had reached the disk. It may lag behind what really had.
    pub(super) flushed_end_offset: i64,
}

/// What a `quorum-state` file says, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumStateContents {
    /// The cluster it belongs to.
    pub cluster_id: Uuid,
    /// The node it belongs to.
    pub node_id: i32,
    /// `directory.id` of the directory that it was written in; zero if it is not known.
    pub directory_id: Uuid,
    /// The newest term in which this node voted, for which node, and whether that one leads.
    pub vote: Option<(u64, u64, bool)>,
    /// Index and term of the last entry that a snapshot has replaced.
    pub purged: Option<(u64, u64)>,
    /// Offset where the log starts.
    pub log_start_offset: i64,
    /// Everything before this offset had reached the disk; it may lag behind what really had.
    pub flushed_end_offset: i64,
}

/// Reads the contents of a `quorum-state` file; `None` if neither slot has a right checksum.
pub fn read_quorum_state(contents: &[u8]) -> Option<QuorumStateContents> {
    let slots = contents.chunks(SLOT).take(2).filter_map(decode);
    let (state, _) = slots.max_by_key(|(_, sequence)| *sequence)?;
    let vote = state.vote.map(|it| (it.leader_id.term, it.leader_id.voted_for, it.committed));
    Some(QuorumStateContents {
        cluster_id: state.owner.cluster_id,
        node_id: state.owner.node_id,
        directory_id: state.owner.directory_id,
        vote,
        purged: state.purged.map(|it| (it.index, it.leader_id.term)),
        log_start_offset: state.log_start_offset,
        flushed_end_offset: state.flushed_end_offset,
    })
}

/// The open file, and its contents in memory.
pub(super) struct QuorumStateFile {
    file: Arc<dyn File>,
    state: QuorumState,
    sequence: u64,
    synced_slot: usize,
}

impl QuorumStateFile {
    /// Opens `path`, or makes it for `owner`.
    pub(super) fn open(env: &Env, path: &Path, owner: Owner) -> io::Result<Self> {
        if !env.disk.exists(path) {
            let state = QuorumState {
                owner,
                vote: None,
                purged: None,
                log_start_offset: 0,
                flushed_end_offset: 0,
            };
            let mut contents = encode(&state, 0);
            contents.resize(2 * SLOT, 0);
            env.disk.write_atomic(path, &contents)?;
        }
        let contents = env.disk.read(path)?;
        let file = env.disk.open(path, OpenMode::ReadWrite)?;
        let slots = contents.chunks(SLOT).take(2).enumerate();
        let newest = slots
            .filter_map(|(slot, bytes)| {
                decode(bytes).map(|(state, sequence)| (sequence, slot, state))
            })
            .max_by_key(|(sequence, _, _)| *sequence);
        let Some((sequence, synced_slot, state)) = newest else {
            return Err(corrupt(format!(
                "{} holds no valid vote: its checksums are wrong",
                path.display()
            )));
        };
        // The newest slot may never have been synced, or in vain: a sync that fails leaves the system with pages that it takes
        // for written. So it is written again, with the same bytes; from here on it counts as synced.
        let newest = &contents[synced_slot * SLOT..];
        let newest = &newest[..newest.len().min(SLOT)];
        file.write_all_at(&mut [IoSlice::new(newest)], (synced_slot * SLOT) as u64)?;
        file.sync_data()?;
        Ok(Self { file, state, sequence, synced_slot })
    }

    pub(super) fn state(&self) -> &QuorumState {
        &self.state
    }

    /// Changes the state; on the disk when this returns.
    pub(super) fn save(&mut self, change: impl FnOnce(&mut QuorumState)) -> io::Result<()> {
        let slot = self.write(change)?;
        self.file.sync_data()?;
        self.synced_slot = slot;
        Ok(())
    }

    /// Remembers how far the log has been flushed. Costs no sync: a lower bound is all that is
    /// needed, to tell a torn tail from damage.
    pub(super) fn mark_flushed(&mut self, end_offset: i64) -> io::Result<()> {
        self.write(|state| state.flushed_end_offset = state.flushed_end_offset.max(end_offset))?;
        Ok(())
    }

    fn write(&mut self, change: impl FnOnce(&mut QuorumState)) -> io::Result<usize> {
        let mut state = self.state.clone();
        change(&mut state);
        let slot = 1 - self.synced_slot;
        let sequence = self.sequence + 1;
        let contents = encode(&state, sequence);
        self.file.write_all_at(&mut [IoSlice::new(&contents)], (slot * SLOT) as u64)?;
        self.state = state;
        self.sequence = sequence;
        Ok(slot)
    }
}

fn encode(state: &QuorumState, sequence: u64) -> BytesMut {
    let mut out = BytesMut::with_capacity(2 * SLOT);
    let mut flags = 0;
    let (mut term, mut voted_for) = (0, 0);
    if let Some(vote) = &state.vote {
        flags |= VOTED | if vote.committed { VOTE_COMMITTED } else { 0 };
        (term, voted_for) = (vote.leader_id.term, vote.leader_id.voted_for);
    }
    let (mut purged_index, mut purged_term) = (0, 0);
    if let Some(purged) = &state.purged {
        flags |= PURGED;
        (purged_index, purged_term) = (purged.index, purged.leader_id.term);
    }
    out.put_u64(MAGIC);
    out.put_u64(sequence);
    out.put_slice(state.owner.cluster_id.as_bytes());
    out.put_i32(state.owner.node_id);
    out.put_u8(flags);
    out.put_u64(term);
    out.put_u64(voted_for);
    out.put_u64(purged_index);
    out.put_u64(purged_term);
    out.put_i64(state.log_start_offset);
    out.put_i64(state.flushed_end_offset);
    out.put_slice(state.owner.directory_id.as_bytes());
    let crc = crc32c(&out);
    out.put_u32(crc);
    out.resize(SLOT, 0);
    out
}

/// The state in a slot and its sequence number; `None` if it holds none.
fn decode(slot: &[u8]) -> Option<(QuorumState, u64)> {
    let magic = slot.first_chunk().map(|magic| u64::from_be_bytes(*magic))?;
    let len = match magic {
        MAGIC => CONTENT,
        MAGIC_WITHOUT_DIRECTORY => CONTENT_WITHOUT_DIRECTORY,
        _ => return None,
    };
    let (mut content, mut crc) = slot.split_at_checked(len)?;
    if crc.try_get_u32().ok()? != crc32c(content) {
        return None;
    }
    content.advance(8);
    let sequence = content.get_u64();
    let mut cluster_id = [0; 16];
    content.copy_to_slice(&mut cluster_id);
    let node_id = content.get_i32();
    let flags = content.get_u8();
    let (term, voted_for) = (content.get_u64(), content.get_u64());
    let (purged_index, purged_term) = (content.get_u64(), content.get_u64());
    let vote = (flags & VOTED != 0).then(|| {
        if flags & VOTE_COMMITTED != 0 {
            Vote::new_committed(term, voted_for)
        } else {
            Vote::new(term, voted_for)
        }
    });
    let (log_start_offset, flushed_end_offset) = (content.get_i64(), content.get_i64());
    let mut directory_id = [0; 16];
    if magic == MAGIC {
        content.copy_to_slice(&mut directory_id);
    }
    let state = QuorumState {
        owner: Owner {
            cluster_id: Uuid::from_bytes(cluster_id),
            node_id,
            directory_id: Uuid::from_bytes(directory_id),
        },
        vote,
        purged: (flags & PURGED != 0).then(|| log_id(purged_term, purged_index)),
        log_start_offset,
        flushed_end_offset,
    };
    Some((state, sequence))
}
