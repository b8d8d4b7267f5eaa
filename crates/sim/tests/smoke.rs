//! The scenarios with a broker's parts in them: seeds that once failed, some more, and fresh ones. Those of a cluster are run by
//! `cargo xtask sim`, in a build that is quicker.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::process::Command;

use ottla_sim::Scenario;

/// What the command line printed; a failure panics with it, and so with the replaying command.
fn run(scenario: Scenario, which: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_ottla-sim"))
        .args(["--scenario", scenario.name()])
        .args(which)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    printed
}

fn run_seed(scenario: Scenario, seed: u64) {
    run(scenario, &["--seed", &seed.to_string()]);
}

#[test]
fn a_log_recovers_however_its_node_dies() {
    // The end of a segment was lost, and the name of the next was not.
    run_seed(Scenario::Log, 4);
    // What recovery had removed came back with the next power loss.
    run_seed(Scenario::Log, 11);
    for seed in (100..106).chain(204..206) {
        run_seed(Scenario::Log, seed);
    }
    println!("{}", run(Scenario::Log, &["--seeds", "6"]));
}

#[test]
fn a_broker_keeps_what_it_acknowledged_however_it_dies() {
    // A commit was acknowledged before it was flushed.
    run_seed(Scenario::Broker, 211);
    // A record was read before it was flushed.
    run_seed(Scenario::Broker, 196);
    for seed in 1..=5 {
        run_seed(Scenario::Broker, seed);
    }
    println!("{}", run(Scenario::Broker, &["--seeds", "4"]));
}
