//! Balanced, and as much as possible as it was. Kafka: `StickyAssignor`,
//! `CooperativeStickyAssignor`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ottla_protocol::TopicPartition;

use super::user_data::{decode_generation, decode_sticky, encode_generation, encode_sticky};
use super::{Assignor, GroupAssignment, GroupMember, RebalanceProtocol, in_order, partitions};

/// Balances, and leaves every partition where it was if that keeps the balance (KIP-54). Members
/// stop reading during a rebalance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sticky;

/// As [`Sticky`], and members go on reading what stays with them (KIP-429). What is to move from
/// one to another is given out in a second rebalance, when its owner has let it go.
#[derive(Clone, Copy, Debug, Default)]
pub struct CooperativeSticky;

impl Assignor for Sticky {
    fn name(&self) -> &str {
        "sticky"
    }

    fn user_data(&self, owned: &[TopicPartition], generation: Option<i32>) -> Bytes {
        encode_sticky(owned, generation)
    }

    fn assign(&self, members: &[GroupMember], topics: &BTreeMap<String, i32>) -> GroupAssignment {
        let said = members.iter().map(|member| {
            let said = decode_sticky(member.user_data.clone());
            said.unwrap_or_else(|| (member.owned.clone(), member.generation))
        });
        balance(members, said.collect(), topics)
    }
}

impl Assignor for CooperativeSticky {
    fn name(&self) -> &str {
        "cooperative-sticky"
    }

    fn protocol(&self) -> RebalanceProtocol {
        RebalanceProtocol::Cooperative
    }

    fn user_data(&self, _owned: &[TopicPartition], generation: Option<i32>) -> Bytes {
        encode_generation(generation)
    }

    fn assign(&self, members: &[GroupMember], topics: &BTreeMap<String, i32>) -> GroupAssignment {
        let said = members.iter().map(|member| {
            let generation = member.generation.or_else(|| decode_generation(&member.user_data));
            (member.owned.clone(), generation)
        });
        let mut assignment = balance(members, said.collect(), topics);
        withhold_owned(members, &mut assignment);
        assignment
    }
}

/// Takes out what another member still owns: it must let go first.
fn withhold_owned(members: &[GroupMember], assignment: &mut GroupAssignment) {
    let mut owners: BTreeMap<&TopicPartition, Vec<&str>> = BTreeMap::new();
    for member in members {
        member.owned.iter().for_each(|it| owners.entry(it).or_default().push(&member.id));
    }
    for (member, assigned) in assignment {
        assigned.retain(|partition| {
            owners.get(partition).is_none_or(|owners| owners.iter().all(|owner| owner == member))
        });
    }
}

/// What each member said to own, and in which generation it got that.
type Said = Vec<(Vec<TopicPartition>, Option<i32>)>;

fn balance(members: &[GroupMember], said: Said, topics: &BTreeMap<String, i32>) -> GroupAssignment {
    let all = partitions(members, topics);
    let ordered = in_order(members);
    let place = |member: &GroupMember| ordered.iter().position(|it| it.id == member.id);
    let mut plan = Plan::new(&ordered);
    for (partition, owner) in owners(members, said, &all) {
        if let Some(place) = place(owner) {
            plan.give(&partition, place);
        }
    }
    plan.trim(all.len());
    plan.deal(&all);
    plan.even_out(&all);
    plan.into_assignment()
}

