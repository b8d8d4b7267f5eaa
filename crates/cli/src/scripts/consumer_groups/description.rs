//! `kafka-consumer-groups --describe`.

use std::collections::{BTreeMap, BTreeSet};

use ottla_client::{
    Admin, ClientError, CommittedOffset, GroupDescription, GroupMember, OffsetQuery,
};
use ottla_protocol::TopicPartition;

use super::{say_error, say_failed, wanted};
use crate::scripts::options::Options;
use crate::scripts::{Outcome, Stop, joined, padded, say, warn};

/// What stands where nothing is known.
const NOTHING: &str = "-";

pub(super) async fn describe(admin: &Admin, options: &Options) -> Outcome {
    let groups = async {
        let ids = wanted(admin, options).await?;
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let answers = admin.describe_groups(&ids).await?.into_iter();
        answers.map(|(id, answer)| Ok((id, answer?))).collect::<Result<Vec<_>, ClientError>>()
    };
    let groups = match groups.await {
        Ok(groups) => groups,
        Err(error) => return say_failed(&error),
    };
    for (id, group) in &groups {
        if options.has("members") {
            say_members(id, group, options.has("verbose"))?;
        } else if options.has("state") {
            say_state(id, group, options.has("verbose"))?;
        } else {
            match offsets(admin, id, group).await {
                Ok(rows) => say_offsets(id, group, &rows, options.has("verbose"))?,
                Err(error) => return say_failed(&error),
            }
        }
    }
    Ok(())
}

/// Whether there is something to show of a group with so many rows.
fn is_shown(id: &str, group: &GroupDescription, rows: usize) -> Outcome<bool> {
    match group.state.as_str() {
        "Dead" => say_error(format!("Consumer group '{id}' does not exist."))?,
        "Empty" => warn(format!("\nConsumer group '{id}' has no active members.")),
        "Stable" => {}
        "PreparingRebalance" | "CompletingRebalance" | "Assigning" | "Reconciling" => {
            warn(format!("\nWarning: Consumer group '{id}' is rebalancing."));
        }
        state => {
            say_error(format!(
                "Executing consumer group command failed due to Expected a valid consumer group state, but found '{state}'."
            ))?;
            return Err(Stop::done());
        }
    }
    Ok(group.state != "Dead" && rows > 0)
}

/// A partition that a group reads or has read.
struct Row {
    partition: TopicPartition,
    committed: Option<CommittedOffset>,
    end: Option<i64>,
    member: String,
    host: String,
    client: String,
}

async fn offsets(
    admin: &Admin,
    id: &str,
    group: &GroupDescription,
) -> Result<Vec<Row>, ClientError> {
    let mut committed = BTreeMap::new();
    for (partition, commit) in admin.list_group_offsets(id, None, false).await? {
        committed.insert(partition, commit?);
    }
    let assigned: BTreeSet<TopicPartition> =
        group.members.iter().flat_map(|member| member.assignment.iter().cloned()).collect();
    let partitions = committed.keys().chain(&assigned);
    let queries = partitions.map(|it| (it.clone(), OffsetQuery::Latest)).collect();
    let mut ends = BTreeMap::new();
    for (partition, end) in admin.list_offsets(&queries, false).await? {
        ends.insert(partition, end.ok().map(|end| end.offset.0));
    }
    let row = |it: &TopicPartition, member: Option<&GroupMember>| Row {
        partition: it.clone(),
        committed: committed.get(it).cloned(),
        end: ends.get(it).copied().flatten(),
        member: member.map_or(NOTHING, |it| &it.member_id).to_owned(),
        host: member.map_or(NOTHING, |it| &it.host).to_owned(),
        client: member.map_or(NOTHING, |it| &it.client_id).to_owned(),
    };
    let mut members: Vec<&GroupMember> = group.members.iter().collect();
    members.sort_by_key(|member| std::cmp::Reverse(member.assignment.len()));
    let mut rows = Vec::new();
    for member in members {
        let mut partitions = member.assignment.clone();
        partitions.sort();
        rows.extend(partitions.iter().map(|it| row(it, Some(member))));
    }
    rows.extend(committed.keys().filter(|it| !assigned.contains(it)).map(|it| row(it, None)));
    Ok(rows)
}

