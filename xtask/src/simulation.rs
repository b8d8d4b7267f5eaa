//! Seeds of the simulated cluster, in a build that is quick enough for hundreds of them: what was found once, a fixed set, and
//! fresh ones.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::tally::Tally;

/// Those that are always run, from 1.
const FIXED: u32 = 50;
/// Of each story.
const OF_A_STORY: u32 = 5;
/// Of processor time for each, lest a run that stands still keeps everything waiting.
const LIMIT_SECONDS: u32 = 60;

/// What was found once, and the fixed seeds.
pub(crate) fn run_known(tally: &mut Tally) -> Result<()> {
    let program = program()?;
    let stories = Command::new(&program).arg("--stories").output().context("asking for stories")?;
    for story in String::from_utf8(stories.stdout)?.lines() {
        run_seeds(tally, (&program, story), OF_A_STORY, Some(1))?;
    }
    run_seeds(tally, (&program, "cluster"), FIXED, Some(1))
}

/// So many seeds that nobody has run, or those from one on.
pub(crate) fn run(tally: &mut Tally, seeds: u32, from: Option<u64>) -> Result<()> {
    run_seeds(tally, (&program()?, "cluster"), seeds, from)
}

/// Builds the simulator; answers where it is.
fn program() -> Result<PathBuf> {
    let build = ["build", "--quiet", "-p", "ottla-sim", "--profile", "sim"];
    let status = Command::new("cargo").args(build).current_dir(crate::root()).status()?;
    ensure!(status.success(), "the simulator does not build");
    Ok(crate::root().join("target/sim/ottla-sim"))
}

fn run_seeds(
    tally: &mut Tally,
    (program, scenario): (&PathBuf, &str),
    seeds: u32,
    from: Option<u64>,
) -> Result<()> {
    let jobs = std::thread::available_parallelism()?.to_string();
    let mut run = Command::new(program);
    run.args(["--scenario", scenario, "--seeds", &seeds.to_string(), "--jobs", &jobs]);
    run.args(["--keep-going", "--limit", &LIMIT_SECONDS.to_string()]);
    if let Some(from) = from {
        run.args(["--from", &from.to_string()]);
    }
    let mut running = run.stdout(Stdio::piped()).spawn().context("starting the simulator")?;
    let printed = running.stdout.take().context("a piped child has a standard output")?;
    let mut total = String::new();
    for line in BufReader::new(printed).lines() {
        let line = line?;
        if line.contains("FAILED") || line.starts_with("replay:") {
            println!("{line}");
        }
        total = line;
    }
    let passed = running.wait()?.success();
    tally.record(&total, passed, "the lines above say which seeds, and how to replay them");
    Ok(())
}
