use super::*;
use ottla_protocol::LeaderEpoch;

/// A batch of `count` records of producer 1.
fn batch(epoch: i16, sequence: i32, count: i32, offset: i64) -> BatchHeader {
    BatchHeader {
        base_offset: Offset(offset),
        length: 100,
        leader_epoch: LeaderEpoch(0),
        magic: 2,
        attributes: 0,
        last_offset_delta: count - 1,
        base_timestamp: Timestamp(offset),
        max_timestamp: Timestamp(offset),
        producer_id: ProducerId(1),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: sequence,
    }
}

/// Producers after batches of one record each: epoch and sequence, at offsets from 0.
fn after(appended: &[(i16, i32)]) -> ProducerStates {
    let mut states = ProducerStates::default();
    for (offset, (epoch, sequence)) in appended.iter().enumerate() {
        states.appended(&batch(*epoch, *sequence, 1, offset as i64));
    }
    states
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Next,
    DuplicateOf(i64),
    Expected(i32),
    Fenced,
}

fn verdict(states: &ProducerStates, epoch: i16, sequence: i32, count: i32) -> Verdict {
    match states.check(&batch(epoch, sequence, count, 99), None, AppendOrigin::Client) {
        Ok(Checked::Next) => Verdict::Next,
        Ok(Checked::Duplicate(found)) => Verdict::DuplicateOf(found.first_offset.0),
        Err(ProducerStateError::OutOfOrderSequence { expected, .. }) => Verdict::Expected(expected),
        Err(ProducerStateError::InvalidProducerEpoch { .. }) => Verdict::Fenced,
        Err(
            ProducerStateError::InvalidTxnState { .. }
            | ProducerStateError::TransactionCoordinatorFenced { .. },
        ) => panic!("no transaction here"),
    }
}

#[test]
fn sequences_follow_one_another() {
    use Verdict::{DuplicateOf, Expected, Fenced, Next};
    const MAX: i32 = i32::MAX;
    let seven: Vec<(i16, i32)> = (0..7).map(|sequence| (0, sequence)).collect();
    /// What it shows, what was appended, what is sent, what comes of it.
    type Case<'a> = (&'a str, &'a [(i16, i32)], (i16, i32), Verdict);
    let table: [Case<'_>; 14] = [
        ("an unknown producer may go on anywhere (KIP-360)", &[], (0, 17), Next),
        ("an unknown producer begins", &[], (0, 0), Next),
        ("the next", &[(0, 0)], (0, 1), Next),
        ("a gap", &[(0, 0)], (0, 2), Expected(1)),
        ("a retry", &[(0, 0)], (0, 0), DuplicateOf(0)),
        ("the fifth last", &seven, (0, 2), DuplicateOf(2)),
        ("the sixth last is forgotten", &seven, (0, 1), Expected(7)),
        ("sequences wrap", &[(0, MAX)], (0, 0), Next),
        ("they do not go beyond", &[(0, MAX)], (0, 1), Expected(0)),
        ("a new epoch begins at 0", &[(0, 0), (0, 1)], (1, 0), Next),
        ("and nowhere else", &[(0, 0), (0, 1)], (1, 2), Expected(0)),
        ("an old epoch is fenced", &[(1, 0)], (0, 1), Fenced),
        ("even for a retry", &[(0, 0), (1, 0)], (0, 0), Fenced),
        ("a retry in the new epoch", &[(0, 0), (1, 0)], (1, 0), DuplicateOf(1)),
    ];
    for (what, appended, (epoch, sequence), expected) in table {
        assert_eq!(verdict(&after(appended), epoch, sequence, 1), expected, "{what}");
    }
}

#[test]
fn a_batch_over_the_wrap_is_found_again() {
    let mut states = ProducerStates::default();
    states.appended(&batch(0, i32::MAX - 1, 4, 10));
    assert_eq!(verdict(&states, 0, i32::MAX - 1, 4), Verdict::DuplicateOf(10));
    assert_eq!(verdict(&states, 0, 2, 1), Verdict::Next);
    assert_eq!(verdict(&states, 0, 1, 1), Verdict::Expected(2));
}

#[test]
fn a_batch_with_the_same_start_but_another_length_is_no_retry() {
    let states = after(&[(0, 0)]);
    assert_eq!(verdict(&states, 0, 0, 2), Verdict::Expected(1));
}

#[test]
fn only_clients_are_held_to_their_sequence() {
    let states = after(&[(0, 0)]);
    for origin in [AppendOrigin::Coordinator, AppendOrigin::Replication, AppendOrigin::RaftLeader] {
        assert_eq!(states.check(&batch(0, 9, 1, 5), None, origin), Ok(Checked::Next));
    }
}

