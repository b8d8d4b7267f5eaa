//! Everything at once: messages lost, late and doubled, voters cut off and killed, seeds for all of it.
//!
//! A seed decides what happens to whom, but not every order of events: tokio draws the seed of each runtime from a hasher
//! with random keys and a count of the process, and its `watch` wakes those who wait in an order that follows from that.
//! Only a process of its own with another `getrandom`, as `ottla-sim` gives each of its runs, replays bit for bit. Here
//! that cannot be had: the replacement stops the clock of every test that runs in real time.

use std::time::Duration;

use bytes::Bytes;
use ottla_sim::Crash;

use super::cluster::{Cluster, Order, Outcome, Weather};
use super::record;
use crate::quorum::{Committed, ProposeError};

type Proposal = (Bytes, Outcome<Result<Committed, ProposeError>>);

/// What happened in a run.
#[derive(Debug)]
struct Story {
    acknowledged: usize,
    kills: usize,
}

/// A run of `rounds` disturbances; fails if anything acknowledged is lost, moved, or applied twice.
fn run(seed: u64, voters: &[i32], rounds: u32) -> Story {
    let nodes: Vec<_> = voters.iter().copied().chain([100]).collect();
    let mut cluster = Cluster::new(seed, &nodes, voters, |options| {
        options.election_timeout = Duration::from_millis(150);
        options.fetch_timeout = Duration::from_millis(300);
        options.request_timeout = Duration::from_millis(300);
        options.max_bytes_between_snapshots = 2000;
        options.segment_bytes = 1000;
        options.max_retention_bytes = Some(4000);
    });
    let mut proposals: Vec<Proposal> = Vec::new();
    let mut kills = 0;
    for round in 0..rounds {
        disturb(&mut cluster, voters, &mut kills);
        for number in 0..3 {
            let value = record(format!("{round}.{number}"));
            let at = voters[cluster.rng.below(voters.len() as u64) as usize];
            let at = if cluster.rng.chance(0.8) { cluster.leader().unwrap_or(at) } else { at };
            let outcome = Outcome::default();
            cluster.order(at, Order::Propose(value.clone(), outcome.clone()));
            proposals.push((value, outcome));
            cluster.run_for(Duration::from_millis(cluster.rng.below(120)));
        }
    }
    cluster.mend();
    cluster.board.lock().weather = Weather { longest_delay_ms: 2, ..Weather::default() };
    revive_all(&mut cluster, &nodes);
    let last = loop {
        let leader = cluster.wait_for_leader();
        if let Ok(last) = cluster.propose(leader, "last") {
            break last;
        }
        cluster.run_for(Duration::from_millis(100));
    };
    let mut told: Vec<_> = proposals
        .iter()
        .filter_map(|(value, outcome)| {
            outcome.lock().clone()?.ok().map(|at| (at.base_offset, value.clone()))
        })
        .collect();
    told.sort();
    told.push((last.base_offset, record("last")));
    let expected: Vec<_> = told.into_iter().map(|(_, value)| value).collect();
    cluster.wait_until_applied(&nodes, &expected);
    Story { acknowledged: expected.len(), kills }
}

fn disturb(cluster: &mut Cluster, voters: &[i32], kills: &mut usize) {
    let victim = voters[cluster.rng.below(voters.len() as u64) as usize];
    let victim = if cluster.rng.chance(0.5) { cluster.leader().unwrap_or(victim) } else { victim };
    match cluster.rng.below(10) {
        0 => {
            let other = voters[cluster.rng.below(voters.len() as u64) as usize];
            cluster.cut(victim, other);
        }
        1 => cluster.cut_off(victim),
        2 | 3 => cluster.mend(),
        4 | 5 => {
            let weather = Weather {
                lost: cluster.rng.below(20) as f64 / 100.0,
                doubled: cluster.rng.below(20) as f64 / 100.0,
                longest_delay_ms: cluster.rng.below(60),
            };
            cluster.board.lock().weather = weather;
        }
        6 | 7 if cluster.is_running(victim) => {
            let crash = if cluster.rng.chance(0.5) { Crash::Process } else { Crash::PowerLoss };
            cluster.kill(victim, crash);
            *kills += 1;
            if cluster.rng.chance(0.5) {
                voters.iter().for_each(|id| cluster.order(*id, Order::Vanished(victim)));
            }
        }
        _ => revive_all(cluster, voters),
    }
}

fn revive_all(cluster: &mut Cluster, nodes: &[i32]) {
    for node in nodes {
        if !cluster.is_running(*node) {
            cluster.revive(*node);
        }
    }
}

/// How many seeds: more with `OTTLA_SEEDS`.
fn seeds(few: u64) -> std::ops::Range<u64> {
    let more = std::env::var("OTTLA_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    0..more.unwrap_or(few)
}

#[test]
fn three_voters_lose_nothing_whatever_happens() {
    let stories: Vec<_> = seeds(10).map(|seed| run(seed, &[1, 2, 3], 30)).collect();
    let (told, kills) =
        stories.iter().fold((0, 0), |sum, it| (sum.0 + it.acknowledged, sum.1 + it.kills));
    assert!(told > stories.len() * 15 && kills > stories.len(), "too little happened: {stories:?}");
}

#[test]
fn five_voters_lose_nothing_whatever_happens() {
    let stories: Vec<_> = seeds(5).map(|seed| run(1000 + seed, &[1, 2, 3, 4, 5], 30)).collect();
    let (told, kills) =
        stories.iter().fold((0, 0), |sum, it| (sum.0 + it.acknowledged, sum.1 + it.kills));
    assert!(told > stories.len() * 15 && kills > stories.len(), "too little happened: {stories:?}");
}
