//! The words of the controller's scripts.
//!
//! ```text
//! register 1 [rack=r] [dirs=1,2] [incarnation=9] [cluster=c] [previous=7]   a broker joins; it was epoch 7 when it was shut down in order
//! heartbeat 1 [offset=n] [epoch=n] [fence] [shutdown] [failed=1,2]   caught up unless an offset is given; with its failed dirs
//! assign 1 a-0 dir=2                                             broker 1 keeps a-0 in its directory 2
//! up 1 2 3 [rack=r]                                              both, for each
//! after 9000                                                     that many milliseconds pass, and silent brokers are fenced
//! dead 1 [epoch=n]                                               its process is gone
//! unregister 1
//! tasks                                                          what is due
//! rebalance-leaders, elect-unclean                               what the controller does from time to time
//! create a [partitions=n] [factor=n] [assign=0:1,2;1:2,3] [key=value …] | b … [validate]
//! auto-create a b
//! grow a count=n [assign=1,2;2,3] [validate]
//! delete a | id:0001…
//! allow 5                                                        so many partitions may be created and deleted from here on
//! alter topic:a set:key=value delete:key append:key=value subtract:key=value [validate]
//! replace topic:a key=value [validate]                           nothing else stays set
//! quota user=a,client-id=<default> key=value -key … | ip=… [validate]
//! quotas [user=a] [user=<default>] [client-id] … [strict]        which are set; without a name, any
//! features name=level [type=1|2|3] [downgrade] [by-feature] [validate]
//! isr 1 a-0 1,2@7 [leader-epoch=n] [version=n] [recovering]      leader 1 wants it so; broker 2 was seen with epoch 7
//! elect preferred a-0 | a-1 …                                    or unclean, or a number; all without partitions
//! reassign a-0=1,2 | a-1=cancel [same-factor]                    to brokers 1 and 2; back again
//! reassigning [a-0 …]                                            the moves under way
//! producer-ids 1
//! failover [key=value …]                                         another node is the controller, configured so
//! silent id for=ms                                             that node led the quorum, and had been silent for so long
//! topics, brokers, configs                                       what the image says
//! ```

mod answer;
mod show;

use std::sync::Arc;
use std::time::Duration;

use ottla_config::BrokerConfig;
use ottla_metadata::{
    Controller, ControllerConfig, MetadataImage, MetadataPosition, MetadataRecord,
};
use ottla_protocol::messages::alter_client_quotas_request::{
    EntityData as QuotaPart, EntryData as QuotaAlteration, OpData as QuotaOp,
};
use ottla_protocol::messages::alter_configs_request::{
    AlterConfigsResource as ReplacedResource, AlterableConfig as ReplacingConfig,
};
use ottla_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use ottla_protocol::messages::alter_partition_request::{BrokerState, PartitionData, TopicData};
use ottla_protocol::messages::assign_replicas_to_dirs_request::{
    DirectoryData as AssignedDirectory, PartitionData as AssignedPartition,
    TopicData as AssignedTopic,
};
use ottla_protocol::messages::broker_registration_request::{Feature, Listener};
use ottla_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use ottla_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use ottla_protocol::messages::delete_topics_request::DeleteTopicState;
use ottla_protocol::messages::describe_client_quotas_request::ComponentData;
use ottla_protocol::messages::elect_leaders_request::TopicPartitions;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use ottla_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use ottla_protocol::messages::update_features_request::FeatureUpdateKey;
use ottla_protocol::messages::{
    AllocateProducerIdsRequest, AlterClientQuotasRequest, AlterConfigsRequest,
    AlterPartitionReassignmentsRequest, AlterPartitionRequest, AssignReplicasToDirsRequest,
    BrokerHeartbeatRequest, BrokerRegistrationRequest, CreatePartitionsRequest,
    CreateTopicsRequest, DeleteTopicsRequest, DescribeClientQuotasRequest, ElectLeadersRequest,
    IncrementalAlterConfigsRequest, ListPartitionReassignmentsRequest, UpdateFeaturesRequest,
};
use ottla_protocol::{BrokerId, LeaderEpoch, Monotonic, Uuid, message};

