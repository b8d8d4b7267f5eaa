//! What several voters do together, one thing at a time.

use std::time::Duration;

use ottla_sim::Crash;

use super::cluster::{Cluster, Order, Outcome, directory};
use super::record;
use crate::quorum::ProposeError;
use crate::quorum::messages::{Reply, Response};

const THREE: [i32; 3] = [1, 2, 3];
const FIVE: [i32; 5] = [1, 2, 3, 4, 5];

fn three(seed: u64) -> Cluster {
    Cluster::new(seed, &THREE, &THREE, |_| {})
}

#[test]
fn voters_with_empty_logs_form_a_quorum_and_agree() {
    for seed in 0..3 {
        let mut cluster = three(seed);
        let leader = cluster.wait_for_leader();
        let mut expected = Vec::new();
        for number in 0..20 {
            let text = format!("{number}");
            cluster.propose(leader, &text).unwrap();
            expected.push(record(text));
        }
        cluster.wait_until_applied(&THREE, &expected);
        let follower = *THREE.iter().find(|id| **id != leader).unwrap();
        let refused = cluster.propose(follower, "not here");
        assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(leader) }));

        cluster.run_for(Duration::from_secs(1));
        let told = cluster.describe(leader);
        let ends: Vec<_> = told.voters.iter().map(|it| (it.node_id, it.log_end_offset)).collect();
        assert_eq!(ends, THREE.map(|id| (id, told.log_end_offset)));
        let directories: Vec<_> = told.voters.iter().map(|it| it.directory_id).collect();
        assert_eq!(directories, THREE.map(|id| directory(id, 1)));
        assert!(told.voters.iter().all(|it| it.last_caught_up_timestamp > 0), "{told:?}");
        assert!(told.voters.iter().all(|it| it.last_fetch_timestamp > 0), "{told:?}");
        assert_eq!(cluster.describe(follower).leader, told.leader);
    }
}

/// From then on the next controller counts the silence of the last (docs/adr/0012-sessions-end-early.md).
#[test]
fn the_next_leader_knows_when_the_last_one_spoke() {
    for seed in 0..5 {
        let mut cluster = three(seed);
        let leader = cluster.wait_for_leader();
        cluster.run_for(Duration::from_secs(2));
        let earlier = THREE.map(|id| cluster.leader_heard(id));
        cluster.run_for(Duration::from_secs(1));
        let when_cut_off = THREE.map(|id| cluster.leader_heard(id));
        cluster.cut_off(leader);
        cluster.wait("another leader", Duration::from_secs(20), |cluster| {
            cluster.leader().is_some_and(|it| it != leader)
        });
        let next = cluster.leader().unwrap();
        let at = next as usize - 1;
        let spoke = when_cut_off[at].unwrap();
        assert!(spoke.since(earlier[at].unwrap()) > Duration::from_millis(500), "idle, it speaks");
        // But for what was on its way.
        let last = cluster.leader_heard(next).unwrap();
        assert!(last.since(spoke) < Duration::from_millis(10), "{last:?} after {spoke:?}");
    }
}

#[test]
fn a_leader_whose_process_is_dead_is_replaced_at_once() {
    for (seed, voters) in [&THREE[..], &FIVE].into_iter().cycle().take(12).enumerate() {
        let mut cluster = Cluster::new(seed as u64, voters, voters, |_| {});
        let leader = cluster.wait_for_leader();
        cluster.propose(leader, "before").unwrap();
        cluster.run_for(Duration::from_millis(100 + cluster.rng.below(900)));
        cluster.kill(leader, Crash::PowerLoss);
        for voter in voters.iter().filter(|it| **it != leader) {
            // Broken connections are seen at about the same time.
            cluster.run_for(Duration::from_millis(cluster.rng.below(20)));
            cluster.order(*voter, Order::Vanished(leader));
        }
        let took = cluster.wait("another leader", Duration::from_millis(450), |cluster| {
            cluster.leader().is_some_and(|now| now != leader)
        });
        let next = cluster.leader().unwrap();
        cluster.propose(next, "after").unwrap();
        let alive: Vec<_> = voters.iter().copied().filter(|it| *it != leader).collect();
        cluster.wait_until_applied(&alive, &[record("before"), record("after")]);
        assert!(took < Duration::from_millis(450), "{took:?}");
        cluster.revive(leader);
        cluster.wait_until_applied(voters, &[record("before"), record("after")]);
    }
}

