//! Moving replicas to where they should be: for `ottla cluster rebalance` and `ottla broker drain`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use ottla_client::{
    Admin, ClientError, ConfigResource, ConfigResourceType, ElectionType, Reassignment,
};
use ottla_metadata::rebalance::{BrokerShare, Layout, Limits, Move, Placement};
use ottla_protocol::{BrokerId, ErrorCode, TopicPartition};
use serde_json::{Value, json};

use super::output::Format;
use super::session::{Session, explained, refusal};
use super::{row, text};
use crate::failure::Failure;

/// The share that a broker should have; see docs/configuration.md.
pub(crate) const WEIGHT: &str = "cluster.rebalance.weight";
/// What a broker has if nobody says.
const DEFAULT_WEIGHT: u32 = 100;
/// Between two looks at moves that are under way.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Args, Clone, Copy)]
pub(crate) struct Pace {
    /// Only show what would be done, and why.
    #[arg(long)]
    dry_run: bool,
    /// Partitions on their way at once.
    #[arg(long, value_name = "COUNT", default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(1..=1000))]
    moves_at_once: u64,
}

impl Pace {
    pub(crate) fn is_dry_run(self) -> bool {
        self.dry_run
    }
}

/// What is to be reached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Every broker has its share.
    Even {
        /// By how many percent of it a broker may have more or less.
        tolerance_percent: u32,
    },
    /// A broker has nothing; the others stay as they are, but for what they take over.
    Empty(BrokerId),
}

impl Goal {
    fn limits(self, moves: u64) -> Limits {
        let tolerance_percent = match self {
            Self::Even { tolerance_percent } => tolerance_percent,
            // Whatever the others have is tolerated.
            Self::Empty(_) => u32::MAX,
        };
        let moves = usize::try_from(moves).unwrap_or(usize::MAX);
        Limits { moves, tolerance_percent, ..Limits::default() }
    }
}

/// Plans, tells and carries out, round by round. Interrupted, it may be run again: it goes on from where
/// things are.
pub(crate) async fn run(session: &Session, format: Format, goal: Goal, pace: Pace) -> Result<()> {
    let planned = plan_all(session, goal, pace).await?;
    if pace.dry_run {
        let bytes: u64 = planned.iter().map(|it| it.bytes).sum();
        show(format, &planned)?;
        if !planned.is_empty() {
            let partitions = text::count(planned.len() as u64, "move", "moves");
            let bytes = text::size(bytes);
            let summary = format!("nothing was changed: {partitions}, {bytes} to be copied");
            format.remark(&summary)?;
        }
        return Ok(());
    }
    let (mut done, mut bytes) = (BTreeSet::new(), 0);
    let (mut moves_begun, mut quiet) = (0, false);
    let layout = loop {
        wait_for_room(session, pace).await?;
        let under_way = under_way(session).await?;
        let layout = layout(session, goal, &under_way).await?;
        let room = pace.moves_at_once.saturating_sub(under_way.len() as u64);
        let moves = layout.plan(goal.limits(room));
        if moves.is_empty() && under_way.is_empty() {
            break layout;
        }
        begin(session, format, &moves).await?;
        done.extend(moves.iter().map(|it| it.partition.clone()));
        bytes += moves.iter().map(|it| it.bytes).sum::<u64>();
        moves_begun += moves.len();
        if !moves.is_empty() {
            let all = planned.len().max(moves_begun);
            format.remark(&format!("{moves_begun} of about {all} moves begun"))?;
            quiet = false;
        } else if !quiet {
            format.remark(&format!("waiting for {} to arrive", under_way.len()))?;
            quiet = true;
        }
        if moves.is_empty() {
            session.env.clock.sleep(LOOK).await;
        }
    };
    if !done.is_empty() {
        prefer(session, &done).await?;
        let partitions = text::count(done.len() as u64, "partition", "partitions");
        format.remark(&format!("done: {partitions}, {} copied", text::size(bytes)))?;
    }
    if let Goal::Even { .. } = goal {
        check_registered(&layout)?;
    }
    match done.is_empty() {
        true => show(format, &[]),
        false => Ok(()),
    }
}

