//! Controllers that find the quorum by `controller.quorum.bootstrap.servers` (KIP-853, KIP-1186).

use std::time::Duration;

use ottla_protocol::Uuid;
use ottla_sim::Crash;

use super::cluster::{Cluster, directory, voter};
use super::record;
use crate::quorum::{ChangeVotersError, QuorumOptions, Voter};

const THREE: [i32; 3] = [1, 2, 3];
const SOON: Duration = Duration::from_secs(10);

/// Nodes `ids` that all ask `servers`.
fn cluster(
    seed: u64,
    ids: &[i32],
    servers: &'static [i32],
    adjust: impl Fn(&mut QuorumOptions) + Clone + 'static,
) -> Cluster {
    Cluster::new(seed, ids, &[], move |options| {
        let servers = servers.iter().map(|id| Voter { node_id: -1, ..voter(*id) });
        options.bootstrap = servers.collect();
        options.endpoint = Some(voter(options.node_id));
        adjust(options);
    })
}

/// All but node 1 ask for a vote.
fn ask_for_votes(options: &mut QuorumOptions) {
    options.auto_join = options.node_id != 1;
}

fn voters(cluster: &Cluster, of: i32) -> Vec<(i32, Uuid)> {
    let told = cluster.describe(of);
    told.voters.iter().map(|voter| (voter.node_id, voter.directory_id)).collect()
}

fn wait_for_voters(cluster: &mut Cluster, voters_due: &[(i32, u8)]) -> i32 {
    let due: Vec<_> = voters_due.iter().map(|(id, disk)| (*id, directory(*id, *disk))).collect();
    cluster.wait("the voters", SOON * 2, |cluster| {
        cluster.leader().is_some_and(|leader| voters(cluster, leader) == due)
    });
    cluster.leader().unwrap()
}

#[test]
fn new_controllers_that_list_each_other_form_a_quorum() {
    let mut cluster = cluster(70, &THREE, &[3, 1, 2], |_| {});
    let leader = wait_for_voters(&mut cluster, &[(1, 1), (2, 1), (3, 1)]);
    assert_eq!(cluster.describe(leader).addresses, THREE.map(voter));
    cluster.propose(leader, "first").unwrap();
    cluster.wait_until_applied(&THREE, &[record("first")]);
    THREE.iter().for_each(|id| cluster.kill(*id, Crash::PowerLoss));
    THREE.iter().for_each(|id| cluster.revive(*id));
    let leader = cluster.wait_for_leader();
    cluster.propose(leader, "second").unwrap();
    cluster.wait_until_applied(&THREE, &[record("first"), record("second")]);
}

#[test]
fn a_controller_that_nobody_lists_follows_and_votes_once_it_is_added() {
    let mut cluster = cluster(71, &[1, 2, 3, 4], &[1], |_| {});
    assert_eq!(cluster.wait_for_leader(), 1);
    cluster.propose(1, "alone").unwrap();
    cluster.wait_until_applied(&[1, 2, 3, 4], &[record("alone")]);
    assert_eq!(voters(&cluster, 1), [(1, directory(1, 1))]);
    cluster.wait("it to know who leads", SOON, |it| it.leaders()[&4].leader == Some(1));
    let observers = cluster.describe(1).observers;
    assert_eq!(observers.iter().map(|it| it.node_id).collect::<Vec<_>>(), [2, 3, 4]);

    cluster.add(1, 2, 1).unwrap();
    wait_for_voters(&mut cluster, &[(1, 1), (2, 1)]);
    // Who loses its vote goes on following.
    cluster.remove(1, 2, 1).unwrap();
    cluster.propose(1, "again alone").unwrap();
    cluster.wait_until_applied(&[1, 2, 3, 4], &[record("alone"), record("again alone")]);
    assert_eq!(voters(&cluster, 1), [(1, directory(1, 1))]);
}

#[test]
fn controllers_that_may_give_themselves_a_vote_do_so_even_with_another_disk() {
    let mut cluster = cluster(72, &THREE, &[1], ask_for_votes);
    wait_for_voters(&mut cluster, &[(1, 1), (2, 1), (3, 1)]);
    let leader = cluster.leader().unwrap();
    cluster.propose(leader, "first").unwrap();
    cluster.kill(3, Crash::PowerLoss);
    cluster.change_disk(3, 2);
    cluster.revive(3);
    let leader = wait_for_voters(&mut cluster, &[(1, 1), (2, 1), (3, 2)]);
    cluster.propose(leader, "second").unwrap();
    cluster.wait_until_applied(&THREE, &[record("first"), record("second")]);
}

