//! Answers in one line each.

use std::collections::BTreeMap;

use ottla_coordinator::group::{GroupStore, Reply};
use ottla_coordinator::records::CoordinatorRecord;
use ottla_protocol::messages::{JoinGroupResponse, LeaveGroupResponse, SyncGroupResponse};
use ottla_protocol::{ErrorCode, StrBytes};

pub(crate) fn error(code: i16) -> &'static str {
    ErrorCode::from_code(code).map_or("?", ErrorCode::name)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

pub(crate) fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Join(response) => join(response),
        Reply::Sync(response) => sync(response),
        Reply::Leave(response) => leave(response),
    }
}

fn or_null(text: Option<&StrBytes>) -> &str {
    text.map_or("null", StrBytes::as_str)
}

fn join(response: &JoinGroupResponse) -> String {
    let mut line = format!("join {}", error(response.error_code));
    if response.error_code != 0 {
        let name = response.protocol_name.as_ref().map_or("null", |name| name.as_str());
        return line + &format!(" member={:?} protocol={name:?}", response.member_id.as_str());
    }
    line += &format!(
        " gen={} protocol={}/{} member={} leader={}",
        response.generation_id,
        or_null(response.protocol_type.as_ref()),
        or_null(response.protocol_name.as_ref()),
        response.member_id,
        response.leader,
    );
    if response.skip_assignment {
        line += " skip_assignment";
    }
    for member in &response.members {
        line += &format!(" [{} {}", member.member_id, text(&member.metadata));
        if let Some(instance) = &member.group_instance_id {
            line += &format!(" instance={instance}");
        }
        line += "]";
    }
    line
}

fn sync(response: &SyncGroupResponse) -> String {
    let mut line = format!("sync {}", error(response.error_code));
    if response.error_code == 0 {
        line += &format!(
            " protocol={}/{} assignment={:?}",
            or_null(response.protocol_type.as_ref()),
            or_null(response.protocol_name.as_ref()),
            text(&response.assignment),
        );
    }
    line
}

fn leave(response: &LeaveGroupResponse) -> String {
    let mut line = format!("leave {}", error(response.error_code));
    for member in &response.members {
        line += &format!(" [{:?}", member.member_id.as_str());
        if let Some(instance) = &member.group_instance_id {
            line += &format!(" instance={instance}");
        }
        line += &format!(" {}]", error(member.error_code));
    }
    line
}

pub(crate) fn record(record: &CoordinatorRecord) -> String {
    match record {
        CoordinatorRecord::OffsetCommit { key, value } => {
            let key = format!("offset {} {}-{}", key.group, key.topic, key.partition);
            let Some(value) = value else { return key + " tombstone" };
            let mut line = format!("{key} = {} epoch={}", value.offset, value.leader_epoch);
            if !value.metadata.is_empty() {
                line += &format!(" metadata={:?}", value.metadata.as_str());
            }
            if let Some(expire) = value.expire_timestamp {
                line += &format!(" expires={}", expire.0);
            }
            line
        }
        CoordinatorRecord::GroupMetadata { key, value } => {
            let Some(value) = value else { return format!("group {} tombstone", key.group) };
            let mut line = format!(
                "group {} gen={} protocol={:?}/{} leader={}",
                key.group,
                value.generation,
                value.protocol_type.as_str(),
                or_null(value.protocol.as_ref()),
                or_null(value.leader.as_ref()),
            );
            for member in &value.members {
                line += &format!(" [{} {}", member.member_id, text(&member.assignment));
                if let Some(instance) = &member.group_instance_id {
                    line += &format!(" instance={instance}");
                }
                line += "]";
            }
            line
        }
    }
}

/// Hard state, a line per group.
pub(crate) fn store(store: &GroupStore) -> Vec<String> {
    let mut lines = Vec::new();
    for (id, group) in store.groups() {
        let mut line = format!("stored {id}:");
        match group.metadata() {
            None => line += " no metadata",
            Some(metadata) => {
                line += &format!(" gen={} members=", metadata.generation);
                let ids: Vec<_> = metadata.members.iter().map(|it| it.member_id.as_str()).collect();
                line += &ids.join(",");
            }
        }
        let offsets: BTreeMap<_, _> = group
            .offsets()
            .flat_map(|(topic, partitions)| {
                partitions.iter().map(move |(index, it)| (format!("{topic}-{index}"), it.offset))
            })
            .collect();
        for (partition, offset) in offsets {
            line += &format!(" {partition}={offset}");
        }
        lines.push(line);
    }
    lines
}