/// An error if there are still replicas on brokers that are gone for good.
fn check_registered(layout: &Layout) -> Result<()> {
    let is_gone = |id: &BrokerId| !layout.brokers.contains_key(id);
    let stay: Vec<_> =
        layout.partitions.iter().filter(|(_, it)| it.replicas.iter().any(is_gone)).collect();
    let Some((first, placement)) = stay.first() else { return Ok(()) };
    let gone = placement.replicas.iter().find(|id| is_gone(id));
    let gone = gone.map_or_else(String::new, ToString::to_string);
    let partitions = text::count(stay.len() as u64, "partition", "partitions");
    Err(Failure {
        what: format!("brokers that are not registered still have replicas of {partitions}"),
        why: format!(
            "{first}, for one, names broker {gone}: it has no leader, or no other broker is free"
        ),
        next: format!(
            "start another broker, which may have the id {gone}, and rebalance again; or let them \
             have fewer replicas (ottla partition reassign)"
        ),
    }
    .into())
}

async fn plan_all(session: &Session, goal: Goal, pace: Pace) -> Result<Vec<Move>> {
    let layout = layout(session, goal, &under_way(session).await?).await?;
    Ok(layout.plan_all(goal.limits(pace.moves_at_once)).into_iter().flatten().collect())
}

async fn under_way(session: &Session) -> Result<BTreeMap<TopicPartition, Reassignment>> {
    session.admin.list_reassignments(None).await.map_err(explained)
}

async fn wait_for_room(session: &Session, pace: Pace) -> Result<()> {
    while under_way(session).await?.len() as u64 >= pace.moves_at_once {
        session.env.clock.sleep(LOOK).await;
    }
    Ok(())
}

fn show(format: Format, moves: &[Move]) -> Result<()> {
    let rows: Vec<Value> = moves.iter().map(described).collect();
    let columns = [
        ("TOPIC", "topic"),
        ("PARTITION", "partition"),
        ("REPLICAS", "replicas"),
        ("NEW REPLICAS", "new_replicas"),
        ("TO COPY", "size"),
        ("WHY", "why"),
    ];
    format.rows_or(&columns, &rows, "nothing to do: every broker has its share")
}

fn described(it: &Move) -> Value {
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<i32>>();
    let fields = json!({
        "replicas": ids(&it.from), "new_replicas": ids(&it.to), "bytes": it.bytes,
        "size": text::size(it.bytes), "why": it.reasons.join("; "),
    });
    row(&it.partition, fields)
}

/// Has moves begun, and says which and why.
async fn begin(session: &Session, format: Format, moves: &[Move]) -> Result<()> {
    for it in moves {
        format.object(&described(it), &it.to_string())?;
    }
    if moves.is_empty() {
        return Ok(());
    }
    let targets = moves.iter().map(|it| (it.partition.clone(), Some(it.to.clone()))).collect();
    let answers = session.admin.alter_reassignments(&targets).await.map_err(explained)?;
    let failed = answers.into_iter().filter_map(|(it, answer)| Some((it, answer.err()?)));
    let failed: Vec<String> = failed.map(|(it, error)| format!("{it}: {error}")).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure {
        what: "some partitions are not moved".to_owned(),
        why: failed.join("\n"),
        next: "run the same command again: it goes on from where things are".to_owned(),
    }
    .into())
}

/// Has the preferred replicas lead that are in sync; who is not gets its turn from the controller later.
async fn prefer(session: &Session, partitions: &BTreeSet<TopicPartition>) -> Result<()> {
    let partitions: Vec<TopicPartition> = partitions.iter().cloned().collect();
    let answers = session.admin.elect_leaders(ElectionType::Preferred, Some(&partitions)).await;
    for answer in answers.map_err(explained)?.into_values() {
        match answer.as_ref().err().and_then(refusal) {
            Some(
                ErrorCode::ElectionNotNeeded
                | ErrorCode::PreferredLeaderNotAvailable
                | ErrorCode::UnknownTopicOrPartition,
            ) => {}
            Some(_) | None => answer.map_err(explained)?,
        }
    }
    Ok(())
}

