//! Nodes without a vote, which pull what is committed.

use std::time::Duration;

use ottla_sim::Crash;

use super::cluster::{Cluster, Order, directory};
use super::record;
use crate::metadata_follower::FollowerProgress;

const NODES: [i32; 5] = [1, 2, 3, 100, 101];
const VOTERS: [i32; 3] = [1, 2, 3];

fn progress(cluster: &Cluster, id: i32) -> FollowerProgress {
    *cluster.board.lock().followers[&id].progress().borrow()
}

#[test]
fn followers_apply_what_is_committed_and_are_described() {
    let mut cluster = Cluster::new(40, &NODES, &VOTERS, |_| {});
    let leader = cluster.wait_for_leader();
    cluster.propose(leader, "a").unwrap();
    let began = cluster.world.elapsed();
    cluster.propose(leader, "b").unwrap();
    cluster.wait_until_applied(&NODES, &[record("a"), record("b")]);
    let took = cluster.world.elapsed() - began;
    assert!(took < Duration::from_millis(100), "they wait at the leader: {took:?}");
    let told = cluster.board.lock().followers[&100].leader();
    assert_eq!(told.borrow().leader, Some(leader));
    cluster.run_for(Duration::from_secs(1));
    let described = cluster.describe(leader);
    let observers: Vec<_> =
        described.observers.iter().map(|it| (it.node_id, it.log_end_offset)).collect();
    assert_eq!(observers, [(100, described.high_watermark), (101, described.high_watermark)]);
    assert_eq!(described.observers[0].directory_id, directory(100, 1));
    assert!(described.observers[0].last_caught_up_timestamp > 0);
    assert!(progress(&cluster, 100).is_caught_up());
}

#[test]
fn followers_go_on_with_another_leader() {
    let mut cluster = Cluster::new(41, &NODES, &VOTERS, |_| {});
    let mut expected = Vec::new();
    for round in 0..3 {
        let leader = cluster.wait_for_leader();
        cluster.propose(leader, &format!("{round}")).unwrap();
        expected.push(record(format!("{round}")));
        cluster.kill(leader, Crash::PowerLoss);
        for voter in VOTERS.iter().filter(|it| **it != leader) {
            cluster.order(*voter, Order::Vanished(leader));
        }
        cluster.board.lock().followers[&100].vanished()(1);
        let next = cluster.wait_for_leader();
        cluster.propose(next, &format!("{round} again")).unwrap();
        expected.push(record(format!("{round} again")));
        cluster.wait_until_applied(&[100, 101], &expected);
        cluster.revive(leader);
        cluster.run_for(Duration::from_secs(1));
    }
    cluster.wait_until_applied(&NODES, &expected);
}

#[test]
fn followers_find_the_next_leader_as_soon_as_there_is_one_while_the_last_is_silent() {
    for seed in 50..53 {
        // Voters wait longer than followers, who are told of the silent one for a while.
        let mut cluster = Cluster::new(seed, &NODES, &VOTERS, |options| {
            options.fetch_timeout = Duration::from_secs(3);
        });
        let silent = cluster.wait_for_leader();
        cluster.propose(silent, "before").unwrap();
        cluster.wait_until_applied(&NODES, &[record("before")]);
        cluster.cut_off(silent);
        let limit = Duration::from_secs(20);
        cluster.wait("another leader", limit, |cluster| {
            cluster.leader().is_some_and(|leader| leader != silent)
        });
        let next = cluster.leader();
        for follower in [100, 101] {
            cluster.wait("the news", Duration::from_millis(200), |cluster| {
                let told = cluster.board.lock().followers[&follower].leader();
                *told.borrow() == cluster.leaders()[&next.unwrap()]
            });
        }
        cluster.mend();
        cluster.propose(next.unwrap(), "after").unwrap();
        cluster.wait_until_applied(&NODES, &[record("before"), record("after")]);
    }
}

/// Whether the log before the snapshot is there or not.
#[test]
fn a_follower_that_is_late_starts_from_a_snapshot() {
    start_from_a_snapshot(42, Some(0));
    start_from_a_snapshot(44, None);
}

fn start_from_a_snapshot(seed: u64, max_retention_bytes: Option<u64>) {
    let mut cluster = Cluster::new(seed, &NODES, &VOTERS, move |options| {
        options.max_retention_bytes = max_retention_bytes;
        options.segment_bytes = 1 << 20;
    });
    let leader = cluster.wait_for_leader();
    cluster.kill(100, Crash::Process);
    let big = "y".repeat(300_000);
    let mut expected = Vec::new();
    for number in 0..20 {
        cluster.propose(leader, &format!("{number}{big}")).unwrap();
        expected.push(record(format!("{number}{big}")));
    }
    cluster.order(leader, Order::Snapshot);
    let taken = |cluster: &mut Cluster| cluster.describe(leader).log_start_offset > 10;
    match max_retention_bytes {
        Some(_) => drop(cluster.wait("a snapshot", Duration::from_secs(10), taken)),
        None => cluster.run_for(Duration::from_secs(1)),
    }
    assert_eq!(taken(&mut cluster), max_retention_bytes.is_some());
    cluster.revive(100);
    cluster.wait_until_applied(&[100], &expected);
    assert_eq!(cluster.board.lock().applied[&100].0.lock().installs, 1);
    cluster.propose(leader, "more").unwrap();
    expected.push(record("more"));
    cluster.wait_until_applied(&NODES, &expected);
}

#[test]
fn a_follower_of_a_lone_voter_survives_its_restart() {
    let mut cluster = Cluster::new(43, &[1, 100], &[1], |_| {});
    let leader = cluster.wait_for_leader();
    cluster.propose(leader, "a").unwrap();
    cluster.wait_until_applied(&[1, 100], &[record("a")]);
    cluster.kill(1, Crash::PowerLoss);
    cluster.run_for(Duration::from_secs(2));
    cluster.revive(1);
    cluster.wait_for_leader();
    cluster.propose(1, "b").unwrap();
    cluster.wait_until_applied(&[1, 100], &[record("a"), record("b")]);
}

#[test]
fn whoever_was_away_shows_what_it_missed_at_once() {
    let mut cluster = Cluster::new(45, &NODES, &VOTERS, |_| {});
    let leader = cluster.wait_for_leader();
    let voter = VOTERS.into_iter().find(|it| *it != leader).unwrap();
    let away = [voter, 100];
    let shown =
        |cluster: &Cluster, id: i32| cluster.board.lock().applied[&id].0.lock().publications;
    cluster.propose(leader, "first").unwrap();
    let mut expected = vec![record("first")];
    cluster.wait_until_applied(&NODES, &expected);
    away.iter().for_each(|id| cluster.cut_off(*id));
    let before = away.map(|id| shown(&cluster, id));
    for number in 0..50 {
        cluster.propose(leader, &format!("{number}")).unwrap();
        expected.push(record(format!("{number}")));
    }
    cluster.mend();
    cluster.wait_until_applied(&NODES, &expected);
    for (id, before) in away.into_iter().zip(before) {
        let times = shown(&cluster, id) - before;
        assert!(times < 10, "node {id} showed 50 batches in {times} steps");
    }
}
