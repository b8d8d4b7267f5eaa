//! The project's own commands: `cargo xtask test|compat|kill9|fuzz|bench|tidy`.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool on a developer's machine, outside the fence around `env`"
)]

mod compat;
mod compile;
mod kill9;
mod node;
mod program;
mod seeds;
mod tally;
mod tidy;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

use crate::tally::Tally;

const USAGE: &str = "\
cargo xtask test [--require-all]      all checks, tests and stock clients; skips what the machine lacks, by name
cargo xtask tidy                      crate graph, file lengths, names, paths in the documents
cargo xtask compat [CLIENT [SCENARIO]] [--table] [--require-all]
                                      stock clients against a node; --table prints what passed as markdown
cargo xtask kill9 [ROUNDS]            kill -9 in mid-write, again and again: no acknowledged record may be lost
cargo xtask fuzz [TARGET [SECONDS]]   one fuzz target, or all in turn
cargo xtask bench [ARGUMENT...]       `ottla bench` against a fresh release node

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
        "compat" => &["--require-all", "--table"],
        "bench" => return bench(&arguments[1..]),
        _ => &[],
    };
    if let Some(flag) = flags.iter().find(|flag| !known.contains(flag)) {
        bail!("{command} has no flag {flag}\n{USAGE}");
    }
    let mut tally = Tally::new(flags.contains(&"--require-all"));
    match (*command, operands) {
        ("test", []) => test(&mut tally)?,
        ("tidy", []) => tidy::check(&mut tally)?,
        ("compat", _) if operands.len() <= 2 => {
            let table = compat::run(&mut tally, operands.first(), operands.get(1))?;
            if flags.contains(&"--table") {
                println!("{table}");
            }
        }
        ("seeds-in-this-network", []) => return seeds::run_here(),
        ("kill9", []) => kill9::run(&mut tally, kill9::ROUNDS)?,
        ("kill9", [rounds]) => kill9::run(&mut tally, rounds.parse().context("ROUNDS")?)?,
        ("fuzz", _) if operands.len() <= 2 => {
            fuzz(&mut tally, operands.first(), operands.get(1))?;
        }
        _ => bail!("cannot run `{}`\n{USAGE}", arguments.join(" ")),
    }
    println!("{tally}");
    Ok(tally.is_well())
}

fn test(tally: &mut Tally) -> Result<()> {
    compile::check_format(tally)?;
    tidy::check(tally)?;
    compile::lint(tally)?;
    compile::test(tally)?;
    if let Err(error) = node::binary() {
        tally.fail("release build", &format!("{error:#}"));
        return Ok(());
    }
    compat::run(tally, None, None)?;
    kill9::run(tally, kill9::ROUNDS)
}

fn fuzz(tally: &mut Tally, target: Option<&&str>, seconds: Option<&&str>) -> Result<()> {
    let seconds: u32 = seconds.map_or(Ok(60), |text| text.parse()).context("SECONDS")?;
    let mut targets: Vec<String> = std::fs::read_dir(root().join("fuzz/fuzz_targets"))
        .context("fuzz/fuzz_targets")?
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .filter(|name| target.is_none_or(|wanted| name == wanted))
        .collect();
    targets.sort();
    ensure!(!targets.is_empty(), "no fuzz target of that name");
    if !program::exists("cargo-fuzz") {
        tally.skip("fuzz", "cargo-fuzz not found");
        return Ok(());
    }
    for name in targets {
        let status = Command::new("cargo")
            .args(["+nightly", "fuzz", "run", &name, "--"])
            .arg(format!("-max_total_time={seconds}"))
            .current_dir(root())
            .status()?;
        tally.record(&format!("fuzz {name}"), status.success(), "it crashed; see above");
    }
    Ok(())
}

fn bench(arguments: &[String]) -> Result<bool> {
    let data = program::Scratch::new("bench")?;
    let node = node::Node::start(data.path(), &node::Settings::default())?;
    let status = Command::new(node::binary()?)
        .args(["bench", "--bootstrap-server", node.address()])
        .args(arguments)
        .status()?;
    node.stop()?;
    Ok(status.success())
}

/// The root of the workspace.
fn root() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}
