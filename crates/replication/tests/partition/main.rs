//! Golden scripts and random histories of a partition's replicas.
//!
//! `UPDATE_GOLDENFILES=1 cargo test -p ottla-replication` writes the scripts' answers anew.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod cluster;
mod history;
mod script;

macro_rules! scripts {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            let path = concat!("tests/partition/", stringify!($name), ".script");
            goldenscript::run(&mut script::Script::default(), path).unwrap();
        }
    )*};
}

scripts! {
    sole
    high_watermark
    expansion
    shrinking
    min_isr
    broker_epochs
    answers
    following
    handover
    deletion
}
