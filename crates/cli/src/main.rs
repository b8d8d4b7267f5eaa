//! The `ottla` command: starts a node, measures one, and looks at the files of one that is stopped.

mod commands;
mod failure;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{bench, log, start};

/// An event-streaming broker that speaks Apache Kafka's protocol.
#[derive(Parser)]
#[command(name = "ottla", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a node; without options one that needs no other, for this machine.
    Start(start::Options),
    /// Measure a node: throughput, latency, and what they cost.
    Bench(bench::Options),
    /// Look at the files of a stopped node: print, check, put right, count.
    Log(log::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Start(options) => start::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Log(options) => return log::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure::report(&failure);
            ExitCode::FAILURE
        }
    }
}