/// A controller whose every decision is committed at once.
pub(crate) struct Cluster {
    controller: Controller,
    now: Monotonic,
    random: u64,
    incarnations: u128,
    /// How many partitions may be created and deleted still, if there is a limit.
    allowance: Option<usize>,
}

impl Default for Cluster {
    fn default() -> Self {
        let config = ControllerConfig { cluster_id: Arc::from("c"), broker: broker_config(&[]) };
        let now = Monotonic::default();
        let controller = Controller::new(config, MetadataImage::default(), now);
        let mut cluster = Self { controller, now, random: 0, incarnations: 0, allowance: None };
        let first = cluster.controller.bootstrap();
        cluster.commit(first.records);
        cluster
    }
}

/// A node as a start without a configuration file has it, but small.
fn broker_config(more: &[(&str, &str)]) -> Arc<BrokerConfig> {
    let mut settings = vec![
        ("broker.session.timeout.ms", "9000"),
        ("offsets.topic.num.partitions", "3"),
        ("offsets.topic.replication.factor", "3"),
    ];
    settings.extend(more);
    Arc::new(BrokerConfig::parse(&[BrokerConfig::STANDALONE], &settings).unwrap().0)
}

/// `key=value` among the words.
fn named<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn number<T: std::str::FromStr>(words: &[&str], key: &str) -> Option<T> {
    named(words, key).map(|value| value.parse().ok().unwrap())
}

fn ids(list: &str) -> Vec<i32> {
    list.split(',').filter(|id| !id.is_empty()).map(|id| id.parse().unwrap()).collect()
}

/// The ids of log directories; Kafka reserves the low ones.
fn dirs(numbers: &str) -> Vec<Uuid> {
    ids(numbers).iter().map(|dir| uuid(1000 + u128::from(dir.unsigned_abs()))).collect()
}

fn uuid(number: u128) -> Uuid {
    Uuid::from_bytes(number.to_be_bytes())
}

impl Cluster {
    pub(crate) fn image(&self) -> &MetadataImage {
        self.controller.image()
    }

    /// What came of one command, line by line.
    pub(crate) fn run(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (command, rest) = words.split_first().unwrap();
        match *command {
            "register" => self.register(rest),
            "heartbeat" => self.heartbeat(rest),
            "assign" => self.assign(rest),
            "up" => self.up(rest),
            "after" => self.after(rest),
            "unregister" => self.unregister(rest),
            "create" => self.create(rest),
            "auto-create" => self.auto_create(rest),
            "grow" => self.grow(rest),
            "delete" => self.delete(rest),
            "allow" => {
                self.allowance = rest.first().map(|partitions| partitions.parse().unwrap());
                Vec::new()
            }
            "producer-ids" => self.producer_ids(rest),
            "dead" => self.dead(rest),
            "rebalance-leaders" => {
                let outcome = self.controller.rebalance_leaders();
                self.commit(outcome.records)
            }
            "tasks" => self.tasks(),
            "elect-unclean" => {
                let outcome = self.controller.elect_unclean_leaders();
                self.commit(outcome.records)
            }
            "alter" => self.alter(rest),
            "replace" => self.replace(rest),
            "features" => self.features(rest),
            "quota" => self.quota(rest),
            "quotas" => self.quotas(rest),
            "isr" => self.isr(rest),
            "elect" => self.elect(rest),
            "reassign" => self.reassign(rest),
            "reassigning" => self.reassigning(rest),
            "failover" => self.failover(rest),
            "silent" => {
                let id = BrokerId(rest[0].parse().unwrap());
                let since = self.now - Duration::from_millis(number(rest, "for").unwrap());
                self.controller.silent_since(id, since);
                Vec::new()
            }
            "topics" => show::topics(self.controller.image()),
            "brokers" => show::brokers(self.controller.image()),
            "configs" => show::configs(self.controller.image()),
            _ => panic!("no such command: {line}"),
        }
    }

    /// Replays the records as the log would bring them, and says what they were.
    fn commit(&mut self, records: Vec<MetadataRecord>) -> Vec<String> {
        let mut offset = self.controller.image().position().offset;
        let mut lines = Vec::new();
        for record in records {
            offset = offset.next();
            lines.push(show::record(self.controller.image(), &record));
            let read = MetadataRecord::decode(record.to_bytes()).unwrap();
            self.controller.replay(&read).unwrap();
            self.controller.advance_to(MetadataPosition { offset, epoch: LeaderEpoch(1) });
        }
        lines
    }

