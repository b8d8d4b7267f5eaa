//! `ottla partition`.

mod move_log;
mod reassign;

use anyhow::Result;
use clap::{Args, Subcommand};
use ottla_client::ElectionType;
use ottla_protocol::{ErrorCode, TopicPartition};
use serde_json::{Value, json};

use super::confirm::Confirmation;
use super::output::Format;
use super::session::{self, Session, explain, explained, refusal};
use super::{row, text};
use crate::failure::Failure;

pub(crate) type Options = session::Options<Task>;

#[derive(Subcommand)]
pub(crate) enum Task {
    /// Give partitions back to their preferred leader, the first of their replicas.
    ElectLeaders(Elect),
    /// Give partitions other replicas. It shows what it would do; --yes begins it.
    Reassign(reassign::Reassign),
    /// Show the reassignments that are under way.
    Reassignments {
        /// Only of these.
        #[arg(value_name = "TOPIC[:PARTITIONS]")]
        topics: Vec<String>,
    },
    /// End reassignments that are under way; partitions keep the replicas that they had.
    CancelReassignments(reassign::Cancel),
    /// Move the logs of partitions to another directory of a broker, while they are in use.
    MoveLog(move_log::Options),
    /// Show who writes to partitions: producer ids, epochs, transactions under way.
    Producers {
        /// TOPIC, or TOPIC:PARTITION,PARTITION.
        #[arg(required = true, value_name = "TOPIC[:PARTITIONS]")]
        topics: Vec<String>,
    },
}

/// Which partitions are meant.
#[derive(Args)]
struct Scope {
    /// TOPIC, or TOPIC:PARTITION,PARTITION.
    #[arg(
        value_name = "TOPIC[:PARTITIONS]",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    topics: Vec<String>,
    /// All there are.
    #[arg(long)]
    all: bool,
}

impl Scope {
    /// The partitions that are named; `None` if all are meant.
    async fn named(&self, session: &Session) -> Result<Option<Vec<TopicPartition>>> {
        if self.all {
            return Ok(None);
        }
        Ok(Some(session.chosen_partitions(&self.topics).await?))
    }
}

#[derive(Args)]
pub(crate) struct Elect {
    #[command(flatten)]
    scope: Scope,
    /// Elect any replica that is alive where none in sync is: records that only others have are lost.
    #[arg(long)]
    unclean: bool,
    #[command(flatten)]
    confirmation: Confirmation,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let format = options.format;
    session::with(&options.target, async |session| match &options.task {
        Task::ElectLeaders(elect) => elect_leaders(&session, format, elect).await,
        Task::Reassign(wanted) => reassign::run(&session, format, wanted).await,
        Task::Reassignments { topics } => reassign::list(&session, format, topics).await,
        Task::CancelReassignments(cancel) => reassign::cancel(&session, format, cancel).await,
        Task::MoveLog(wanted) => move_log::run(&session, format, wanted).await,
        Task::Producers { topics } => producers(&session, format, topics).await,
    })
}

async fn elect_leaders(session: &Session, format: Format, elect: &Elect) -> Result<()> {
    let partitions = elect.scope.named(session).await?;
    let election = match elect.unclean {
        false => ElectionType::Preferred,
        true => {
            let of = match &partitions {
                None => "all partitions without a leader".to_owned(),
                Some(named) => text::count(named.len() as u64, "partition", "partitions"),
            };
            elect.confirmation.ask(&format!("elect leaders of {of}, and lose what they lack"))?;
            ElectionType::Unclean
        }
    };
    let answers = session.admin.elect_leaders(election, partitions.as_deref()).await;
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for (partition, answer) in answers.map_err(explained)? {
        let (result, error) = match answer {
            Ok(()) => ("elected", None),
            Err(error) if refusal(&error) == Some(ErrorCode::ElectionNotNeeded) => {
                ("not needed", None)
            }
            Err(error) => ("failed", Some(error.to_string())),
        };
        failed.extend(error.iter().map(|error| format!("{partition}: {error}")));
        rows.push(row(&partition, json!({ "result": result, "error": error })));
    }
    let columns =
        [("TOPIC", "topic"), ("PARTITION", "partition"), ("RESULT", "result"), ("ERROR", "error")];
    format.rows_or(&columns, &rows, "every partition has the leader that it should have")?;
    if failed.is_empty() {
        return Ok(());
    }
    let count = text::count(failed.len() as u64, "partition has", "partitions have");
    Err(Failure {
        what: format!("{count} no other leader"),
        why: failed.join("\n"),
        next: "start the brokers that are missing: ottla topic describe shows the replicas, \
               ottla cluster describe the brokers"
            .to_owned(),
    }
    .into())
}

async fn producers(session: &Session, format: Format, topics: &[String]) -> Result<()> {
    let partitions = session.chosen_partitions(topics).await?;
    let answers = session.admin.describe_producers(&partitions).await.map_err(explained)?;
    let mut rows: Vec<Value> = Vec::new();
    for (partition, answer) in answers {
        let states =
            answer.map_err(|error| explain(&format!("the producers of {partition}"), &error))?;
        rows.extend(states.iter().map(|it| {
            let fields = json!({
                "producer_id": it.producer_id.0, "producer_epoch": it.producer_epoch,
                "last_sequence": it.last_sequence,
                "last_timestamp": it.last_timestamp.0,
                "last_write": text::time(it.last_timestamp),
                "coordinator_epoch": it.coordinator_epoch,
                "transaction_start_offset": it.transaction_start.map(|offset| offset.0),
            });
            row(&partition, fields)
        }));
    }
    let columns = [
        ("TOPIC", "topic"),
        ("PARTITION", "partition"),
        ("PRODUCER", "producer_id"),
        ("EPOCH", "producer_epoch"),
        ("SEQUENCE", "last_sequence"),
        ("LAST WRITE", "last_write"),
        ("TRANSACTION FROM", "transaction_start_offset"),
    ];
    format.rows_or(&columns, &rows, "no idempotent producer has written there lately")
}
