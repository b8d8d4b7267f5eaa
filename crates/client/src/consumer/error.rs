//! What can go wrong for a consumer, and what to do about it.

use ottla_protocol::{ErrorCode, Offset, TopicPartition};

use crate::ClientError;

/// Why a consumer cannot do what it was asked for. [`ConsumerError::is_retriable`] says whether
/// calling again may help.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// A broker or the way to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The consumer is not set up for that.
    #[error("{0}")]
    Usage(String),
    /// Nothing is committed for these partitions, and `auto.offset.reset` is `none`.
    #[error(
        "nothing is committed for {0:?}: seek, or set auto.offset.reset to earliest, latest or by_duration"
    )]
    NoOffset(Vec<TopicPartition>),
    /// The partition no longer has, or does not yet have, this offset, and `auto.offset.reset` is
    /// `none`.
    #[error("{partition} has no offset {offset}: seek to another")]
    OffsetOutOfRange {
        /// Where.
        partition: TopicPartition,
        /// Which.
        offset: Offset,
    },
    /// Records that were read are gone from the log: an unclean election, or another topic of that
    /// name (KIP-320). With `auto.offset.reset` set, the consumer goes on at `diverged_at` instead,
    /// or where that says if it is not known.
    #[error(
        "the log of {partition} was cut at {diverged_at}, before the position {position}: seek to go on"
    )]
    LogTruncated {
        /// Where.
        partition: TopicPartition,
        /// What would have been read next.
        position: Offset,
        /// The first offset whose record is not the one that was read; -1 if not known.
        diverged_at: Offset,
    },
    /// A batch cannot be read. Seek beyond it to pass over it.
    #[error(
        "the batch at {offset} of {partition} cannot be read: {reason}; seek to {next} to pass over it"
    )]
    Corrupt {
        /// Where.
        partition: TopicPartition,
        /// The first offset that cannot be read.
        offset: Offset,
        /// The offset behind the batch.
        next: Offset,
        /// Why.
        reason: String,
    },
    /// The group has gone on without this member, which did not poll for `max.poll.interval.ms`
    /// or was not heard of for `session.timeout.ms`: others read from its partitions, and its
    /// offsets were not committed. The next poll joins again.
    #[error(
        "not committed: the group has given the partitions to others ({}); poll to join again, and poll more often \
         or raise max.poll.interval.ms",
        .0.name()
    )]
    CommitFailed(ErrorCode),
    /// Not committed: a rebalance is under way. Poll to take part in it, then commit again.
    #[error("not committed: the group is rebalancing; poll, then commit again")]
    RebalanceInProgress,
    /// The group does not take this member, and asking again does not change that.
    #[error("the group {group} does not take this member: {}: {advice}", code.name())]
    Rejected {
        /// The group.
        group: String,
        /// Why.
        code: ErrorCode,
        /// What to do.
        advice: &'static str,
    },
    /// `default.api.timeout.ms` ran out. What was sent may have been carried out.
    #[error("no answer within default.api.timeout.ms: {0}")]
    TimedOut(&'static str),
}

impl ConsumerError {
    /// Whether calling again may help, without changing anything.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Client(error) => error.is_retriable(),
            Self::TimedOut(_) => true,
            // Only a poll takes part in it.
            Self::RebalanceInProgress
            | Self::Usage(_)
            | Self::NoOffset(_)
            | Self::OffsetOutOfRange { .. }
            | Self::LogTruncated { .. }
            | Self::Corrupt { .. }
            | Self::CommitFailed(_)
            | Self::Rejected { .. } => false,
        }
    }

    pub(super) fn not_assigned(partition: &TopicPartition) -> Self {
        Self::Usage(format!(
            "{partition} is not assigned to this consumer: assign or subscribe first"
        ))
    }

    pub(super) fn no_group() -> Self {
        Self::Usage("groups and committed offsets need group.id: set it".to_owned())
    }

    /// The group's final word, with advice.
    pub(super) fn rejected(group: &str, code: ErrorCode) -> Self {
        let advice = if code == ErrorCode::FencedInstanceId {
            "another consumer with the same group.instance.id has joined since; give each its own"
        } else if code == ErrorCode::InconsistentGroupProtocol {
            "its partition.assignment.strategy has nothing in common with that of the other members"
        } else if code == ErrorCode::InvalidSessionTimeout {
            "set session.timeout.ms within the broker's group.min.session.timeout.ms and group.max.session.timeout.ms"
        } else if code == ErrorCode::GroupMaxSizeReached {
            "the group has group.max.size members; use fewer, or raise it at the broker"
        } else if code == ErrorCode::InvalidGroupId {
            "choose another group.id"
        } else if code == ErrorCode::GroupAuthorizationFailed {
            "have the principal allowed to read the group"
        } else {
            "see the broker's log"
        };
        Self::Rejected { group: group.to_owned(), code, advice }
    }
}
