//! `ottla log`: looks at the files of a node that is stopped, and puts them right.

mod dump;
mod output;
mod place;
mod progress;
mod repair;
mod stats;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use ottla_env::Env;

use super::text;
use crate::failure;

/// What the commands end with if they could do their work and found something wrong.
const FOUND: u8 = 1;
/// What they end with if they could not do their work.
const FAILED: u8 = 2;

#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Print what lies in the files of a log.
    #[command(long_about = "Print what lies in the files of a log: batches and records, indexes, \
        snapshots, checkpoints.\n\nEnds with 0; with 1 if a file is damaged, which is said in its \
        place; with 2 if something could not be read.")]
    Dump(dump::Options),
    /// Check the files of a log, and say what is wrong, where, and what to do.
    #[command(long_about = "Check everything that can be checked: checksums, offsets, epochs, \
        records, indexes, snapshots, checkpoints.\n\nEnds with 0 if all is well, with 1 if \
        something is wrong, with 2 if something could not be read.")]
    Verify(verify::Options),
    /// Put right what can be put right; shows first what it would do.
    #[command(
        long_about = "Put right what can be put right, and show first what would be done.\n\n\
        A log ends before the first batch that is damaged; what lies behind goes to files that end \
        with .corrupt, and is never deleted. Indexes, snapshots and epochs are made anew from the \
        records.\n\nEnds with 0 if all is well afterwards, with 1 if not, or if nothing was \
        changed; with 2 if something could not be read or written."
    )]
    Repair(repair::Options),
    /// Count: segments, bytes, records, codecs, keys, times, producers.
    Stats(stats::Options),
}

#[derive(Args)]
struct Target {
    /// Log directories, directories of partitions, or files.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Read on although a node uses the directory: what it writes meanwhile may look damaged.
    #[arg(long)]
    while_running: bool,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

pub(crate) fn run(options: &Options) -> ExitCode {
    match run_task(&options.task) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => FOUND.into(),
        // Who reads the output has seen enough.
        Err(error) if output::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            failure::report(&error);
            FAILED.into()
        }
    }
}

/// Whether nothing is wrong.
fn run_task(task: &Task) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("cannot start")?;
    let _inside = runtime.enter();
    let env = Env::os();
    match task {
        Task::Dump(options) => dump::run(&env, options),
        Task::Verify(options) => verify::run(&env, options),
        Task::Repair(options) => repair::run(&env, options),
        Task::Stats(options) => stats::run(&env, options),
    }
}
