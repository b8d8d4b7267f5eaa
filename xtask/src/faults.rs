//! A cluster of real processes under faults and load (`crates/faults`), with the node that the other tests use.

use std::process::{Command, Stdio};

use anyhow::Result;

use crate::compile;
use crate::node::binary;
use crate::program::Scratch;
use crate::tally::Tally;

const PROGRAM: &str = "ottla-faults";
const NAME: &str = "faults";

/// Builds the program and runs it with these arguments.
pub(crate) fn run(tally: &mut Tally, arguments: &[&str]) -> Result<()> {
    let program = compile::program(PROGRAM)?;
    let node = binary()?;
    let scratch = Scratch::new(NAME)?;
    let status = Command::new(program)
        .arg("--node")
        .arg(node)
        .arg("--dir")
        .arg(scratch.path())
        .args(arguments)
        .stdin(Stdio::null())
        .status()?;
    tally.record(NAME, status.success(), "see above");
    Ok(())
}