#[test]
fn a_silent_producer_is_forgotten_but_not_in_a_transaction() {
    let hour = Duration::from_secs(3600);
    let mut states = after(&[(0, 0)]);
    states.expire(Timestamp(3_600_000 - 1), hour);
    assert_eq!(verdict(&states, 0, 5, 1), Verdict::Expected(1));
    states.expire(Timestamp(3_600_000), hour);
    assert_eq!(verdict(&states, 0, 5, 1), Verdict::Next);

    let mut states = ProducerStates::default();
    let mut open = batch(0, 0, 1, 0);
    open.attributes = 1 << 4;
    states.appended(&open);
    states.expire(Timestamp(i64::MAX), hour);
    assert!(!states.producers.is_empty());
}

#[test]
fn a_transaction_takes_transactional_batches_only() {
    let mut states = ProducerStates::default();
    let mut open = batch(0, 0, 1, 7);
    open.attributes = 1 << 4;
    states.appended(&open);
    assert_eq!(states.first_unstable_offset(), Some(Offset(7)));
    let plain = states.check(&batch(0, 1, 1, 8), None, AppendOrigin::Client);
    assert_eq!(plain, Err(ProducerStateError::InvalidTxnState { producer: ProducerId(1) }));
    let mut more = batch(0, 1, 1, 8);
    more.attributes = 1 << 4;
    assert_eq!(states.check(&more, None, AppendOrigin::Client), Ok(Checked::Next));
}

#[test]
fn a_newer_epoch_does_not_write_plainly_into_what_an_older_one_left_open() {
    let mut states = ProducerStates::default();
    let mut open = batch(0, 0, 1, 7);
    open.attributes = 1 << 4;
    states.appended(&open);
    let refused = Err(ProducerStateError::InvalidTxnState { producer: ProducerId(1) });
    assert_eq!(states.check(&batch(1, 0, 1, 8), None, AppendOrigin::Client), refused);
}

#[test]
fn a_coordinator_that_was_replaced_ends_no_transaction() {
    let marker = |coordinator_epoch| EndTransactionMarker { coordinator_epoch, aborted: true };
    let mut states = after(&[(0, 0)]);
    let mut end = batch(0, -1, 1, 1);
    end.attributes = 1 << 4 | 1 << 5;
    assert_eq!(states.transaction_ended(&end, marker(5)), None, "none is open");
    let check = |epoch| states.check(&end, Some(marker(epoch)), AppendOrigin::Coordinator);
    assert_eq!(check(5), Ok(Checked::Next));
    assert_eq!(check(6), Ok(Checked::Next));
    let producer = ProducerId(1);
    let fenced =
        ProducerStateError::TransactionCoordinatorFenced { producer, epoch: 4, current: 5 };
    assert_eq!(check(4), Err(fenced));
}

#[test]
fn a_client_cannot_begin_a_transaction_by_writing() {
    let mut begin = batch(0, 0, 1, 0);
    begin.attributes = 1 << 4;
    for states in [ProducerStates::default(), after(&[(0, 0)])] {
        let refused = Err(ProducerStateError::InvalidTxnState { producer: ProducerId(1) });
        begin.base_sequence = i32::from(!states.producers.is_empty());
        assert_eq!(states.check(&begin, None, AppendOrigin::Client), refused);
        assert_eq!(states.check(&begin, None, AppendOrigin::Coordinator), Ok(Checked::Next));
    }
}

#[test]
fn a_snapshot_is_kafkas_byte_for_byte() {
    let mut states = ProducerStates::default();
    states.appended(&batch(3, 40, 2, 100));
    let bytes = states.to_snapshot();
    let entry = [
        &1i64.to_be_bytes()[..],
        &3i16.to_be_bytes(),
        &41i32.to_be_bytes(),
        &101i64.to_be_bytes(),
        &1i32.to_be_bytes(),
        &100i64.to_be_bytes(),
        &(-1i32).to_be_bytes(),
        &(-1i64).to_be_bytes(),
    ]
    .concat();
    let body = [&1i32.to_be_bytes()[..], &entry].concat();
    let header = [&1i16.to_be_bytes()[..], &crc_fast::crc32_iscsi(&body).to_be_bytes()].concat();
    assert_eq!(bytes, [header, body].concat());
    let read = ProducerStates::from_snapshot(&bytes).unwrap();
    assert_eq!(verdict(&read, 3, 40, 2), Verdict::DuplicateOf(100));
    assert_eq!(verdict(&read, 3, 42, 1), Verdict::Next);
}

#[test]
fn a_snapshot_that_is_not_whole_is_refused() {
    let good = after(&[(0, 0)]).to_snapshot();
    for len in 0..good.len() {
        assert!(ProducerStates::from_snapshot(&good[..len]).is_err(), "{len} bytes");
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        assert!(ProducerStates::from_snapshot(&bad).is_err(), "bit flipped in byte {at}");
    }
}
