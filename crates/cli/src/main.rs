//! The `ottla` command: starts a node, and measures one.

mod commands;
mod failure;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{bench, start};

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
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Start(options) => start::run(&options),
        Command::Bench(options) => bench::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure::report(&failure);
            ExitCode::FAILURE
        }
    }
}
