//! `ottla group reset-offsets`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::{ArgGroup, Args};
use ottla_client::{CommittedOffset, ListedOffset, OffsetQuery};
use ottla_protocol::{Offset, Timestamp, TopicPartition};
use serde_json::{Value, json};

use super::super::output::Format;
use super::super::session::{Session, explain, explained};
use super::super::time::{parse_span, parse_time};
use super::super::topic::offsets;
use super::committed;
use crate::failure::Failure;

#[derive(Args)]
#[command(group(ArgGroup::new("mode").required(true)), group(ArgGroup::new("scope").required(true)))]
pub(crate) struct Options {
    /// The group.
    group: String,
    /// TOPIC, or TOPIC:PARTITION,PARTITION; may be given many times.
    #[arg(long, group = "scope", value_name = "TOPIC[:PARTITIONS]")]
    topic: Vec<String>,
    /// All topics for which the group has committed something.
    #[arg(long, group = "scope")]
    all_topics: bool,
    /// To the first record that is still there.
    #[arg(long, group = "mode")]
    to_earliest: bool,
    /// To the end: only what comes from now on.
    #[arg(long, group = "mode")]
    to_latest: bool,
    /// To this offset.
    #[arg(long, group = "mode", value_name = "OFFSET",
        value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// To the first record of this time or later: 2026-11-20T19:20:00Z, or milliseconds since 1970.
    #[arg(long, group = "mode", value_name = "TIME")]
    to_datetime: Option<String>,
    /// To the first record not older than this: 1h, 2d 30m, PT15M.
    #[arg(long, group = "mode", value_name = "SPAN", value_parser = parse_span)]
    by_duration: Option<i64>,
    /// By so many records, forwards or, with a minus, back.
    #[arg(long, group = "mode", value_name = "RECORDS", allow_negative_numbers = true)]
    shift_by: Option<i64>,
    /// To what is committed now; where there is nothing, to the end.
    #[arg(long, group = "mode")]
    to_current: bool,
    /// To what a file says: lines of TOPIC,PARTITION,OFFSET.
    #[arg(long, groups = ["mode", "scope"], value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// Do it, and do not only show it.
    #[arg(long, short = 'y', visible_alias = "execute")]
    yes: bool,
}

/// Where a group is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Goal {
    Earliest,
    Latest,
    To(i64),
    /// What the partitions answered for the time.
    AtTime(BTreeMap<TopicPartition, i64>),
    ShiftBy(i64),
    Current,
    From(BTreeMap<TopicPartition, i64>),
}

/// What is known of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    start: i64,
    end: i64,
    committed: Option<i64>,
}

/// Where a partition is to go. `None`: nowhere, because nothing is committed to shift.
///
/// As Kafka's tool: what lies outside the log goes to its nearer end.
fn target(goal: &Goal, partition: &TopicPartition, bounds: Bounds) -> Option<i64> {
    let wanted = match goal {
        Goal::Earliest => bounds.start,
        Goal::Latest => bounds.end,
        Goal::To(offset) => *offset,
        // No record is as young: the end.
        Goal::AtTime(found) => found.get(partition).copied().filter(|it| *it >= 0)?,
        Goal::ShiftBy(records) => bounds.committed?.saturating_add(*records),
        Goal::Current => bounds.committed.unwrap_or(bounds.end),
        Goal::From(offsets) => *offsets.get(partition)?,
    };
    Some(wanted.clamp(bounds.start, bounds.end))
}

/// Lines of `topic,partition,offset`, as Kafka's tool exports them.
fn parse_file(text: &str) -> Result<BTreeMap<TopicPartition, i64>, String> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(at, line)| {
            let wrong = || format!("line {at} is {line:?}, and not TOPIC,PARTITION,OFFSET");
            let fields: Vec<&str> =
                line.split(',').map(|field| field.trim_matches(['"', ' '])).collect();
            let [topic, partition, offset] = fields[..] else { return Err(wrong()) };
            let partition = partition.parse().map_err(|_| wrong())?;
            let offset = offset.parse().ok().filter(|it: &i64| *it >= 0).ok_or_else(wrong)?;
            Ok((TopicPartition::new(topic, partition), offset))
        })
        .collect()
}