/// Who may keep what: of several that claim a partition, whoever got it last; nobody if two
/// claim it in the same generation. What does not exist, or what they are not subscribed to any
/// more, is nobody's.
fn owners<'m>(
    members: &'m [GroupMember],
    said: Said,
    all: &[TopicPartition],
) -> BTreeMap<TopicPartition, &'m GroupMember> {
    let exists: BTreeSet<_> = all.iter().collect();
    let mut claims: BTreeMap<TopicPartition, (i32, Option<&GroupMember>)> = BTreeMap::new();
    for (member, (owned, generation)) in members.iter().zip(said) {
        let generation = generation.unwrap_or(-1);
        let subscribed = |it: &TopicPartition| member.topics.iter().any(|t| **t == *it.topic);
        for partition in owned.into_iter().filter(|it| exists.contains(it) && subscribed(it)) {
            let claim = claims.entry(partition).or_insert((generation, Some(member)));
            if claim.0 < generation {
                *claim = (generation, Some(member));
            } else if claim.0 == generation && claim.1.is_none_or(|it| it.id != member.id) {
                claim.1 = None;
            }
        }
    }
    claims.into_iter().filter_map(|(it, (_, owner))| Some((it, owner?))).collect()
}

/// An assignment in the making. Members are numbered by their places.
struct Plan<'m> {
    members: &'m [&'m GroupMember],
    subscriptions: Vec<BTreeSet<&'m str>>,
    owner: BTreeMap<TopicPartition, usize>,
    assigned: Vec<BTreeSet<TopicPartition>>,
}

impl<'m> Plan<'m> {
    fn new(members: &'m [&'m GroupMember]) -> Self {
        let subscriptions =
            members.iter().map(|it| it.topics.iter().map(String::as_str).collect()).collect();
        let assigned = vec![BTreeSet::new(); members.len()];
        Self { members, subscriptions, owner: BTreeMap::new(), assigned }
    }

    fn give(&mut self, partition: &TopicPartition, to: usize) {
        if let Some(from) = self.owner.insert(partition.clone(), to) {
            self.assigned[from].remove(partition);
        }
        self.assigned[to].insert(partition.clone());
    }

    fn takers<'p>(&'p self, partition: &'p TopicPartition) -> impl Iterator<Item = usize> + 'p {
        (0..self.members.len()).filter(|it| self.subscriptions[*it].contains(&*partition.topic))
    }

    /// Frees what members have beyond the most that any will have. Where subscriptions differ
    /// that is not known before the end.
    fn trim(&mut self, total: usize) {
        let same = self.subscriptions.windows(2).all(|pair| pair[0] == pair[1]);
        let (Some(_), true) = (self.members.first(), same) else { return };
        let (least, extra) = (total / self.members.len(), total % self.members.len());
        let mut may_have_one_more = extra;
        for assigned in &mut self.assigned {
            let most = least + usize::from(may_have_one_more > 0 && assigned.len() > least);
            may_have_one_more -= most - least;
            while assigned.len() > most {
                let Some(freed) = assigned.pop_last() else { break };
                self.owner.remove(&freed);
            }
        }
    }

    /// Gives what is nobody's to whoever has least; first what fewest can take.
    fn deal(&mut self, all: &[TopicPartition]) {
        let mut free: Vec<_> = all.iter().filter(|it| !self.owner.contains_key(it)).collect();
        free.sort_by_key(|partition| self.takers(partition).count());
        for partition in free {
            let taker = self.takers(partition).min_by_key(|it| (self.assigned[*it].len(), *it));
            if let Some(taker) = taker {
                self.give(partition, taker);
            }
        }
    }

    /// Moves partitions from who has more to who has fewer, as long as that helps.
    fn even_out(&mut self, all: &[TopicPartition]) {
        loop {
            let mut moved = false;
            for partition in all {
                let Some(&owner) = self.owner.get(partition) else { continue };
                let taker = self.takers(partition).min_by_key(|it| self.assigned[*it].len());
                let Some(taker) = taker else { continue };
                // Each move brings two members nearer to each other: this comes to an end.
                if self.assigned[taker].len() + 1 < self.assigned[owner].len() {
                    self.give(partition, taker);
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn into_assignment(self) -> GroupAssignment {
        let ids = self.members.iter().map(|member| member.id.clone());
        ids.zip(self.assigned.into_iter().map(|it| it.into_iter().collect())).collect()
    }
}
