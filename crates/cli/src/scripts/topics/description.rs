//! `kafka-topics --describe`.

use std::collections::{BTreeMap, BTreeSet};

use ottla_client::{
    Admin, ConfigEntry, ConfigResource, ConfigResourceType, ConfigSource, Reassignment,
};
use ottla_protocol::messages::DescribeTopicPartitionsRequest;
use ottla_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use ottla_protocol::messages::describe_topic_partitions_response::DescribeTopicPartitionsResponsePartition;
use ottla_protocol::{
    ApiKey, BrokerId, ErrorCode, StrBytes, TopicId, TopicPartition, format_uuid, message,
    parse_uuid,
};

use super::{in_order_of_hash, must_exist, topics};
use crate::scripts::options::Options;
use crate::scripts::{Outcome, Stop, java, joined, say};

/// Options that show only partitions with something wrong.
pub(super) const REPORTS: [&str; 4] = [
    "under-replicated-partitions",
    "under-min-isr-partitions",
    "at-min-isr-partitions",
    "unavailable-partitions",
];
/// How many partitions are asked for at once if nobody says.
const PARTITIONS_AT_ONCE: i32 = 2000;

/// A topic as a broker describes it.
#[derive(Default)]
struct Topic {
    id: TopicId,
    partitions: BTreeMap<i32, Partition>,
}

struct Partition {
    leader: Option<i32>,
    replicas: Vec<i32>,
    isr: Vec<i32>,
    /// Eligible leaders and the last that were known to be (KIP-966), if the broker knows of such.
    eligible: Option<(Vec<i32>, Vec<i32>)>,
}

/// What a line about a partition is made of.
struct Context<'a> {
    options: &'a Options,
    alive: BTreeSet<i32>,
    reassignments: BTreeMap<TopicPartition, Reassignment>,
}

pub(super) async fn describe(admin: &Admin, options: &Options) -> Outcome {
    let names = match topic_id(options)? {
        Some(id) => vec![name_of(admin, options, id).await?].into_iter().flatten().collect(),
        None => {
            let names = topics(admin, options).await?;
            must_exist(&names, options)?;
            names
        }
    };
    let names = in_order_of_hash(names);
    let mut described = ask(admin, options, &names).await?;
    let resources: Vec<ConfigResource> =
        names.iter().map(|it| ConfigResource::new(ConfigResourceType::Topic, it)).collect();
    let mut configs = admin.describe_configs(&resources, None, false).await?;
    let brokers = admin.describe_cluster(false).await?.brokers;
    let context = Context {
        options,
        alive: brokers.iter().map(|broker| broker.id.0).collect(),
        reassignments: reassignments(admin, &described).await?,
    };
    for (name, resource) in names.iter().zip(&resources) {
        let topic = described.remove(name).unwrap_or_default();
        let mut entries = configs.remove(resource).transpose()?.unwrap_or_default();
        java::order_by_hash(&mut entries, java::CAPACITY, |entry| java::hash_of(&entry.name));
        context.say_topic(name, &topic, &entries)?;
        if !options.has("topics-with-overrides") {
            for (number, partition) in &topic.partitions {
                context.say_partition(name, *number, partition, &entries)?;
            }
        }
    }
    Ok(())
}

/// The id that is given, unless it is zero.
fn topic_id(options: &Options) -> Outcome<Option<TopicId>> {
    let Some(text) = options.value("topic-id")? else { return Ok(None) };
    let id = parse_uuid(text).map_err(|error| Stop::failed(error.to_string()))?;
    Ok((id != TopicId::default()).then_some(id))
}

async fn name_of(admin: &Admin, options: &Options, id: TopicId) -> Outcome<Option<String>> {
    let mut listed = admin.list_topics().await?.into_iter();
    let found = listed.find(|(_, topic)| topic.topic_id == id).map(|(name, _)| name);
    if found.is_none() && !options.has("if-exists") {
        let id = format_uuid(id);
        return Err(Stop::failed(format!("TopicId '{id}' does not exist as expected")));
    }
    Ok(found)
}