#[test]
fn one_that_only_one_voter_sees_vanish_is_replaced_too() {
    let mut cluster = three(5);
    let leader = cluster.wait_for_leader();
    cluster.run_for(Duration::from_millis(500));
    cluster.kill(leader, Crash::Process);
    let witness = *THREE.iter().rfind(|id| **id != leader).unwrap();
    cluster.order(witness, Order::Vanished(leader));
    cluster.wait("another leader", Duration::from_millis(450), |cluster| {
        cluster.leader().is_some_and(|now| now == witness)
    });
}

#[test]
fn a_leader_that_falls_silent_is_replaced_after_the_timeout() {
    let mut cluster = three(7);
    let leader = cluster.wait_for_leader();
    cluster.run_for(Duration::from_secs(3));
    assert_eq!(cluster.leader(), Some(leader), "it leads on while nothing happens");
    cluster.kill(leader, Crash::Process);
    let took = cluster.wait("another leader", Duration::from_secs(6), |cluster| {
        cluster.leader().is_some_and(|now| now != leader)
    });
    // controller.quorum.fetch.timeout.ms is 2000.
    assert!(took > Duration::from_millis(1500), "{took:?}");
}

#[test]
fn a_false_report_of_a_death_changes_nothing() {
    let mut cluster = three(8);
    let leader = cluster.wait_for_leader();
    cluster.run_for(Duration::from_millis(500));
    let before = cluster.leaders()[&leader];
    let other = *THREE.iter().find(|id| **id != leader).unwrap();
    let third = *THREE.iter().rfind(|id| **id != leader).unwrap();
    // A voter that does not lead is gone: nothing to do.
    cluster.order(other, Order::Vanished(third));
    cluster.run_for(Duration::from_secs(2));
    assert_eq!(cluster.leaders()[&leader], before);
}

#[test]
fn a_leader_that_speaks_after_a_false_report_of_its_death_is_known_again() {
    let mut cluster = three(9);
    let leader = cluster.wait_for_leader();
    cluster.run_for(Duration::from_millis(500));
    let before = cluster.leaders()[&leader];
    let deceived = *THREE.iter().find(|id| **id != leader).unwrap();
    let third = *THREE.iter().rfind(|id| **id != leader).unwrap();
    // It cannot win an election: who would vote for it does not hear it.
    cluster.cut(deceived, third);
    cluster.order(deceived, Order::Vanished(leader));
    cluster.wait("it to believe that", Duration::from_secs(1), |cluster| {
        cluster.leaders()[&deceived].leader.is_none()
    });
    cluster.wait("it to know better", Duration::from_secs(2), |cluster| {
        cluster.leaders()[&deceived] == before
    });
    assert_eq!(cluster.leaders()[&leader], before);
}

#[test]
fn a_leader_that_is_cut_off_says_so_and_what_it_was_proposed_fails() {
    for seed in 10..14 {
        let mut cluster = three(seed);
        let old = cluster.wait_for_leader();
        cluster.propose(old, "kept").unwrap();
        cluster.run_for(Duration::from_secs(1));
        cluster.cut_off(old);
        let lost = Outcome::default();
        cluster.order(old, Order::Propose(record("lost"), lost.clone()));
        let new = |cluster: &Cluster| cluster.leader().is_some_and(|now| now != old);
        cluster.wait("another leader", Duration::from_secs(8), |cluster| new(cluster));
        cluster.wait("the old one to know", Duration::from_secs(4), |cluster| {
            cluster.leaders()[&old].leader != Some(old)
        });
        assert_eq!(cluster.result(lost), Err(ProposeError::LostLead));
        let refused = cluster.propose(old, "late");
        assert_eq!(refused, Err(ProposeError::NotLeader { leader: None }));
        let leader = cluster.leader().unwrap();
        cluster.propose(leader, "more").unwrap();
        cluster.mend();
        cluster.wait_until_applied(&THREE, &[record("kept"), record("more")]);
        assert!(!cluster.records(old).contains(&record("lost")));
        cluster.wait("one leader", Duration::from_secs(2), |cluster| {
            cluster.leaders()[&old].leader == Some(leader)
        });
    }
}

