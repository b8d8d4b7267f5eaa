//! The keys of a subscription to client metrics (KIP-714).

use crate::key::*;

#[rustfmt::skip] // A table: one row per line.
pub(super) const KEYS: &[ConfigKey] = &[
    list("metrics", "", Valid::Any, "Prefixes of the names of the metrics that clients push; * is all, empty is none."),
    int("interval.ms", "300000", Valid::Between(100, 3_600_000), "Milliseconds between two pushes of a client."),
    list("match", "", Valid::Any, "The clients that push, each as client_id=regular expression or by another of client_instance_id, client_software_name, client_software_version, client_source_address, client_source_port; empty is all."),
];