/// What the partitions of topics are, with eligible leaders if the broker can tell them.
async fn ask(
    admin: &Admin,
    options: &Options,
    names: &[String],
) -> Outcome<BTreeMap<String, Topic>> {
    let limit = options.number("partition-size-limit-per-response")?;
    if admin.check_served(ApiKey::DescribeTopicPartitions).await.is_err() {
        return ask_for_metadata(admin, names).await;
    }
    let mut topics: BTreeMap<String, Topic> = BTreeMap::new();
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort();
    let mut cursor: Option<Cursor> = None;
    while !sorted.is_empty() {
        let after = cursor.as_ref().map(|it| it.topic_name.as_str().to_owned());
        let wanted = sorted.iter().filter(|it| after.as_ref().is_none_or(|from| **it >= from));
        let rows = wanted.map(|it| message!(TopicRequest { name: StrBytes::from(it.as_str()) }));
        let request = message!(DescribeTopicPartitionsRequest {
            topics: rows.collect(),
            response_partition_limit: limit.unwrap_or(PARTITIONS_AT_ONCE),
            cursor: cursor.take(),
        });
        let response = admin.client().any_broker().await?.call(&request).await?;
        for row in response.topics {
            let code =
                ErrorCode::from_code(row.error_code).unwrap_or(ErrorCode::UnknownServerError);
            if !code.is_none() {
                return Err(Stop::failed(java::words(code)));
            }
            let topic = topics.entry(row.name.map(StrBytes::into_string).unwrap_or_default());
            let topic = topic.or_default();
            topic.id = row.topic_id;
            let partitions = row.partitions.into_iter();
            topic.partitions.extend(partitions.map(|it| (it.partition_index, partition(it))));
        }
        let Some(next) = response.next_cursor else { break };
        cursor = Some(message!(Cursor {
            topic_name: next.topic_name,
            partition_index: next.partition_index,
        }));
    }
    Ok(topics)
}

fn partition(row: DescribeTopicPartitionsResponsePartition) -> Partition {
    Partition {
        leader: (row.leader_id >= 0).then_some(row.leader_id),
        replicas: row.replica_nodes,
        isr: row.isr_nodes,
        eligible: Some((
            row.eligible_leader_replicas.unwrap_or_default(),
            row.last_known_elr.unwrap_or_default(),
        )),
    }
}

async fn ask_for_metadata(admin: &Admin, names: &[String]) -> Outcome<BTreeMap<String, Topic>> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut topics = BTreeMap::new();
    for (name, topic) in admin.describe_topics(&names).await? {
        let topic = topic?;
        let ids = |ids: Vec<BrokerId>| ids.into_iter().map(|id| id.0).collect();
        let partitions = topic.partitions.into_iter().map(|(number, it)| {
            let leader = it.leader.map(|id| id.0);
            let (replicas, isr) = (ids(it.replicas), ids(it.isr));
            (number, Partition { leader, replicas, isr, eligible: None })
        });
        topics.insert(name, Topic { id: topic.topic_id, partitions: partitions.collect() });
    }
    Ok(topics)
}

/// What is being moved; nothing if the broker cannot move anything.
async fn reassignments(
    admin: &Admin,
    topics: &BTreeMap<String, Topic>,
) -> Outcome<BTreeMap<TopicPartition, Reassignment>> {
    if admin.check_served(ApiKey::ListPartitionReassignments).await.is_err() {
        return Ok(BTreeMap::new());
    }
    let partitions = topics.iter().flat_map(|(name, topic)| {
        topic.partitions.keys().map(|number| TopicPartition::new(name.as_str(), *number))
    });
    let partitions: Vec<TopicPartition> = partitions.collect();
    Ok(admin.list_reassignments(Some(&partitions)).await?)
}

