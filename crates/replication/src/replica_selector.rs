//! From which replica a consumer should read (KIP-392).

use ottla_protocol::{BrokerId, Monotonic, Offset};

/// A replica that has what a consumer asks for: the leader, or a member of the ISR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The broker.
    pub id: BrokerId,
    /// Its rack, if it has one.
    pub rack: Option<&'a str>,
    /// Where its log ends.
    pub log_end: Offset,
    /// When it was last at the leader's end.
    pub last_caught_up: Option<Monotonic>,
}

/// `replica.selector.class`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplicaSelector {
    /// Always the leader.
    #[default]
    Leader,
    /// The leader if it is in the consumer's rack; else the replica there that is furthest.
    RackAware,
}

impl ReplicaSelector {
    /// The follower that a consumer in `rack` should read from; `None` if it should stay with the leader.
    pub fn select<'a>(
        self,
        rack: &str,
        leader_rack: Option<&str>,
        followers: impl Iterator<Item = Candidate<'a>>,
    ) -> Option<BrokerId> {
        if self == Self::Leader || rack.is_empty() || leader_rack == Some(rack) {
            return None;
        }
        let near = followers.filter(|follower| follower.rack == Some(rack));
        near.max_by_key(|near| (near.log_end, near.last_caught_up, near.id)).map(|near| near.id)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn follower(id: i32, rack: &str, log_end: i64) -> Candidate<'_> {
        let last_caught_up = Some(Monotonic(Duration::from_secs(1)));
        Candidate { id: BrokerId(id), rack: Some(rack), log_end: Offset(log_end), last_caught_up }
    }

    #[test]
    fn the_furthest_replica_of_the_rack_is_chosen() {
        let followers = || [follower(2, "a", 5), follower(3, "b", 9), follower(4, "a", 7)];
        let select = |selector: ReplicaSelector, rack, leader_rack| {
            selector.select(rack, leader_rack, followers().into_iter())
        };
        assert_eq!(select(ReplicaSelector::RackAware, "a", Some("b")), Some(BrokerId(4)));
        assert_eq!(select(ReplicaSelector::RackAware, "a", Some("a")), None, "the leader is near");
        assert_eq!(select(ReplicaSelector::RackAware, "c", None), None, "nobody is near");
        assert_eq!(select(ReplicaSelector::RackAware, "", None), None, "no rack was told");
        assert_eq!(select(ReplicaSelector::Leader, "a", Some("b")), None);
    }
}
