//! One member of a classic group.

use std::collections::BTreeSet;

use bytes::Bytes;
use ottla_protocol::StrBytes;

use super::ReplyToken;
use crate::records::MemberMetadata;

/// A JoinGroup whose reply waits for the rebalance. Its version decides what the reply may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JoinWaiter {
    pub(super) token: ReplyToken,
    pub(super) api_version: i16,
}

/// A member's assignment protocols and timeouts, as its latest JoinGroup gave them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscription {
    /// Protocols by name, most preferred first, each with the member's metadata for it.
    pub(super) protocols: Vec<(StrBytes, Bytes)>,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: StrBytes,
    pub(super) instance_id: Option<StrBytes>,
    pub(super) client_id: StrBytes,
    pub(super) client_host: StrBytes,
    pub(super) subscription: Subscription,
    pub(super) assignment: Bytes,
    /// Has not been in a generation yet: its session runs although it waits, so that a client
    /// that gave up does not hold a place.
    pub(super) is_new: bool,
    /// Counted by the group, which alone sets it.
    pub(super) awaiting_join: Option<JoinWaiter>,
    pub(super) awaiting_sync: Option<ReplyToken>,
}

impl Subscription {
    /// The member's metadata for `protocol`; empty if it does not know the protocol.
    pub(super) fn metadata(&self, protocol: &StrBytes) -> Bytes {
        let known = self.protocols.iter().find(|(name, _)| name == protocol);
        known.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }
}

impl Member {
    /// The member as the log has it: it knows one protocol, the one the group had chosen.
    pub(super) fn stored(stored: &MemberMetadata, protocol: Option<&StrBytes>) -> Self {
        Self {
            id: stored.member_id.clone(),
            instance_id: stored.group_instance_id.clone(),
            client_id: stored.client_id.clone(),
            client_host: stored.client_host.clone(),
            subscription: Subscription {
                protocols: vec![(
                    protocol.cloned().unwrap_or_default(),
                    stored.subscription.clone(),
                )],
                rebalance_timeout_ms: stored.rebalance_timeout_ms,
                session_timeout_ms: stored.session_timeout_ms,
            },
            assignment: stored.assignment.clone(),
            is_new: false,
            awaiting_join: None,
            awaiting_sync: None,
        }
    }

    /// The member as it is written, with `assignment` in place of the one it has.
    pub(super) fn metadata(&self, protocol: &StrBytes, assignment: Bytes) -> MemberMetadata {
        MemberMetadata {
            member_id: self.id.clone(),
            group_instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.subscription.rebalance_timeout_ms,
            session_timeout_ms: self.subscription.session_timeout_ms,
            subscription: self.subscription.metadata(protocol),
            assignment,
        }
    }

    /// Whether it waits for the group, so that its session does not count against it.
    pub(super) fn waits(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    /// The first of its protocols that is in `candidates`.
    pub(super) fn vote<'a>(&'a self, candidates: &BTreeSet<&StrBytes>) -> Option<&'a StrBytes> {
        self.subscription
            .protocols
            .iter()
            .map(|(name, _)| name)
            .find(|name| candidates.contains(name))
    }
}
