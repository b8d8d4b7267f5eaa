//! `kafka-reassign-partitions`.

mod generate;
mod moves;
mod plan;
mod throttle;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ottla_client::{Admin, Answers, ClientError, ConfigResourceType, TopicDescription};
use ottla_env::Env;
use ottla_protocol::{BrokerId, ErrorCode, TopicPartition};
use serde_json::json;

use self::plan::{ANY_DIR, Plan};
use super::options::{COMMAND_CONFIG, CONTROLLERS, Grammar, Options, SERVERS, flag, value};
use super::{Outcome, Stop, java, joined, say, target};
use crate::replication_throttle::{RATES, REPLICAS, unset};

static GRAMMAR: Grammar = Grammar {
    about: "This tool helps to move topic partitions between replicas.",
    known: &[
        flag(
            &["verify"],
            "Show how far what the file asks for is, and end throttles when it is done.",
        ),
        flag(&["generate"], "Show a file that spreads partitions over brokers, and do nothing."),
        flag(&["execute"], "Begin what the file asks for."),
        flag(&["cancel"], "End what is under way of what the file asks for."),
        flag(&["list"], "Show all that is under way."),
        SERVERS,
        CONTROLLERS,
        COMMAND_CONFIG,
        value(
            &["reassignment-json-file"],
            "file",
            "{\"version\": 1, \"partitions\": [{\"topic\": \"foo\", \"partition\": 1, \"replicas\": [1, 2], \"log_dirs\": [\"any\", \"/dir\"]}]}; log_dirs may be left out.",
        ),
        value(
            &["topics-to-move-json-file"],
            "file",
            "With --generate: {\"version\": 1, \"topics\": [{\"topic\": \"foo\"}]}.",
        ),
        value(&["broker-list"], "brokers", "With --generate: 1,2,3."),
        flag(&["disable-rack-aware"], "With --generate: do not look at racks."),
        value(
            &["throttle"],
            "rate",
            "With --execute: bytes per second between brokers, until --verify finds it done.",
        ),
        value(
            &["replica-alter-log-dirs-throttle"],
            "rate",
            "With --execute: bytes per second between directories of a broker.",
        ),
        flag(
            &["disallow-replication-factor-change"],
            "With --execute: refuse another number of replicas.",
        ),
        value(
            &["timeout"],
            "ms",
            "How long to wait until moves between directories begin; 10000 by default.",
        ),
        flag(&["additional"], "Execute beside what is under way."),
        flag(&["preserve-throttles"], "Leave throttles as they are."),
    ],
};

const ACTIONS: [&str; 5] = ["generate", "execute", "verify", "cancel", "list"];
pub(super) fn run(arguments: &[String]) -> Outcome {
    let options = GRAMMAR.parse(arguments)?;
    options.help_or_version()?;
    let action = check(&options)?;
    let done = target::block_on(async |env| {
        let admin = target::connect(&env, &options).await?;
        match action {
            "list" => return list(&admin).await,
            "generate" => return generate::run(&env, &admin, &options).await,
            _ => {}
        }
        let file = options.value("reassignment-json-file")?.unwrap_or_default();
        let plan = Plan::read(&env.disk.read(Path::new(file))?)?;
        match action {
            "execute" => execute(&env, &admin, &options, &plan).await,
            "verify" => verify(&admin, &options, &plan).await,
            _ => cancel(&env, &admin, &options, &plan).await,
        }
    });
    // Kafka's script complains on standard output.
    done.or_else(|stop| {
        if stop.code != 0 && !stop.said.is_empty() {
            say(&stop.said)?;
            return Err(Stop::silent());
        }
        Err(stop)
    })
}

/// An error as the script writes it that it did not expect.
fn error(why: impl std::fmt::Display) -> Stop {
    Stop::failed(format!("Error: {why}"))
}

fn failed(failure: ClientError) -> Stop {
    error(java::exception(&failure))
}

