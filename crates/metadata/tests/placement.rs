//! Where replicas go: Kafka's worked examples, and what must hold for any cluster.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_metadata::placement::{PlacementError, PlacementSpec, Start, UsableBroker, place};
use ottla_protocol::BrokerId;
use proptest::collection::vec;
use proptest::prelude::*;

fn without_racks(ids: impl IntoIterator<Item = i32>) -> Vec<UsableBroker> {
    ids.into_iter().map(|id| UsableBroker { id: BrokerId(id), rack: None }).collect()
}

fn with_racks(racks: &[(i32, &str)]) -> Vec<UsableBroker> {
    let broker =
        |(id, rack): &(i32, &str)| UsableBroker { id: BrokerId(*id), rack: Some(Arc::from(*rack)) };
    racks.iter().map(broker).collect()
}

fn spec(partitions: usize, replication_factor: usize) -> PlacementSpec {
    PlacementSpec { first_partition: 0, partitions, replication_factor }
}

fn ids(placed: &[Vec<BrokerId>]) -> Vec<Vec<i32>> {
    placed.iter().map(|replicas| replicas.iter().map(|id| id.0).collect()).collect()
}

#[test]
fn the_worked_example_of_the_seeds() {
    let brokers = without_racks([1, 2, 3, 4]);
    let placed = place(&brokers, spec(1, 4), Start { index: 2, shift: 2 }).unwrap();
    assert_eq!(ids(&placed), [[3, 2, 4, 1]]);
}

#[test]
fn kafkas_example_of_five_brokers_and_ten_partitions() {
    let brokers = without_racks([0, 1, 2, 3, 4]);
    let placed = place(&brokers, spec(10, 3), Start { index: 0, shift: 0 }).unwrap();
    assert_eq!(
        ids(&placed),
        [
            [0, 1, 2],
            [1, 2, 3],
            [2, 3, 4],
            [3, 4, 0],
            [4, 0, 1],
            [0, 2, 3],
            [1, 3, 4],
            [2, 4, 0],
            [3, 0, 1],
            [4, 1, 2],
        ]
    );
}

#[test]
fn kafkas_example_of_three_racks() {
    let brokers = with_racks(&[(0, "r1"), (1, "r3"), (2, "r3"), (3, "r2"), (4, "r2"), (5, "r1")]);
    let placed = place(&brokers, spec(7, 3), Start { index: 0, shift: 0 }).unwrap();
    assert_eq!(
        ids(&placed),
        [[0, 3, 1], [3, 1, 5], [1, 5, 4], [5, 4, 2], [4, 2, 0], [2, 0, 3], [0, 4, 2]]
    );
}

#[test]
fn partitions_added_after_a_whole_round_go_on_where_it_ended() {
    let brokers = without_racks(0..5);
    let start = Start { index: 1, shift: 3 };
    let all = place(&brokers, spec(12, 3), start).unwrap();
    let grown = PlacementSpec { first_partition: 5, partitions: 7, replication_factor: 3 };
    assert_eq!(place(&brokers, grown, start).unwrap(), all[5..]);
}

#[test]
fn brokers_of_which_only_some_name_a_rack_are_placed_without_racks() {
    let mut brokers = with_racks(&[(0, "a"), (1, "a"), (2, "b")]);
    brokers.push(UsableBroker { id: BrokerId(3), rack: None });
    let start = Start { index: 0, shift: 0 };
    assert_eq!(place(&brokers, spec(9, 2), start), place(&without_racks(0..4), spec(9, 2), start));
}

#[test]
fn one_broker_holds_everything() {
    let placed = place(&without_racks([7]), spec(3, 1), Start { index: 5, shift: 9 }).unwrap();
    assert_eq!(ids(&placed), [[7], [7], [7]]);
}

#[test]
fn a_factor_that_cannot_be_met_is_refused() {
    let start = Start { index: 0, shift: 0 };
    let refused = |brokers, factor| place(&without_racks(0..brokers), spec(1, factor), start);
    assert_eq!(refused(3, 4), Err(PlacementError { factor: 4, brokers: 3 }));
    assert_eq!(refused(3, 0), Err(PlacementError { factor: 0, brokers: 3 }));
    assert_eq!(refused(0, 1), Err(PlacementError { factor: 1, brokers: 0 }));
}

/// How often each broker is counted.
fn count<'a>(ids: impl IntoIterator<Item = &'a BrokerId>) -> BTreeMap<BrokerId, usize> {
    let mut counts = BTreeMap::new();
    for id in ids {
        *counts.entry(*id).or_default() += 1;
    }
    counts
}

fn spread(counts: &BTreeMap<BrokerId, usize>, brokers: usize) -> usize {
    let most = counts.values().max().copied().unwrap_or(0);
    let least = if counts.len() < brokers { 0 } else { *counts.values().min().unwrap() };
    most - least
}

prop_compose! {
    fn start()(index in 0..20usize, shift in 0..20usize) -> Start {
        Start { index, shift }
    }
}

proptest! {
    #[test]
    fn no_partition_has_two_replicas_on_one_broker(
        racks in vec(0..4u8, 1..12), named: bool, partitions in 1..60usize, factor in 1..6usize, start in start()
    ) {
        let factor = factor.min(racks.len());
        let brokers: Vec<UsableBroker> = (0..).zip(&racks).map(|(id, rack)| UsableBroker {
            id: BrokerId(id),
            rack: named.then(|| Arc::from(rack.to_string())),
        }).collect();
        for replicas in place(&brokers, spec(partitions, factor), start).unwrap() {
            prop_assert_eq!(replicas.len(), factor);
            prop_assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), factor);
        }
    }

    #[test]
    fn leaders_are_spread_evenly(racks in vec(0..4u8, 1..12), partitions in 1..60usize, start in start()) {
        let brokers: Vec<UsableBroker> = (0..).zip(&racks).map(|(id, rack)| UsableBroker {
            id: BrokerId(id),
            rack: Some(Arc::from(rack.to_string())),
        }).collect();
        let placed = place(&brokers, spec(partitions, 1), start).unwrap();
        prop_assert!(spread(&count(placed.iter().flatten()), brokers.len()) <= 1);
    }

    #[test]
    fn whole_rounds_give_each_broker_as_many_replicas(brokers in 1..10i32, rounds in 1..6usize, factor in 1..5usize, start in start()) {
        let usable = without_racks(0..brokers);
        let factor = factor.min(usable.len());
        let placed = place(&usable, spec(rounds * usable.len(), factor), start).unwrap();
        prop_assert_eq!(spread(&count(placed.iter().flatten()), usable.len()), 0);
    }

    #[test]
    fn replicas_are_in_as_many_racks_as_can_be(racks in vec(0..5u8, 1..12), partitions in 1..40usize, factor in 1..6usize, start in start()) {
        let factor = factor.min(racks.len());
        let brokers: Vec<UsableBroker> = (0..).zip(&racks).map(|(id, rack)| UsableBroker {
            id: BrokerId(id),
            rack: Some(Arc::from(rack.to_string())),
        }).collect();
        let all: BTreeSet<u8> = racks.iter().copied().collect();
        for replicas in place(&brokers, spec(partitions, factor), start).unwrap() {
            let used: BTreeSet<u8> = replicas.iter().map(|id| racks[id.0 as usize]).collect();
            prop_assert_eq!(used.len(), factor.min(all.len()));
        }
    }
}
