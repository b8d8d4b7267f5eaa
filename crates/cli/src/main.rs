//! The `ottla` command: starts a node, asks and changes a cluster, measures one, and looks at the
//! files of a node that is stopped.

mod commands;
mod failure;
mod replication_throttle;
mod scripts;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::commands::{
    bench, broker, cluster, completions, config, consume, features, group, log, metadata, output,
    partition, produce, profile, quota, start, topic,
};

/// An event-streaming broker that speaks Apache Kafka's protocol.
#[derive(Parser)]
#[command(
    name = "ottla",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Ends with 0 if it was done, with 1 if not, with 2 if the arguments are wrong; ottla log with 1 if it\nfound something wrong, with 2 if it could not do its work."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a node; without options one that needs no other, for this machine.
    Start(start::Options),
    /// Make, list, describe, alter and delete topics, and delete their records.
    Topic(topic::Options),
    /// Elect leaders, reassign replicas, move logs between disks, see who writes.
    Partition(partition::Options),
    /// Send records to a topic: lines of standard input or of a file.
    Produce(produce::Options),
    /// Read records of a topic.
    Consume(consume::Options),
    /// List, describe, reset and delete groups.
    Group(group::Options),
    /// Get, set, unset and describe configurations of topics, brokers and groups.
    Config(config::Options),
    /// List, empty and forget brokers.
    Broker(broker::Options),
    /// Look at the cluster, even it out, run one on this machine.
    Cluster(cluster::Options),
    /// Look at the metadata as the tree that ZooKeeper had.
    Metadata(metadata::Options),
    /// List, set and unset client quotas.
    Quota(quota::Options),
    /// List and set the features of the cluster.
    Features(features::Options),
    /// Name clusters, and choose the one to use.
    Profile(profile::Options),
    /// Measure a node: throughput, latency, and what they cost.
    Bench(bench::Options),
    /// Look at the files of a stopped node: print, check, put right, count.
    Log(log::Options),
    /// Write links kafka-topics.sh and so on: Kafka's scripts by name, with their flags and output.
    InstallScripts(scripts::LinkOptions),
    /// Print completions for a shell.
    Completions(completions::Completions),
    /// Print the manual page, or write one for each command.
    Man(completions::Man),
}

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().map(|it| it.to_string_lossy().into_owned()).collect();
    if let Some(end) = scripts::run_by_name(&arguments) {
        return end;
    }
    let result = match Cli::parse().command {
        Command::Start(options) => start::run(&options),
        Command::Topic(options) => topic::run(&options),
        Command::Partition(options) => partition::run(&options),
        Command::Produce(options) => produce::run(&options),
        Command::Consume(options) => consume::run(&options),
        Command::Group(options) => group::run(&options),
        Command::Config(options) => config::run(&options),
        Command::Broker(options) => broker::run(&options),
        Command::Cluster(options) => cluster::run(&options),
        Command::Metadata(options) => metadata::run(&options),
        Command::Quota(options) => quota::run(&options),
        Command::Features(options) => features::run(&options),
        Command::Profile(options) => profile::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Log(options) => return log::run(&options),
        Command::InstallScripts(options) => scripts::link(&options),
        Command::Completions(options) => completions::completions(&options, Cli::command()),
        Command::Man(options) => completions::man(&options, Cli::command()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads the output has seen enough.
        Err(error) if output::is_closed(&error) => ExitCode::SUCCESS,
        Err(failure) => {
            failure::report(&failure);
            ExitCode::FAILURE
        }
    }
}
