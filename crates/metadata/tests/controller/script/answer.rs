//! Responses as a line or two.

use ottla_metadata::RegistrationError;
use ottla_protocol::messages::{
    AllocateProducerIdsResponse, AlterClientQuotasResponse, AlterConfigsResponse,
    AlterPartitionReassignmentsResponse, AlterPartitionResponse, AssignReplicasToDirsResponse,
    BrokerHeartbeatResponse, BrokerRegistrationResponse, CreatePartitionsResponse,
    CreateTopicsResponse, DeleteTopicsResponse, DescribeClientQuotasResponse, ElectLeadersResponse,
    IncrementalAlterConfigsResponse, ListPartitionReassignmentsResponse, UpdateFeaturesResponse,
};
use ottla_protocol::{ErrorCode, StrBytes};

fn name(code: i16) -> &'static str {
    ErrorCode::from_code(code).unwrap().name()
}

/// `ok` or the code and what it says.
fn verdict(code: i16, message: &Option<StrBytes>) -> String {
    match (code, message) {
        (0, None) => "ok".into(),
        (0, Some(message)) => format!("ok, yet: {message}"),
        (code, None) => name(code).into(),
        (code, Some(message)) => format!("{}: {message}", name(code)),
    }
}

pub(super) fn registration(
    answer: &BrokerRegistrationResponse,
    error: Option<RegistrationError>,
) -> String {
    match error {
        None => format!("ok epoch={}", answer.broker_epoch),
        Some(error) => format!("{}: {error}", name(answer.error_code)),
    }
}

pub(super) fn heartbeat(answer: &BrokerHeartbeatResponse) -> String {
    if answer.error_code != 0 {
        return name(answer.error_code).into();
    }
    let mut line = String::from("ok");
    line += if answer.is_caught_up { " caught-up" } else { " behind" };
    line += if answer.is_fenced { " fenced" } else { " unfenced" };
    line += if answer.should_shut_down { " should-shut-down" } else { "" };
    line
}

pub(super) fn assigned(answer: &AssignReplicasToDirsResponse) -> String {
    let dirs = answer.directories.iter().flat_map(|dir| &dir.topics);
    let partitions = dirs.flat_map(|topic| &topic.partitions);
    let mut codes = std::iter::once(answer.error_code).chain(partitions.map(|it| it.error_code));
    codes.find(|code| *code != 0).map_or("ok".into(), |code| name(code).into())
}

pub(super) fn created(answer: &CreateTopicsResponse) -> Vec<String> {
    let topics = answer.topics.iter();
    topics
        .map(|topic| match topic.error_code {
            0 => {
                let configs = topic.configs.iter().flatten();
                let set = configs.filter(|config| config.config_source == 1);
                let set: String = set
                    .map(|config| {
                        format!(" {}={}", config.name, config.value.as_deref().unwrap_or("null"))
                    })
                    .collect();
                let id = if topic.topic_id.is_zero() { " without an id" } else { "" };
                format!(
                    "{}: ok{id} partitions={} factor={}{set}",
                    topic.name, topic.num_partitions, topic.replication_factor
                )
            }
            code => format!("{}: {}", topic.name, verdict(code, &topic.error_message)),
        })
        .collect()
}

pub(super) fn grown(answer: &CreatePartitionsResponse) -> Vec<String> {
    let topics = answer.results.iter();
    topics
        .map(|topic| format!("{}: {}", topic.name, verdict(topic.error_code, &topic.error_message)))
        .collect()
}

pub(super) fn deleted(answer: &DeleteTopicsResponse) -> Vec<String> {
    let topics = answer.responses.iter();
    topics
        .map(|topic| {
            let name = topic.name.as_deref().unwrap_or("?");
            format!("{name}: {}", verdict(topic.error_code, &topic.error_message))
        })
        .collect()
}

pub(super) fn producer_ids(answer: &AllocateProducerIdsResponse) -> String {
    match answer.error_code {
        0 => format!("ok {} ids from {}", answer.producer_id_len, answer.producer_id_start),
        code => name(code).into(),
    }
}

