//! Golden scripts and random histories of a group coordinator's shard.
//!
//! `UPDATE_GOLDENFILES=1 cargo test -p ottla-coordinator` writes the scripts' answers anew.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod history;
mod host;
mod print;
mod script;

macro_rules! scripts {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            let path = concat!("tests/group/", stringify!($name), ".script");
            goldenscript::run(&mut script::Script::default(), path).unwrap();
        }
    )*};
}

scripts! {
    first_join
    three_members
    cooperative
    static_members
    member_id_required
    sync_phase
    protocols
    max_size
    commit
    offset_fetch
    offset_delete
    expiry
    failover
    append_failures
    admin
    retries
    late_host
}