impl Context<'_> {
    fn reassignment(&self, topic: &str, partition: i32) -> Option<&Reassignment> {
        self.reassignments.get(&TopicPartition::new(topic, partition))
    }

    fn say_topic(&self, name: &str, topic: &Topic, entries: &[ConfigEntry]) -> Outcome {
        let own = entries.iter().filter(|entry| entry.source != ConfigSource::Default);
        let own: Vec<String> = own
            .map(|it| format!("{}={}", it.name, it.value.as_deref().unwrap_or("null")))
            .collect();
        let is_left_out = self.options.count(&REPORTS) > 0
            || (self.options.has("topics-with-overrides") && own.is_empty());
        let (Some((number, first)), false) = (topic.partitions.first_key_value(), is_left_out)
        else {
            return Ok(());
        };
        let mut line = format!("Topic: {name}");
        if topic.id != TopicId::default() {
            line.push_str(&format!("\tTopicId: {}", format_uuid(topic.id)));
        }
        let factor = first.factor(self.reassignment(name, *number));
        say(format!(
            "{line}\tPartitionCount: {}\tReplicationFactor: {factor}\tConfigs: {}",
            topic.partitions.len(),
            own.join(",")
        ))
    }

    fn say_partition(
        &self,
        topic: &str,
        number: i32,
        partition: &Partition,
        entries: &[ConfigEntry],
    ) -> Outcome {
        let reassignment = self.reassignment(topic, number);
        if !self.is_wanted(partition, reassignment, entries) {
            return Ok(());
        }
        let leader = partition.leader.map_or("none".to_owned(), |id| id.to_string());
        let mut line = format!(
            "\tTopic: {topic}\tPartition: {number}\tLeader: {leader}\tReplicas: {}\tIsr: {}",
            joined(&partition.replicas),
            joined(&partition.isr)
        );
        if let Some(it) = reassignment {
            let (adding, removing) = (joined(&it.adding), joined(&it.removing));
            line.push_str(&format!("\tAdding Replicas: {adding}\tRemoving Replicas: {removing}"));
        }
        match &partition.eligible {
            Some((eligible, last)) => {
                let (eligible, last) = (joined(eligible), joined(last));
                line.push_str(&format!("\tElr: {eligible}\tLastKnownElr: {last}"));
            }
            None => line.push_str("\tElr: N/A\tLastKnownElr: N/A"),
        }
        say(line)
    }

    /// Whether a report is about this partition; without a report every one is wanted.
    fn is_wanted(
        &self,
        partition: &Partition,
        reassignment: Option<&Reassignment>,
        entries: &[ConfigEntry],
    ) -> bool {
        if self.options.count(&REPORTS) == 0 {
            return true;
        }
        let least = entries.iter().find(|entry| entry.name == "min.insync.replicas");
        let least = least.and_then(|entry| entry.value.as_deref()?.parse().ok()).unwrap_or(1);
        let in_sync = partition.isr.len();
        let is_led = partition.leader.is_some();
        let is_alive = partition.leader.is_some_and(|id| self.alive.contains(&id));
        let reported = |report: &str, applies: bool| self.options.has(report) && applies;
        reported("under-replicated-partitions", partition.factor(reassignment) > in_sync)
            || reported("unavailable-partitions", !is_alive)
            || reported("under-min-isr-partitions", !is_led || in_sync < least)
            || reported("at-min-isr-partitions", in_sync == least)
    }
}

impl Partition {
    /// How many replicas it has, not counting those that are only on their way.
    fn factor(&self, reassignment: Option<&Reassignment>) -> usize {
        let under_way = reassignment.filter(|it| {
            it.adding.iter().chain(&it.removing).any(|id| self.replicas.contains(&id.0))
        });
        under_way.map_or(self.replicas.len(), |it| it.replicas.len() - it.adding.len())
    }
}
