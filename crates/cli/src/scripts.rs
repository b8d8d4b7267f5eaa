//! Kafka's scripts by name: `ottla kafka-topics …`, or a link `kafka-topics.sh` to this program.
//!
//! Flags, standard output and exit codes are those of Apache Kafka's own tools. The words of the
//! usages are not, and neither are the traces of exceptions on standard error.

mod broker_api_versions;
mod cluster;
mod configs;
mod console_consumer;
mod console_producer;
mod consumer_groups;
mod consumer_perf_test;
mod delete_records;
mod dump_log;
mod features;
mod get_offsets;
mod java;
mod json_file;
mod leader_election;
mod link;
mod log_dirs;
mod metadata_quorum;
mod options;
mod padded;
mod producer_perf_test;
mod reassign_partitions;
mod target;
mod topic_filter;
mod topics;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use ottla_client::{ClientError, ConsumerError};
use ottla_protocol::ApiKey;

pub(crate) use self::link::{Options as LinkOptions, run as link};

/// The release of Kafka whose scripts these follow.
const KAFKA_VERSION: &str = "4.3.1";

/// One of Kafka's scripts.
struct Script {
    name: &'static str,
    run: fn(&[String]) -> Outcome,
}

const SCRIPTS: &[Script] = &[
    Script { name: "kafka-broker-api-versions", run: broker_api_versions::run },
    Script { name: "kafka-cluster", run: cluster::run },
    Script { name: "kafka-configs", run: configs::run },
    Script { name: "kafka-console-consumer", run: console_consumer::run },
    Script { name: "kafka-console-producer", run: console_producer::run },
    Script { name: "kafka-consumer-groups", run: consumer_groups::run },
    Script { name: "kafka-consumer-perf-test", run: consumer_perf_test::run },
    Script { name: "kafka-delete-records", run: delete_records::run },
    Script { name: "kafka-dump-log", run: dump_log::run },
    Script { name: "kafka-features", run: features::run },
    Script { name: "kafka-get-offsets", run: get_offsets::run },
    Script { name: "kafka-leader-election", run: leader_election::run },
    Script { name: "kafka-log-dirs", run: log_dirs::run },
    Script { name: "kafka-metadata-quorum", run: metadata_quorum::run },
    Script { name: "kafka-producer-perf-test", run: producer_perf_test::run },
    Script { name: "kafka-reassign-partitions", run: reassign_partitions::run },
    Script { name: "kafka-topics", run: topics::run },
];

/// What a script ends with before its end.
#[derive(Debug)]
struct Stop {
    code: u8,
    /// For standard error.
    said: String,
}

type Outcome<T = ()> = Result<T, Stop>;

impl Stop {
    /// All is well, and nothing remains to be done.
    fn done() -> Self {
        Self { code: 0, said: String::new() }
    }

    /// It failed, and standard output says so already.
    fn silent() -> Self {
        Self { code: 1, said: String::new() }
    }

    fn failed(said: impl Into<String>) -> Self {
        Self { code: 1, said: said.into() }
    }
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        Self::failed(java::message(&error))
    }
}

impl From<ConsumerError> for Stop {
    fn from(error: ConsumerError) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        // Who reads the output has seen enough.
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::done()
        } else {
            Self::failed(error.to_string())
        }
    }
}

/// Runs the script that this program was called as, or whose name is the first argument; `None` if
/// it is neither.
pub(crate) fn run_by_name(arguments: &[String]) -> Option<ExitCode> {
    let (program, rest) = arguments.split_first()?;
    let called = Path::new(program).file_name().and_then(|it| it.to_str()).unwrap_or_default();
    let named = |name: &str| {
        let name = name.strip_suffix(".sh").unwrap_or(name);
        SCRIPTS.iter().find(|script| script.name == name)
    };
    if let Some(script) = named(called) {
        return Some(run(script, rest));
    }
    let (first, rest) = rest.split_first()?;
    named(first).map(|script| run(script, rest))
}

fn run(script: &Script, arguments: &[String]) -> ExitCode {
    match (script.run)(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            if !stop.said.is_empty() {
                // Nobody to tell if even stderr is gone.
                let _ = writeln!(io::stderr(), "{}", stop.said);
            }
            ExitCode::from(stop.code)
        }
    }
}

/// Writes to standard output.
fn say(text: impl AsRef<str>) -> Outcome {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", text.as_ref())?;
    Ok(stdout.flush()?)
}

/// Writes to standard error.
fn warn(text: impl AsRef<str>) {
    // Nobody to tell if even stderr is gone.
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

/// With commas between them.
fn joined(items: impl IntoIterator<Item = impl ToString>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

fn say_version() -> Outcome {
    say(KAFKA_VERSION)
}

/// As Kafka's clients write the name of an API in messages: `DESCRIBE_CONFIGS`.
fn api_name(api: ApiKey) -> String {
    let mut name = String::new();
    for letter in api.name().chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}