/// What is where, as far as the cluster can be asked.
async fn layout(
    session: &Session,
    goal: Goal,
    under_way: &BTreeMap<TopicPartition, Reassignment>,
) -> Result<Layout> {
    let mut layout = Layout { brokers: shares(session).await?, ..Layout::default() };
    if let Goal::Empty(id) = goal
        && let Some(broker) = layout.brokers.get_mut(&id)
    {
        broker.weight = 0;
    }
    let bytes = read_disks(session, &mut layout.brokers).await?;
    for (name, topic) in session.admin.describe_all_topics().await.map_err(explained)? {
        for (number, partition) in topic.partitions {
            let key = TopicPartition::new(name.as_str(), number);
            let moving = under_way.get(&key);
            let stays = |id: &BrokerId| moving.is_none_or(|it| !it.removing.contains(id));
            let placement = Placement {
                replicas: partition.replicas.iter().copied().filter(stays).collect(),
                bytes: bytes.get(&key).copied().unwrap_or(0),
                is_settled: partition.leader.is_some() && moving.is_none(),
            };
            layout.partitions.insert(key, placement);
        }
    }
    Ok(layout)
}

async fn shares(session: &Session) -> Result<BTreeMap<BrokerId, BrokerShare>> {
    let cluster = session.admin.describe_cluster(true).await.map_err(explained)?;
    let mut shares = BTreeMap::new();
    for node in cluster.brokers {
        let weight = match node.is_fenced {
            true => DEFAULT_WEIGHT,
            false => weight(&session.admin, node.id).await.map_err(explained)?,
        };
        let (rack, is_active) = (node.rack.as_deref().map(Into::into), !node.is_fenced);
        shares.insert(node.id, BrokerShare { rack, weight, disk_bytes: None, is_active });
    }
    Ok(shares)
}

/// The weight of a broker; brokers of Apache Kafka have none.
pub(crate) async fn weight(admin: &Admin, id: BrokerId) -> Result<u32, ClientError> {
    let resource = ConfigResource::new(ConfigResourceType::Broker, id.to_string());
    let answers = admin.describe_configs(&[resource], Some(&[WEIGHT]), false).await?;
    let entries = answers.into_values().filter_map(Result::ok).flatten();
    let values = entries.filter(|entry| entry.name == WEIGHT).filter_map(|entry| entry.value);
    Ok(values.filter_map(|value| value.parse().ok()).next().unwrap_or(DEFAULT_WEIGHT))
}

/// The size of each partition's largest replica; brokers are told the size of their disks.
async fn read_disks(
    session: &Session,
    brokers: &mut BTreeMap<BrokerId, BrokerShare>,
) -> Result<BTreeMap<TopicPartition, u64>> {
    let mut bytes: BTreeMap<TopicPartition, u64> = BTreeMap::new();
    for (id, broker) in brokers.iter_mut().filter(|(_, broker)| broker.is_active) {
        let dirs = session.admin.describe_log_dirs(*id, None).await.map_err(explained)?;
        let mut total = Some(0);
        for dir in dirs.into_values().filter_map(Result::ok) {
            let disk = dir.total_bytes.and_then(|bytes| u64::try_from(bytes).ok());
            total = total.zip(disk).map(|(total, disk)| total + disk);
            for (partition, replica) in dir.replicas {
                let size = bytes.entry(partition).or_default();
                *size = (*size).max(u64::try_from(replica.size).unwrap_or(0));
            }
        }
        broker.disk_bytes = total.filter(|total| *total > 0);
    }
    Ok(bytes)
}

/// Partitions that a broker still has.
pub(crate) async fn left_on(session: &Session, id: BrokerId) -> Result<Vec<TopicPartition>> {
    let topics = session.admin.describe_all_topics().await.map_err(explained)?;
    let partitions = topics.into_iter().flat_map(|(name, topic)| {
        let on = topic.partitions.into_iter().filter(|(_, it)| it.replicas.contains(&id));
        let keys: Vec<_> =
            on.map(|(number, _)| TopicPartition::new(name.as_str(), number)).collect();
        keys
    });
    Ok(partitions.collect())
}
