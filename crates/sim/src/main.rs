//! `ottla-sim`: runs seeds, one process each, and prints a line for each.
//!
//! A process of its own, because libraries keep state that counts up over a process (tokio's task
//! ids and seeds) and ask the system for randomness (the hashers of their maps). In a fresh process
//! with mad-turmoil's `getrandom` and clock in place of libc's, both follow from the seed.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command")]
#![allow(clippy::disallowed_methods, reason = "it starts processes and threads of the real world")]

use std::hash::{BuildHasher, RandomState};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use mad_turmoil::time::SimClocksGuard;
use ottla_sim::{Outcome, Scenario, Setup, log_model};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Runs whole clusters in one thread, each from a seed.
#[derive(Parser)]
#[command(name = "ottla-sim")]
struct Arguments {
    /// The seed to run; a fresh one if not given.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// How many fresh seeds to run, one after the other.
    #[arg(long)]
    seeds: Option<u32>,
    /// How many histories to run at once; only `log-model` can run several in one process.
    #[arg(long, default_value_t = 1)]
    jobs: u32,
    /// What to run.
    #[arg(long, default_value = "broker")]
    scenario: Scenario,
    /// Prints every event to standard error.
    #[arg(long)]
    trace: bool,
}

/// Whether any task panicked, also one that nobody waited for.
static PANICKED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match (arguments.seed, arguments.seeds) {
        (Some(seed), _) => run_here(&arguments, seed),
        (None, count) if arguments.scenario == Scenario::LogModel => {
            run_histories(count.unwrap_or(1), arguments.jobs.max(1))
        }
        (None, count) => run_fresh(&arguments, count.unwrap_or(1)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `count` fresh seeds, each in a process of its own.
fn run_fresh(arguments: &Arguments, count: u32) -> Result<()> {
    for number in 0..count {
        // Short enough to be read out, long enough not to repeat.
        let seed = RandomState::new().hash_one(number) >> 24;
        let mut run = Command::new(std::env::current_exe()?);
        run.args(["--scenario", arguments.scenario.name(), "--seed", &seed.to_string()]);
        if arguments.trace {
            run.arg("--trace");
        }
        let status = run.status().context("starting a run")?;
        ensure!(status.success(), "seed {seed} failed");
    }
    Ok(())
}

/// Runs histories of fresh seeds in this process: they share nothing, and ask the system for nothing.
fn run_histories(count: u32, jobs: u32) -> Result<()> {
    // A panic is a finding like any other, and is shown with its history.
    std::panic::set_hook(Box::new(|_| {}));
    let first = RandomState::new().hash_one(count) >> 24;
    let (next, written, deaths) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let work = || -> Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= u64::from(count) {
                return Ok(());
            }
            let seed = first + number;
            let report = log_model::run_seed(seed, false).inspect_err(|_| {
                // The others need not go on.
                next.store(u64::from(count), Ordering::Relaxed);
                println!("replay: cargo run -p ottla-sim -- --scenario log-model --seed {seed}");
            })?;
            written.fetch_add(report.written, Ordering::Relaxed);
            deaths.fetch_add(u64::from(report.deaths), Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        jobs.into_iter().try_for_each(|job| job.join().map_err(|_| anyhow!("panicked"))?)
    })?;
    let (written, deaths) = (written.into_inner(), deaths.into_inner());
    println!("log-model: {count} histories from seed {first}, {written} records, {deaths} deaths");
    Ok(())
}

/// Runs one seed in this process, which must not have run another.
fn run_here(arguments: &Arguments, seed: u64) -> Result<()> {
    let (scenario, setup) = (arguments.scenario, Setup { seed, trace: arguments.trace });
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICKED.store(true, Ordering::Relaxed);
        default_hook(panic);
    }));
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(seed));
    // On a thread of its own: the first hasher of a thread decides the keys of all its hashers, and
    // this thread has made some from the true randomness of before.
    let run = std::thread::spawn(move || {
        // From here on libc's clocks tell virtual time.
        let _clocks = SimClocksGuard::init();
        scenario.run(setup)
    });
    let outcome = run.join().map_err(|_| anyhow!("panicked")).and_then(|outcome| outcome);
    let outcome = outcome.and_then(|outcome| {
        ensure!(!PANICKED.load(Ordering::Relaxed), "a task panicked");
        Ok(outcome)
    });
    let name = scenario.name();
    match outcome {
        Ok(Outcome { hash, summary }) => {
            println!("{name} seed {seed} hash {hash:016x} {summary}");
            Ok(())
        }
        Err(error) => {
            println!("{name} seed {seed} FAILED: {error:#}");
            println!("replay: cargo run -p ottla-sim -- --scenario {name} --seed {seed}");
            Err(error)
        }
    }
}