    /// The controller fails over to a node that is configured otherwise.
    fn failover(&mut self, words: &[&str]) -> Vec<String> {
        let settings: Vec<_> = words.iter().map(|word| word.split_once('=').unwrap()).collect();
        let config =
            ControllerConfig { cluster_id: Arc::from("c"), broker: broker_config(&settings) };
        // As a standby does: it starts with nothing and replays.
        let mut standby = Controller::new(config, MetadataImage::default(), Monotonic::default());
        for record in self.image().to_records() {
            standby.replay(&record).unwrap();
        }
        standby.advance_to(self.image().position());
        standby.activate(self.now);
        self.controller = standby;
        Vec::new()
    }

    fn register(&mut self, words: &[&str]) -> Vec<String> {
        let broker_id: i32 = words[0].parse().unwrap();
        self.incarnations += 1;
        let incarnation = number(words, "incarnation").unwrap_or(1000 + self.incarnations);
        let own_dirs = broker_id.to_string();
        let level = number(words, "level").unwrap_or(25);
        let listener = message!(Listener {
            name: "PLAINTEXT".into(),
            host: format!("host{broker_id}").into(),
            port: 9092,
        });
        let feature = message!(Feature {
            name: "metadata.version".into(),
            min_supported_version: 1,
            max_supported_version: level,
        });
        let eligible = message!(Feature {
            name: "eligible.leader.replicas.version".into(),
            max_supported_version: 1,
        });
        let request = message!(BrokerRegistrationRequest {
            broker_id: broker_id,
            cluster_id: named(words, "cluster").unwrap_or("c").into(),
            incarnation_id: uuid(incarnation),
            listeners: vec![listener],
            features: vec![feature, eligible],
            previous_broker_epoch: number(words, "previous").unwrap_or(-1),
            rack: named(words, "rack").map(Into::into),
            log_dirs: dirs(named(words, "dirs").unwrap_or(&own_dirs)),
        });
        let (outcome, error) = self.controller.register_broker(&request, self.now);
        let mut lines = vec![answer::registration(&outcome.answer, error)];
        lines.extend(self.commit(outcome.records));
        if outcome.answer.error_code == 0 {
            let epoch = ottla_metadata::BrokerEpoch(outcome.answer.broker_epoch);
            self.controller.broker_heard(BrokerId(broker_id), epoch, self.now);
        }
        lines
    }

    fn heartbeat(&mut self, words: &[&str]) -> Vec<String> {
        let id = BrokerId(words[0].parse().unwrap());
        let known = self.controller.image().broker(id).map_or(-1, |broker| broker.epoch.0);
        let epoch = number(words, "epoch").unwrap_or(known);
        let caught_up = self.controller.image().position().offset.0;
        let request = message!(BrokerHeartbeatRequest {
            broker_id: id.0,
            broker_epoch: epoch,
            current_metadata_offset: number(words, "offset").unwrap_or(caught_up),
            want_fence: words.contains(&"fence"),
            want_shut_down: words.contains(&"shutdown"),
            offline_log_dirs: named(words, "failed").map(dirs).unwrap_or_default(),
        });
        let outcome = self.controller.broker_heartbeat(&request);
        if outcome.answer.error_code == 0 {
            self.controller.heartbeat_heard(&request, self.now);
        }
        let mut lines = vec![answer::heartbeat(&outcome.answer)];
        lines.extend(self.commit(outcome.records));
        lines
    }

    fn assign(&mut self, words: &[&str]) -> Vec<String> {
        let broker = BrokerId(words[0].parse().unwrap());
        let (topic, partition) = words[1].rsplit_once('-').unwrap();
        let image = self.controller.image();
        let known = image.topic(topic).map_or(uuid(9), |topic| topic.id);
        let partition = message!(AssignedPartition { partition_index: partition.parse().unwrap() });
        let topic = message!(AssignedTopic { topic_id: known, partitions: vec![partition] });
        let dir = dirs(named(words, "dir").unwrap())[0];
        let request = message!(AssignReplicasToDirsRequest {
            broker_id: broker.0,
            broker_epoch: image.broker(broker).map_or(-1, |broker| broker.epoch.0),
            directories: vec![message!(AssignedDirectory { id: dir, topics: vec![topic] })],
        });
        let outcome = self.controller.assign_replicas_to_dirs(&request);
        let mut lines = vec![answer::assigned(&outcome.answer)];
        lines.extend(self.commit(outcome.records));
        lines
    }