pub(super) async fn run(session: &Session, format: Format, options: &Options) -> Result<()> {
    let group = &options.group;
    let file = read_file(session, options)?;
    let committed = committed(session, group).await?;
    let partitions = scope(session, options, &committed, file.as_ref()).await?;
    let goal = goal(session, options, &partitions, file).await?;
    let starts = offsets(session, &partitions, OffsetQuery::Earliest).await?;
    let ends = offsets(session, &partitions, OffsetQuery::Latest).await?;
    let mut rows: Vec<Value> = Vec::new();
    let mut commits = BTreeMap::new();
    for partition in &partitions {
        let (Some(start), Some(end)) = (starts.get(partition), ends.get(partition)) else {
            continue;
        };
        let at = committed.get(partition).copied();
        let bounds = Bounds { start: *start, end: *end, committed: at };
        let Some(to) = target(&goal, partition, bounds) else { continue };
        commits.insert(partition.clone(), CommittedOffset::at(Offset(to)));
        rows.push(json!({
            "group": group, "topic": &*partition.topic, "partition": partition.partition,
            "committed_offset": at, "new_offset": to, "start_offset": start, "end_offset": end,
            "executed": options.yes,
        }));
    }
    if options.yes {
        execute(session, group, &commits).await?;
    }
    let columns = [
        ("TOPIC", "topic"),
        ("PARTITION", "partition"),
        ("COMMITTED", "committed_offset"),
        ("NEW", "new_offset"),
        ("START", "start_offset"),
        ("END", "end_offset"),
    ];
    format.rows(&columns, &rows)?;
    match options.yes {
        true => format.remark(&format!("group {group} goes on from the new offsets")),
        false => format.remark("nothing was changed; add --yes to do this"),
    }
}

async fn execute(
    session: &Session,
    group: &str,
    commits: &BTreeMap<TopicPartition, CommittedOffset>,
) -> Result<()> {
    let groups = session.admin.describe_groups(&[group]).await.map_err(explained)?;
    // A group that is not there yet begins with these offsets.
    let members: usize = groups.values().flatten().map(|it| it.members.len()).sum();
    if members > 0 {
        return Err(Failure {
            what: format!("the offsets of {group} are as they were"),
            why: format!("the group has {members} members, which would go on from their own"),
            next: format!("stop them first: ottla group describe {group} --members"),
        }
        .into());
    }
    let failed = |error| explain(&format!("the offsets of {group} are not changed"), &error);
    let answers = session.admin.alter_group_offsets(group, commits).await.map_err(failed)?;
    answers.into_values().try_for_each(|answer| answer.map_err(failed))
}