fn check(options: &Options) -> Outcome<&'static str> {
    let given: Vec<&'static str> =
        ACTIONS.into_iter().filter(|action| options.has(action)).collect();
    let [action] = given[..] else {
        let actions = ACTIONS.map(|action| format!("--{action}")).join(", ");
        return Err(options.usage(format!("Command must include exactly one action: {actions}")));
    };
    match (options.value("bootstrap-server")?, options.value("bootstrap-controller")?) {
        (Some(_), Some(_)) => {
            return Err(options
                .usage("Please don't specify both --bootstrap-server and --bootstrap-controller"));
        }
        (None, None) => {
            return Err(
                options.usage("Please specify either --bootstrap-server or --bootstrap-controller")
            );
        }
        (Some(_), None) | (None, Some(_)) => {}
    }
    let permitted: &[&str] = match action {
        "generate" => {
            options.require(&["topics-to-move-json-file", "broker-list"])?;
            &["topics-to-move-json-file", "broker-list", "disable-rack-aware"]
        }
        "list" => &[],
        "execute" => &[
            "reassignment-json-file",
            "additional",
            "timeout",
            "throttle",
            "replica-alter-log-dirs-throttle",
            "disallow-replication-factor-change",
        ],
        "verify" => &["reassignment-json-file", "preserve-throttles"],
        _ => &["reassignment-json-file", "preserve-throttles", "timeout"],
    };
    if action != "list" && action != "generate" {
        options.require(&["reassignment-json-file"])?;
    }
    let others = [
        "reassignment-json-file",
        "topics-to-move-json-file",
        "broker-list",
        "disable-rack-aware",
        "timeout",
        "additional",
        "preserve-throttles",
        "throttle",
        "replica-alter-log-dirs-throttle",
        "disallow-replication-factor-change",
    ];
    match others.into_iter().find(|it| options.has(it) && !permitted.contains(it)) {
        Some(other) => {
            Err(options
                .usage(format!("Option \"[{other}]\" can't be used with action \"[{action}]\"")))
        }
        None => Ok(action),
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

async fn list(admin: &Admin) -> Outcome {
    let moves = admin.list_reassignments(None).await.map_err(failed)?;
    if moves.is_empty() {
        return say("No partition reassignments found.");
    }
    say("Current partition reassignments:")?;
    for (partition, it) in &moves {
        let part = |title: &str, brokers: &[BrokerId]| {
            if brokers.is_empty() {
                String::new()
            } else {
                format!(" {title}: {}.", joined(brokers))
            }
        };
        let (adding, removing) = (part("adding", &it.adding), part("removing", &it.removing));
        let replicas = joined(&it.replicas);
        say(format!("{partition}: replicas: {replicas}.{adding}{removing}"))?;
    }
    Ok(())
}

async fn execute(env: &Env, admin: &Admin, options: &Options, plan: &Plan) -> Outcome {
    let rates = throttle::Rates::of(options)?;
    plan.check().map_err(error)?;
    let under_way = admin.list_reassignments(None).await.map_err(failed)?;
    if !under_way.is_empty() && !options.has("additional") {
        return Err(Stop::failed(
            "Cannot execute because there is an existing partition assignment.  Use --additional to override this and create a new partition assignment in addition to the existing one. The --additional flag can also be used to change the throttle by resubmitting the current reassignment.",
        ));
    }
    let alive = admin.describe_cluster(false).await.map_err(failed)?.brokers;
    let unknown = plan.brokers().into_iter().find(|id| !alive.iter().any(|it| it.id == *id));
    if let Some(id) = unknown {
        return Err(error(format!("Unknown broker id {}", id.0)));
    }
    let now = replicas(admin, plan).await?;
    say(format!(
        "Current partition replica assignment\n\n{}\n\nSave this to use as the --reassignment-json-file option during rollback",
        as_json(admin, &now).await?
    ))?;
    throttle::set(admin, &rates, plan, &now, &under_way).await?;
    if options.has("disallow-replication-factor-change") {
        check_factors(plan, &now)?;
    }
    let targets = plan.partitions.iter().map(|(it, brokers)| (it.clone(), Some(brokers.clone())));
    let answers = admin.alter_reassignments(&targets.collect()).await.map_err(failed)?;
    all_done("Error reassigning partition(s):", answers)?;
    let names: BTreeSet<String> = plan.partitions.iter().map(|(it, _)| it.to_string()).collect();
    say(format!(
        "Successfully started partition reassignment{} for {}",
        plural(names.len()),
        joined(&names)
    ))?;
    moves::begin(env, admin, options, plan.dirs.clone()).await
}

/// No partition gets another number of replicas (KIP-860).
fn check_factors(plan: &Plan, now: &BTreeMap<TopicPartition, Vec<BrokerId>>) -> Outcome {
    let changed = plan.partitions.iter().filter_map(|(partition, target)| {
        let (from, to) = (now.get(partition)?.len(), target.len());
        let line = format!("{partition}: The replication factor is changed from {from} to {to}");
        (from != to).then_some(line)
    });
    let changed: Vec<String> = changed.collect();
    if changed.is_empty() {
        return Ok(());
    }
    Err(Stop::failed(format!("Error reassigning partition(s):\n{}", changed.join("\n"))))
}

fn all_done(title: &str, answers: Answers<TopicPartition>) -> Outcome {
    let errors = answers.into_iter().filter_map(|(it, answer)| Some((it, answer.err()?)));
    let errors: Vec<String> =
        errors.map(|(it, error)| format!("{it}: {}", java::message(&error))).collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(Stop::failed(format!("{title}\n{}", errors.join("\n"))))
}

/// What there is of topics, all of which have to be there.
async fn described(admin: &Admin, topics: &[&str]) -> Outcome<BTreeMap<String, TopicDescription>> {
    let mut described = BTreeMap::new();
    for (topic, answer) in admin.describe_topics(topics).await.map_err(failed)? {
        let answer = answer.map_err(|error| match error.code() {
            Some(code @ ErrorCode::UnknownTopicOrPartition) => {
                let message = Some(format!("Topic {topic} not found."));
                failed(ClientError::Refused { code, message })
            }
            Some(_) | None => failed(error),
        });
        described.insert(topic, answer?);
    }
    Ok(described)
}

/// Where the partitions of a plan are now.
async fn replicas(admin: &Admin, plan: &Plan) -> Outcome<BTreeMap<TopicPartition, Vec<BrokerId>>> {
    let described = described(admin, &plan.topics()).await?;
    let mut now = BTreeMap::new();
    for (it, _) in &plan.partitions {
        let topic = described.get(&*it.topic);
        let Some(partition) = topic.and_then(|topic| topic.partitions.get(&it.partition)) else {
            return Err(error(format!(
                "org.apache.kafka.common.errors.UnknownTopicOrPartitionException: Unable to find partition: {it}"
            )));
        };
        now.insert(it.clone(), partition.replicas.clone());
    }
    Ok(now)
}

async fn as_json(admin: &Admin, now: &BTreeMap<TopicPartition, Vec<BrokerId>>) -> Outcome<String> {
    let wanted: BTreeSet<(TopicPartition, BrokerId)> = now
        .iter()
        .flat_map(|(it, brokers)| brokers.iter().map(|broker| (it.clone(), *broker)))
        .collect();
    let dirs = moves::dirs(admin, &wanted).await?;
    let dirs = dirs.into_iter().filter_map(|(replica, dirs)| Some((replica, dirs.current?)));
    Ok(layout(now, &dirs.collect()))
}

/// A file for `--reassignment-json-file`, on one line.
fn layout(
    partitions: &BTreeMap<TopicPartition, Vec<BrokerId>>,
    dirs: &BTreeMap<(TopicPartition, BrokerId), String>,
) -> String {
    let rows = partitions.iter().map(|(it, brokers)| {
        let dir = |broker| dirs.get(&(it.clone(), broker)).map_or(ANY_DIR, String::as_str);
        let dirs: Vec<&str> = brokers.iter().map(|broker| dir(*broker)).collect();
        let replicas: Vec<i32> = brokers.iter().map(|broker| broker.0).collect();
        format!(
            "{{\"topic\":{},\"partition\":{},\"replicas\":{},\"log_dirs\":{}}}",
            json!(&*it.topic),
            it.partition,
            json!(replicas),
            json!(dirs)
        )
    });
    let rows: Vec<String> = rows.collect();
    format!("{{\"version\":1,\"partitions\":[{}]}}", rows.join(","))
}

async fn verify(admin: &Admin, options: &Options, plan: &Plan) -> Outcome {
    let under_way = admin.list_reassignments(None).await.map_err(failed)?;
    let described = admin.describe_topics(&plan.topics()).await.map_err(failed)?;
    let mut lines = vec!["Status of partition reassignment:".to_owned()];
    let mut targets: Vec<_> = plan.partitions.iter().collect();
    targets.sort();
    for (partition, target) in targets {
        if under_way.contains_key(partition) {
            lines.push(format!("Reassignment of partition {partition} is still in progress."));
            continue;
        }
        let now: &[BrokerId] = match described.get(&*partition.topic) {
            Some(Ok(topic)) => {
                topic.partitions.get(&partition.partition).map_or(&[], |it| &*it.replicas)
            }
            Some(Err(error)) if error.code() != Some(ErrorCode::UnknownTopicOrPartition) => {
                return Err(self::error(java::exception(error)));
            }
            Some(Err(_)) | None => &[],
        };
        lines.push(if now == target.as_slice() {
            format!("Reassignment of partition {partition} is completed.")
        } else {
            format!(
                "There is no active reassignment of partition {partition}, but replica set is {} rather than {}.",
                joined(now),
                joined(target)
            )
        });
    }
    say(lines.join("\n"))?;
    let moving = moves::say_states(admin, &plan.dirs).await?;
    if under_way.is_empty() && !moving && !options.has("preserve-throttles") {
        clear_throttles(admin, plan).await?;
    }
    Ok(())
}

async fn cancel(env: &Env, admin: &Admin, options: &Options, plan: &Plan) -> Outcome {
    let partitions: Vec<TopicPartition> =
        plan.partitions.iter().map(|(it, _)| it.clone()).collect();
    let mut moves = admin.list_reassignments(Some(&partitions)).await.map_err(failed)?;
    moves.retain(|_, it| !it.adding.is_empty() || !it.removing.is_empty());
    if moves.is_empty() {
        say("None of the specified partition reassignments are active.")?;
    } else {
        let targets = moves.keys().map(|it| (it.clone(), None)).collect();
        let answers = admin.alter_reassignments(&targets).await.map_err(failed)?;
        let many = plural(answers.len());
        all_done(&format!("Error cancelling partition reassignment{many} for:"), answers)?;
        let (many, names) = (plural(moves.len()), joined(moves.keys()));
        say(format!("Successfully cancelled partition reassignment{many} for: {names}"))?;
    }
    moves::cancel(env, admin, options, plan).await?;
    if !options.has("preserve-throttles") {
        clear_throttles(admin, plan).await?;
    }
    Ok(())
}

async fn clear_throttles(admin: &Admin, plan: &Plan) -> Outcome {
    let alive = admin.describe_cluster(false).await.map_err(failed)?.brokers;
    let mut brokers: BTreeSet<BrokerId> = alive.iter().map(|broker| broker.id).collect();
    brokers.extend(plan.brokers());
    let list = joined(&brokers);
    say(format!("Clearing broker-level throttles on broker{} {list}", plural(brokers.len())))?;
    let [leaders, followers] = RATES;
    let rates = [leaders, followers, throttle::LOG_DIRS_RATE];
    throttle::make(admin, &unset(ConfigResourceType::Broker, &brokers, &rates)).await?;
    let mut topics = plan.topics();
    java::order_by_hash(&mut topics, java::CAPACITY, |topic| java::hash_of(topic));
    let list = joined(&topics);
    say(format!("Clearing topic-level throttles on topic{} {list}", plural(topics.len())))?;
    throttle::make(admin, &unset(ConfigResourceType::Topic, topics, &REPLICAS)).await
}
