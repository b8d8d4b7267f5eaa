//! The language of the scripts.
//!
//! Member ids are written `a@1`: client `a`, first id given out. `join a` stands for a client that waits for its
//! reply under that name. Time is in milliseconds; `wait` ticks whenever the shard asked to be woken.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use goldenscript::{Command, Context};
use ottla_coordinator::group::{GroupCoordinatorConfig, RequestContext, offset_fetch};
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use ottla_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, SyncGroupRequest,
};
use ottla_protocol::{ErrorCode, StrBytes, message};

use crate::host::{Event, Host};
use crate::print;

type Answer = Result<String, Box<dyn Error>>;

pub(crate) struct Script {
    host: Host,
    /// Member ids in full, by the short form that scripts use.
    ids: BTreeMap<String, String>,
    given_ids: u128,
}

impl Default for Script {
    fn default() -> Self {
        let host = Host::new(GroupCoordinatorConfig::default());
        Self { host, ids: BTreeMap::new(), given_ids: 0 }
    }
}

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Answer {
        let answer = self.execute(command)?;
        let mut lines = Vec::new();
        if !answer.is_empty() {
            lines.push(answer);
        }
        for event in std::mem::take(&mut self.host.events) {
            lines.push(match event {
                Event::Reply { asker, reply } => format!("{asker} <- {}", print::reply(&reply)),
                Event::Append(record) => format!("append {}", print::record(&record)),
                Event::Refused(error) => format!("append refused: {error}"),
            });
        }
        Ok(self.shorten(lines.join("\n")))
    }

    /// After each block: every group, who waits, and that a twin would know as much.
    fn end_block(&mut self, _: &goldenscript::Block) -> Answer {
        let shard = &self.host.shard;
        assert_eq!(shard.store(), self.host.twin().store());
        let mut lines = Vec::new();
        for listed in shard.list_groups(&ListGroupsRequest::default()) {
            let described = shard.describe_group(&listed.group_id, 6);
            let mut line = format!("= {} {}", listed.group_id, described.group_state);
            for member in described.members {
                line += &format!(" {}", member.member_id);
                if !member.member_assignment.is_empty() {
                    line += &format!("({})", print::text(&member.member_assignment));
                }
            }
            lines.push(line);
        }
        let waiting: Vec<_> = self.host.waiting().map(String::as_str).collect();
        if !waiting.is_empty() {
            lines.push(format!("= waiting {}", waiting.join(" ")));
        }
        Ok(self.shorten(lines.join("\n")))
    }
}

impl Script {
    fn execute(&mut self, command: &Command) -> Answer {
        let mut args = command.consume_args();
        let answer = match command.name.as_str() {
            "config" => self.config(&mut args)?,
            "join" => self.join(&mut args)?,
            "sync" => self.sync(&mut args)?,
            "heartbeat" => self.heartbeat(&mut args)?,
            "leave" => self.leave(&mut args)?,
            "commit" => self.commit(&mut args)?,
            "fetch" => self.fetch(&mut args)?,
            "delete-offsets" => self.delete_offsets(&mut args)?,
            "delete-group" => self.delete_group(&mut args)?,
            "delete-topic" => self.delete_topic(&mut args)?,
            "describe" => self.describe(&mut args)?,
            "list" => self.list(&mut args)?,
            "expire" => {
                let outcome = self.host.shard.expire_offsets(self.host.now().wall);
                self.host.decide(outcome);
                String::new()
            }
            "wait" => {
                self.host.wait(required(args.next_pos())?.parse()?);
                String::new()
            }
            "late" => {
                self.host.late(required(args.next_pos())?.parse()?);
                String::new()
            }
            "hold" => {
                self.host.hold = true;
                String::new()
            }
            "finish" => self.finish(&mut args)?,
            "refuse" => {
                self.host.refuse = Some(error_code(required(args.next_pos())?)?);
                String::new()
            }
            "failover" => {
                self.host.fail_over();
                String::new()
            }
            "stored" => print::store(self.host.shard.store()).join("\n"),
            "deadline" => match self.host.shard.next_deadline() {
                None => "none".to_owned(),
                Some(at) => format!("in {} ms", at.since(self.host.now().monotonic).as_millis()),
            },
            unknown => return Err(format!("no command {unknown}").into()),
        };
        args.reject_next()?;
        Ok(answer)
    }

    /// Writes `a@1` for the ids given out.
    fn shorten(&self, mut text: String) -> String {
        for (short, full) in &self.ids {
            text = text.replace(full, short);
        }
        text
    }

    fn member_id(&self, short: Option<&str>) -> StrBytes {
        let short = short.unwrap_or("");
        self.ids.get(short).map_or(StrBytes::from(short), |full| StrBytes::from(full.as_str()))
    }

