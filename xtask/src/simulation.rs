//! Seeds of the simulated cluster, in a build that is quick enough for hundreds of them: what was found once, a fixed set, and
//! fresh ones. A seed replays.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::tally::Tally;

/// Those that are always run, from 1.
const FIXED: u32 = 50;
/// Beside them, so many that nobody has run.
const FRESH: u32 = 5;
/// Of each story.
const OF_A_STORY: u32 = 5;
/// Of processor time for each, lest a run that stands still keeps everything waiting.
const LIMIT_SECONDS: u32 = 60;

/// Beside other work, or with nothing else on the machine.
#[derive(Clone, Copy)]
enum Rank {
    Beside,
    Alone,
}

impl Rank {
    fn command(self, program: &str) -> Command {
        match self {
            Self::Alone => Command::new(program),
            Self::Beside => {
                let mut nice = Command::new("nice");
                nice.args(["-n", "19", program]);
                nice
            }
        }
    }
}

/// What was found once, the fixed seeds, a few fresh ones, and that they replay.
pub(crate) fn run_known(tally: &mut Tally) -> Result<()> {
    known(tally, Rank::Alone)
}

/// The same, giving way to whatever else runs.
pub(crate) fn run_known_beside() -> Result<Tally> {
    let mut tally = Tally::new(true);
    known(&mut tally, Rank::Beside)?;
    Ok(tally)
}

fn known(tally: &mut Tally, rank: Rank) -> Result<()> {
    let program = program(rank)?;
    let stories = Command::new(&program).arg("--stories").output().context("asking for stories")?;
    for story in String::from_utf8(stories.stdout)?.lines() {
        run_seeds(tally, (rank.command(&program), story), OF_A_STORY, Some(1))?;
    }
    run_seeds(tally, (rank.command(&program), "cluster"), FIXED, Some(1))?;
    run_seeds(tally, (rank.command(&program), "cluster"), FRESH, None)?;
    let told = |seed| told(rank.command(&program), seed);
    let (first, again, other) = (told("1")?, told("1")?, told("2")?);
    let replays = first == again && first.replace("seed 1 ", "") != other.replace("seed 2 ", "");
    let otherwise = format!("the same seed told {first} and {again}, another {other}");
    tally.record("a cluster replays", replays, &otherwise);
    Ok(())
}

/// What a seed comes to.
fn told(mut run: Command, seed: &str) -> Result<String> {
    let output = run.args(["--scenario", "cluster", "--seed", seed]).output()?;
    Ok(String::from_utf8(output.stdout)?)
}

/// So many seeds that nobody has run, or those from one on.
pub(crate) fn run(tally: &mut Tally, seeds: u32, from: Option<u64>) -> Result<()> {
    let program = Rank::Alone.command(&program(Rank::Alone)?);
    run_seeds(tally, (program, "cluster"), seeds, from)
}

/// Builds the simulator; answers where it is.
fn program(rank: Rank) -> Result<String> {
    let build = ["build", "--quiet", "-p", "ottla-sim", "--profile", "sim"];
    let status = rank.command("cargo").args(build).current_dir(crate::root()).status()?;
    ensure!(status.success(), "the simulator does not build");
    Ok(crate::root().join("target/sim/ottla-sim").display().to_string())
}

fn run_seeds(
    tally: &mut Tally,
    (mut run, scenario): (Command, &str),
    seeds: u32,
    from: Option<u64>,
) -> Result<()> {
    let jobs = std::thread::available_parallelism()?.to_string();
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
