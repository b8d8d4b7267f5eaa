//! The project's own commands: `cargo xtask test|sim|compat|interop|kill9|faults|fuzz|bench|tidy`.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool on a developer's machine, outside the fence around `env`"
)]

mod cluster;
mod compat;
mod compile;
mod faults;
mod fuzz;
mod interop;
mod kill9;
mod node;
mod program;
mod seeds;
mod simulation;
mod tally;
mod tidy;
mod toolchain;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::compat::Against;
use crate::tally::Tally;

const USAGE: &str = "\
cargo xtask test [--require-all]      all checks, tests and stock clients; skips what the machine lacks, by name
cargo xtask tidy                      crate graph, file lengths, names, paths in the documents
cargo xtask compat [CLIENT [SCENARIO]] [--table] [--kafka | --cluster] [--require-all]
                                      stock clients against a node; --table prints what passed as markdown;
                                      --kafka tries the scenarios themselves on Apache Kafka; --cluster runs
                                      them against three nodes, of which one after the other is killed
cargo xtask compat [CLIENT...] [ROUNDS] --faults
                                      producers and groups that go on while nodes are killed, held and restarted
cargo xtask interop [scripts]         Apache Kafka on Ottla's files, Ottla on Kafka's, and its scripts beside Kafka's
cargo xtask sim [SEEDS [FROM]]        so many seeds of the simulated cluster, fresh ones if not told from where; without
                                      arguments what was found once, a fixed set and a few fresh ones
cargo xtask kill9 [ROUNDS]            kill -9 in mid-write, again and again: no acknowledged record may be lost
cargo xtask faults [ARGUMENT...]      three real nodes under load, killed, paused, cut off and restarted; histories are checked:
                                      --seconds N, --seed S, --layout together|apart, --only FAULTS, --slack FACTOR
cargo xtask fuzz [TARGET [SECONDS]]   one fuzz target, or all in turn
cargo xtask bench [ARGUMENT...]       `ottla bench` against a fresh release node; without arguments every load

OTTLA_BIN names a ready-built node to test in place of `cargo build --release`.";

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command; true if all that it checked is well.
fn run(arguments: Vec<String>) -> Result<bool> {
    let (flags, words): (Vec<_>, Vec<_>) =
        arguments.iter().map(String::as_str).partition(|argument| argument.starts_with("--"));
    let Some((command, operands)) = words.split_first() else {
        println!("{USAGE}");
        return Ok(true);
    };
    let known: &[&str] = match *command {
        "test" => &["--require-all"],
        "compat" => &["--require-all", "--table", "--kafka", "--cluster", "--faults"],
        "interop" => &["--require-all"],
        "bench" => return bench(&arguments[1..]),
        "faults" => return faults(&arguments[1..]),
        _ => &[],
    };
    if let Some(flag) = flags.iter().find(|flag| !known.contains(flag)) {
        bail!("{command} has no flag {flag}\n{USAGE}");
    }
    let mut tally = Tally::new(flags.contains(&"--require-all"));
    match (*command, operands) {
        ("test", []) => test(&mut tally)?,
        ("tidy", []) => tidy::check(&mut tally)?,
        ("compat", _) => compat(&mut tally, operands, &flags)?,
        ("seeds-in-this-network", []) => return seeds::run_here(),
        ("interop", []) => interop::run(&mut tally, false)?,
        ("interop", ["scripts"]) => interop::run(&mut tally, true)?,
        ("sim", []) => simulation::run_known(&mut tally)?,
        ("sim", [seeds]) => simulation::run(&mut tally, seeds.parse().context("SEEDS")?, None)?,
        ("sim", [seeds, from]) => {
            let from = Some(from.parse().context("FROM")?);
            simulation::run(&mut tally, seeds.parse().context("SEEDS")?, from)?;
        }
        ("kill9", []) => kill9::run(&mut tally, kill9::ROUNDS)?,
        ("kill9", [rounds]) => kill9::run(&mut tally, rounds.parse().context("ROUNDS")?)?,
        ("fuzz", []) => fuzz::run(&mut tally, None, fuzz::SECONDS)?,
        ("fuzz", [target]) => fuzz::run(&mut tally, Some(target), fuzz::SECONDS)?,
        ("fuzz", [target, seconds]) => {
            fuzz::run(&mut tally, Some(target), seconds.parse().context("SECONDS")?)?;
        }
        _ => bail!("cannot run `{}`\n{USAGE}", arguments.join(" ")),
    }
    println!("{tally}");
    Ok(tally.is_well())
}