    fn config(&mut self, args: &mut goldenscript::ArgumentConsumer<'_>) -> Answer {
        let config = &mut self.host.config;
        if let Some(delay) = args.take_key("initial_delay") {
            config.initial_rebalance_delay = Duration::from_millis(delay.parse()?);
        }
        if let Some(size) = args.take_key("max_size") {
            config.max_size = size.parse()?;
        }
        if let Some(bytes) = args.take_key("metadata_max") {
            config.offset_metadata_max_bytes = bytes.parse()?;
        }
        if let Some(retention) = args.take_key("retention") {
            config.offsets_retention = Duration::from_millis(retention.parse()?);
        }
        self.host.fail_over();
        Ok(String::new())
    }

    /// `join client [member=a@1] [instance=i] [protocols=range:meta,sticky:meta] [type=] [v=] [session=] [rebalance=] [group=]`
    fn join(&mut self, args: &mut goldenscript::ArgumentConsumer<'_>) -> Answer {
        let client = required(args.next_pos())?;
        let instance = args.take_key("instance");
        let protocols = args.take_key("protocols").unwrap_or("range:m");
        let protocol = |it: &str| {
            let (name, metadata) = it.split_once(':').unwrap_or((it, ""));
            message!(JoinGroupRequestProtocol {
                name: StrBytes::from(name),
                metadata: metadata_bytes(metadata),
            })
        };
        let api_version = number(args.take_key("v"), 9)?;
        let request = message!(JoinGroupRequest {
            group_id: group_id(args),
            member_id: self.member_id(args.take_key("member")),
            group_instance_id: instance.map(StrBytes::from),
            protocol_type: StrBytes::from(args.take_key("type").unwrap_or("consumer")),
            protocols: protocols.split(',').filter(|it| !it.is_empty()).map(protocol).collect(),
            session_timeout_ms: number(args.take_key("session"), 10_000)?,
            rebalance_timeout_ms: number(args.take_key("rebalance"), 30_000)?,
        });
        if request.member_id.is_empty() {
            self.given_ids += 1;
            let prefix = instance.unwrap_or(client);
            let short = format!("{prefix}@{}", self.given_ids);
            let uuid = format!("00000000-0000-4000-8000-{:012x}", self.given_ids);
            self.ids.insert(short, format!("{prefix}-{uuid}"));
        }
        let context = RequestContext { client_id: client, client_host: "/127.0.0.1", api_version };
        let now = self.host.now();
        let token = self.host.token(client, api_version);
        let effects = self.host.shard.join_group(now, &context, &request, self.given_ids, token);
        self.host.perform(effects);
        Ok(String::new())
    }

    /// `sync client member=a@1 gen=1 [assign=a@1=x,b@2=y] [instance=] [type=] [protocol=]`
    fn sync(&mut self, args: &mut goldenscript::ArgumentConsumer<'_>) -> Answer {
        let client = required(args.next_pos())?;
        let mut assignments = Vec::new();
        for given in args.take_key("assign").into_iter().flat_map(|it| it.split(',')) {
            let (member, assignment) = given.split_once('=').ok_or("assign=member=assignment")?;
            assignments.push(message!(SyncGroupRequestAssignment {
                member_id: self.member_id(Some(member)),
                assignment: Bytes::copy_from_slice(assignment.as_bytes()),
            }));
        }
        let request = message!(SyncGroupRequest {
            group_id: group_id(args),
            member_id: self.member_id(args.take_key("member")),
            generation_id: number(args.take_key("gen"), 1)?,
            group_instance_id: args.take_key("instance").map(StrBytes::from),
            protocol_type: args.take_key("type").map(StrBytes::from),
            protocol_name: args.take_key("protocol").map(StrBytes::from),
            assignments: assignments,
        });
        let now = self.host.now();
        let token = self.host.token(client, number(args.take_key("v"), 5)?);
        let effects = self.host.shard.sync_group(now, &request, token);
        self.host.perform(effects);
        Ok(String::new())
    }

    fn heartbeat(&mut self, args: &mut goldenscript::ArgumentConsumer<'_>) -> Answer {
        let request = message!(HeartbeatRequest {
            group_id: group_id(args),
            member_id: self.member_id(args.take_key("member")),
            generation_id: number(args.take_key("gen"), 1)?,
            group_instance_id: args.take_key("instance").map(StrBytes::from),
        });
        let response = self.host.shard.heartbeat(self.host.now(), &request);
        Ok(print::error(response.error_code).to_owned())
    }