    fn up(&mut self, words: &[&str]) -> Vec<String> {
        let (options, brokers): (Vec<&str>, Vec<&str>) =
            words.iter().partition(|word| word.contains('='));
        for broker in brokers {
            let mut words = options.clone();
            words.insert(0, broker);
            self.register(&words);
            self.heartbeat(&[broker]);
        }
        Vec::new()
    }

    fn after(&mut self, words: &[&str]) -> Vec<String> {
        self.now = self.now + Duration::from_millis(words[0].parse().unwrap());
        let mut lines = Vec::new();
        loop {
            let outcome = self.controller.fence_stale_broker(self.now);
            let Some(broker) = outcome.answer else { break };
            lines.push(format!("broker {broker} is silent"));
            lines.extend(self.commit(outcome.records));
        }
        match self.controller.next_fencing() {
            Some(at) => lines.push(format!("next is fenced at {}", at.0.as_millis())),
            None => lines.push("no session".into()),
        }
        lines
    }

    /// Whatever is due, or the next that will be.
    fn tasks(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let outcome = self.controller.run_due_task(self.now);
            let Some(report) = outcome.answer else { break };
            lines.push(format!(
                "{:?}{}",
                report.task,
                if report.has_more { ", and more" } else { "" }
            ));
            lines.extend(report.lines.iter().map(|line| format!("  {line}")));
            self.controller.task_done(&report, self.now);
            lines.extend(self.commit(outcome.records));
        }
        let due = self.controller.next_task_due();
        lines.push(format!("next is due at {:?}", due.map(|due| due.0.as_secs())));
        lines
    }

    fn dead(&mut self, words: &[&str]) -> Vec<String> {
        let id = BrokerId(words[0].parse().unwrap());
        let known = self.controller.image().broker(id).map_or(-1, |broker| broker.epoch.0);
        let epoch = ottla_metadata::BrokerEpoch(number(words, "epoch").unwrap_or(known));
        let outcome = self.controller.fence_dead_broker(id, epoch);
        let mut lines = vec![if outcome.answer { "fenced".into() } else { "nothing to do".into() }];
        lines.extend(self.commit(outcome.records));
        lines
    }

    fn unregister(&mut self, words: &[&str]) -> Vec<String> {
        let outcome = self.controller.unregister_broker(BrokerId(words[0].parse().unwrap()));
        let mut lines = vec![match outcome.answer {
            Ok(()) => "ok".into(),
            Err(code) => code.name().into(),
        }];
        lines.extend(self.commit(outcome.records));
        lines
    }

    fn create(&mut self, words: &[&str]) -> Vec<String> {
        let topics = words.split(|word| *word == "|").map(creatable).collect();
        let request = message!(CreateTopicsRequest {
            topics: topics,
            validate_only: words.contains(&"validate"),
        });
        let random = &mut self.random;
        let outcome = self.controller.create_topics(
            &request,
            &mut || next(random),
            &mut within(&mut self.allowance),
        );
        let mut lines = answer::created(&outcome.answer);
        lines.extend(self.commit(outcome.records));
        lines
    }

    fn auto_create(&mut self, words: &[&str]) -> Vec<String> {
        let random = &mut self.random;
        let request = self.controller.auto_create_request(words.iter().copied());
        let outcome = self.controller.create_topics(&request, &mut || next(random), &mut |_| true);
        let mut lines = answer::created(&outcome.answer);
        lines.extend(self.commit(outcome.records));
        lines
    }

    fn grow(&mut self, words: &[&str]) -> Vec<String> {
        let grown = |words: &[&str]| {
            let assignments = named(words, "assign").map(|list| {
                let parts = list.split(';').map(ids);
                parts
                    .map(|ids| message!(CreatePartitionsAssignment { broker_ids: ids }))
                    .collect::<Vec<_>>()
            });
            message!(CreatePartitionsTopic {
                name: words[0].into(),
                count: number(words, "count").unwrap(),
                assignments: assignments,
            })
        };
        let request = message!(CreatePartitionsRequest {
            topics: words.split(|word| *word == "|").map(grown).collect(),
            validate_only: words.contains(&"validate"),
        });
        let random = &mut self.random;
        let outcome = self.controller.create_partitions(
            &request,
            &mut || next(random),
            &mut within(&mut self.allowance),
        );
        let mut lines = answer::grown(&outcome.answer);
        lines.extend(self.commit(outcome.records));
        lines
    }

    fn delete(&mut self, words: &[&str]) -> Vec<String> {
        let image = self.controller.image();
        let named = |word: &&str| match word.split_once("id:") {
            None => message!(DeleteTopicState { name: Some((*word).into()) }),
            // `id:a` is the id of topic a, `a+id:a` is both; a topic that is not has an id that is
            // not.
            Some((name, of)) => message!(DeleteTopicState {
                name: name.strip_suffix('+').map(Into::into),
                topic_id: image.topic(of).map_or(uuid(404), |topic| topic.id),
            }),
        };
        let request = message!(DeleteTopicsRequest { topics: words.iter().map(named).collect() });
        let outcome = self.controller.delete_topics(&request, &mut within(&mut self.allowance));
        let mut lines = answer::deleted(&outcome.answer);
        lines.extend(self.commit(outcome.records));
        lines
    }

    fn alter(&mut self, words: &[&str]) -> Vec<String> {
        let request = message!(IncrementalAlterConfigsRequest {
            resources: words.split(|word| *word == "|").map(altered).collect(),
            validate_only: words.contains(&"validate"),
        });
        let outcome = self.controller.incremental_alter_configs(&request);
        let mut lines = answer::altered(&outcome.answer);
        lines.extend(self.commit(outcome.records));
        lines
    }

    fn replace(&mut self, words: &[&str]) -> Vec<String> {
        let replaced = |words: &[&str]| {
            let altered = altered(words);
            let configs = words[1..].iter().filter(|word| **word != "validate").map(|word| {
                let (key, value) = match word.split_once('=') {
                    Some((key, value)) => (key, Some(value)),
                    None => (*word, None),
                };
                message!(ReplacingConfig { name: key.into(), value: value.map(Into::into) })
            });
            message!(ReplacedResource {
                resource_type: altered.resource_type,
                resource_name: altered.resource_name,
                configs: configs.collect(),
            })
        };
        let request = message!(AlterConfigsRequest {
            resources: words.split(|word| *word == "|").map(replaced).collect(),
            validate_only: words.contains(&"validate"),
        });
        let outcome = self.controller.alter_configs(&request);
        let mut lines = answer::replaced(&outcome.answer);
        lines.extend(self.commit(outcome.records));
        lines
    }

    fn features(&mut self, words: &[&str]) -> Vec<String> {
        let update = |word: &&str| {
            let (name, level) = word.split_once('=')?;
            Some(message!(FeatureUpdateKey {
                feature: name.into(),
                max_version_level: level.parse().unwrap(),
                upgrade_type: number(words, "type").unwrap_or(1),
                allow_downgrade: words.contains(&"downgrade"),
            }))
        };
        let named = words.iter().filter(|word| !word.starts_with("type="));
        let request = message!(UpdateFeaturesRequest {
            feature_updates: named.filter_map(update).collect(),
            validate_only: words.contains(&"validate"),
        });
        let version = if words.contains(&"by-feature") { 1 } else { 2 };
        let outcome = self.controller.update_features(&request, version);
        let mut lines = answer::features(&outcome.answer);
        lines.extend(self.commit(outcome.records));
        lines
    }

    fn quota(&mut self, words: &[&str]) -> Vec<String> {
        let altered = |words: &[&str]| {
            let op = |word: &&str| match (word.strip_prefix('-'), word.split_once('=')) {
                (Some(key), _) => message!(QuotaOp { key: key.into(), remove: true }),
                (None, Some((key, value))) => {
                    message!(QuotaOp { key: key.into(), value: value.parse().unwrap() })
                }
                (None, None) => panic!("no quota: {word}"),
            };
            let parts = words[0].split(',').filter_map(|part| part.split_once('='));
            let parts = parts.map(|(kind, name)| {
                let entity_name = (name != "<default>").then(|| name.into());
                message!(QuotaPart { entity_type: kind.into(), entity_name: entity_name })
            });
            message!(QuotaAlteration {
                entity: parts.collect(),
                ops: words[1..].iter().filter(|word| **word != "validate").map(op).collect(),
            })
        };
        let request = message!(AlterClientQuotasRequest {
            entries: words.split(|word| *word == "|").map(altered).collect(),
            validate_only: words.contains(&"validate"),
        });
        let outcome = self.controller.alter_client_quotas(&request);
        let mut lines = answer::quotas_altered(&outcome.answer);
        lines.extend(self.commit(outcome.records));
        lines
    }

    fn quotas(&mut self, words: &[&str]) -> Vec<String> {
        let component = |word: &&str| {
            let (kind, wanted) =
                word.split_once('=').map_or((*word, None), |it| (it.0, Some(it.1)));
            let (match_type, name) = match wanted {
                None => (2, None),
                Some("<default>") => (1, None),
                Some(name) => (0, Some(name.into())),
            };
            message!(ComponentData {
                entity_type: kind.into(),
                match_type: match_type,
                match_: name,
            })
        };
        let request = message!(DescribeClientQuotasRequest {
            components: words.iter().filter(|word| **word != "strict").map(component).collect(),
            strict: words.contains(&"strict"),
        });
        answer::quotas(&self.controller.image().describe_client_quotas(&request))
    }

    fn isr(&mut self, words: &[&str]) -> Vec<String> {
        let (topic, index) = words[1].rsplit_once('-').unwrap();
        let index: i32 = index.parse().unwrap();
        let image = self.controller.image();
        let partition = image.partition(topic, index);
        let member = |member: &str| {
            let (id, epoch) = member.split_once('@').unwrap_or((member, "-1"));
            message!(BrokerState {
                broker_id: id.parse().unwrap(),
                broker_epoch: epoch.parse().unwrap(),
            })
        };
        let asked = message!(PartitionData {
            partition_index: index,
            leader_epoch: number(words, "leader-epoch")
                .unwrap_or(partition.map_or(0, |partition| partition.leader_epoch.0)),
            partition_epoch: number(words, "version")
                .unwrap_or(partition.map_or(0, |partition| partition.partition_epoch)),
            new_isr_with_epochs: words[2].split(',').map(member).collect(),
            leader_recovery_state: i8::from(words.contains(&"recovering")),
        });
        let topic = message!(TopicData {
            topic_id: image.topic(topic).map_or(uuid(404), |topic| topic.id),
            partitions: vec![asked],
        });
        let id = BrokerId(words[0].parse().unwrap());
        let known = image.broker(id).map_or(-1, |broker| broker.epoch.0);
        let request = message!(AlterPartitionRequest {
            broker_id: id.0,
            broker_epoch: number(words, "epoch").unwrap_or(known),
            topics: vec![topic],
        });
        let outcome = self.controller.alter_partition(&request);
        let mut lines = answer::isr(&outcome.answer);
        lines.extend(self.commit(outcome.records));
        lines
    }

    fn elect(&mut self, words: &[&str]) -> Vec<String> {
        let (election, partitions) = words.split_first().unwrap();
        let named = partitions.iter().map(|partition| {
            let (topic, index) = partition.rsplit_once('-').unwrap();
            message!(TopicPartitions {
                topic: topic.into(),
                partitions: vec![index.parse().unwrap()],
            })
        });
        let named: Vec<_> = named.collect();
        let request = message!(ElectLeadersRequest {
            election_type: match *election {
                "preferred" => 0,
                "unclean" => 1,
                other => other.parse().unwrap(),
            },
            topic_partitions: (!named.is_empty()).then_some(named),
        });
        let outcome = self.controller.elect_leaders(&request);
        let mut lines = answer::elected(&outcome.answer);
        lines.extend(self.commit(outcome.records));
        lines
    }

    fn reassign(&mut self, words: &[&str]) -> Vec<String> {
        let moves = words.iter().filter_map(|word| {
            let (partition, replicas) = word.split_once('=')?;
            let (topic, index) = partition.rsplit_once('-').unwrap();
            let moved = message!(ReassignablePartition {
                partition_index: index.parse().unwrap(),
                replicas: (replicas != "cancel").then(|| ids(replicas)),
            });
            Some(message!(ReassignableTopic { name: topic.into(), partitions: vec![moved] }))
        });
        let request = message!(AlterPartitionReassignmentsRequest {
            topics: moves.collect(),
            allow_replication_factor_change: !words.contains(&"same-factor"),
        });
        let outcome = self.controller.alter_partition_reassignments(&request);
        let mut lines = answer::reassigned(&outcome.answer);
        lines.extend(self.commit(outcome.records));
        lines
    }

    fn reassigning(&mut self, words: &[&str]) -> Vec<String> {
        let named = words.iter().map(|partition| {
            let (topic, index) = partition.rsplit_once('-').unwrap();
            message!(ListPartitionReassignmentsTopics {
                name: topic.into(),
                partition_indexes: vec![index.parse().unwrap()],
            })
        });
        let named: Vec<_> = named.collect();
        let request = message!(ListPartitionReassignmentsRequest {
            topics: (!named.is_empty()).then_some(named),
        });
        answer::reassigning(&self.image().partition_reassignments(&request))
    }

    fn producer_ids(&mut self, words: &[&str]) -> Vec<String> {
        let id = BrokerId(words[0].parse().unwrap());
        let known = self.controller.image().broker(id).map_or(-1, |broker| broker.epoch.0);
        let request = message!(AllocateProducerIdsRequest {
            broker_id: id.0,
            broker_epoch: number(words, "epoch").unwrap_or(known),
        });
        let outcome = self.controller.allocate_producer_ids(&request);
        let mut lines = vec![answer::producer_ids(&outcome.answer)];
        lines.extend(self.commit(outcome.records));
        lines
    }
}