pub(super) fn altered(answer: &IncrementalAlterConfigsResponse) -> Vec<String> {
    let resources = answer.responses.iter();
    resources
        .map(|resource| {
            let verdict = verdict(resource.error_code, &resource.error_message);
            format!("{}:{}: {verdict}", resource.resource_type, resource.resource_name)
        })
        .collect()
}

pub(super) fn replaced(answer: &AlterConfigsResponse) -> Vec<String> {
    let resources = answer.responses.iter();
    resources
        .map(|resource| {
            let verdict = verdict(resource.error_code, &resource.error_message);
            format!("{}:{}: {verdict}", resource.resource_type, resource.resource_name)
        })
        .collect()
}

pub(super) fn features(answer: &UpdateFeaturesResponse) -> Vec<String> {
    let mut lines = vec![verdict(answer.error_code, &answer.error_message)];
    lines.extend(answer.results.iter().map(|result| {
        format!("{}: {}", result.feature, verdict(result.error_code, &result.error_message))
    }));
    lines
}

pub(super) fn elected(answer: &ElectLeadersResponse) -> Vec<String> {
    let mut lines = Vec::new();
    if answer.error_code != 0 {
        lines.push(name(answer.error_code).into());
    }
    for topic in &answer.replica_election_results {
        lines.extend(topic.partition_result.iter().map(|part| {
            let verdict = verdict(part.error_code, &part.error_message);
            format!("{}-{}: {verdict}", topic.topic, part.partition_id)
        }));
    }
    lines
}

pub(super) fn reassigned(answer: &AlterPartitionReassignmentsResponse) -> Vec<String> {
    let topics = answer.responses.iter().flat_map(|topic| {
        topic.partitions.iter().map(|part| {
            let verdict = verdict(part.error_code, &part.error_message);
            format!("{}-{}: {verdict}", topic.name, part.partition_index)
        })
    });
    topics.collect()
}

pub(super) fn reassigning(answer: &ListPartitionReassignmentsResponse) -> Vec<String> {
    let topics = answer.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|part| {
            format!(
                "{}-{} replicas={:?} adding={:?} removing={:?}",
                topic.name,
                part.partition_index,
                part.replicas,
                part.adding_replicas,
                part.removing_replicas
            )
        })
    });
    topics.collect()
}

pub(super) fn isr(answer: &AlterPartitionResponse) -> Vec<String> {
    if answer.error_code != 0 {
        return vec![name(answer.error_code).into()];
    }
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|part| match part.error_code {
            0 => format!(
                "ok leader={} isr={:?} epoch={} version={}",
                part.leader_id, part.isr, part.leader_epoch, part.partition_epoch
            ),
            code => name(code).into(),
        })
        .collect()
}

fn entity<'a>(parts: impl Iterator<Item = (&'a StrBytes, &'a Option<StrBytes>)>) -> String {
    let parts = parts.map(|(kind, name)| {
        format!("{kind}={}", name.as_ref().map_or("<default>", StrBytes::as_str))
    });
    parts.collect::<Vec<_>>().join(",")
}

pub(super) fn quotas_altered(answer: &AlterClientQuotasResponse) -> Vec<String> {
    let rows = answer.entries.iter().map(|row| {
        let entity = entity(row.entity.iter().map(|it| (&it.entity_type, &it.entity_name)));
        format!("{entity}: {}", verdict(row.error_code, &row.error_message))
    });
    rows.collect()
}

pub(super) fn quotas(answer: &DescribeClientQuotasResponse) -> Vec<String> {
    let Some(entries) = &answer.entries else {
        return vec![verdict(answer.error_code, &answer.error_message)];
    };
    let rows = entries.iter().map(|row| {
        let entity = entity(row.entity.iter().map(|it| (&it.entity_type, &it.entity_name)));
        let values = row.values.iter().map(|it| format!("{}={}", it.key, it.value));
        format!("{entity}: {}", values.collect::<Vec<_>>().join(" "))
    });
    rows.collect()
}