    /// `leave a@1 i/b@2 i/` : member ids, with an instance id and a slash before them; or `leave a@1 v=2`.
    fn leave(&mut self, args: &mut goldenscript::ArgumentConsumer<'_>) -> Answer {
        let api_version = number(args.take_key("v"), 5)?;
        let group_id = group_id(args);
        let mut identities = Vec::new();
        while let Some(identity) = args.next_pos() {
            let (instance, member) = match identity.split_once('/') {
                Some((instance, member)) => (Some(instance), member),
                None => (None, identity),
            };
            identities.push(message!(MemberIdentity {
                member_id: self.member_id(Some(member)),
                group_instance_id: instance.map(StrBytes::from),
            }));
        }
        let mut request = message!(LeaveGroupRequest { group_id: group_id });
        if api_version < 3 {
            request.member_id = identities.first().ok_or("who leaves?")?.member_id.clone();
        } else {
            request.members = identities;
        }
        let now = self.host.now();
        let token = self.host.token("admin", api_version);
        let effects = self.host.shard.leave_group(now, api_version, &request, token);
        self.host.perform(effects);
        Ok(String::new())
    }

    /// `commit t-0=5 t-1=6 [member=] [gen=] [instance=] [v=] [retention=] [metadata=]`
    fn commit(&mut self, args: &mut goldenscript::ArgumentConsumer<'_>) -> Answer {
        let api_version = number(args.take_key("v"), 9)?;
        let metadata = args.take_key("metadata");
        let mut request = message!(OffsetCommitRequest {
            group_id: group_id(args),
            member_id: self.member_id(args.take_key("member")),
            generation_id_or_member_epoch: number(args.take_key("gen"), -1)?,
            group_instance_id: args.take_key("instance").map(StrBytes::from),
            retention_time_ms: number(args.take_key("retention"), -1)?,
        });
        while let Some((partition, offset)) = args.next_key() {
            let (topic, index) = topic_partition(partition)?;
            request.topics.push(message!(OffsetCommitRequestTopic {
                name: topic,
                partitions: vec![message!(OffsetCommitRequestPartition {
                    partition_index: index,
                    committed_offset: offset.parse()?,
                    committed_leader_epoch: 7,
                    committed_metadata: metadata.map(StrBytes::from),
                })],
            }));
        }
        let outcome = self.host.shard.commit_offsets(self.host.now(), api_version, &request);
        let response = self.host.decide(outcome);
        let answers = response.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(move |it| {
                format!("{}-{} {}", topic.name, it.partition_index, print::error(it.error_code))
            })
        });
        Ok(answers.collect::<Vec<_>>().join(", "))
    }

    /// `fetch t-0 t-1 [group=] [v=]`; without partitions, all.
    fn fetch(&mut self, args: &mut goldenscript::ArgumentConsumer<'_>) -> Answer {
        let mut request =
            message!(OffsetFetchRequestGroup { group_id: group_id(args), topics: None });
        let refused = args.take_key("refuse").map(error_code).transpose()?;
        let api_version = number(args.take_key("v"), 9)?;
        while let Some(partition) = args.next_pos() {
            let (topic, index) = topic_partition(partition)?;
            request.topics.get_or_insert_default().push(message!(OffsetFetchRequestTopics {
                name: topic,
                partition_indexes: vec![index],
            }));
        }
        let answer = match refused {
            None => self.host.shard.fetch_offsets(&request),
            Some(error) => offset_fetch::refuse(&request, error),
        };
        let response = offset_fetch::response(vec![answer], api_version);
        let mut answers = vec![format!("v{api_version} {}", print::error(response.error_code))];
        for topic in &response.topics {
            for it in &topic.partitions {
                let error = print::error(it.error_code);
                answers.push(format!(
                    "{}-{}={} {error}",
                    topic.name, it.partition_index, it.committed_offset
                ));
            }
        }
        for group in &response.groups {
            answers.push(format!("{} {}", group.group_id, print::error(group.error_code)));
            for topic in &group.topics {
                for it in &topic.partitions {
                    answers.push(format!(
                        "{}-{}={} epoch={} metadata={:?}",
                        topic.name,
                        it.partition_index,
                        it.committed_offset,
                        it.committed_leader_epoch,
                        it.metadata.as_ref().map_or("null", |metadata| metadata.as_str()),
                    ));
                }
            }
        }
        Ok(answers.join(", "))
    }

    fn delete_offsets(&mut self, args: &mut goldenscript::ArgumentConsumer<'_>) -> Answer {
        let mut request = message!(OffsetDeleteRequest { group_id: group_id(args) });
        while let Some(partition) = args.next_pos() {
            let (topic, index) = topic_partition(partition)?;
            request.topics.push(message!(OffsetDeleteRequestTopic {
                name: topic,
                partitions: vec![message!(OffsetDeleteRequestPartition { partition_index: index })],
            }));
        }
        let outcome = self.host.shard.delete_offsets(&request);
        let response = self.host.decide(outcome);
        let mut answers = vec![print::error(response.error_code).to_owned()];
        for topic in &response.topics {
            for it in &topic.partitions {
                let error = print::error(it.error_code);
                answers.push(format!("{}-{} {error}", topic.name, it.partition_index));
            }
        }
        Ok(answers.join(", "))
    }

    fn delete_group(&mut self, args: &mut goldenscript::ArgumentConsumer<'_>) -> Answer {
        let ids: Vec<_> = std::iter::from_fn(|| args.next_pos()).map(StrBytes::from).collect();
        let outcome = self.host.shard.delete_groups(&ids);
        let results = self.host.decide(outcome);
        let answers =
            results.iter().map(|it| format!("{} {}", it.group_id, print::error(it.error_code)));
        Ok(answers.collect::<Vec<_>>().join(", "))
    }

    fn delete_topic(&mut self, args: &mut goldenscript::ArgumentConsumer<'_>) -> Answer {
        let topics: BTreeSet<_> =
            std::iter::from_fn(|| args.next_pos()).map(StrBytes::from).collect();
        let outcome = self.host.shard.topics_deleted(&topics);
        self.host.decide(outcome);
        Ok(String::new())
    }

    fn describe(&mut self, args: &mut goldenscript::ArgumentConsumer<'_>) -> Answer {
        let api_version = number(args.take_key("v"), 6)?;
        let group_id = StrBytes::from(required(args.next_pos())?);
        let group = self.host.shard.describe_group(&group_id, api_version);
        let mut lines = vec![format!(
            "{} {} {} protocol={:?}/{:?} message={:?}",
            group.group_id,
            print::error(group.error_code),
            group.group_state,
            group.protocol_type.as_str(),
            group.protocol_data.as_str(),
            group.error_message.as_ref().map(StrBytes::as_str),
        )];
        for member in &group.members {
            lines.push(format!(
                "  {} client={} host={} metadata={:?} assignment={:?} instance={:?}",
                member.member_id,
                member.client_id,
                member.client_host,
                print::text(&member.member_metadata),
                print::text(&member.member_assignment),
                member.group_instance_id.as_ref().map(StrBytes::as_str),
            ));
        }
        Ok(lines.join("\n"))
    }

    /// `list [states=Stable,empty] [types=classic]`
    fn list(&mut self, args: &mut goldenscript::ArgumentConsumer<'_>) -> Answer {
        let filter = |names: Option<&str>| -> Vec<StrBytes> {
            names.into_iter().flat_map(|it| it.split(',')).map(StrBytes::from).collect()
        };
        let request = message!(ListGroupsRequest {
            states_filter: filter(args.take_key("states")),
            types_filter: filter(args.take_key("types")),
        });
        let groups = self.host.shard.list_groups(&request);
        let lines = groups.iter().map(|it| {
            let protocol_type = it.protocol_type.as_str();
            format!("{} {} {} {protocol_type:?}", it.group_id, it.group_state, it.group_type)
        });
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    /// `finish [error=NOT_ENOUGH_REPLICAS]`: the oldest append that is held.
    fn finish(&mut self, args: &mut goldenscript::ArgumentConsumer<'_>) -> Answer {
        let result = match args.take_key("error") {
            None => Ok(()),
            Some(name) => Err(error_code(name)?),
        };
        if !self.host.finish_held(result) {
            return Err("nothing is held".into());
        }
        Ok(String::new())
    }
}

