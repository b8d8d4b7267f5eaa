//! Neighbouring partitions of each topic. Kafka: `RangeAssignor`.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::TopicPartition;

use super::{Assignor, GroupAssignment, GroupMember, in_order, nothing};

/// Gives each member neighbouring partitions of each topic, so that topics with equally many
/// partitions are read side by side. The first members get one more where it does not come out
/// even. Racks are not looked at (KIP-881 does so only where it costs no balance).
#[derive(Clone, Copy, Debug, Default)]
pub struct Range;

impl Assignor for Range {
    fn name(&self) -> &str {
        "range"
    }

    fn assign(&self, members: &[GroupMember], topics: &BTreeMap<String, i32>) -> GroupAssignment {
        let mut assignment = nothing(members);
        let members = in_order(members);
        for (topic, count) in topics {
            let subscribed: Vec<_> =
                members.iter().filter(|member| member.topics.contains(topic)).collect();
            let name: Arc<str> = Arc::from(topic.as_str());
            let mut rest = (0..*count).map(|number| TopicPartition::new(Arc::clone(&name), number));
            let all = usize::try_from(*count).unwrap_or(0);
            for (place, member) in subscribed.iter().enumerate() {
                let share = all / subscribed.len();
                let extra = usize::from(place < all % subscribed.len());
                if let Some(assigned) = assignment.get_mut(&member.id) {
                    assigned.extend(rest.by_ref().take(share + extra));
                }
            }
        }
        assignment
    }
}
