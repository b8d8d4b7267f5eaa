//! Who of a group reads what: pure functions from members to assignments.
//! Kafka: `ConsumerPartitionAssignor`.
//!
//! | `partition.assignment.strategy` | type | moves | Kafka calls it |
//! |---|---|---|---|
//! | `range` | [`Range`] | whatever | `RangeAssignor` |
//! | `roundrobin` | [`RoundRobin`] | whatever | `RoundRobinAssignor` |
//! | `sticky` | [`Sticky`] | as little as possible, all at once | `StickyAssignor` (KIP-54) |
//! | `cooperative-sticky` | [`CooperativeSticky`] | as little, in two steps | `CooperativeStickyAssignor` (KIP-429) |
//!
//! The leader of a group, which may be a client in any language, assigns for all; so every
//! payload here is Kafka's to the byte. An [`Assignor`] of your own needs a name that all
//! members know.

mod range;
mod round_robin;
mod sticky;
mod user_data;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::TopicPartition;

pub use range::Range;
pub use round_robin::RoundRobin;
pub use sticky::{CooperativeSticky, Sticky};

/// A member of the group as its leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMember {
    /// The id that the coordinator gave it.
    pub id: String,
    /// `group.instance.id`, if it is a static member (KIP-345).
    pub instance_id: Option<String>,
    /// What it is subscribed to.
    pub topics: Vec<String>,
    /// What it reads now, as it says.
    pub owned: Vec<TopicPartition>,
    /// The generation in which it got that; `None` if it does not say.
    pub generation: Option<i32>,
    /// `client.rack`, if it says (KIP-881). The assignors here do not look at it.
    pub rack: Option<String>,
    /// What its assignor of the chosen name has to add.
    pub user_data: Bytes,
}

/// What each member is to read, by its id. Every member has an entry.
pub type GroupAssignment = BTreeMap<String, Vec<TopicPartition>>;

/// How a rebalance goes about it (KIP-429).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RebalanceProtocol {
    /// Every member gives up everything before it joins.
    Eager,
    /// Members keep what they have, and give up what is to move; a second rebalance gives it out.
    Cooperative,
}

/// Decides who of a group reads what.
pub trait Assignor: Send + Sync {
    /// What members that can use it call it.
    fn name(&self) -> &str;

    /// The most considerate protocol it supports.
    ///
    /// An assignor that answers `Cooperative` must never assign a partition to one member while
    /// another still owns it.
    fn protocol(&self) -> RebalanceProtocol {
        RebalanceProtocol::Eager
    }

    /// What a member says about itself: `owned` is what it reads, got in `generation`.
    fn user_data(&self, owned: &[TopicPartition], generation: Option<i32>) -> Bytes {
        let _ = (owned, generation);
        Bytes::new()
    }

    /// Assigns the partitions of `topics`, which maps names to numbers of partitions; a topic
    /// that does not exist is not there. The same input must give the same output.
    fn assign(&self, members: &[GroupMember], topics: &BTreeMap<String, i32>) -> GroupAssignment;
}

/// The assignor that `partition.assignment.strategy` calls `name`; Kafka's class names are taken too.
pub fn assignor_named(name: &str) -> Option<Arc<dyn Assignor>> {
    match name {
        "range" | "org.apache.kafka.clients.consumer.RangeAssignor" => Some(Arc::new(Range)),
        "roundrobin" | "org.apache.kafka.clients.consumer.RoundRobinAssignor" => {
            Some(Arc::new(RoundRobin))
        }
        "sticky" | "org.apache.kafka.clients.consumer.StickyAssignor" => Some(Arc::new(Sticky)),
        "cooperative-sticky" | "org.apache.kafka.clients.consumer.CooperativeStickyAssignor" => {
            Some(Arc::new(CooperativeSticky))
        }
        _ => None,
    }
}

/// Static members by their instance ids, then the others by their ids: so a static member that
/// comes back keeps its place.
fn by_place(a: &GroupMember, b: &GroupMember) -> Ordering {
    match (&a.instance_id, &b.instance_id) {
        (Some(a), Some(b)) => a.cmp(b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.id.cmp(&b.id),
    }
}

/// The members in the order of their places.
fn in_order(members: &[GroupMember]) -> Vec<&GroupMember> {
    let mut ordered: Vec<_> = members.iter().collect();
    ordered.sort_by(|a, b| by_place(a, b));
    ordered
}

/// Nothing for everybody.
fn nothing(members: &[GroupMember]) -> GroupAssignment {
    members.iter().map(|member| (member.id.clone(), Vec::new())).collect()
}

/// All partitions of the topics that somebody is subscribed to, topic by topic.
fn partitions(members: &[GroupMember], topics: &BTreeMap<String, i32>) -> Vec<TopicPartition> {
    let subscribed = |topic: &String| members.iter().any(|member| member.topics.contains(topic));
    let mut all = Vec::new();
    for (topic, count) in topics.iter().filter(|(topic, _)| subscribed(topic)) {
        let name: Arc<str> = Arc::from(topic.as_str());
        all.extend((0..*count).map(|number| TopicPartition::new(Arc::clone(&name), number)));
    }
    all
}

#[cfg(test)]
mod tests;
