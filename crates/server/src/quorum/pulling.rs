//! The observer's side of a pull: asks a voter for what follows, and makes it whole.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use ottla_protocol::Uuid;

use super::batch::{corrupt, read_batch, values};
use super::checkpoint::Checkpoint;
use super::messages::{Pull, PulledData, Request, Response};
use super::options::{Voter, VoterTransport};
use super::peers::{Link, Places};
use super::{CommittedBatch, LeaderAndEpoch};

/// Bytes of batches that are asked for at once.
const MAX_BYTES: u32 = 1 << 20;
/// How long a voter may hold a pull back until something is committed, as Kafka's observers have it.
const MAX_WAIT: Duration = Duration::from_millis(500);
/// A larger snapshot is refused: it has to fit into memory, twice.
const MAX_SNAPSHOT_BYTES: u64 = 2 << 30;

/// Pulls the committed log from voters, in order.
pub(crate) struct Puller {
    link: Arc<Link>,
    /// Offset of the next record, and epoch of the one before it.
    next: (i64, i32),
    /// A snapshot of which not all pieces are here, by end offset and epoch.
    snapshot: Option<((i64, i32), Vec<u8>)>,
}

/// What a voter answered.
pub(crate) struct Pulled {
    /// Who leads, as that voter knows it.
    pub(crate) leader: LeaderAndEpoch,
    /// Where controllers are, as far as that voter knows.
    pub(crate) voters: Vec<Voter>,
    /// Offset of the first record that is not known to be committed.
    pub(crate) high_watermark: i64,
    /// What is new.
    pub(crate) news: News,
}

/// What a pull brought.
pub(crate) enum News {
    /// The voter does not lead.
    NotLeader,
    /// What was committed, in order; maybe nothing.
    Batches(Vec<CommittedBatch>),
    /// Another piece of a snapshot, which is not whole yet.
    Piece,
    /// The whole state, which replaces what there was.
    Snapshot {
        /// Its records.
        records: Vec<Bytes>,
        /// Offset of the first record that it does not contain.
        end_offset: i64,
        /// Epoch of the last record in it.
        epoch: i32,
    },
    /// What was pulled before was never committed in this cluster.
    Diverged,
}

impl Puller {
    /// Pulls from the start, in the name of `node_id`.
    pub(crate) fn new(
        (node_id, directory_id): (i32, Uuid),
        cluster_id: Uuid,
        request_timeout: Duration,
        transport: Arc<dyn VoterTransport>,
    ) -> Self {
        let me = super::messages::Party { node_id, directory_id };
        let link = Link::new(me, cluster_id, request_timeout, Places::default(), transport);
        let link = Arc::new(link);
        Self { link, next: (0, 0), snapshot: None }
    }

    /// Offset of the next record.
    pub(crate) fn next_offset(&self) -> i64 {
        self.next.0
    }

    /// Asks `voter` once. It may hold the answer back for a while until there is news; `now` asks it not
    /// to.
    pub(crate) async fn pull(&mut self, voter: &Voter, now: bool) -> io::Result<Pulled> {
        let (offset, epoch) = self.next;
        let wait = if now { Duration::ZERO } else { MAX_WAIT };
        let request = Request::Pull(Pull {
            offset,
            epoch,
            max_bytes: MAX_BYTES,
            max_wait_ms: wait.as_millis() as u32,
            snapshot: self
                .snapshot
                .as_ref()
                .map(|((end, epoch), bytes)| (*end, *epoch, bytes.len() as u64)),
        });
        let limit = wait + self.link.request_timeout;
        let reply = self.link.call(voter, Uuid::ZERO, request, limit).await?;
        let Response::Pull(pulled) = reply.response else {
            return Err(corrupt("it does not answer what it was asked"));
        };
        let news = match pulled.data {
            PulledData::NotLeader => News::NotLeader,
            PulledData::Diverged => News::Diverged,
            PulledData::Batches(bytes) => News::Batches(self.take_batches(bytes)?),
            PulledData::Snapshot { end_offset, epoch, total, position, bytes } => {
                self.take_piece((end_offset, epoch), (position, total), &bytes)?
            }
        };
        let (leader, voters) = (pulled.leader, pulled.voters);
        Ok(Pulled { leader, voters, high_watermark: pulled.high_watermark, news })
    }

    fn take_batches(&mut self, mut bytes: Bytes) -> io::Result<Vec<CommittedBatch>> {
        self.snapshot = None;
        let mut batches = Vec::new();
        let mut next = self.next;
        while bytes.has_remaining() {
            let batch = read_batch(&bytes)?;
            let (base_offset, len) = (batch.base_offset().0, batch.len());
            if base_offset != next.0 {
                let due = next.0;
                return Err(corrupt(format!(
                    "a batch at offset {base_offset} where {due} was due"
                )));
            }
            next = (batch.next_offset().0, batch.leader_epoch().0);
            if !batch.is_control() {
                batches.push(CommittedBatch {
                    base_offset,
                    epoch: next.1,
                    timestamp: batch.max_timestamp().0,
                    records: values(&bytes, &batch)?,
                });
            }
            bytes.advance(len);
        }
        self.next = next;
        Ok(batches)
    }

    fn take_piece(
        &mut self,
        id: (i64, i32),
        (position, total): (u64, u64),
        bytes: &Bytes,
    ) -> io::Result<News> {
        if total > MAX_SNAPSHOT_BYTES {
            return Err(corrupt(format!("a snapshot of {total} bytes is too large")));
        }
        let (known, mut whole) = self.snapshot.take().unwrap_or((id, Vec::new()));
        if known != id || position == 0 {
            whole.clear();
        }
        if whole.len() as u64 != position {
            return Err(corrupt(format!(
                "byte {position} of a snapshot where {} was due",
                whole.len()
            )));
        }
        whole.extend_from_slice(bytes);
        if (whole.len() as u64) < total {
            self.snapshot = Some((id, whole));
            return Ok(News::Piece);
        }
        let snapshot = Checkpoint::decode(Bytes::from(whole))?;
        if (snapshot.end_offset, snapshot.epoch()?) != id || snapshot.end_offset < self.next.0 {
            return Err(corrupt("a snapshot that is not what it was said to be"));
        }
        self.next = id;
        let (end_offset, epoch) = id;
        Ok(News::Snapshot { records: snapshot.records, end_offset, epoch })
    }
}