#[test]
fn a_leader_that_loses_its_majority_says_so_within_one_and_a_half_fetch_timeouts() {
    for seed in 60..66 {
        let mut cluster = three(seed);
        let leader = cluster.wait_for_leader();
        cluster.run_for(Duration::from_millis(1000 + cluster.rng.below(1000)));
        THREE.iter().for_each(|id| cluster.cut_off(*id));
        // controller.quorum.fetch.timeout.ms is 2000.
        let took = cluster.wait("it to say so", Duration::from_millis(3050), |cluster| {
            cluster.leaders()[&leader].leader.is_none()
        });
        assert!(took > Duration::from_millis(1500), "it is no hurry: {took:?}");
    }
}

#[test]
fn a_leader_that_loses_its_followers_for_a_while_leads_on_where_nobody_else_does() {
    let mut cluster = three(15);
    let leader = cluster.wait_for_leader();
    cluster.run_for(Duration::from_secs(1));
    // Nobody hears anybody: nobody can win an election.
    THREE.iter().for_each(|id| cluster.cut_off(*id));
    cluster.wait("no leader", Duration::from_secs(6), |cluster| cluster.leader().is_none());
    cluster.mend();
    let leader_again = cluster.wait_for_leader();
    cluster.propose(leader_again, "after").unwrap();
    cluster.wait_until_applied(&THREE, &[record("after")]);
    assert_eq!(leader_again, leader, "pre-votes did not disturb it");
}

#[test]
fn a_quorum_that_was_stopped_goes_on_where_it_was() {
    let mut cluster = three(20);
    let mut expected = Vec::new();
    let mut last_epoch = 0;
    for round in 0..4 {
        let leader = cluster.wait_for_leader();
        let epoch = cluster.leaders()[&leader].epoch;
        assert!(epoch > last_epoch, "a start is a new epoch");
        last_epoch = epoch;
        for number in 0..5 {
            let text = format!("{round}.{number}");
            cluster.propose(leader, &text).unwrap();
            expected.push(record(text));
        }
        cluster.wait_until_applied(&THREE, &expected);
        THREE.iter().for_each(|id| cluster.kill(*id, Crash::PowerLoss));
        cluster.run_for(Duration::from_millis(100));
        THREE.iter().for_each(|id| cluster.revive(*id));
    }
    cluster.wait_until_applied(&THREE, &expected);
}

#[test]
fn a_leader_that_is_stopped_gives_its_lead_away() {
    let mut cluster = three(21);
    let leader = cluster.wait_for_leader();
    cluster.propose(leader, "before").unwrap();
    cluster.run_for(Duration::from_millis(500));
    let stopped = Outcome::default();
    cluster.order(leader, Order::Shutdown(stopped.clone()));
    let took = cluster.wait("another leader", Duration::from_secs(1), |cluster| {
        cluster.leader().is_some_and(|now| now != leader)
    });
    assert!(took < Duration::from_millis(300), "{took:?}");
    cluster.result(stopped);
}

