//! `ottla-faults`: a cluster of real processes on this machine under faults and load, its histories checked.
//!
//! ```text
//! clients ─► relay ─► node 1 ◄─ relay ◄─► relay ─► node 2 …      links are cut and delayed in the relays,
//!    │                                                            processes are killed, stopped and restarted
//!    └─► board: gaps, errors          history ─► judge (that of the simulation), replicas compared byte for byte
//! ```
//!
//! The simulation (`crates/sim`) replays far more histories; here are the real network, the real disk and real time, so that
//! what is promised in seconds can be measured.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command")]
#![allow(
    clippy::disallowed_methods,
    reason = "it measures the real world, from outside of the nodes"
)]
#![allow(clippy::large_futures, reason = "they lie on the stack of the one who runs them")]

mod board;
mod cluster;
mod fault;
mod judge;
mod load;
mod peer;
mod relay;
mod report;
mod trouble;

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Parser;
use ottla_env::process::shutdown_signal;
use tokio::task::{JoinSet, LocalSet};

use crate::cluster::{Cluster, Layout};
use crate::fault::Fault;
use crate::load::{STREAMS, Shared, administrator, group, producer};
use crate::report::Report;
use crate::trouble::Trouble;

/// Runs a cluster of real processes under faults and load, and checks what clients were told.
#[derive(Parser)]
#[command(name = "ottla-faults")]
struct Arguments {
    /// The program of a node.
    #[arg(long, value_name = "PATH")]
    node: PathBuf,
    /// Where nodes keep their data; must be empty.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// For how long faults are begun, in all layouts together.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What decides which faults come; a fresh one if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Only this layout.
    #[arg(long)]
    layout: Option<Layout>,
    /// Only these faults, parted by commas.
    #[arg(long, value_name = "FAULTS", value_delimiter = ',')]
    only: Vec<Fault>,
    /// So many times what is promised may a fault take before that counts as a failure.
    #[arg(long, default_value_t = 1.0)]
    slack: f64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| RandomState::new().hash_one(0) >> 24);
    println!("faults: seed {seed}");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    // Consumers stay on one thread.
    let local = LocalSet::new();
    let outcome = runtime
        .context("cannot start")
        .and_then(|it| local.block_on(&it, run_until_asked_to_stop(&arguments, seed)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("faults: seed {seed}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Nodes end with the run, however it ends.
async fn run_until_asked_to_stop(arguments: &Arguments, seed: u64) -> Result<()> {
    let asked_to_stop = shutdown_signal().context("cannot listen for signals")?;
    tokio::select! {
        biased;
        signal = asked_to_stop => bail!("asked to stop: {signal:?}"),
        outcome = run(arguments, seed) => outcome,
    }
}

async fn run(arguments: &Arguments, seed: u64) -> Result<()> {
    ottla_env::process::raise_open_file_limit()?;
    let all = [Layout::Together, Layout::Apart];
    let layouts: Vec<_> =
        all.into_iter().filter(|it| arguments.layout.is_none_or(|only| only == *it)).collect();
    let mut report = Report::default();
    let mut acknowledged = 0;
    for layout in &layouts {
        let share = Duration::from_secs(arguments.seconds) / layouts.len() as u32;
        let ran = run_layout(arguments, (*layout, seed), share, &mut report).await;
        match ran.with_context(|| format!("{layout:?}")) {
            Ok(count) => acknowledged += count,
            Err(error) => {
                println!("{}", report.table());
                return Err(error);
            }
        }
    }
    println!("{}", report.table());
    println!("{} faults, {acknowledged} records acknowledged, none lost", report.count());
    match report.broken_promises(arguments.slack).as_slice() {
        [] => Ok(()),
        broken => {
            bail!("took longer, or was heard of more, than is promised:\n{}", broken.join("\n"))
        }
    }
}

/// Answers how many records were acknowledged.
async fn run_layout(
    arguments: &Arguments,
    (layout, seed): (Layout, u64),
    share: Duration,
    report: &mut Report,
) -> Result<usize> {
    let dir = arguments.dir.join(format!("{layout:?}").to_lowercase());
    let mut cluster = Cluster::new(&arguments.node, &std::path::absolute(dir)?, layout)?;
    let shared = Arc::new(Shared::new(cluster.bootstrap()));
    cluster.start_all().await?;
    let mut trouble = Trouble::new(cluster, shared.clone(), &arguments.only, seed);
    trouble.wait_in_service().await.context("at the start")?;
    administrator::make_streams(&shared).await.context("making topics")?;
    let mut writing = JoinSet::new();
    for stream in STREAMS {
        for number in 0..stream.producers {
            writing.spawn(producer::run(shared.clone(), stream, number));
        }
    }
    for number in 0..3 {
        writing.spawn(administrator::run(shared.clone(), number));
    }
    writing.spawn_local(group::watch(shared.clone()));
    let mut reading = JoinSet::new();
    for number in 0..2 {
        reading.spawn_local(group::run(shared.clone(), number));
    }
    // Else the first fault would be blamed for how long a group takes to form.
    trouble.wait_progress(Instant::now()).await.context("before the first fault")?;
    let end = Instant::now() + share;
    while Instant::now() < end {
        let record = tokio::select! {
            biased;
            Some(ended) = writing.join_next() => bail!("a client ended: {:?}", ended?),
            Some(ended) = reading.join_next() => bail!("a member ended: {:?}", ended?),
            record = trouble.next() => record?,
        };
        tell(layout, &record);
        report.add(layout, record);
    }
    shared.end();
    while let Some(ended) = writing.join_next().await {
        ended??;
    }
    shared.set_written();
    let read = tokio::time::timeout(trouble::RECOVERY, async {
        while let Some(ended) = reading.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    });
    read.await.with_context(|| format!("the group has not read {:?}", shared.unread()))??;
    trouble.wait_whole().await.context("at the end")?;
    let acknowledged = judge::judge(&shared).await?;
    finish(trouble.cluster).await?;
    Ok(acknowledged)
}

/// Stops all nodes and looks at what they leave.
async fn finish(mut cluster: Cluster) -> Result<()> {
    for &id in cluster.layout.nodes().iter().rev() {
        cluster.stop(id).await?;
    }
    let panics = cluster.panics();
    if !panics.is_empty() {
        bail!("nodes panicked:\n{}", panics.join("\n"));
    }
    judge::compare_replicas(&cluster)
}

/// As the nodes' logs say it, so that it is found there.
fn time_of_day(when: Instant) -> String {
    let wall = SystemTime::now() - when.elapsed();
    let ms = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let (hours, minutes) = (ms / 3_600_000 % 24, ms / 60_000 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:03}", ms / 1000 % 60, ms % 1000)
}

fn tell(layout: Layout, record: &trouble::Record) {
    let seen = &record.seen;
    let gap = seen.gaps.iter().max_by_key(|(_, gap)| **gap);
    let gap = gap.map_or_else(String::new, |(partition, gap)| format!("{gap:.0?} ({partition})"));
    let since = seen.longest_began.map_or_else(String::new, time_of_day);
    println!(
        "{layout:?} | {}: no acknowledgement for {gap} from {since} on, a topic made after {:.0?}, no commit for {:.0?}, {} errors",
        record.fault.title(),
        seen.metadata.unwrap_or_default(),
        seen.commits,
        seen.errors.len(),
    );
    for error in &seen.errors {
        println!("    {}: {}", error.who, error.text);
    }
}
