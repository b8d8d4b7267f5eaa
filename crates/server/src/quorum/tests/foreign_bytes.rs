//! Messages that are none.

use std::time::Duration;

use bytes::Bytes;
use ottla_sim::SimRng;

use super::cluster::{Cluster, Order, Outcome, directory};
use super::{CLUSTER, record};
use crate::quorum::checkpoint::Checkpoint;
use crate::quorum::messages::{
    Envelope, Party, Reply, Request, Response, SnapshotPiece, decode_anything,
};
use crate::quorum::raft_config::{LogId, Membership, SnapshotMeta, StoredMembership, Vote, log_id};

/// Real messages with some bytes changed, and some that are noise altogether.
fn noise(rng: &SimRng, real: &[Bytes]) -> Bytes {
    let mut bytes = match rng.chance(0.2) || real.is_empty() {
        true => (0..rng.below(200)).map(|_| rng.below(256) as u8).collect(),
        false => real[rng.below(real.len() as u64) as usize].to_vec(),
    };
    for _ in 0..rng.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = rng.below(bytes.len() as u64) as usize;
        match rng.below(4) {
            0 => bytes.truncate(at),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.below(5) as usize],
            2 => bytes[at] ^= 1 << rng.below(8),
            _ => bytes.insert(at, rng.below(256) as u8),
        }
    }
    Bytes::from(bytes)
}

#[test]
fn a_voter_answers_any_bytes_and_goes_on() {
    let mut cluster = Cluster::new(50, &[1, 2, 3], &[1, 2, 3], |_| {});
    let tapped = cluster.tap();
    let leader = cluster.wait_for_leader();
    for number in 0..10 {
        cluster.propose(leader, &format!("{number}")).unwrap();
    }
    cluster.run_for(Duration::from_secs(5));
    let real = tapped.lock().clone();
    assert!(real.len() > 50);
    let rng = SimRng::new(1, "noise");
    for round in 0..20 {
        let messages: Vec<_> = (0..200).map(|_| noise(&rng, &real)).collect();
        messages.iter().for_each(|message| decode_anything(message));
        let answered = Outcome::default();
        cluster.order(1 + round % 3, Order::Noise(messages, answered.clone()));
        assert_eq!(cluster.result(answered).len(), 200);
    }
    // What was flipped may have been a term: a new leader, but one quorum that works.
    let mut proposed = Err(crate::quorum::ProposeError::LostLead);
    for _ in 0..10 {
        let leader = cluster.wait_for_leader();
        proposed = cluster.propose(leader, "still here");
        if proposed.is_ok() {
            break;
        }
        cluster.run_for(Duration::from_secs(2));
    }
    proposed.unwrap();
    cluster.wait_until_applied(&[1, 2, 3], &[record("still here")]);
}

/// A snapshot up to `last`, in the name of the leader `from`.
fn snapshot((from, to): (i32, i32), epoch: i32, last: LogId) -> Bytes {
    let membership = Membership::new_with_defaults(vec![(1..=3).collect()], []);
    let meta = SnapshotMeta {
        last_log_id: Some(last),
        last_membership: StoredMembership::new(Some(log_id(1, 0)), membership),
    };
    let snapshot = Checkpoint { meta, end_offset: 1000, timestamp: 0, records: Vec::new() };
    let bytes = snapshot.encode().unwrap();
    let party = |node_id| Party { node_id, directory_id: directory(node_id, 1) };
    let piece = SnapshotPiece {
        vote: Vote::new_committed(u64::from(epoch.unsigned_abs()), from as u64),
        end_offset: 1000,
        epoch: snapshot.epoch().unwrap(),
        total: bytes.len() as u64,
        position: 0,
        bytes,
    };
    let (from, to, request) = (party(from), party(to), Request::Snapshot(piece));
    Envelope { cluster_id: CLUSTER, from, to, request }.encode()
}

#[test]
fn a_snapshot_that_cannot_be_is_refused() {
    let mut cluster = Cluster::new(51, &[1, 2, 3], &[1, 2, 3], |_| {});
    let leader = cluster.wait_for_leader();
    let epoch = cluster.leaders()[&leader].epoch;
    for number in 0..10 {
        cluster.propose(leader, &format!("{number}")).unwrap();
    }
    cluster.wait_until_applied(&[1, 2, 3], &[record("9")]);
    let follower = if leader == 1 { 2 } else { 1 };
    let term = epoch as u64;
    let later = log_id(term + 1, 100);
    let contradicting = log_id(term + 1, 3);
    let messages = vec![
        snapshot((leader, follower), epoch, later),
        // What is committed is of an earlier term, and goes further.
        snapshot((leader, follower), epoch + 1, contradicting),
    ];
    let answered = Outcome::default();
    cluster.order(follower, Order::Noise(messages, answered.clone()));
    for answer in cluster.result(answered) {
        let response = Reply::decode(answer).unwrap().response;
        assert!(matches!(response, Response::Refused(_)), "{response:?}");
    }
    assert!(cluster.leaders().contains_key(&follower));
    let leader = cluster.wait_for_leader();
    cluster.propose(leader, "still here").unwrap();
    cluster.wait_until_applied(&[1, 2, 3], &[record("still here")]);
}
