//! Voters that are added and removed, and voters that come back with another disk (KIP-853).

use std::time::Duration;

use ottla_sim::Crash;

use super::cluster::{Cluster, Order, Outcome, directory, voter};
use super::record;
use crate::quorum::ChangeVotersError;

const FOUR: [i32; 4] = [1, 2, 3, 4];

/// Three voters, and node 4 that waits.
fn three_and_one(seed: u64) -> (Cluster, i32) {
    let mut cluster = Cluster::new(seed, &FOUR, &[1, 2, 3], |_| {});
    let leader = cluster.wait_for_leader();
    cluster.propose(leader, "first").unwrap();
    (cluster, leader)
}

fn voter_ids(cluster: &Cluster, of: i32) -> Vec<i32> {
    cluster.describe(of).voters.iter().map(|voter| voter.node_id).collect()
}

#[test]
fn a_voter_is_added_and_counts() {
    let (mut cluster, leader) = three_and_one(30);
    assert_eq!(voter_ids(&cluster, leader), [1, 2, 3]);
    cluster.add(leader, 4, 1).unwrap();
    assert_eq!(voter_ids(&cluster, leader), FOUR);
    cluster.wait_until_applied(&FOUR, &[record("first")]);
    let told = cluster.describe(leader);
    assert_eq!(told.voters[3].directory_id, directory(4, 1));
    assert_eq!(told.addresses[3], voter(4));
    // Two of four are no majority; with the new one there is one.
    let others: Vec<_> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    cluster.kill(others[0], Crash::Process);
    cluster.propose(leader, "three of four").unwrap();
    cluster.kill(others[1], Crash::Process);
    let stuck = Outcome::default();
    cluster.order(leader, Order::Propose(record("two of four"), stuck.clone()));
    cluster.run_for(Duration::from_secs(1));
    assert_eq!(*stuck.lock(), None);
    cluster.revive(others[0]);
    cluster.revive(others[1]);
    cluster.wait_until_applied(&FOUR, &[record("first"), record("three of four")]);
}

#[test]
fn a_lone_voter_becomes_three_and_lives_without_the_first() {
    let mut cluster = Cluster::new(31, &[1, 2, 3], &[1], |_| {});
    let leader = cluster.wait_for_leader();
    assert_eq!(leader, 1);
    cluster.propose(1, "alone").unwrap();
    cluster.add(1, 2, 1).unwrap();
    cluster.add(1, 3, 1).unwrap();
    cluster.propose(1, "together").unwrap();
    cluster.wait_until_applied(&[1, 2, 3], &[record("alone"), record("together")]);
    cluster.kill(1, Crash::PowerLoss);
    cluster.order(2, Order::Vanished(1));
    cluster.order(3, Order::Vanished(1));
    let next = cluster.wait_for_leader();
    cluster.propose(next, "without it").unwrap();
    cluster.revive(1);
    let all = [record("alone"), record("together"), record("without it")];
    cluster.wait_until_applied(&[1, 2, 3], &all);
}

#[test]
fn a_leader_that_is_removed_leads_until_that_is_committed() {
    let (mut cluster, leader) = three_and_one(32);
    cluster.remove(leader, leader, 1).unwrap();
    cluster.wait("another leader", Duration::from_secs(3), |cluster| {
        cluster.leader().is_some_and(|now| now != leader)
    });
    let next = cluster.leader().unwrap();
    assert!(!voter_ids(&cluster, next).contains(&leader));
    cluster.propose(next, "second").unwrap();
    // It goes on as a follower, and may come back once that is written.
    cluster.wait_until_applied(&[1, 2, 3], &[record("first"), record("second")]);
    cluster.add(next, leader, 1).unwrap();
    cluster.wait_until_applied(&[1, 2, 3], &[record("first"), record("second")]);
}