#[test]
fn nodes_find_the_voters_that_came_after_those_they_list() {
    let mut cluster = cluster(73, &[1, 2, 3, 100], &[1, 2], ask_for_votes);
    let leader = wait_for_voters(&mut cluster, &[(1, 1), (2, 1), (3, 1)]);
    cluster.propose(leader, "first").unwrap();
    // The last vote may be on its way still, and one changes at a time.
    while cluster.remove(leader, 1, 1) == Err(ChangeVotersError::InProgress) {
        cluster.run_for(Duration::from_millis(10));
    }
    wait_for_voters(&mut cluster, &[(2, 1), (3, 1)]);
    cluster.kill(1, Crash::Process);
    for id in [2, 3, 100] {
        cluster.kill(id, Crash::PowerLoss);
    }
    for id in [2, 3, 100] {
        cluster.revive(id);
    }
    let leader = wait_for_voters(&mut cluster, &[(2, 1), (3, 1)]);
    cluster.propose(leader, "second").unwrap();
    cluster.wait_until_applied(&[2, 3, 100], &[record("first"), record("second")]);
    let known = cluster.board.lock().followers[&100].voters().borrow().to_vec();
    assert!([2, 3].iter().all(|id| known.contains(&voter(*id))), "{known:?}");
}

#[test]
fn a_voter_that_moved_is_found_where_it_is_now() {
    let mut cluster = cluster(74, &THREE, &THREE, |_| {});
    let mut expected = Vec::new();
    for (round, port) in [9094, 9095].into_iter().enumerate() {
        let leader = cluster.wait_for_leader();
        // Once it leads, once it does not.
        let others = THREE.into_iter().find(|id| *id != leader);
        let moves = if round == 0 { leader } else { others.unwrap() };
        cluster.kill(moves, Crash::Process);
        cluster.move_to(moves, port);
        cluster.revive(moves);
        let moved = Voter { port, ..voter(moves) };
        cluster.wait("the voters to know", SOON, |cluster| {
            let leader = cluster.leader();
            leader.is_some_and(|leader| cluster.describe(leader).addresses.contains(&moved))
        });
        let leader = cluster.wait_for_leader();
        let text = format!("{round}");
        cluster.propose(leader, &text).unwrap();
        expected.push(record(text));
        cluster.wait_until_applied(&THREE, &expected);
    }
}

#[test]
fn a_lone_voter_moves_too() {
    let mut cluster = cluster(75, &[1], &[1], |_| {});
    cluster.wait_for_leader();
    cluster.kill(1, Crash::Process);
    cluster.move_to(1, 9094);
    cluster.revive(1);
    let moved = Voter { port: 9094, ..voter(1) };
    cluster.wait("it to say so", SOON, |cluster| {
        cluster.leader() == Some(1) && cluster.describe(1).addresses == [moved.clone()]
    });
}

#[test]
fn controllers_that_list_others_than_their_founders_do_form_nothing() {
    let mut cluster = cluster(76, &[1, 2], &[1, 2], |options| {
        if options.node_id == 2 {
            options.bootstrap.push(Voter { node_id: -1, ..voter(3) });
        }
    });
    cluster.run_for(SOON);
    assert_eq!(cluster.leader(), None);
    assert!(THREE.iter().all(|id| cluster.records(*id).is_empty()));
}

#[test]
fn a_controller_without_a_vote_that_is_silent_for_long_is_forgotten() {
    let mut cluster = cluster(77, &[1, 2], &[1], |options| {
        options.election_timeout = Duration::from_millis(20);
        // It may be silent for 150 of them, which is 9 seconds.
        options.fetch_timeout = Duration::from_millis(60);
    });
    let observes = |cluster: &mut Cluster| {
        cluster.leader() == Some(1) && cluster.describe(1).observers.len() == 1
    };
    cluster.wait("an observer", SOON, observes);
    cluster.run_for(Duration::from_secs(12));
    assert!(observes(&mut cluster), "it answers");
    cluster.kill(2, Crash::Process);
    cluster.run_for(Duration::from_secs(6));
    assert!(observes(&mut cluster), "it may come back");
    cluster.wait("it to be forgotten", Duration::from_secs(6), |cluster| {
        cluster.describe(1).observers.is_empty()
    });
    cluster.revive(2);
    cluster.wait("an observer", SOON, observes);
}
