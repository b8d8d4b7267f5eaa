//! Whatever happens, in whatever order: what was committed stays, and all logs agree on it.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::cluster::{Cluster, Event};

fn event() -> impl Strategy<Value = Event> {
    let node = 0..3usize;
    prop_oneof![
        6 => node.clone().prop_map(Event::Append),
        12 => (node.clone(), 0..4usize).prop_map(|(node, count)| Event::Fetch(node, count)),
        12 => (node.clone(), prop::bool::weighted(0.9)).prop_map(|(node, it)| Event::Fetched(node, it)),
        5 => node.clone().prop_map(Event::Expand),
        3 => node.clone().prop_map(Event::Shrink),
        8 => (0..8usize).prop_map(Event::Deliver),
        1 => (0..8usize).prop_map(Event::Lose),
        10 => (node.clone(), prop_oneof![9 => Just(1), 3 => 2..6usize]).prop_map(|(node, count)| Event::Hear(node, count)),
        1 => node.clone().prop_map(Event::Fence),
        3 => node.clone().prop_map(Event::Unfence),
        1 => node.clone().prop_map(Event::Elect),
        1 => node.clone().prop_map(Event::Crash),
        3 => (node, 0..4usize).prop_map(|(node, lost)| Event::Restart(node, lost)),
        2 => (1..1500u64).prop_map(Event::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_committed_stays(min_isr in 1..3usize, events in vec(event(), 1..300)) {
        let mut cluster = Cluster::new(min_isr);
        for event in events {
            cluster.happen(event);
        }
    }
}

/// The property would hold of a cluster in which nothing ever happens, too.
#[test]
fn a_cluster_without_faults_commits() {
    let mut cluster = Cluster::new(2);
    for _ in 0..10 {
        cluster.happen(Event::Append(0));
        for _ in 0..2 {
            for follower in 1..3 {
                cluster.happen(Event::Fetch(follower, 4));
                cluster.happen(Event::Fetched(follower, true));
            }
        }
    }
    assert_eq!(cluster.committed(), 10);
}

/// A leader that was one before learns of the leader in between and of its own election at once: what its followers held then
/// they may have cut since.
#[test]
fn a_leader_does_not_believe_what_it_knew_of_followers_before_another_led() {
    use Event::{Append, Crash, Elect, Fence, Fetch, Fetched, Hear};
    let [a, b, c] = [0, 1, 2];
    let mut cluster = Cluster::new(1);
    let mut happen = |events: &[Event]| events.iter().for_each(|event| cluster.happen(*event));
    // All have 2 records, and C has 2 more.
    let follow = |who, count| [Fetch(who, count), Fetched(who, true)];
    happen(&[Append(a), Append(a)]);
    happen(&[follow(b, 2), follow(c, 2), follow(b, 0), follow(c, 0)].concat());
    happen(&[Append(a), Append(a)]);
    happen(&[follow(c, 2), follow(c, 0)].concat());
    // B leads. C cuts what B does not have, and takes what B has written in its place.
    happen(&[Elect(b), Hear(b, 1), Hear(c, 1), Append(b), Append(b)]);
    happen(&[follow(c, 0), follow(c, 2)].concat());
    // B dies, and A leads again. C is elected before it has fetched anything.
    happen(&[Crash(b), Fence(b), Hear(a, 2), Crash(a), Fence(a), Hear(c, 2)]);
}
