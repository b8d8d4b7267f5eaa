//! What every command that asks a cluster has in common: where it is, and what its errors mean.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use futures_util::future::join_all;
use ottla_client::{Admin, Client, ClientError, ConnectionOptions};
use ottla_env::Env;
use ottla_protocol::{BrokerId, ErrorCode, TopicPartition};

use super::output::Format;
use super::profile;
use crate::failure::Failure;

/// Where a node is if nobody says.
const DEFAULT_SERVER: &str = "127.0.0.1:9092";
/// So long is a broker waited for that is one of several: it may stand still, or be cut off, and the others have answered.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Args, Clone)]
pub(crate) struct Target {
    /// A node of the cluster; several with commas [default: that of the profile in use, else
    /// 127.0.0.1:9092].
    #[arg(
        long,
        short,
        global = true,
        env = "OTTLA_BOOTSTRAP_SERVER",
        value_name = "HOST:PORT",
        help_heading = "Cluster"
    )]
    bootstrap_server: Option<String>,
    /// The connection profile to use; see `ottla profile`.
    #[arg(
        long,
        global = true,
        env = "OTTLA_PROFILE",
        value_name = "NAME",
        help_heading = "Cluster"
    )]
    profile: Option<String>,
    /// Seconds until a call is given up.
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..),
        help_heading = "Cluster"
    )]
    timeout: u64,
}

/// What a command with tasks is told: which cluster, how to print, and what to do.
#[derive(Args)]
pub(crate) struct Options<Task: Subcommand> {
    #[command(flatten)]
    pub(crate) target: Target,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    #[command(subcommand)]
    pub(crate) task: Task,
}

/// A cluster to be asked.
pub(crate) struct Session {
    pub(crate) env: Env,
    pub(crate) client: Client,
    pub(crate) admin: Admin,
}

/// Connects to the cluster, and does `work` there.
pub(crate) fn with<T>(target: &Target, work: impl AsyncFnOnce(Session) -> Result<T>) -> Result<T> {
    // One thread: a command asks one thing after another.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(async {
        let env = Env::os();
        let session = Session::connect(&env, target).await?;
        work(session).await
    })
}

impl Session {
    async fn connect(env: &Env, target: &Target) -> Result<Self> {
        let servers = target.servers(env)?;
        let timeout = Duration::from_secs(target.timeout);
        let options = ConnectionOptions {
            client_id: "ottla-cli".to_owned(),
            connect_timeout: timeout.min(Duration::from_secs(5)),
            ..ConnectionOptions::default()
        };
        let client = Client::connect(env, servers.clone(), options)
            .await
            .map_err(|error| unreachable_cluster(&servers.join(","), &error))?;
        let admin = Admin::new(client.clone(), timeout);
        Ok(Self { env: env.clone(), client, admin })
    }

    /// Asks each of these brokers for itself, all at once; of those that do not answer, why.
    pub(crate) async fn ask_each<T>(
        &self,
        brokers: impl IntoIterator<Item = BrokerId>,
        ask: impl AsyncFn(BrokerId) -> Result<T, ClientError>,
    ) -> BTreeMap<BrokerId, Result<T, String>> {
        let ask = &ask;
        let asked = brokers.into_iter().map(|id| async move { (id, self.soon(ask(id)).await) });
        join_all(asked).await.into_iter().collect()
    }

