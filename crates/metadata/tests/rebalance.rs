//! The planner: what it says of small clusters, and what holds of random ones.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_metadata::rebalance::{BrokerShare, Layout, Limits, Move, Placement};
use ottla_protocol::{BrokerId, TopicPartition};
use proptest::collection::vec;
use proptest::prelude::*;

const GIB: u64 = 1 << 30;
const LIMITS: Limits = Limits { moves: 7, orders: 20, tolerance_percent: 10 };

/// Brokers from 1 on in these racks (`-` is none), and partitions on brokers by number, each of so many
/// bytes.
fn layout(racks: &str, partitions: &[(&[i32], u64)]) -> Layout {
    let brokers = (1..).map(BrokerId).zip(racks.split(' ').map(|rack| BrokerShare {
        rack: (rack != "-").then(|| Arc::from(rack)),
        weight: 1,
        disk_bytes: None,
        is_active: true,
    }));
    let placed = (0..).zip(partitions).map(|(number, (replicas, bytes))| {
        let replicas = replicas.iter().copied().map(BrokerId).collect();
        let placement = Placement { replicas, bytes: *bytes, is_settled: true };
        (TopicPartition::new("t", number), placement)
    });
    Layout { brokers: brokers.collect(), partitions: placed.collect() }
}

fn told(rounds: &[Vec<Move>]) -> Vec<String> {
    let ids = |ids: &[BrokerId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let tell = |it: &Move| {
        let (from, to, why) = (ids(&it.from), ids(&it.to), it.reasons.join(", "));
        format!("{} {from} -> {to} ({} bytes): {why}", it.partition, it.bytes)
    };
    rounds.iter().flatten().map(tell).collect()
}

fn plan(layout: &Layout) -> Vec<String> {
    told(&layout.plan_all(LIMITS))
}

#[test]
fn a_new_broker_gets_its_share() {
    let grown = layout(
        "- - -",
        &[(&[1, 2], 5), (&[2, 1], 1), (&[1, 2], 3), (&[2, 1], 4), (&[1, 2], 9), (&[2, 1], 9)],
    );
    assert_eq!(
        plan(&grown),
        [
            "t-4 1,2 -> 1,3 (9 bytes): broker 2 has 6 replicas, its share is 4.0; broker 3 has 0 replicas, its share is 4.0",
            "t-5 2,1 -> 2,3 (9 bytes): broker 1 has 6 replicas, its share is 4.0; broker 3 has 1 replica, its share is 4.0",
            "t-1 2,1 -> 3,1 (1 bytes): broker 2 has 5 replicas, its share is 4.0; broker 3 has 2 replicas, its share is 4.0",
            "t-2 1,2 -> 3,2 (3 bytes): broker 1 has 5 replicas, its share is 4.0; broker 3 has 3 replicas, its share is 4.0",
        ]
    );
}

#[test]
fn a_broker_that_is_drained_has_nothing_in_the_end() {
    let mut full = layout("a b a b", &[(&[1, 2], 5), (&[4, 1], 7), (&[1, 4], 3), (&[2, 3], 4)]);
    full.brokers.get_mut(&BrokerId(1)).unwrap().weight = 0;
    assert_eq!(
        plan(&full),
        [
            "t-0 1,2 -> 3,2 (5 bytes): broker 1 is to have no replicas",
            "t-1 4,1 -> 4,3 (7 bytes): broker 1 is to have no replicas",
            "t-2 1,4 -> 3,4 (3 bytes): broker 1 is to have no replicas",
        ]
    );
}

#[test]
fn a_broker_that_is_drained_leads_nothing_even_where_it_has_to_keep_replicas() {
    let mut full = layout("- -", &[(&[1, 2], 5), (&[2, 1], 7), (&[1], 3)]);
    full.brokers.get_mut(&BrokerId(1)).unwrap().weight = 0;
    assert_eq!(
        plan(&full),
        [
            "t-2 1 -> 2 (3 bytes): broker 1 is to have no replicas",
            "t-0 1,2 -> 2,1 (0 bytes): broker 1 is to lead nothing",
        ]
    );
}

#[test]
fn brokers_that_are_not_registered_are_replaced_all_at_once_or_not_at_all() {
    // An assignment that still names 4 or 5 is refused; of t-2 there is no place for another replica.
    let gone = layout("- - -", &[(&[4, 1, 5], 5), (&[2, 4], 7), (&[5, 2, 3, 1], 3)]);
    assert_eq!(
        plan(&gone),
        [
            "t-0 4,1,5 -> 3,1,2 (10 bytes): broker 4 is not registered, broker 5 is not registered",
            "t-1 2,4 -> 2,1 (7 bytes): broker 4 is not registered",
        ]
    );
}

#[test]
fn replicas_are_spread_over_racks() {
    let crowded = layout("a a b", &[(&[1, 2], 5), (&[1, 3], 7)]);
    assert_eq!(
        plan(&crowded),
        ["t-0 1,2 -> 3,2 (5 bytes): rack a had more than one of its replicas, rack b none",]
    );
}

#[test]
fn full_disks_give_to_empty_ones() {
    let full = layout(
        "- - -",
        &[(&[1], 9 * GIB), (&[1], 8 * GIB), (&[2], GIB), (&[2], GIB), (&[3], 2 * GIB), (&[3], GIB)],
    );
    assert_eq!(
        plan(&full),
        [
            "t-1 1 -> 2 (8589934592 bytes): the replicas of broker 1 have 17.0 GiB, its share is 7.3 GiB; the replicas of broker 2 have 2.0 GiB, its share is 7.3 GiB",
            "t-3 2 -> 1 (1073741824 bytes): in exchange for t-1, which is larger",
        ]
    );
}

#[test]
fn leaders_are_passed_on_where_brokers_share_nothing() {
    let uneven = layout(
        "- - -",
        &[
            (&[1, 2], 0),
            (&[1, 2], 0),
            (&[1, 2], 0),
            (&[1, 2], 0),
            (&[2, 3], 0),
            (&[2, 3], 0),
            (&[3, 2], 0),
        ],
    );
    let mut moves = uneven.plan_all(Limits { moves: 0, ..LIMITS });
    assert_eq!(
        told(&moves),
        [
            "t-0 1,2 -> 2,1 (0 bytes): broker 1 is preferred by 4 partitions, its share is 2.3; broker 3 is preferred by 1 partition, its share is 2.3",
            "t-4 2,3 -> 3,2 (0 bytes): broker 1 is preferred by 4 partitions, its share is 2.3; broker 3 is preferred by 1 partition, its share is 2.3",
        ]
    );
    assert!(moves.remove(0).iter().all(Move::is_order));
}

/// A cluster of up to seven brokers: some in racks, perhaps one to be drained, one that is away, and one
/// or two that are not registered any more.
fn cluster() -> impl Strategy<Value = Layout> {
    let brokers = (1..8usize, any::<bool>(), 0..12usize, 0..20usize, 0..12usize);
    let partitions = vec((vec(any::<u32>(), 1..4), 0..20u64, 0..30u8), 0..70);
    (brokers, partitions).prop_map(|((count, in_racks, drained, away, gone), partitions)| {
        let racks: Vec<&str> = (0..count)
            .map(|place| if in_racks { ["a", "b", "c"][place % 3] } else { "-" })
            .collect();
        let mut cluster = layout(&racks.join(" "), &[]);
        for (number, (draws, gibs, moving)) in (0..).zip(partitions) {
            // Most of it on the first brokers, as when others are new.
            let mut replicas = Vec::new();
            for draw in draws {
                let id = BrokerId((draw as usize % count.min(3)) as i32 + 1);
                if !replicas.contains(&id) {
                    replicas.push(id);
                }
            }
            let placement = Placement { replicas, bytes: gibs * GIB, is_settled: moving > 0 };
            cluster.partitions.insert(TopicPartition::new("t", number), placement);
        }
        for (place, broker) in cluster.brokers.values_mut().enumerate() {
            if place == drained {
                broker.weight = 0;
            }
            broker.is_active = place != away;
        }
        for id in [gone as i32, gone as i32 + 1] {
            cluster.brokers.remove(&BrokerId(id));
        }
        cluster
    })
}

fn usable(layout: &Layout) -> BTreeSet<BrokerId> {
    let usable = layout.brokers.iter().filter(|(_, broker)| broker.is_active && broker.weight > 0);
    usable.map(|(id, _)| *id).collect()
}

fn weight(layout: &Layout, id: BrokerId) -> u32 {
    layout.brokers.get(&id).map_or(0, |broker| broker.weight)
}

/// How many of these brokers are not registered.
fn unregistered(layout: &Layout, replicas: &[BrokerId]) -> usize {
    replicas.iter().filter(|id| !layout.brokers.contains_key(id)).count()
}

/// How many racks more these replicas could be in.
fn missing_racks(layout: &Layout, replicas: &[BrokerId]) -> usize {
    let racks = |id: &BrokerId| layout.brokers.get(id).filter(|it| it.weight > 0)?.rack.clone();
    let all: BTreeSet<_> = layout.brokers.keys().filter_map(racks).collect();
    let own: BTreeSet<_> =
        replicas.iter().filter_map(racks).filter(|it| all.contains(it)).collect();
    all.len().min(replicas.len()).saturating_sub(own.len())
}

fn check_move(layout: &Layout, it: &Move) {
    let placement = &layout.partitions[&it.partition];
    assert!(placement.is_settled, "{it:?} is on its way already");
    assert_eq!(placement.replicas, it.from);
    assert_ne!(it.from, it.to, "moved for nothing");
    assert!(!it.reasons.is_empty(), "nobody says why");
    assert_eq!(it.to.iter().collect::<BTreeSet<_>>().len(), it.from.len(), "replicas are lost");
    let new: Vec<_> = it.to.iter().filter(|id| !it.from.contains(id)).collect();
    let gone = unregistered(layout, &it.from);
    assert!(new.len() <= gone.max(1), "two moves in one");
    assert_eq!(unregistered(layout, &it.to), 0, "the move will be refused");
    assert!(new.iter().all(|id| usable(layout).contains(id)), "nobody is there");
    assert_eq!(it.bytes, new.len() as u64 * placement.bytes);
    let must_go = it.from.iter().any(|id| !it.to.contains(id) && weight(layout, *id) == 0);
    let (before, after) = (missing_racks(layout, &it.from), missing_racks(layout, &it.to));
    if after > before {
        let gone = it.from.iter().position(|id| !it.to.contains(id)).unwrap();
        let ways = usable(layout).into_iter().filter(|id| !it.from.contains(id)).map(|id| {
            let mut replicas = it.from.clone();
            replicas[gone] = id;
            missing_racks(layout, &replicas)
        });
        assert!(must_go && ways.min() == Some(after), "a rack is lost that need not be: {it:?}");
    }
}

/// Everybody who may be used has its share, one more or less, or as much as is tolerated.
fn check_numbers(layout: &Layout) {
    let usable = usable(layout);
    let of = |id: &BrokerId| {
        layout.partitions.values().filter(|placement| placement.replicas.contains(id)).count()
    };
    let total: usize = usable.iter().map(of).sum();
    let share = total as f64 / usable.len() as f64;
    for id in &usable {
        let off = (of(id) as f64 - share).abs();
        assert!(off <= (share / 10.0).max(1.0), "broker {id} has {}, its share is {share}", of(id));
    }
}

proptest! {
    #[test]
    fn plans_end_with_everybody_having_a_share(mut cluster in cluster()) {
        let mut rounds = 0;
        loop {
            let moves = cluster.plan(LIMITS);
            if moves.is_empty() {
                break;
            }
            let named: BTreeSet<_> = moves.iter().map(|it| &it.partition).collect();
            prop_assert_eq!(named.len(), moves.len(), "a partition moves twice in a round");
            let copies = moves.iter().filter(|it| !it.is_order()).count();
            prop_assert!(copies <= LIMITS.moves && moves.len() - copies <= LIMITS.orders);
            for it in &moves {
                check_move(&cluster, it);
            }
            moves.iter().for_each(|it| cluster.apply(it));
            rounds += 1;
            prop_assert!(rounds < 200, "no end");
        }
        let usable = usable(&cluster);
        for placement in cluster.partitions.values().filter(|it| it.is_settled) {
            let free = usable.iter().filter(|id| !placement.replicas.contains(id)).count();
            let must_go = placement.replicas.iter().any(|id| weight(&cluster, *id) == 0);
            let needed = unregistered(&cluster, &placement.replicas).max(1);
            prop_assert!(!(free >= needed && must_go), "a drained broker keeps a replica");
        }
        let is_plain = cluster.brokers.values().all(|it| it.rack.is_none())
            && cluster
                .partitions
                .values()
                .all(|it| it.is_settled && unregistered(&cluster, &it.replicas) == 0);
        if is_plain && !usable.is_empty() {
            check_numbers(&cluster);
        }
    }

    #[test]
    fn what_is_even_is_left_alone(brokers in 1..6i32, rounds in 1..10, bytes in 0..9u64) {
        let mut even = layout(&vec!["-"; brokers as usize].join(" "), &[]);
        for number in 0..brokers * rounds {
            let id = |place: i32| BrokerId((number + place) % brokers + 1);
            let replicas = (0..brokers.min(2)).map(id).collect();
            let placement = Placement { replicas, bytes: bytes * GIB, is_settled: true };
            even.partitions.insert(TopicPartition::new("t", number), placement);
        }
        prop_assert_eq!(even.plan(LIMITS), []);
    }
}
