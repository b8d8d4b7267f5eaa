//! What cargo itself checks.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::tally::Tally;

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(crate::root());
    command
}

pub(crate) fn check_format(tally: &mut Tally) -> Result<()> {
    let status = cargo(&["fmt", "--all", "--check"]).status()?;
    tally.record("rustfmt", status.success(), "run `cargo fmt --all`");
    Ok(())
}

pub(crate) fn lint(tally: &mut Tally) -> Result<()> {
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    let status = cargo(&clippy).status()?;
    tally.record("clippy", status.success(), "see above");
    Ok(())
}

/// Unit, golden, property and simulation tests.
pub(crate) fn test(tally: &mut Tally) -> Result<()> {
    let mut child =
        cargo(&["test", "--workspace", "--no-fail-fast"]).stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().context("a piped child has a standard output")?;
    let mut none_failed = true;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        // Thousands of lines of what went well tell nothing.
        if !(line.ends_with("... ok") || line.trim().is_empty()) {
            println!("{line}");
        }
        // What is ignored are measurements: cargo's own line tells of them.
        tally.add(passed(&line).unwrap_or(0), failed(&line));
        none_failed &= failed(&line).is_none();
    }
    let status = child.wait()?;
    if !status.success() && none_failed {
        tally.fail("cargo test", "it did not compile, or a test ended the process");
    }
    Ok(())
}

/// Builds a program of the workspace that tests use; answers where it is.
pub(crate) fn program(package: &str) -> Result<PathBuf> {
    let status = cargo(&["build", "--quiet", "--package", package]).status()?;
    ensure!(status.success(), "{package} does not compile");
    Ok(crate::root().join("target/debug").join(package))
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn passed(line: &str) -> Option<usize> {
    let (_, rest) = line.strip_prefix("test result: ")?.split_once(". ")?;
    rest.split_once(" passed;")?.0.parse().ok()
}

/// Reads `test golden::joins ... FAILED`.
fn failed(line: &str) -> Option<String> {
    Some(line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_test_binary_says() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!((passed(line), failed(line)), (Some(12), None));
        let line = "test golden::joins ... ok";
        assert_eq!((passed(line), failed(line)), (None, None));
        let line = "test golden::joins ... FAILED";
        assert_eq!((passed(line), failed(line)), (None, Some("golden::joins".to_owned())));
    }
}