fn read_file(
    session: &Session,
    options: &Options,
) -> Result<Option<BTreeMap<TopicPartition, i64>>> {
    let Some(path) = &options.from_file else { return Ok(None) };
    let unreadable = |why: String| Failure {
        what: format!("{} cannot be read", path.display()),
        why,
        next: "give a file of lines TOPIC,PARTITION,OFFSET".to_owned(),
    };
    let bytes = session.env.disk.read(path).map_err(|error| unreadable(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| unreadable(error.to_string()))?;
    Ok(Some(parse_file(&text).map_err(unreadable)?))
}

/// The partitions that are meant.
async fn scope(
    session: &Session,
    options: &Options,
    committed: &BTreeMap<TopicPartition, i64>,
    file: Option<&BTreeMap<TopicPartition, i64>>,
) -> Result<Vec<TopicPartition>> {
    if let Some(file) = file {
        return Ok(file.keys().cloned().collect());
    }
    let mut partitions = Vec::new();
    if options.all_topics {
        partitions.extend(committed.keys().cloned());
        if partitions.is_empty() {
            return Err(super::no_such_group(session, &options.group).await);
        }
    }
    partitions.extend(session.chosen_partitions(&options.topic).await?);
    partitions.sort();
    partitions.dedup();
    Ok(partitions)
}

async fn goal(
    session: &Session,
    options: &Options,
    partitions: &[TopicPartition],
    file: Option<BTreeMap<TopicPartition, i64>>,
) -> Result<Goal> {
    let now = session.env.clock.wall();
    let time = match (&options.to_datetime, options.by_duration) {
        (Some(text), _) => Some(parse_time(text, now).map_err(|why| Failure {
            what: "no time to go to".to_owned(),
            why,
            next: "give --to-datetime 2026-11-20T19:20:00Z, for example".to_owned(),
        })?),
        (None, Some(millis)) => Some(Timestamp(now.0.saturating_sub(millis).max(0))),
        (None, None) => None,
    };
    if let Some(time) = time {
        return at_time(session, partitions, time).await;
    }
    Ok(match (file, options.to_offset, options.shift_by) {
        (Some(offsets), _, _) => Goal::From(offsets),
        (_, Some(offset), _) => Goal::To(offset),
        (_, _, Some(records)) => Goal::ShiftBy(records),
        _ if options.to_earliest => Goal::Earliest,
        _ if options.to_latest => Goal::Latest,
        _ => Goal::Current,
    })
}

async fn at_time(
    session: &Session,
    partitions: &[TopicPartition],
    time: Timestamp,
) -> Result<Goal> {
    let queries = partitions.iter().map(|it| (it.clone(), OffsetQuery::At(time))).collect();
    let found = session.admin.list_offsets(&queries, false).await.map_err(explained)?;
    let ends = offsets(session, partitions, OffsetQuery::Latest).await?;
    let found = found.into_iter().filter_map(|(partition, answer)| {
        // No record is as young: the end.
        let end = ends.get(&partition).copied();
        let ListedOffset { offset, .. } = answer.ok()?;
        let offset = if offset == Offset::NONE { end? } else { offset.0 };
        Some((partition, offset))
    });
    Ok(Goal::AtTime(found.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(goal: &Goal, committed: Option<i64>) -> Option<i64> {
        let bounds = Bounds { start: 10, end: 100, committed };
        target(goal, &TopicPartition::new("t", 0), bounds)
    }

    #[test]
    fn every_goal_lies_within_the_log() {
        let partition = TopicPartition::new("t", 0);
        for (goal, committed, wanted) in [
            (Goal::Earliest, Some(50), Some(10)),
            (Goal::Latest, Some(50), Some(100)),
            (Goal::To(60), None, Some(60)),
            (Goal::To(5), None, Some(10)),
            (Goal::To(500), None, Some(100)),
            (Goal::ShiftBy(-20), Some(50), Some(30)),
            (Goal::ShiftBy(-200), Some(50), Some(10)),
            (Goal::ShiftBy(i64::MAX), Some(50), Some(100)),
            (Goal::ShiftBy(1), None, None),
            (Goal::Current, Some(50), Some(50)),
            (Goal::Current, None, Some(100)),
            (Goal::Current, Some(3), Some(10)),
            (Goal::AtTime(BTreeMap::from([(partition.clone(), 70)])), None, Some(70)),
            (Goal::AtTime(BTreeMap::new()), None, None),
            (Goal::From(BTreeMap::from([(partition, 20)])), Some(50), Some(20)),
            (Goal::From(BTreeMap::new()), Some(50), None),
        ] {
            assert_eq!(to(&goal, committed), wanted, "{goal:?} {committed:?}");
        }
    }

    #[test]
    fn a_file_has_a_topic_a_partition_and_an_offset_in_each_line() {
        let text = "\"orders\",0,12\n# a remark\n\norders, 1, 7\n";
        let offsets = parse_file(text).unwrap();
        assert_eq!(offsets[&TopicPartition::new("orders", 0)], 12);
        assert_eq!(offsets[&TopicPartition::new("orders", 1)], 7);
        for text in ["orders,0", "orders,0,-1", "orders,x,1", "orders,0,1,2"] {
            let error = parse_file(text).unwrap_err();
            assert!(error.contains("line 1"), "{error}");
        }
    }
}
