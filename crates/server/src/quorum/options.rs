//! How a node takes part in the quorum, and how it reaches the others.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use ottla_protocol::Uuid;

use super::peers::Places;

/// A voter, and where its controller listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Voter {
    /// Its `node.id`; -1 where only the address is known (`controller.quorum.bootstrap.servers`).
    pub(crate) node_id: i32,
    /// Host name or address.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
}

impl Voter {
    /// `host:port`, an IPv6 host in brackets.
    pub(crate) fn address(&self) -> String {
        let Self { host, port, .. } = self;
        match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Voter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node_id {
            ..0 => f.write_str(&self.address()),
            node_id => write!(f, "{node_id}@{}", self.address()),
        }
    }
}

/// Carries a message to another voter and brings its answer back.
///
/// The bytes are the quorum's own; what arrives goes to [`super::MetadataQuorum::answer`] there.
/// Messages and answers stay below [`super::MAX_MESSAGE_BYTES`]. Messages may be lost, doubled and
/// overtaken: the quorum copes with it.
pub(crate) trait VoterTransport: Send + Sync + 'static {
    /// Sends `request` and waits for the answer, for at most `limit`.
    fn call(
        &self,
        to: &Voter,
        request: Bytes,
        limit: Duration,
    ) -> BoxFuture<'static, io::Result<Bytes>>;
}

/// How a node takes part in the metadata quorum.
#[derive(Clone, Debug)]
pub(crate) struct QuorumOptions {
    /// `node.id` of this node; not negative.
    pub(crate) node_id: i32,
    /// The cluster that the log belongs to; a log of another cluster is refused.
    pub(crate) cluster_id: Uuid,
    /// `directory.id` of `metadata.log.dir` (KIP-853). A voter whose directory is another than the one
    /// the voters know has lost its votes and its log, and takes no part.
    pub(crate) directory_id: Uuid,
    /// `metadata.log.dir`: the log lives in [`super::METADATA_LOG_DIR`] inside it.
    pub(crate) dir: PathBuf,
    /// `controller.quorum.voters`: who forms a new quorum, and where voters are. A node that is not
    /// among them waits until it is added ([`super::MetadataQuorum::add_voter`]). Empty where
    /// `bootstrap` is not.
    pub(crate) voters: Vec<Voter>,
    /// `controller.quorum.bootstrap.servers`, in place of `voters`: whom to ask for the quorum. New
    /// nodes that list each other form one; a node that has no part in it follows it.
    pub(crate) bootstrap: Vec<Voter>,
    /// Where others reach the controller listener of this node, if it can tell.
    pub(crate) endpoint: Option<Voter>,
    /// `controller.quorum.auto.join.enable`: a node that follows asks for a vote (KIP-1186).
    pub(crate) auto_join: bool,
    /// `controller.quorum.election.timeout.ms`; a lone voter never waits for it.
    pub(crate) election_timeout: Duration,
    /// `controller.quorum.fetch.timeout.ms`: how long a voter bears silence from its leader, and a
    /// leader, half as long again, from a majority.
    pub(crate) fetch_timeout: Duration,
    /// `controller.quorum.request.timeout.ms`: how long a message may take.
    pub(crate) request_timeout: Duration,
    /// `metadata.log.max.record.bytes.between.snapshots`, at least 1.
    pub(crate) max_bytes_between_snapshots: u64,
    /// `metadata.log.max.snapshot.interval.ms`; `None` is never by time alone.
    pub(crate) max_snapshot_interval: Option<Duration>,
    /// `metadata.max.retention.bytes`: most bytes of snapshots and log together, but for the newest snapshot and
    /// the log behind it. `None` is no limit.
    pub(crate) max_retention_bytes: Option<u64>,
    /// `metadata.max.retention.ms`: how long older snapshots stay, and the log before them. `None` is for ever.
    pub(crate) max_retention: Option<Duration>,
    /// `metadata.log.segment.bytes`. A larger batch has a segment of its own.
    pub(crate) segment_bytes: u32,
    /// `metadata.log.segment.ms`: a segment gets no record that is so much newer than its first.
    pub(crate) segment_time: Duration,
}

impl QuorumOptions {
    /// Where voters are, before the log says so.
    pub(super) fn places(&self) -> Places {
        let configured = self.voters.iter().find(|voter| voter.node_id == self.node_id);
        Places {
            voters: self.voters.clone(),
            servers: self.bootstrap.clone(),
            endpoint: configured.or(self.endpoint.as_ref()).cloned(),
        }
    }

    /// A lone voter with Kafka's defaults. Segments are as large as the gap between snapshots, so
    /// that each snapshot frees one.
    pub(crate) fn new(node_id: i32, cluster_id: Uuid, dir: PathBuf) -> Self {
        Self {
            node_id,
            cluster_id,
            directory_id: Uuid::ZERO,
            dir,
            voters: vec![Voter { node_id, host: String::new(), port: 0 }],
            bootstrap: Vec::new(),
            endpoint: None,
            auto_join: false,
            election_timeout: Duration::from_secs(1),
            fetch_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(2),
            max_bytes_between_snapshots: 20 * 1024 * 1024,
            max_snapshot_interval: Some(Duration::from_secs(3600)),
            max_retention_bytes: Some(100 * 1024 * 1024),
            max_retention: Some(Duration::from_secs(7 * 24 * 3600)),
            segment_bytes: 20 * 1024 * 1024,
            segment_time: Duration::from_secs(7 * 24 * 3600),
        }
    }

    /// Whether this node is a quorum by itself, as far as the configuration knows.
    pub(super) fn is_alone(&self) -> bool {
        matches!(&self.voters[..], [voter] if voter.node_id == self.node_id)
    }
}
