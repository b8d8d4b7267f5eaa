//! Which fetch session a request belongs to.

use super::FetchRequest;
use crate::ErrorCode;

/// A fetch session, and the place of the next request in it (KIP-227). Kafka: `FetchMetadata`.
///
/// What a client of a session has to remember; the default wants a new session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchMetadata {
    session_id: i32,
    epoch: i32,
}

impl FetchMetadata {
    /// The id of no session.
    pub const INVALID_SESSION_ID: i32 = 0;
    /// The epoch of a request that wants a new session.
    pub const INITIAL_EPOCH: i32 = 0;
    /// The epoch of a request that ends a session, or wants none.
    pub const FINAL_EPOCH: i32 = -1;

    /// The epoch of the request after one of `epoch`; after the largest comes 1.
    pub const fn next_epoch(epoch: i32) -> i32 {
        if epoch == i32::MAX { 1 } else { epoch + 1 }
    }

    /// Whether the next request has to say everything, for it begins a session.
    pub const fn is_full(self) -> bool {
        self.epoch == Self::INITIAL_EPOCH
    }

    /// Gives a request its place in the session.
    pub const fn stamp(self, request: &mut FetchRequest) {
        request.session_id = self.session_id;
        request.session_epoch = self.epoch;
    }

    /// A response came. Whether it may be used; if not, the next request begins anew.
    pub const fn answered(&mut self, code: ErrorCode, session_id: i32) -> bool {
        if !code.is_none() {
            // The broker has forgotten the session, or is at another place in it.
            self.restart();
            return false;
        }
        if session_id == Self::INVALID_SESSION_ID {
            // The broker has no room for a session: everything is said each time.
            *self = Self { session_id, epoch: Self::INITIAL_EPOCH };
        } else {
            *self = Self { session_id, epoch: Self::next_epoch(self.epoch) };
        }
        true
    }

    /// Begins anew with the next request, which also ends the old session.
    pub const fn restart(&mut self) {
        self.epoch = Self::INITIAL_EPOCH;
    }

    /// What ends the session, if there is one.
    pub fn close(self) -> Option<Self> {
        let Self { session_id, .. } = self;
        let is_open = session_id != Self::INVALID_SESSION_ID;
        is_open.then_some(Self { session_id, epoch: Self::FINAL_EPOCH })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_go_round_and_leave_out_the_one_that_begins() {
        assert_eq!(FetchMetadata::next_epoch(FetchMetadata::INITIAL_EPOCH), 1);
        assert_eq!(FetchMetadata::next_epoch(i32::MAX), 1);
    }

    #[test]
    fn a_session_lives_from_its_first_answer_to_an_error() {
        let mut metadata = FetchMetadata::default();
        assert!(metadata.is_full() && metadata.close().is_none());
        assert!(metadata.answered(ErrorCode::None, 7));
        let mut request = FetchRequest::default();
        metadata.stamp(&mut request);
        assert_eq!((request.session_id, request.session_epoch), (7, 1));
        assert!(!metadata.answered(ErrorCode::InvalidFetchSessionEpoch, 0));
        metadata.stamp(&mut request);
        assert_eq!((request.session_id, request.session_epoch), (7, 0), "which ends the old one");
    }
}