    /// An answer that has to come soon, for other answers are waiting to be shown; or why there is none.
    pub(crate) async fn soon<T>(
        &self,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, String> {
        match self.env.timeout(PATIENCE, answer).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("nothing came within {PATIENCE:?}")),
        }
    }

    /// An error about a topic that is not there, with the name that was perhaps meant.
    pub(crate) async fn no_such_topic(&self, name: &str) -> anyhow::Error {
        let topics = self.admin.list_topics().await.unwrap_or_default();
        let nearest = nearest(name, topics.keys().map(String::as_str));
        Failure {
            what: format!("there is no topic {name}"),
            why: match (nearest, topics.len()) {
                (Some(nearest), _) => format!("did you mean {nearest}?"),
                (None, 0) => "the cluster has no topics yet".to_owned(),
                (None, count) => format!("none of the {count} topics has a name like it"),
            },
            next: format!("ottla topic list, or ottla topic create {name}"),
        }
        .into()
    }

    /// The partitions of a topic that is there.
    pub(crate) async fn partitions(&self, topic: &str) -> Result<Vec<TopicPartition>> {
        let mut described = self.admin.describe_topics(&[topic]).await.map_err(explained)?;
        match described.remove(topic) {
            Some(Ok(described)) => {
                let numbers = described.partitions.keys();
                Ok(numbers.map(|it| TopicPartition::new(topic, *it)).collect())
            }
            Some(Err(error)) => Err(self.about_topic(topic, error).await),
            None => Err(self.no_such_topic(topic).await),
        }
    }

    /// The partitions that each of `texts` means, `TOPIC` or `TOPIC:0,1`, in order and once.
    pub(crate) async fn chosen_partitions(&self, texts: &[String]) -> Result<Vec<TopicPartition>> {
        let mut partitions = Vec::new();
        for text in texts {
            let name = text.rsplit_once(':').map_or(text.as_str(), |(name, _)| name);
            partitions.extend(chosen(text, &self.partitions(name).await?)?);
        }
        partitions.sort();
        partitions.dedup();
        Ok(partitions)
    }

    /// An error about a topic.
    pub(crate) async fn about_topic(&self, topic: &str, error: ClientError) -> anyhow::Error {
        if refusal(&error) == Some(ErrorCode::UnknownTopicOrPartition) {
            return self.no_such_topic(topic).await;
        }
        explain(&format!("topic {topic}"), &error)
    }
}

impl Target {
    fn servers(&self, env: &Env) -> Result<Vec<String>> {
        let text = match (&self.bootstrap_server, &self.profile) {
            (Some(server), _) => server.clone(),
            (None, named) => profile::bootstrap_server(env, named.as_deref())?
                .unwrap_or_else(|| DEFAULT_SERVER.to_owned()),
        };
        let servers = text.split(',').map(str::trim).filter(|it| !it.is_empty());
        let servers: Vec<String> = servers.map(with_port).collect();
        if servers.is_empty() {
            return Err(Failure {
                what: "no node is named".to_owned(),
                why: format!("the list of nodes is {text:?}"),
                next: format!("name one, as in --bootstrap-server {DEFAULT_SERVER}"),
            }
            .into());
        }
        Ok(servers)
    }
}

/// `host` alone has Kafka's port.
fn with_port(server: &str) -> String {
    let has_port = server.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { server.to_owned() } else { format!("{server}:9092") }
}

/// The partitions that `TOPIC` or `TOPIC:0,1` means, of those that a cluster or a group has.
pub(crate) fn chosen(text: &str, known: &[TopicPartition]) -> Result<Vec<TopicPartition>> {
    let (topic, numbers) = match text.rsplit_once(':') {
        None => (text, None),
        Some((topic, numbers)) => (topic, Some(numbers)),
    };
    let of_topic = || known.iter().filter(|it| &*it.topic == topic);
    let Some(numbers) = numbers else { return Ok(of_topic().cloned().collect()) };
    let choose = |number: &str| {
        let number = number.trim().parse::<i32>().ok();
        of_topic().find(|it| Some(it.partition) == number).cloned()
    };
    numbers
        .split(',')
        .map(|number| {
            choose(number).ok_or_else(|| {
                let all: Vec<String> = of_topic().map(|it| it.partition.to_string()).collect();
                Failure {
                    what: format!("{topic} has no partition {number}"),
                    why: format!("its partitions are {}", all.join(", ")),
                    next: format!("give {topic}:0 or {topic}:0,1, for example"),
                }
                .into()
            })
        })
        .collect()
}

/// The name nearest to one that is not there, unless it is something else altogether.
pub(crate) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.map(|it| (strsim::damerau_levenshtein(name, it), it));
    let (distance, nearest) = scored.min()?;
    (distance <= name.chars().count().div_ceil(3)).then_some(nearest)
}

/// The code that a broker refused with.
pub(crate) fn refusal(error: &ClientError) -> Option<ErrorCode> {
    if let ClientError::Refused { code, .. } = error { Some(*code) } else { None }
}

