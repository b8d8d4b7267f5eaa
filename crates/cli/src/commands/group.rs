//! `ottla group`.

mod reset;

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Subcommand;
use ottla_client::{GroupDescription, OffsetQuery};
use ottla_protocol::{ErrorCode, TopicPartition};
use serde_json::{Value, json};

use super::confirm::Confirmation;
use super::output::Format;
use super::session::{self, Session, chosen, explain, explained, nearest, refusal};
use super::text;
use super::topic::offsets;
use crate::failure::Failure;

pub(crate) type Options = session::Options<Task>;

#[derive(Subcommand)]
pub(crate) enum Task {
    /// List groups.
    List {
        /// Only those in this state: Stable, Empty, PreparingRebalance, CompletingRebalance, Dead.
        #[arg(long)]
        state: Vec<String>,
    },
    /// Show what a group has committed, how far behind it is, and who reads what.
    Describe {
        /// The group.
        group: String,
        /// Its members and what each reads, instead of its offsets.
        #[arg(long)]
        members: bool,
    },
    /// Have a group go on from other offsets; shows first what it would do.
    #[command(long_about = "Have a group that has no members go on from other offsets.\n\nShows \
        what it would do; --yes (or --execute) does it.")]
    ResetOffsets(Box<reset::Options>),
    /// Delete groups, and all they have committed.
    Delete {
        /// The groups.
        #[arg(required = true)]
        groups: Vec<String>,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// Delete what a group has committed for topics that it no longer reads.
    DeleteOffsets {
        /// The group.
        group: String,
        /// TOPIC, or TOPIC:PARTITION,PARTITION.
        #[arg(long, required = true, value_name = "TOPIC[:PARTITIONS]")]
        topic: Vec<String>,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

pub(crate) fn run(options: &Options) -> Result<()> {
    session::with(&options.target, async |session| {
        let format = options.format;
        match &options.task {
            Task::List { state } => list(&session, format, state).await,
            Task::Describe { group, members } => describe(&session, format, group, *members).await,
            Task::ResetOffsets(options) => reset::run(&session, format, options).await,
            Task::Delete { groups, confirmation } => {
                delete(&session, format, groups, *confirmation).await
            }
            Task::DeleteOffsets { group, topic, confirmation } => {
                delete_offsets(&session, format, (group, topic), *confirmation).await
            }
        }
    })
}

async fn list(session: &Session, format: Format, states: &[String]) -> Result<()> {
    let states: Vec<&str> = states.iter().map(String::as_str).collect();
    let groups = session.admin.list_groups(&states, &[]).await.map_err(explained)?;
    let rows: Vec<Value> = groups
        .iter()
        .map(|(id, group)| {
            json!({
                "group": id, "state": group.state, "type": group.kind,
                "protocol_type": group.protocol_type,
            })
        })
        .collect();
    let columns =
        [("GROUP", "group"), ("STATE", "state"), ("TYPE", "type"), ("PROTOCOL", "protocol_type")];
    let nothing = "no groups; one begins with: ottla consume TOPIC --group NAME";
    format.rows_or(&columns, &rows, nothing)
}

/// An error about a group that is not there.
async fn no_such_group(session: &Session, group: &str) -> anyhow::Error {
    let groups = session.admin.list_groups(&[], &[]).await.unwrap_or_default();
    let nearest = nearest(group, groups.keys().map(String::as_str));
    Failure {
        what: format!("there is no group {group}"),
        why: nearest.map_or_else(
            || format!("{} are known", text::count(groups.len() as u64, "group", "groups")),
            |nearest| format!("did you mean {nearest}?"),
        ),
        next: format!("ottla group list, or begin one: ottla consume TOPIC --group {group}"),
    }
    .into()
}

/// A group that is there.
async fn existing(session: &Session, group: &str) -> Result<GroupDescription> {
    let answers = session.admin.describe_groups(&[group]).await.map_err(explained)?;
    match answers.into_values().next() {
        Some(Ok(found)) if found.state != "Dead" => Ok(found),
        Some(Err(error)) if refusal(&error) != Some(ErrorCode::GroupIdNotFound) => {
            Err(explain(&format!("group {group}"), &error))
        }
        _ => Err(no_such_group(session, group).await),
    }
}

async fn describe(session: &Session, format: Format, group: &str, members: bool) -> Result<()> {
    let found = existing(session, group).await?;
    let count = text::count(found.members.len() as u64, "member", "members");
    let assignor = if found.assignor.is_empty() { "-" } else { &found.assignor };
    format.remark(&format!(
        "group {group}: {}, {count}, assignor {assignor}, coordinator {} ({})",
        found.state, found.coordinator, found.coordinator_address
    ))?;
    if members {
        let columns = [
            ("MEMBER", "member_id"),
            ("INSTANCE", "group_instance_id"),
            ("CLIENT", "client_id"),
            ("HOST", "host"),
            ("PARTITIONS", "assignment"),
        ];
        return format.rows(&columns, &member_rows(group, &found));
    }
    let columns = [
        ("TOPIC", "topic"),
        ("PARTITION", "partition"),
        ("COMMITTED", "committed_offset"),
        ("END", "end_offset"),
        ("LAG", "lag"),
        ("CLIENT", "client_id"),
        ("HOST", "host"),
    ];
    format.rows(&columns, &offset_rows(session, group, &found).await?)
}

fn member_rows(group: &str, found: &GroupDescription) -> Vec<Value> {
    let row = |member: &ottla_client::GroupMember| {
        let assignment: Vec<String> = member.assignment.iter().map(ToString::to_string).collect();
        json!({
            "group": group, "state": found.state, "member_id": member.member_id,
            "group_instance_id": member.group_instance_id, "client_id": member.client_id,
            "host": member.host, "assignment": assignment,
        })
    };
    found.members.iter().map(row).collect()
}

async fn offset_rows(
    session: &Session,
    group: &str,
    found: &GroupDescription,
) -> Result<Vec<Value>> {
    let committed = committed(session, group).await?;
    let mut partitions: Vec<TopicPartition> = committed.keys().cloned().collect();
    partitions.extend(found.members.iter().flat_map(|member| member.assignment.clone()));
    partitions.sort();
    partitions.dedup();
    let ends = offsets(session, &partitions, OffsetQuery::Latest).await?;
    let rows = partitions.iter().map(|partition| {
        let reader = found.members.iter().find(|member| member.assignment.contains(partition));
        let (at, end) = (committed.get(partition).copied(), ends.get(partition).copied());
        json!({
            "group": group, "state": found.state, "topic": &*partition.topic,
            "partition": partition.partition, "committed_offset": at, "end_offset": end,
            "lag": at.zip(end).map(|(at, end)| (end - at).max(0)),
            "member_id": reader.map(|it| it.member_id.as_str()),
            "client_id": reader.map(|it| it.client_id.as_str()),
            "host": reader.map(|it| it.host.as_str()),
        })
    });
    Ok(rows.collect())
}

/// What a group has committed.
async fn committed(session: &Session, group: &str) -> Result<BTreeMap<TopicPartition, i64>> {
    let answers = session.admin.list_group_offsets(group, None, false).await.map_err(explained)?;
    Ok(answers.into_iter().filter_map(|(it, answer)| Some((it, answer.ok()?.offset.0))).collect())
}

async fn delete(
    session: &Session,
    format: Format,
    groups: &[String],
    confirmation: Confirmation,
) -> Result<()> {
    for group in groups {
        let found = existing(session, group).await?;
        if !found.members.is_empty() {
            let error = ottla_client::ClientError::refused(ErrorCode::NonEmptyGroup);
            return Err(explain(&format!("group {group} is not deleted"), &error));
        }
    }
    confirmation.ask(&format!("delete {} and all that is committed", groups.join(", ")))?;
    let names: Vec<&str> = groups.iter().map(String::as_str).collect();
    let answers = session.admin.delete_groups(&names).await.map_err(explained)?;
    for (group, answer) in answers {
        answer.map_err(|error| explain(&format!("group {group} is not deleted"), &error))?;
        let object = json!({ "group": group, "deleted": true });
        format.object(&object, &format!("group {group} is deleted"))?;
    }
    Ok(())
}

async fn delete_offsets(
    session: &Session,
    format: Format,
    (group, topics): (&str, &[String]),
    confirmation: Confirmation,
) -> Result<()> {
    existing(session, group).await?;
    let known: Vec<TopicPartition> = committed(session, group).await?.into_keys().collect();
    let mut partitions = Vec::new();
    for topic in topics {
        let found = chosen(topic, &known)?;
        if found.is_empty() {
            return Err(Failure {
                what: format!("group {group} has committed nothing for {topic}"),
                why: "there is nothing to delete".to_owned(),
                next: format!("ottla group describe {group}"),
            }
            .into());
        }
        partitions.extend(found);
    }
    let list: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    confirmation.ask(&format!("delete what {group} has committed for {}", list.join(", ")))?;
    let answers = session.admin.delete_group_offsets(group, &partitions).await;
    let failed = |error| explain(&format!("the offsets of {group} are not deleted"), &error);
    for (partition, answer) in answers.map_err(failed)? {
        answer.map_err(failed)?;
        let object = json!({
            "group": group, "topic": &*partition.topic, "partition": partition.partition,
            "deleted": true,
        });
        format.object(&object, &format!("{partition}: the offset is deleted"))?;
    }
    Ok(())
}
