//! Golden scripts of the client instances, and what any bytes come to when they are pushed.
//!
//! `UPDATE_GOLDENFILES=1 cargo test -p ottla-telemetry` writes the scripts' answers anew.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod otlp_bytes;
mod properties;
mod script;

macro_rules! scripts {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            let path = concat!("tests/telemetry/", stringify!($name), ".script");
            goldenscript::run(&mut script::Script::default(), path).unwrap();
        }
    )*};
}

scripts! {
    subscriptions
    intervals
    refusals
    forgetting
    measuring
}
