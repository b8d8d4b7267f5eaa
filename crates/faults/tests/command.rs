//! The command itself.
#![allow(clippy::disallowed_methods, reason = "a test of a command")]

use std::process::Command;

#[test]
fn a_node_that_cannot_be_run_is_told() {
    let dir = std::env::temp_dir().join(format!("ottla-faults-{}", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_ottla-faults"))
        .args(["--seed", "7", "--node", "/nowhere/ottla", "--dir"])
        .arg(&dir)
        .output()
        .unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(said.starts_with("faults: seed 7: Together: cannot run /nowhere/ottla: "), "{said}");
}