/// Others speak to it as long as it listens; it has no fault that they would have to tell of.
#[test]
fn a_voter_that_stops_says_so() {
    let mut cluster = three(24);
    let tapped = cluster.tap();
    let leader = cluster.wait_for_leader();
    cluster.propose(leader, "before").unwrap();
    cluster.run_for(Duration::from_secs(2));
    let stopping = *THREE.iter().find(|id| **id != leader).unwrap();
    let stopped = Outcome::default();
    cluster.order(stopping, Order::Shutdown(stopped.clone()));
    cluster.result(stopped);
    let answers = Outcome::default();
    cluster.order(stopping, Order::Noise(tapped.lock().clone(), answers.clone()));
    let mut said = 0;
    for answer in cluster.result(answers) {
        let response = Reply::decode(answer).unwrap().response;
        if let Response::Refused(why) = &response {
            assert!(why.starts_with("this is node"), "{why}");
            continue;
        }
        assert!(matches!(response, Response::Stopping), "{response:?}");
        said += 1;
    }
    assert!(said > 5, "of {} messages {said} were for it", tapped.lock().len());
}

#[test]
fn a_voter_that_was_away_for_long_gets_a_snapshot_in_pieces() {
    let mut cluster = Cluster::new(22, &THREE, &THREE, |options| {
        options.max_bytes_between_snapshots = 1 << 20;
        options.segment_bytes = 1 << 20;
        options.max_retention_bytes = Some(0);
    });
    let leader = cluster.wait_for_leader();
    let away = *THREE.iter().find(|id| **id != leader).unwrap();
    cluster.kill(away, Crash::PowerLoss);
    let big = "x".repeat(300_000);
    let mut expected = Vec::new();
    for number in 0..30 {
        let text = format!("{number}{big}");
        cluster.propose(leader, &text).unwrap();
        expected.push(record(text));
    }
    cluster.wait("a snapshot", Duration::from_secs(10), |cluster| {
        cluster.describe(leader).log_start_offset > 10
    });
    cluster.revive(away);
    cluster.wait_until_applied(&THREE, &expected);
    let installs = cluster.board.lock().applied[&away].0.lock().installs;
    assert_eq!(installs, 1);
    // It has it on its disk, and the log after it.
    cluster.propose(leader, "tail").unwrap();
    expected.push(record("tail"));
    cluster.wait_until_applied(&THREE, &expected);
    cluster.kill(away, Crash::PowerLoss);
    cluster.revive(away);
    cluster.wait_until_applied(&THREE, &expected);
}

#[test]
fn a_voter_that_was_away_shortly_needs_no_snapshot() {
    let mut cluster = Cluster::new(23, &THREE, &THREE, |_| {});
    let leader = cluster.wait_for_leader();
    let away = *THREE.iter().find(|id| **id != leader).unwrap();
    cluster.propose(leader, "first").unwrap();
    cluster.wait_until_applied(&THREE, &[record("first")]);
    cluster.kill(away, Crash::PowerLoss);
    let mut expected = Vec::new();
    for number in 0..20 {
        cluster.propose(leader, &format!("{number}")).unwrap();
        expected.push(record(format!("{number}")));
    }
    cluster.order(leader, Order::Snapshot);
    cluster.run_for(Duration::from_millis(500));
    cluster.revive(away);
    cluster.wait_until_applied(&THREE, &expected);
    assert_eq!(cluster.board.lock().applied[&away].0.lock().installs, 0);
}

#[test]
fn a_lone_voter_whose_disk_is_slow_leads_in_the_end() {
    let mut cluster = Cluster::new(90, &[1], &[1], |options| options.max_retention_bytes = Some(0));
    assert_eq!(cluster.wait_for_leader(), 1);
    cluster.propose(1, "before").unwrap();
    // With it the membership is what it was when the next life begins: nothing changes any more that would be looked at again.
    cluster.order(1, Order::Snapshot);
    cluster.wait("the snapshot", Duration::from_secs(5), |cluster| {
        cluster.describe(1).log_start_offset > 0
    });
    cluster.kill(1, Crash::PowerLoss);
    // controller.quorum.fetch.timeout.ms is 2000.
    cluster.slow_down(1, Duration::from_secs(20));
    cluster.revive(1);
    cluster.wait("it to lead", Duration::from_secs(100), |cluster| cluster.leader().is_some());
    cluster.propose(1, "after").unwrap();
}