fn error_code(name: &str) -> Result<ErrorCode, String> {
    let code = ErrorCode::ALL.iter().find(|code| code.name() == name);
    code.copied().ok_or(format!("no error {name}"))
}

/// `topics(a+b)` is the metadata a consumer sends; anything else stands for itself.
fn metadata_bytes(text: &str) -> Bytes {
    let Some(topics) = text.strip_prefix("topics(").and_then(|it| it.strip_suffix(')')) else {
        return Bytes::copy_from_slice(text.as_bytes());
    };
    let topics: Vec<_> = topics.split('+').collect();
    let mut bytes = 1_i16.to_be_bytes().to_vec();
    bytes.extend(i32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        bytes.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    // No user data, no owned partitions.
    bytes.extend((-1_i32).to_be_bytes());
    bytes.extend(0_i32.to_be_bytes());
    Bytes::from(bytes)
}

fn required(argument: Option<&str>) -> Result<&str, String> {
    argument.ok_or_else(|| "an argument is missing".to_owned())
}

fn number<T: std::str::FromStr>(text: Option<&str>, default: T) -> Result<T, T::Err> {
    text.map_or(Ok(default), str::parse)
}

fn group_id(args: &mut goldenscript::ArgumentConsumer<'_>) -> StrBytes {
    StrBytes::from(args.take_key("group").unwrap_or("g"))
}

fn topic_partition(text: &str) -> Result<(StrBytes, i32), Box<dyn Error>> {
    let (topic, index) = text.rsplit_once('-').ok_or("topic-partition")?;
    Ok((StrBytes::from(topic), index.parse()?))
}
