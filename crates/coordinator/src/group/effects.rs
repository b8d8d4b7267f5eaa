//! What a shard asks its host to do.

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::{JoinGroupResponse, LeaveGroupResponse, SyncGroupResponse};

use crate::records::CoordinatorRecord;

/// A decision: records to append and replay, and the answer to give once they are committed.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Outcome<A> {
    /// To append in one batch. Empty if nothing changes.
    pub records: Vec<CoordinatorRecord>,
    /// To send afterwards.
    pub answer: A,
}

impl<A> Outcome<A> {
    /// An answer that changes nothing.
    pub(crate) fn answer(answer: A) -> Self {
        Self { records: Vec::new(), answer }
    }
}

/// A request that waits for its reply. The host chooses the number and never uses it twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyToken(pub u64);

/// A reply to a request that gave a [`ReplyToken`].
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To JoinGroup.
    Join(JoinGroupResponse),
    /// To SyncGroup.
    Sync(SyncGroupResponse),
    /// To LeaveGroup.
    Leave(LeaveGroupResponse),
}

/// Names an append until the shard hears how it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppendId(pub(crate) u64);

/// Records that must be in the log before something else may happen.
#[derive(Clone, Debug, PartialEq)]
pub struct Append {
    /// For [`append_finished`](super::GroupCoordinator::append_finished).
    pub id: AppendId,
    /// To append in one batch and replay.
    pub records: Vec<CoordinatorRecord>,
}

/// What to do after a call, in any order.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Effects {
    /// To send now.
    pub replies: Vec<(ReplyToken, Reply)>,
    /// To append, replay and report back.
    pub appends: Vec<Append>,
}

/// What a client is told when the append of its records failed with `error`.
pub fn append_error(error: ErrorCode) -> ErrorCode {
    use ErrorCode as E;
    let retry_elsewhere = matches!(error, E::UnknownTopicOrPartition | E::RequestTimedOut);
    if retry_elsewhere || matches!(error, E::NotEnoughReplicas | E::NotEnoughReplicasAfterAppend) {
        E::CoordinatorNotAvailable
    } else if matches!(error, E::NotLeaderOrFollower | E::KafkaStorageError) {
        E::NotCoordinator
    } else if matches!(error, E::MessageTooLarge | E::RecordListTooLarge | E::InvalidFetchSize) {
        E::UnknownServerError
    } else {
        error
    }
}
