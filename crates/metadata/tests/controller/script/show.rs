//! Records and images as lines.

use ottla_metadata::record::{NO_LEADER, NO_LEADER_CHANGE, PartitionChangeRecord};
use ottla_metadata::{ConfigResource, MetadataImage, MetadataRecord, PartitionRegistration};
use ottla_protocol::{BrokerId, TopicId, Uuid};

fn list(ids: &[BrokerId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Directories by the numbers that scripts give them; 0 is one that is not known.
fn dirs(ids: &[Uuid]) -> String {
    let number = |id: &Uuid| u128::from_be_bytes(id.to_bytes()).saturating_sub(1000).to_string();
    ids.iter().map(number).collect::<Vec<_>>().join(",")
}

fn leader(id: BrokerId) -> String {
    if id == NO_LEADER { "none".into() } else { id.to_string() }
}

/// One record, about the cluster as it was before.
pub(super) fn record(image: &MetadataImage, record: &MetadataRecord) -> String {
    let topic = |id: TopicId| match image.topic_by_id(id) {
        Some(topic) => topic.name.to_string(),
        None => "?".into(),
    };
    let text = match record {
        MetadataRecord::RegisterBroker(r) => {
            let rack = r.rack.as_ref().map(|rack| format!(" rack={rack}")).unwrap_or_default();
            let fenced = if r.fenced { " fenced" } else { "" };
            format!("RegisterBroker {} epoch={}{rack}{fenced}", r.broker_id, r.broker_epoch)
        }
        MetadataRecord::UnregisterBroker(r) => {
            format!("UnregisterBroker {} epoch={}", r.broker_id, r.broker_epoch)
        }
        MetadataRecord::BrokerRegistrationChange(r) => {
            let fenced = match r.fenced {
                1 => " fenced",
                -1 => " unfenced",
                _ => "",
            };
            let shutdown = if r.in_controlled_shutdown == 1 { " controlled-shutdown" } else { "" };
            let dirs = match r.log_dirs.is_empty() {
                true => String::new(),
                false => format!(" dirs={}", dirs(&r.log_dirs)),
            };
            format!("BrokerRegistrationChange {}{fenced}{shutdown}{dirs}", r.broker_id)
        }
        MetadataRecord::Topic(r) => format!("Topic {}", r.name),
        MetadataRecord::Partition(r) => format!(
            "Partition {}-{} replicas={} isr={} leader={}",
            topic(r.topic_id),
            r.partition_id,
            list(&r.replicas),
            list(&r.isr),
            leader(r.leader)
        ),
        MetadataRecord::PartitionChange(r) => {
            format!("PartitionChange {}-{}{}", topic(r.topic_id), r.partition_id, change(r))
        }
        MetadataRecord::Config(r) => {
            let resource = ConfigResource::from_wire(r.resource_type, &r.resource_name).unwrap();
            match &r.value {
                Some(value) => format!("Config {resource}: {}={value}", r.name),
                None => format!("Config {resource}: no {}", r.name),
            }
        }
        MetadataRecord::RemoveTopic(r) => format!("RemoveTopic {}", topic(r.topic_id)),
        MetadataRecord::FeatureLevel(r) => format!("FeatureLevel {}={}", r.name, r.feature_level),
        MetadataRecord::ProducerIds(r) => format!("ProducerIds next={}", r.next_producer_id),
        MetadataRecord::ClientQuota(r) => {
            let parts = r.entity.iter().map(|part| {
                format!(
                    "{}={}",
                    part.entity_type,
                    part.entity_name.as_deref().unwrap_or("<default>")
                )
            });
            let entity = parts.collect::<Vec<_>>().join(",");
            match r.remove {
                true => format!("ClientQuota {entity}: no {}", r.key),
                false => format!("ClientQuota {entity}: {}={}", r.key, r.value.get()),
            }
        }
        MetadataRecord::NoOp(_) => "NoOp".into(),
        MetadataRecord::ClearElr(r) => format!("ClearElr {}", r.topic_name),
    };
    format!("+ {text}")
}

fn change(record: &PartitionChangeRecord) -> String {
    let mut text = String::new();
    let replicas = [
        (" replicas", &record.replicas),
        (" adding", &record.adding_replicas),
        (" removing", &record.removing_replicas),
        (" isr", &record.isr),
        (" elr", &record.eligible_leader_replicas),
        (" last-known", &record.last_known_elr),
    ];
    for (what, ids) in replicas {
        match ids.as_deref() {
            None => {}
            Some([]) => text += &format!("{what}=none"),
            Some(ids) => text += &format!("{what}={}", list(ids)),
        }
    }
    if record.leader != NO_LEADER_CHANGE {
        text += &format!(" leader={}", leader(record.leader));
    }
    if let Some(directories) = &record.directories {
        text += &format!(" dirs={}", dirs(directories));
    }
    match record.leader_recovery_state {
        0 => text += " recovered",
        1 => text += " recovering",
        _ => {}
    }
    text
}

pub(super) fn topics(image: &MetadataImage) -> Vec<String> {
    let partitions = image.topics().flat_map(|topic| {
        topic.partitions.iter().map(move |(number, part)| {
            format!(
                "{}-{number} replicas={} isr={}{} leader={} epoch={} version={}",
                topic.name,
                list(&part.replicas),
                if part.isr.is_empty() { "none".into() } else { list(&part.isr) },
                eligible(part),
                leader(part.leader.unwrap_or(NO_LEADER)),
                part.leader_epoch,
                part.partition_epoch
            )
        })
    });
    partitions.collect()
}

fn eligible(part: &PartitionRegistration) -> String {
    let all = [(" elr", &part.elr), (" last-known", &part.last_known_elr)];
    let known = all.iter().filter(|(_, ids)| !ids.is_empty());
    known.map(|(what, ids)| format!("{what}={}", list(ids))).collect()
}

pub(super) fn brokers(image: &MetadataImage) -> Vec<String> {
    let brokers = image.brokers().map(|broker| {
        let fenced = if broker.fenced { "fenced" } else { "unfenced" };
        let shutdown = if broker.in_controlled_shutdown { " controlled-shutdown" } else { "" };
        format!("{} epoch={} {fenced}{shutdown}", broker.id, broker.epoch)
    });
    brokers.collect()
}

pub(super) fn configs(image: &MetadataImage) -> Vec<String> {
    let configs = image.configs().flat_map(|(resource, config)| {
        config.iter().map(move |(key, value)| format!("{resource}: {key}={value}"))
    });
    configs.collect()
}