/// Nobody tells it, and `controller.quorum.voters` names it for ever.
#[test]
fn a_voter_that_is_removed_goes_on_following() {
    let (mut cluster, leader) = three_and_one(37);
    let removed = *FOUR.iter().find(|id| **id != leader).unwrap();
    cluster.remove(leader, removed, 1).unwrap();
    let left: Vec<_> = [1, 2, 3].into_iter().filter(|id| *id != removed).collect();
    cluster.propose(leader, "second").unwrap();
    cluster.wait_until_applied(&[1, 2, 3], &[record("first"), record("second")]);
    assert_eq!(voter_ids(&cluster, leader), left);
    cluster.wait("it to know who leads", Duration::from_secs(5), |cluster| {
        cluster.leaders()[&removed].leader == Some(leader)
    });
    cluster.kill(removed, Crash::PowerLoss);
    cluster.propose(leader, "third").unwrap();
    cluster.revive(removed);
    cluster.wait_until_applied(&[1, 2, 3], &[record("first"), record("second"), record("third")]);
    assert_eq!((voter_ids(&cluster, leader), cluster.leader()), (left, Some(leader)));
}

#[test]
fn changes_that_make_no_sense_are_refused_precisely() {
    let (mut cluster, leader) = three_and_one(33);
    let other = *FOUR.iter().find(|id| **id != leader).unwrap();
    let not_leader = ChangeVotersError::NotLeader { leader: Some(leader) };
    cluster.wait("it to know the leader", Duration::from_secs(2), |cluster| {
        cluster.leaders()[&other].leader == Some(leader)
    });
    assert_eq!(cluster.add(other, 4, 1), Err(not_leader.clone()));
    assert_eq!(cluster.remove(other, 1, 1), Err(not_leader));

    let duplicate =
        ChangeVotersError::DuplicateVoter { node_id: other, directory_id: directory(other, 1) };
    assert_eq!(cluster.add(leader, other, 1), Err(duplicate.clone()));
    assert_eq!(cluster.add(leader, other, 2), Err(duplicate));
    let missing = |node_id, disk| {
        Err(ChangeVotersError::VoterNotFound { node_id, directory_id: directory(node_id, disk) })
    };
    assert_eq!(cluster.remove(leader, 4, 1), missing(4, 1));
    assert_eq!(cluster.remove(leader, other, 2), missing(other, 2));
    // Node 4 has its log elsewhere than it is said to; node 9 is not there at all.
    let why = cluster.add(leader, 4, 2).unwrap_err();
    assert!(
        matches!(&why, ChangeVotersError::Invalid(why) if why.contains("keeps its metadata log in")),
        "{why:?}"
    );
    let why = cluster.add(leader, 9, 1).unwrap_err();
    assert!(
        matches!(&why, ChangeVotersError::TimedOut(why) if why.contains("does not answer")),
        "{why:?}"
    );
    assert_eq!(voter_ids(&cluster, leader), [1, 2, 3]);

    let mut alone = Cluster::new(34, &[1], &[1], |_| {});
    alone.wait_for_leader();
    assert_eq!(alone.remove(1, 1, 1), Err(ChangeVotersError::LastVoter { node_id: 1 }));
}

#[test]
fn a_change_waits_for_the_one_before_it() {
    let (mut cluster, leader) = three_and_one(38);
    let other = *FOUR.iter().find(|id| **id != leader).unwrap();
    cluster.board.lock().weather.longest_delay_ms = 50;
    let (first, second) = (Outcome::default(), Outcome::default());
    cluster.order(leader, Order::Add(voter(4), directory(4, 1), first.clone()));
    cluster.run_for(Duration::from_millis(5));
    cluster.order(leader, Order::Remove(other, directory(other, 1), second.clone()));
    assert_eq!((cluster.result(second), cluster.result(first)), (Ok(()), Ok(())));
    let left: Vec<_> = FOUR.into_iter().filter(|id| *id != other).collect();
    assert_eq!(voter_ids(&cluster, leader), left);
}

