//! A seed replays: every scenario, each run in a process of its own. That a cluster does, which takes the longest, is seen by
//! `cargo xtask sim`, in a build that is quicker.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::process::Command;

use ottla_sim::Scenario;

/// The line that a run of `seed` prints.
fn run(scenario: Scenario, seed: u64) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_ottla-sim"))
        .args(["--scenario", scenario.name(), "--seed", &seed.to_string()])
        .output()
        .unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{line}{}", String::from_utf8_lossy(&output.stderr));
    line
}

/// Whether seed 1 comes out the same twice, and seed 2 otherwise.
fn replays(scenario: Scenario) {
    let first = run(scenario, 1);
    assert_eq!(first, run(scenario, 1));
    assert_ne!(first.replace("seed 1 ", ""), run(scenario, 2).replace("seed 2 ", ""));
}

#[test]
fn the_same_seed_replays_and_another_differs() {
    Scenario::ALL.into_iter().filter(|it| *it != Scenario::Cluster).for_each(replays);
}
