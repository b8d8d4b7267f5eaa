//! One partition for each in turn. Kafka: `RoundRobinAssignor`.

use std::collections::BTreeMap;

use super::{Assignor, GroupAssignment, GroupMember, in_order, nothing, partitions};

/// Deals out all partitions of all topics one by one; who is not subscribed to a topic is passed
/// over. Even, if all are subscribed to the same topics.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobin;

impl Assignor for RoundRobin {
    fn name(&self) -> &str {
        "roundrobin"
    }

    fn assign(&self, members: &[GroupMember], topics: &BTreeMap<String, i32>) -> GroupAssignment {
        let mut assignment = nothing(members);
        let ordered = in_order(members);
        let mut turn = 0;
        for partition in partitions(members, topics) {
            // Somebody is subscribed: only such topics are dealt out.
            let takes = |place: &usize| {
                let member = ordered[place % ordered.len()];
                member.topics.iter().any(|topic| **topic == *partition.topic)
            };
            let Some(place) = (turn..turn + ordered.len()).find(takes) else { continue };
            turn = place + 1;
            if let Some(assigned) = assignment.get_mut(&ordered[place % ordered.len()].id) {
                assigned.push(partition);
            }
        }
        assignment
    }
}