#[test]
fn a_voter_that_does_not_catch_up_is_not_added() {
    let (mut cluster, leader) = three_and_one(35);
    let outcome = Outcome::default();
    cluster.order(leader, Order::Add(voter(4), directory(4, 1), outcome.clone()));
    cluster.wait("it follows", Duration::from_secs(2), |cluster| {
        cluster.describe(leader).observers.iter().any(|it| it.node_id == 4)
    });
    cluster.cut_off(4);
    // Nobody waits for ever until it is his turn.
    assert_eq!(cluster.remove(leader, leader, 1), Err(ChangeVotersError::InProgress));
    let why = cluster.result(outcome).unwrap_err();
    assert!(
        matches!(&why, ChangeVotersError::TimedOut(why) if why.contains("got no further")),
        "{why:?}"
    );
    assert_eq!(voter_ids(&cluster, leader), [1, 2, 3]);
    assert_eq!(cluster.describe(leader).observers, []);
    cluster.propose(leader, "on it goes").unwrap();
}

/// The log that it gets tells first of the directory that its leader had before.
#[test]
fn a_voter_with_a_new_disk_follows_a_leader_that_got_one_before() {
    let (mut cluster, first) = three_and_one(39);
    let others: Vec<_> = [1, 2, 3].into_iter().filter(|id| *id != first).collect();
    for id in &others {
        cluster.kill(*id, Crash::PowerLoss);
        cluster.change_disk(*id, 2);
        cluster.revive(*id);
        cluster.remove(first, *id, 1).unwrap();
        cluster.add(first, *id, 2).unwrap();
    }
    cluster.kill(first, Crash::PowerLoss);
    cluster.change_disk(first, 2);
    let leader = cluster.wait_for_leader();
    cluster.propose(leader, "second").unwrap();
    cluster.revive(first);
    cluster.remove(leader, first, 1).unwrap();
    cluster.add(leader, first, 2).unwrap();
    cluster.wait_until_applied(&[1, 2, 3], &[record("first"), record("second")]);
}

#[test]
fn a_voter_with_another_disk_takes_no_part_until_it_is_removed_and_added() {
    let (mut cluster, leader) = three_and_one(36);
    let others: Vec<_> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    let (wiped, third) = (others[0], others[1]);
    cluster.kill(wiped, Crash::PowerLoss);
    cluster.propose(leader, "without it").unwrap();
    cluster.change_disk(wiped, 2);
    cluster.revive(wiped);
    cluster.run_for(Duration::from_secs(3));
    assert_eq!(cluster.records(wiped), [] as [bytes::Bytes; 0], "it is not replicated to");

    // Nor does it vote: of the two that are left, one alone is no majority.
    cluster.kill(leader, Crash::PowerLoss);
    cluster.order(third, Order::Vanished(leader));
    cluster.run_for(Duration::from_secs(8));
    assert_eq!(cluster.leader(), None);
    cluster.revive(leader);
    let leader = cluster.wait_for_leader();

    cluster.remove(leader, wiped, 1).unwrap();
    cluster.add(leader, wiped, 2).unwrap();
    cluster.wait_until_applied(&[1, 2, 3], &[record("first"), record("without it")]);
}

#[test]
fn a_log_in_a_directory_that_changed_its_id_is_refused() {
    // As if meta.properties had been made anew beside the log.
    let mut cluster = Cluster::new(37, &[1], &[1], |options| options.dir = "/disk-1".into());
    cluster.wait_for_leader();
    cluster.kill(1, Crash::Process);
    cluster.change_disk(1, 2);
    cluster.revive(1);
    cluster.wait("a refusal", Duration::from_secs(5), |cluster| {
        cluster.board.lock().refusals.contains_key(&1)
    });
    let why = cluster.board.lock().refusals[&1].clone();
    assert!(why.contains("put back the meta.properties that was there"), "{why}");
}
