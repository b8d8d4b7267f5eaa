//! A member's life, step by step.

use super::*;

const BEAT: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_secs(300);
const BACKOFF: Duration = Duration::from_millis(100);

fn at(millis: u64) -> Monotonic {
    Monotonic(Duration::from_millis(millis))
}

fn new(is_static: bool) -> Membership {
    let settings = Settings {
        heartbeat_interval: BEAT,
        max_poll_interval: POLL,
        retry_backoff: BACKOFF,
        is_static,
    };
    Membership::new(settings, at(0))
}

fn identity(member_id: &str, generation: i32) -> Identity {
    Identity { member_id: member_id.to_owned(), generation }
}

fn refused(code: ErrorCode) -> ClientError {
    ClientError::refused(code)
}

/// A member `m` of generation 1, stable since 0.
fn stable(is_static: bool) -> Membership {
    let mut member = new(is_static);
    assert_eq!(member.turn(at(0)), Turn::Prepare { lost: true });
    member.prepared();
    assert_eq!(member.turn(at(0)), Turn::Join(identity("", -1)));
    assert!(member.joined(identity("m", 1)));
    assert!(member.synced(at(0)));
    assert!(member.took_over());
    assert_eq!(member.turn(at(0)), Turn::Wait(None));
    member
}

/// A member that was stable, and waits for what it is given in generation 2.
fn syncing() -> Membership {
    let mut member = stable(false);
    member.want_rejoin();
    assert_eq!(member.turn(at(0)), Turn::Prepare { lost: false });
    member.prepared();
    assert_eq!(member.turn(at(0)), Turn::Join(identity("m", 1)));
    assert!(member.joined(identity("m", 2)));
    member
}

#[test]
fn the_coordinator_gives_an_id_before_it_takes_a_member() {
    let mut member = new(false);
    assert_eq!(member.turn(at(0)), Turn::Prepare { lost: true });
    assert_eq!(member.turn(at(0)), Turn::Wait(None), "preparations are under way");
    member.prepared();
    assert_eq!(member.turn(at(0)), Turn::Join(identity("", -1)));
    member.named("m".to_owned());
    assert_eq!(member.turn(at(0)), Turn::Join(identity("m", -1)));
}

#[test]
fn heartbeats_come_at_their_interval_and_one_at_a_time() {
    let mut member = stable(false);
    assert_eq!(member.beat(at(0)), Beat::Until(at(3000)));
    assert_eq!(member.beat(at(3000)), Beat::Send(identity("m", 1)));
    assert_eq!(member.beat(at(9000)), Beat::Idle);
    member.beaten(at(9000), &identity("m", 1), &Ok(()));
    assert_eq!(member.beat(at(9000)), Beat::Until(at(12_000)));
    assert_eq!(member.beat(at(12_000)), Beat::Send(identity("m", 1)));
    let lost = ClientError::Nonsense("the connection broke".to_owned());
    member.beaten(at(12_000), &identity("m", 1), &Err(lost));
    assert_eq!(member.beat(at(12_000)), Beat::Until(at(12_100)));
}

#[test]
fn a_rebalance_is_joined_as_who_it_was() {
    let mut member = stable(false);
    member.beat(at(3000));
    let answer = Err(refused(ErrorCode::RebalanceInProgress));
    member.beaten(at(3000), &identity("m", 1), &answer);
    assert!(!member.is_stable());
    assert_eq!(member.turn(at(3000)), Turn::Prepare { lost: false });
    // Preparations may take time: the place is kept.
    assert_eq!(member.beat(at(6000)), Beat::Send(identity("m", 1)));
    member.beaten(at(6000), &identity("m", 1), &answer);
    member.prepared();
    assert_eq!(member.turn(at(6000)), Turn::Join(identity("m", 1)));
    assert_eq!(member.beat(at(60_000)), Beat::Idle, "JoinGroup is as good as a heartbeat");
}

#[test]
fn a_place_that_is_lost_is_told_and_joined_anew() {
    for (code, next) in [
        (ErrorCode::UnknownMemberId, identity("", -1)),
        (ErrorCode::IllegalGeneration, identity("m", -1)),
    ] {
        let mut member = stable(false);
        member.refused(code, &identity("m", 1));
        assert_eq!(member.turn(at(10)), Turn::Prepare { lost: true });
        member.prepared();
        assert_eq!(member.turn(at(10)), Turn::Join(next));
    }
}

#[test]
fn what_an_earlier_self_is_told_is_no_news() {
    let mut member = stable(false);
    for code in [ErrorCode::UnknownMemberId, ErrorCode::FencedInstanceId] {
        member.refused(code, &identity("m", 0));
        assert!(member.is_stable());
    }
}

