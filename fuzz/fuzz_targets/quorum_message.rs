//! Whatever a node says to a voter, or answers it: it is read or refused, and what is read can be said
//! again.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ottla_server::decode_quorum_message(bytes));
