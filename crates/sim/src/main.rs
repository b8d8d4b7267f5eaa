//! `ottla-sim`: runs seeds, one process each, and prints a line for each.
//!
//! A process of its own, because libraries keep state that counts up over a process (tokio's task
//! ids and seeds) and ask the system for randomness (the hashers of their maps). In a fresh process
//! with mad-turmoil's `getrandom` and clock in place of libc's, both follow from the seed.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command")]
#![allow(clippy::disallowed_methods, reason = "it starts processes and threads of the real world")]

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use mad_turmoil::time::SimClocksGuard;
use ottla_sim::{Outcome, Scenario, Setup, log_model};
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// Runs whole clusters in one thread, each from a seed.
#[derive(Parser)]
#[command(name = "ottla-sim")]
struct Arguments {
    /// The seed to run; a fresh one if not given.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// How many seeds to run; fresh ones if --from is not given.
    #[arg(long)]
    seeds: Option<u32>,
    /// The first of the seeds to run; the others follow it.
    #[arg(long, requires = "seeds")]
    from: Option<u64>,
    /// How many to run at once.
    #[arg(long, default_value_t = 1)]
    jobs: u32,
    /// Runs all seeds, also after one that failed.
    #[arg(long, requires = "seeds")]
    keep_going: bool,
    /// Seconds of processor time after which a run is taken to turn without end. Ten times as many of real time, too.
    #[arg(long, default_value_t = 300)]
    limit: u64,
    /// What to run.
    #[arg(long, default_value = "broker")]
    scenario: Scenario,
    /// Prints every event to standard error, and what the nodes log, filtered by `RUST_LOG`.
    #[arg(long)]
    trace: bool,
    /// Names what was found once and can be told again, each a scenario.
    #[arg(long)]
    stories: bool,
}

/// Whether any task panicked, also one that nobody waited for.
static PANICKED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.stories {
        Scenario::stories().for_each(|story| println!("{}", story.name()));
        return ExitCode::SUCCESS;
    }
    let outcome = match (arguments.seed, arguments.seeds) {
        (Some(seed), _) => run_here(&arguments, seed),
        (None, count) if arguments.scenario == Scenario::LogModel => {
            run_histories(count.unwrap_or(1), arguments.jobs.max(1))
        }
        (None, count) => run_seeds(&arguments, count.unwrap_or(1)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `count` seeds, each in a process of its own, and adds up what happened in them.
fn run_seeds(arguments: &Arguments, count: u32) -> Result<()> {
    let (next, failed) = (AtomicU32::new(0), AtomicU32::new(0));
    let tally = Mutex::new(BTreeMap::new());
    let work = || -> Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            let seed = match arguments.from {
                Some(first) => first + u64::from(number),
                // Short enough to be read out, long enough not to repeat.
                None => RandomState::new().hash_one(number) >> 24,
            };
            let (line, succeeded) = run_apart(arguments, seed)?;
            add_up(&mut tally.lock(), &line);
            if !succeeded {
                failed.fetch_add(1, Ordering::Relaxed);
                if !arguments.keep_going {
                    next.store(count, Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..arguments.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        jobs.into_iter().try_for_each(|job| job.join().map_err(|_| anyhow!("panicked"))?)
    })?;
    let failed = failed.into_inner();
    let counted: Vec<_> =
        tally.into_inner().iter().map(|(what, count)| format!("{what}={count}")).collect();
    let name = arguments.scenario.name();
    println!("{name}: {count} seeds, {failed} failed; {}", counted.join(" "));
    ensure!(failed == 0, "{failed} seeds failed");
    Ok(())
}

/// Runs a seed in a process of its own; answers what it printed, and whether all promises were kept.
fn run_apart(arguments: &Arguments, seed: u64) -> Result<(String, bool)> {
    let mut run = Command::new(std::env::current_exe()?);
    run.args(["--scenario", arguments.scenario.name(), "--seed", &seed.to_string()]);
    run.args(["--limit", &arguments.limit.to_string()]);
    if arguments.trace {
        run.arg("--trace");
    }
    let output = run.stderr(Stdio::inherit()).output().context("starting a run")?;
    let mut printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if printed.is_empty() {
        printed = format!("{} seed {seed} FAILED: {}\n", arguments.scenario.name(), output.status);
    }
    print!("{printed}");
    Ok((printed, output.status.success()))
}

/// Adds each `what=count` of a line.
fn add_up(tally: &mut BTreeMap<String, u64>, line: &str) {
    let counts = line.split_whitespace().filter_map(|word| word.split_once('='));
    for (what, count) in counts {
        if let Ok(count) = count.parse::<u64>() {
            *tally.entry(what.to_owned()).or_default() += count;
        }
    }
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

/// Waits until this process has had so many seconds of processor time, which does not depend on what else the machine does.
fn wait_for_limit(limit: u64) {
    for _ in 0..limit * 10 {
        std::thread::sleep(Duration::from_secs(1));
        if processor_seconds().is_some_and(|used| used >= limit) {
            return;
        }
    }
}

/// Processor time of this process so far, where the system has `/proc`.
fn processor_seconds() -> Option<u64> {
    const TICKS_PER_SECOND: u64 = 100;
    let told = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name, which may hold anything: utime and stime are fields 14 and 15, in ticks.
    let mut fields = told.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

/// Prints what nodes log between the events of a trace. Made where it takes none of the seed's randomness, lest a traced run
/// be another.
fn log_to_stderr() -> tracing::Dispatch {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| {
        "ottla_server=debug,ottla_storage=info,ottla_client=debug,turmoil=info".to_owned()
    });
    let printing = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_timer(SimTime);
    printing.finish().into()
}

/// As the events of a trace tell it.
struct SimTime;

impl FormatTime for SimTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        write!(writer, "{:>12.6}", at.as_secs_f64())
    }
}

/// Runs one seed in this process, which must not have run another.
fn run_here(arguments: &Arguments, seed: u64) -> Result<()> {
    let (scenario, setup) = (arguments.scenario, Setup { seed, trace: arguments.trace });
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICKED.store(true, Ordering::Relaxed);
        default_hook(panic);
    }));
    let log = setup.trace.then(log_to_stderr);
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(seed));
    let (name, limit) = (scenario.name(), arguments.limit);
    std::thread::spawn(move || {
        wait_for_limit(limit);
        println!("{name} seed {seed} FAILED: no end after {limit} s of processor time");
        std::process::exit(1);
    });
    // On a thread of its own: the first hasher of a thread decides the keys of all its hashers, and
    // this thread has made some from the true randomness of before.
    let run = std::thread::spawn(move || {
        // From here on libc's clocks tell virtual time.
        let _clocks = SimClocksGuard::init();
        let _logged = log.as_ref().map(tracing::dispatcher::set_default);
        scenario.run(setup)
    });
    let outcome = run.join().map_err(|_| anyhow!("panicked")).and_then(|outcome| outcome);
    let outcome = outcome.and_then(|outcome| {
        ensure!(!PANICKED.load(Ordering::Relaxed), "a task panicked");
        Ok(outcome)
    });
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