#[test]
fn joins_that_fail_are_tried_again_after_a_while_and_final_words_are_said_once() {
    let mut member = stable(false);
    member.want_rejoin();
    member.turn(at(0));
    member.prepared();
    member.turn(at(0));
    member.join_failed(at(0), &refused(ErrorCode::CoordinatorLoadInProgress));
    assert_eq!(member.turn(at(0)), Turn::Wait(Some(at(100))));
    assert_eq!(member.turn(at(100)), Turn::Join(identity("m", 1)));
    assert!(member.joined(identity("m", 2)));
    member.join_failed(at(100), &refused(ErrorCode::RebalanceInProgress));
    assert_eq!(member.turn(at(100)), Turn::Join(identity("m", 2)));
    member.join_failed(at(100), &refused(ErrorCode::InconsistentGroupProtocol));
    let word = Turn::Rejected(ErrorCode::InconsistentGroupProtocol);
    assert_eq!(member.turn(at(100)), word);
    assert_eq!(member.turn(at(100)), Turn::Wait(Some(at(200))));
    assert_eq!(member.turn(at(200)), Turn::Prepare { lost: true });
}

#[test]
fn who_does_not_poll_leaves_but_a_static_member_only_falls_silent() {
    let late = at(300_000);
    let mut member = stable(false);
    assert_eq!(member.beat(late), Beat::Leave(identity("m", 1)));
    assert_eq!(member.beat(late), Beat::Idle);
    assert_eq!(member.turn(late), Turn::Prepare { lost: true });
    let mut member = stable(true);
    assert_eq!(member.beat(late), Beat::Idle);
    assert!(member.polled(late), "whoever sends heartbeats is to look again");
    assert_eq!(member.beat(late), Beat::Send(identity("m", 1)));
    assert!(!member.polled(late));
}

#[test]
fn a_place_that_is_lost_in_a_join_is_let_go_of_before_the_next() {
    for code in [ErrorCode::UnknownMemberId, ErrorCode::IllegalGeneration] {
        let mut member = syncing();
        member.join_failed(at(0), &refused(code));
        assert_eq!(member.turn(at(100)), Turn::Prepare { lost: true });
        member.prepared();
        assert!(matches!(member.turn(at(100)), Turn::Join(_)));
        // Or while it prepares for one.
        let mut member = stable(false);
        member.want_rejoin();
        assert_eq!(member.turn(at(0)), Turn::Prepare { lost: false });
        member.refused(code, &identity("m", 1));
        member.prepared();
        assert_eq!(member.turn(at(0)), Turn::Prepare { lost: true });
        member.prepared();
        assert!(matches!(member.turn(at(0)), Turn::Join(_)));
    }
}

#[test]
fn nothing_is_committed_by_nobody_nor_between_two_generations() {
    let mut member = stable(false);
    assert_eq!(member.refuses_commits(), None);
    member.want_rejoin();
    assert_eq!(member.turn(at(0)), Turn::Prepare { lost: false });
    member.prepared();
    assert_eq!(member.refuses_commits(), None, "of the generation that ends");
    assert_eq!(member.turn(at(0)), Turn::Join(identity("m", 1)));
    assert_eq!(member.refuses_commits(), Some(ErrorCode::RebalanceInProgress));
    assert!(member.joined(identity("m", 2)));
    assert_eq!(member.refuses_commits(), Some(ErrorCode::RebalanceInProgress));
    assert!(member.synced(at(0)));
    assert_eq!(member.refuses_commits(), Some(ErrorCode::RebalanceInProgress));
    assert!(member.took_over());
    assert_eq!(member.refuses_commits(), None);
    assert_eq!(member.beat(at(300_000)), Beat::Leave(identity("m", 2)));
    assert_eq!(member.refuses_commits(), Some(ErrorCode::UnknownMemberId));
}

#[test]
fn who_left_is_silent_until_it_enters_again() {
    let mut member = stable(false);
    assert_eq!(member.leave(), Some(identity("m", 1)));
    assert_eq!(member.leave(), None);
    assert_eq!((member.turn(at(0)), member.beat(at(9000))), (Turn::Wait(None), Beat::Idle));
    member.enter();
    assert_eq!(member.turn(at(0)), Turn::Prepare { lost: true });
}

#[test]
fn a_place_that_is_lost_before_a_poll_takes_over_is_not_taken_over() {
    let mut member = syncing();
    assert!(member.synced(at(0)));
    assert_eq!(member.turn(at(0)), Turn::Wait(None));
    assert_eq!(member.beat(at(3000)), Beat::Send(identity("m", 2)), "however long that takes");
    let gone = Err(refused(ErrorCode::UnknownMemberId));
    member.beaten(at(3000), &identity("m", 2), &gone);
    assert!(!member.took_over());
    assert_eq!(member.turn(at(3000)), Turn::Prepare { lost: true });
}
