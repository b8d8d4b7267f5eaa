//! Examples that Kafka's documentation gives, and what must hold of any group.

use std::collections::BTreeSet;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::*;

fn member(id: &str, topics: &[&str]) -> GroupMember {
    let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
    GroupMember { id: id.to_owned(), topics, ..GroupMember::default() }
}

fn topics(counts: &[(&str, i32)]) -> BTreeMap<String, i32> {
    counts.iter().map(|(topic, count)| ((*topic).to_owned(), *count)).collect()
}

/// `member: topic-0 topic-1`, a line each.
fn show(assignment: &GroupAssignment) -> String {
    let line = |(member, assigned): (&String, &Vec<TopicPartition>)| {
        let assigned: Vec<_> = assigned.iter().map(ToString::to_string).collect();
        format!("{member}: {}", assigned.join(" "))
    };
    assignment.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The members as they are after they have taken `assignment` over in `generation`.
fn after(
    members: &[GroupMember],
    assignment: &GroupAssignment,
    assignor: &dyn Assignor,
    generation: i32,
) -> Vec<GroupMember> {
    let carry_on = |member: &GroupMember| {
        let owned = assignment[&member.id].clone();
        let user_data = assignor.user_data(&owned, Some(generation));
        GroupMember { owned, generation: Some(generation), user_data, ..member.clone() }
    };
    members.iter().map(carry_on).collect()
}

/// Rebalances until nobody has to let go of anything, as members of a cooperative group do.
fn settle(
    mut members: Vec<GroupMember>,
    assignor: &dyn Assignor,
    topics: &BTreeMap<String, i32>,
) -> GroupAssignment {
    for generation in 1..10 {
        let assignment = assignor.assign(&members, topics);
        let lets_go = |it: &GroupMember| it.owned.iter().any(|p| !assignment[&it.id].contains(p));
        if !members.iter().any(lets_go) {
            return assignment;
        }
        members = after(&members, &assignment, assignor, generation);
    }
    panic!("nine rebalances, and still someone has to let go");
}

#[test]
fn range_gives_neighbours_topic_by_topic() {
    let members = [member("a", &["t", "u"]), member("b", &["t", "u"]), member("c", &["u"])];
    let assignment = Range.assign(&members, &topics(&[("t", 3), ("u", 4)]));
    assert_eq!(show(&assignment), "a: t-0 t-1 u-0 u-1\nb: t-2 u-2\nc: u-3");
}

#[test]
fn round_robin_passes_over_who_is_not_subscribed() {
    let members = [member("a", &["t"]), member("b", &["t", "u"]), member("c", &["t", "u", "v"])];
    let assignment = RoundRobin.assign(&members, &topics(&[("t", 1), ("u", 2), ("v", 3)]));
    assert_eq!(show(&assignment), "a: t-0\nb: u-0\nc: u-1 v-0 v-1 v-2");
}

#[test]
fn static_members_come_first_by_their_instance_ids() {
    let mut members = [member("1", &["t"]), member("2", &["t"]), member("3", &["t"])];
    members[2].instance_id = Some("x".to_owned());
    members[1].instance_id = Some("y".to_owned());
    for assignor in [&Range as &dyn Assignor, &RoundRobin] {
        let assignment = assignor.assign(&members, &topics(&[("t", 3)]));
        assert_eq!(show(&assignment), "1: t-2\n2: t-1\n3: t-0", "{}", assignor.name());
    }
}

#[test]
fn sticky_leaves_what_stays_and_moves_the_rest() {
    let members = [member("a", &["t"]), member("b", &["t"]), member("c", &["t"])];
    let topics = topics(&[("t", 6)]);
    let first = Sticky.assign(&members, &topics);
    assert_eq!(show(&first), "a: t-0 t-3\nb: t-1 t-4\nc: t-2 t-5");
    let without_b: Vec<_> =
        after(&members, &first, &Sticky, 1).into_iter().filter(|it| it.id != "b").collect();
    let second = Sticky.assign(&without_b, &topics);
    assert_eq!(show(&second), "a: t-0 t-1 t-3\nc: t-2 t-4 t-5");
}

#[test]
fn cooperative_sticky_gives_out_nothing_that_is_still_owned() {
    let topics = topics(&[("t", 4)]);
    let alone = [member("a", &["t"])];
    let first = CooperativeSticky.assign(&alone, &topics);
    let mut both = after(&alone, &first, &CooperativeSticky, 1);
    both.push(member("b", &["t"]));
    let second = CooperativeSticky.assign(&both, &topics);
    assert_eq!(show(&second), "a: t-0 t-1\nb: ");
    let both = after(&both, &second, &CooperativeSticky, 2);
    let third = CooperativeSticky.assign(&both, &topics);
    assert_eq!(show(&third), "a: t-0 t-1\nb: t-2 t-3");
}

#[test]
fn of_two_that_claim_a_partition_the_later_generation_counts() {
    let topics = topics(&[("t", 2)]);
    let owned = vec![TopicPartition::new("t", 0), TopicPartition::new("t", 1)];
    let claim = |id: &str, generation: i32| GroupMember {
        user_data: Sticky.user_data(&owned, Some(generation)),
        ..member(id, &["t"])
    };
    let assignment = Sticky.assign(&[claim("a", 3), claim("b", 4)], &topics);
    assert_eq!(show(&assignment), "a: t-1\nb: t-0");
}

#[test]
fn user_data_is_kafkas_to_the_byte() {
    let owned = [TopicPartition::new("t", 1), TopicPartition::new("t", 2)];
    let sticky = Sticky.user_data(&owned, Some(7));
    assert_eq!(
        sticky[..],
        [0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 7]
    );
    assert_eq!(CooperativeSticky.user_data(&owned, Some(7))[..], [0, 0, 0, 7]);
    assert_eq!(CooperativeSticky.user_data(&owned, None)[..], [255; 4]);
    let decoded = user_data::decode_sticky(sticky.clone()).unwrap();
    assert_eq!(decoded, (owned.to_vec(), Some(7)));
    // Members older than 2.3 say no generation.
    let decoded = user_data::decode_sticky(sticky.slice(..sticky.len() - 4)).unwrap();
    assert_eq!(decoded, (owned.to_vec(), None));
    // Hostile lengths are not believed.
    for length in 0..sticky.len() - 4 {
        assert_eq!(user_data::decode_sticky(sticky.slice(..length)), None);
    }
    assert_eq!(user_data::decode_sticky(Bytes::from_static(&[127, 255, 255, 255])), None);
}

const NAMES: [&str; 4] = ["t0", "t1", "t2", "t3"];

/// A group whose members may be subscribed to different topics, or all to the same.
fn group() -> impl Strategy<Value = (Vec<GroupMember>, BTreeMap<String, i32>)> {
    let topics = btree_map((0..NAMES.len()).prop_map(|i| NAMES[i].to_owned()), 0..9, 1..=4);
    let choices = vec(btree_set(0..NAMES.len(), 1..=4), 1..8);
    (topics, choices, any::<bool>()).prop_map(|(topics, choices, same)| {
        let members = choices.iter().enumerate().map(|(number, choice)| {
            let choice = if same { &choices[0] } else { choice };
            let chosen: Vec<_> = choice.iter().map(|it| NAMES[*it]).collect();
            member(&format!("m{number}"), &chosen)
        });
        (members.collect(), topics)
    })
}

fn assignors() -> [&'static dyn Assignor; 4] {
    [&Range, &RoundRobin, &Sticky, &CooperativeSticky]
}

/// Everything that somebody is subscribed to is assigned once, to someone who is subscribed.
fn assert_valid(members: &[GroupMember], topics: &BTreeMap<String, i32>, result: &GroupAssignment) {
    let mut seen = BTreeSet::new();
    assert_eq!(result.len(), members.len());
    for member in members {
        for partition in &result[&member.id] {
            assert!(member.topics.iter().any(|topic| **topic == *partition.topic), "{partition}");
            assert!(seen.insert(partition.clone()), "{partition} is assigned twice");
        }
    }
    assert_eq!(seen.len(), partitions(members, topics).len(), "some are nobody's: {result:?}");
}

/// No partition could go to a subscriber that has two fewer than its owner.
fn assert_balanced(members: &[GroupMember], result: &GroupAssignment) {
    for owner in members {
        for partition in &result[&owner.id] {
            for other in
                members.iter().filter(|it| it.topics.iter().any(|t| **t == *partition.topic))
            {
                let (have, has) = (result[&owner.id].len(), result[&other.id].len());
                assert!(has + 1 >= have, "{partition} should go from {} to {}", owner.id, other.id);
            }
        }
    }
}

proptest! {
    #[test]
    fn everything_is_assigned_once((members, topics) in group()) {
        for assignor in assignors() {
            let result = assignor.assign(&members, &topics);
            assert_valid(&members, &topics, &result);
            prop_assert_eq!(&result, &assignor.assign(&members, &topics));
        }
    }

    #[test]
    fn sticky_assignments_are_balanced_and_stay_as_they_are((members, topics) in group()) {
        for assignor in [&Sticky as &dyn Assignor, &CooperativeSticky] {
            let first = assignor.assign(&members, &topics);
            assert_balanced(&members, &first);
            let again = assignor.assign(&after(&members, &first, assignor, 1), &topics);
            prop_assert_eq!(&first, &again);
        }
    }

    #[test]
    fn who_stays_keeps_all_when_another_leaves((members, topics) in group(), gone in 0_usize..8) {
        for assignor in [&Sticky as &dyn Assignor, &CooperativeSticky] {
            // With equal subscriptions nobody has to give anything up.
            prop_assume!(members.windows(2).all(|pair| pair[0].topics == pair[1].topics));
            let first = assignor.assign(&members, &topics);
            let mut rest = after(&members, &first, assignor, 1);
            rest.remove(gone % members.len());
            let second = assignor.assign(&rest, &topics);
            for member in &rest {
                for partition in &first[&member.id] {
                    prop_assert!(second[&member.id].contains(partition), "{} lost {partition}", member.id);
                }
            }
        }
    }

    #[test]
    fn a_cooperative_group_settles_in_balance((members, topics) in group(), joins in 1_usize..8) {
        let (old, _) = members.split_at(joins.min(members.len()));
        let first = settle(old.to_vec(), &CooperativeSticky, &topics);
        let mut all = after(old, &first, &CooperativeSticky, 20);
        all.extend(members[old.len()..].iter().cloned());
        let second = CooperativeSticky.assign(&all, &topics);
        for member in &all {
            for partition in &second[&member.id] {
                let owner = all.iter().find(|it| it.owned.contains(partition));
                prop_assert!(owner.is_none_or(|it| it.id == member.id), "{partition} is owned");
            }
        }
        let settled = settle(all.clone(), &CooperativeSticky, &topics);
        assert_valid(&all, &topics, &settled);
        assert_balanced(&all, &settled);
    }
}