fn unreachable_cluster(servers: &str, error: &ClientError) -> anyhow::Error {
    Failure {
        what: format!("no node answers at {servers}"),
        why: error.to_string(),
        next: "start one with `ottla start`, or name one: --bootstrap-server HOST:PORT, \
               OTTLA_BOOTSTRAP_SERVER, or `ottla profile add`"
            .to_owned(),
    }
    .into()
}

/// An error of a call, as people read it.
pub(crate) fn explained(error: ClientError) -> anyhow::Error {
    explain("the cluster did not do it", &error)
}

/// An error about `what`, as people read it.
pub(crate) fn explain(what: &str, error: &ClientError) -> anyhow::Error {
    let (why, next) = match error {
        ClientError::NoCommonVersion { api, .. } => (
            format!("this broker does not serve {api}"),
            "ask a node that does: `ottla cluster apis` lists what each serves".to_owned(),
        ),
        ClientError::Connect { .. } => (
            error.to_string(),
            "see whether the node runs, and that advertised.listeners can be reached from here"
                .to_owned(),
        ),
        ClientError::Refused { code, .. } => (error.to_string(), after_refusal(*code).to_owned()),
        ClientError::Closed { .. } | ClientError::TimedOut { .. } => {
            (error.to_string(), "try again; --timeout waits longer".to_owned())
        }
        ClientError::Encode(_) | ClientError::Decode(_) | ClientError::Nonsense(_) => {
            (error.to_string(), "see the log of the node: OTTLA_LOG=debug ottla start".to_owned())
        }
    };
    Failure { what: what.to_owned(), why, next }.into()
}

#[allow(clippy::wildcard_enum_match_arm, reason = "for people: most codes explain themselves")]
fn after_refusal(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::TopicAlreadyExists => {
            "ottla topic describe shows it; choose another name, or add --if-not-exists"
        }
        ErrorCode::InvalidReplicationFactor | ErrorCode::InvalidReplicaAssignment => {
            "ottla cluster describe shows the brokers that are alive: no more replicas than these"
        }
        ErrorCode::InvalidTopicException => {
            "take a name of at most 249 letters, digits, dots, hyphens and underscores"
        }
        ErrorCode::InvalidPartitions => "give more partitions than the topic has",
        ErrorCode::InvalidConfig | ErrorCode::PolicyViolation => {
            "ottla config describe TARGET --all --docs explains every key"
        }
        ErrorCode::GroupIdNotFound => "ottla group list shows the groups there are",
        ErrorCode::NonEmptyGroup | ErrorCode::UnknownMemberId => {
            "stop the members of the group first: ottla group describe shows them"
        }
        ErrorCode::GroupSubscribedToTopic => "stop the members that subscribe to the topic first",
        ErrorCode::UnknownTopicOrPartition => "ottla topic list shows the topics there are",
        ErrorCode::OffsetOutOfRange => {
            "ottla topic describe shows where each partition begins and ends"
        }
        _ if code.is_retriable() => "try again in a moment",
        _ => "correct what the broker names, and try again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_one_that_was_perhaps_meant() {
        let names = ["orders", "payments"];
        assert_eq!(nearest("ordres", names.into_iter()), Some("orders"));
        assert_eq!(nearest("x", names.into_iter()), None);
        assert_eq!(nearest("orders", [].into_iter()), None);
    }

    #[test]
    fn a_host_alone_has_kafkas_port() {
        assert_eq!(with_port("localhost"), "localhost:9092");
        assert_eq!(with_port("[::1]:7"), "[::1]:7");
    }

    #[test]
    fn partitions_are_chosen_by_topic_and_number() {
        let known = [TopicPartition::new("a", 0), TopicPartition::new("a", 1)];
        assert_eq!(chosen("a", &known).unwrap(), known);
        assert_eq!(chosen("a:1", &known).unwrap(), known[1..]);
        assert_eq!(chosen("b", &known).unwrap(), []);
        assert!(chosen("a:2", &known).is_err());
        assert!(chosen("a:x", &known).is_err());
    }
}