/// Takes partitions from an allowance, if there are so many.
fn within(allowance: &mut Option<usize>) -> impl FnMut(usize) -> bool {
    |partitions| match allowance {
        None => true,
        Some(left) => left.checked_sub(partitions).map(|rest| *left = rest).is_some(),
    }
}

/// Numbers that are neither random nor all alike.
fn next(random: &mut u64) -> u64 {
    *random += 1;
    *random
}

fn creatable(words: &[&str]) -> CreatableTopic {
    let assignments: Vec<CreatableReplicaAssignment> = named(words, "assign")
        .map(|list| {
            let parts = list.split(';').map(|part| part.split_once(':').unwrap());
            parts
                .map(|(number, brokers)| {
                    message!(CreatableReplicaAssignment {
                        partition_index: number.parse().unwrap(),
                        broker_ids: ids(brokers),
                    })
                })
                .collect()
        })
        .unwrap_or_default();
    let configs = words.iter().filter_map(|word| {
        let (key, value) = word.split_once('=')?;
        let known = ["partitions", "factor", "assign"].contains(&key);
        (!known).then(|| {
            message!(CreatableTopicConfig {
                name: key.into(),
                value: (value != "null").then(|| value.into()),
            })
        })
    });
    message!(CreatableTopic {
        // `''` is the empty name.
        name: words[0].trim_matches('\'').into(),
        num_partitions: number(words, "partitions").unwrap_or(-1),
        replication_factor: number(words, "factor").unwrap_or(-1),
        assignments: assignments,
        configs: configs.collect(),
    })
}

fn altered(words: &[&str]) -> AlterConfigsResource {
    let (resource, changes) = words.split_first().unwrap();
    let (kind, name) = resource.split_once(':').unwrap();
    let changes = changes.iter().filter_map(|word| {
        let (operation, change) = word.split_once(':')?;
        let (key, value) = match change.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (change, None),
        };
        let operations = ["set", "delete", "append", "subtract", "frobnicate"];
        let operation = operations.iter().position(|known| *known == operation).unwrap();
        Some(message!(AlterableConfig {
            name: key.into(),
            config_operation: i8::try_from(operation).unwrap(),
            value: value.map(Into::into),
        }))
    });
    message!(AlterConfigsResource {
        resource_type: match kind {
            "topic" => 2,
            "broker" => 4,
            "client-metrics" => 16,
            "group" => 32,
            other => other.parse().unwrap(),
        },
        resource_name: name.into(),
        configs: changes.collect(),
    })
}