fn say_offsets(id: &str, group: &GroupDescription, rows: &[Row], verbose: bool) -> Outcome {
    if !is_shown(id, group, rows.len())? {
        return Ok(());
    }
    let text = |number: Option<i64>| number.map_or(NOTHING.to_owned(), |it| it.to_string());
    let mut lines = vec![
        ["GROUP", "TOPIC", "PARTITION", "LEADER-EPOCH", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG"]
            .map(ToOwned::to_owned)
            .to_vec(),
    ];
    lines[0].extend(["CONSUMER-ID", "HOST", "CLIENT-ID"].map(ToOwned::to_owned));
    for row in rows {
        let committed = row.committed.as_ref().map(|it| it.offset.0);
        let epoch = row.committed.as_ref().map(|it| it.leader_epoch.0).filter(|epoch| *epoch >= 0);
        let lag = committed.filter(|it| *it != -1).zip(row.end).map(|(at, end)| end - at);
        lines.push(vec![
            id.to_owned(),
            row.partition.topic.to_string(),
            row.partition.partition.to_string(),
            text(epoch.map(i64::from)),
            text(committed),
            text(row.end),
            text(lag),
            row.member.clone(),
            row.host.clone(),
            row.client.clone(),
        ]);
    }
    let width = |column: usize| padded::width(15, lines[1..].iter().map(|it| it[column].as_str()));
    let mut widths = vec![width(0), width(1), 10, 15, 15, 15, 15, width(7), width(8), 0];
    if !verbose {
        widths.remove(3);
        for line in &mut lines {
            line.remove(3);
        }
    }
    let lines = lines.iter().map(|line| format!("\n{}", padded::row(&widths, line)));
    say(lines.collect::<String>())
}

fn say_state(id: &str, group: &GroupDescription, verbose: bool) -> Outcome {
    if !is_shown(id, group, 1)? {
        return Ok(());
    }
    let coordinator = format!("{}  ({})", group.coordinator_address, group.coordinator.0);
    let assignor = if group.assignor.is_empty() { NOTHING } else { &group.assignor };
    let members = group.members.len().to_string();
    let mut widths = vec![id.len().max(15), coordinator.len().max(25), 20, 20];
    let mut titles = vec!["GROUP", "COORDINATOR (ID)", "ASSIGNMENT-STRATEGY", "STATE"];
    let mut cells = vec![id, &coordinator, assignor, &group.state];
    if verbose {
        // Epochs are what groups of KIP-848 have.
        widths.extend([15, 25]);
        titles.extend(["GROUP-EPOCH", "TARGET-ASSIGNMENT-EPOCH"]);
        cells.extend([NOTHING, NOTHING]);
    }
    titles.push("#MEMBERS");
    cells.push(&members);
    say(format!("\n{}\n{}", padded::row(&widths, &titles), padded::row(&widths, &cells)))
}

fn say_members(id: &str, group: &GroupDescription, verbose: bool) -> Outcome {
    let members = if is_shown(id, group, group.members.len())? { &*group.members } else { &[] };
    let instance = |member: &GroupMember| member.group_instance_id.clone().unwrap_or_default();
    let with_instances = members.iter().any(|it| !instance(it).is_empty());
    let width =
        |least, cell: fn(&GroupMember) -> &str| padded::width(least, members.iter().map(cell));
    let mut widths = vec![
        padded::width(15, members.iter().map(|_| id)),
        width(15, |it| &it.member_id),
        width(17, |it| it.group_instance_id.as_deref().unwrap_or_default()),
        width(15, |it| &it.host),
        width(15, |it| &it.client_id),
        15,
    ];
    let mut lines = vec![
        ["GROUP", "CONSUMER-ID", "GROUP-INSTANCE-ID", "HOST", "CLIENT-ID", "#PARTITIONS"]
            .map(ToOwned::to_owned)
            .to_vec(),
    ];
    lines.extend(members.iter().map(|member| {
        vec![
            id.to_owned(),
            member.member_id.clone(),
            instance(member),
            member.host.clone(),
            member.client_id.clone(),
            member.assignment.len().to_string(),
        ]
    }));
    if !with_instances {
        widths.remove(2);
        for line in &mut lines {
            line.remove(2);
        }
    }
    let assignments: Vec<String> = members.iter().map(assignment).collect();
    if verbose {
        widths.extend([15, padded::width(20, assignments.iter().map(String::as_str)), 15, 20]);
        let titles = ["CURRENT-EPOCH", "CURRENT-ASSIGNMENT", "TARGET-EPOCH", "TARGET-ASSIGNMENT"];
        lines[0].extend(titles.map(ToOwned::to_owned));
        for (line, assignment) in lines[1..].iter_mut().zip(&assignments) {
            line.extend([NOTHING, assignment, NOTHING, NOTHING].map(ToOwned::to_owned));
        }
    }
    // Without more columns behind it the last one has its blank, too.
    let end = if verbose { "" } else { " " };
    let lines: Vec<String> =
        lines.iter().map(|line| format!("{}{end}", padded::row(&widths, line))).collect();
    say(format!("\n{}", lines.join("\n")))
}

/// `orders:0,1;payments:2`.
fn assignment(member: &GroupMember) -> String {
    let mut topics: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for it in &member.assignment {
        topics.entry(&it.topic).or_default().insert(it.partition);
    }
    let topics =
        topics.into_iter().map(|(topic, partitions)| format!("{topic}:{}", joined(partitions)));
    let text = topics.collect::<Vec<_>>().join(";");
    if text.is_empty() { NOTHING.to_owned() } else { text }
}