/// Stock clients against what the flags say.
fn compat(tally: &mut Tally, operands: &[&str], flags: &[&str]) -> Result<()> {
    let against = match ["--kafka", "--cluster", "--faults"].map(|flag| flags.contains(&flag)) {
        [false, false, false] => Against::Node,
        [true, false, false] => Against::Kafka,
        [false, true, false] => Against::Cluster,
        [false, false, true] => {
            let (numbers, clients): (Vec<&str>, Vec<&str>) =
                operands.iter().partition(|operand| operand.parse::<usize>().is_ok());
            let rounds = numbers.first().map_or(Ok(1), |rounds| rounds.parse())?;
            return compat::through_faults(tally, &clients, (rounds, false));
        }
        _ => bail!("one of --kafka, --cluster and --faults\n{USAGE}"),
    };
    let (client, scenario) = match operands {
        [] => (&[][..], ""),
        [_] => (operands, ""),
        [_, scenario] => (&operands[..1], *scenario),
        _ => bail!("one client and one scenario\n{USAGE}"),
    };
    let table = compat::run(tally, client, scenario, against)?;
    if flags.contains(&"--table") {
        println!("{table}");
    }
    Ok(())
}

/// Whom the checks run against a cluster in place of one node: the libraries that others are measured by, and our own.
const WITH_CLUSTER: [&str; 3] = ["java-4.4.0", "python", "ottla"];

fn test(tally: &mut Tally) -> Result<()> {
    compile::check_format(tally)?;
    tidy::check(tally)?;
    compile::lint(tally)?;
    // The link of a release keeps one core busy for minutes: the tests are compiled on the other meanwhile.
    let release = std::thread::spawn(node::binary);
    compile::test(tally)?;
    let Ok(release) = release.join() else { bail!("the release build panicked") };
    if let Err(error) = release {
        tally.fail("release build", &format!("{error:#}"));
        return Ok(());
    }
    // Clients mostly wait: the simulated cluster takes what they leave of the processors.
    let simulation = std::thread::spawn(simulation::run_known_beside);
    let with_one: Vec<&str> = compat::names().filter(|it| !WITH_CLUSTER.contains(it)).collect();
    compat::run(tally, &with_one, "", Against::Node)?;
    compat::run(tally, &WITH_CLUSTER, "", Against::Cluster)?;
    compat::through_faults(tally, &WITH_CLUSTER, (1, true))?;
    interop::run(tally, false)?;
    let Ok(simulation) = simulation.join() else { bail!("the simulation panicked") };
    tally.take_over(simulation?);
    kill9::run(tally, kill9::ROUNDS)?;
    // What is promised in seconds is measured elsewhere; here it is only not to be missed by far.
    let short = ["--seconds", "20", "--slack", "10"];
    faults::run(tally, &[&short[..], &["--seed", "5"]].concat())?;
    faults::run(tally, &short)
}

/// Faults as given.
fn faults(arguments: &[String]) -> Result<bool> {
    let mut tally = Tally::new(true);
    faults::run(&mut tally, &arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
    println!("{tally}");
    Ok(tally.is_well())
}

/// One load as given, or each of them as it is by default, one after the other on the same node.
fn bench(arguments: &[String]) -> Result<bool> {
    let data = program::Scratch::new("bench")?;
    let node = node::Node::start(data.path(), &node::Settings::default())?;
    let given: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let loads = if given.is_empty() {
        vec![vec!["produce"], vec!["consume"], vec!["latency"]]
    } else {
        vec![given]
    };
    let mut well = true;
    for load in loads {
        let mut ottla = Command::new(node::binary()?);
        ottla.args(["bench", "--bootstrap-server", node.address()]).args(load);
        well &= ottla.status()?.success();
    }
    node.stop()?;
    Ok(well)
}

/// The root of the workspace.
fn root() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}
