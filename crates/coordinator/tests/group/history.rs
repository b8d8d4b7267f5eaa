//! Random histories of clients that behave like consumers, now and then badly, under a host that is not always lucky.
//!
//! After every step: a twin that replays the log holds the same hard state; a member only ever gets its own part of its
//! own generation's assignment; all members of a generation are told the same protocol; generations do not go back.
//! At the end everybody falls silent: nobody may still wait, no member and no timer may be left.

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_coordinator::group::{GroupCoordinatorConfig, Reply, RequestContext};
use ottla_coordinator::records::CoordinatorRecord;
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use ottla_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest,
    OffsetCommitRequest, SyncGroupRequest,
};
use ottla_protocol::{ErrorCode, StrBytes, message};
use proptest::prelude::*;

use crate::host::{Event, Host};

const GROUPS: usize = 2;
const CLIENTS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    /// `sticky` changes the metadata; `restart` forgets the member id first.
    Join {
        client: usize,
        sticky: bool,
        restart: bool,
    },
    Sync {
        client: usize,
    },
    Heartbeat {
        client: usize,
    },
    Commit {
        client: usize,
    },
    Leave {
        client: usize,
    },
    Wait {
        millis: u64,
    },
    Late {
        millis: u64,
    },
    Hold(bool),
    Finish {
        fails: bool,
    },
    /// Everyone in the group behaves: joins, waits, syncs.
    Round {
        group: usize,
    },
    Refuse,
    FailOver,
    Expire,
    Delete {
        group: usize,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let client = || 0..GROUPS * CLIENTS;
    prop_oneof![
        8 => (client(), any::<bool>(), proptest::bool::weighted(0.1))
            .prop_map(|(client, sticky, restart)| Step::Join { client, sticky, restart }),
        8 => client().prop_map(|client| Step::Sync { client }),
        2 => client().prop_map(|client| Step::Heartbeat { client }),
        2 => client().prop_map(|client| Step::Commit { client }),
        1 => client().prop_map(|client| Step::Leave { client }),
        4 => prop_oneof![Just(0), Just(10), Just(3_000), Just(9_000)]
            .prop_map(|millis| Step::Wait { millis }),
        1 => Just(Step::Late { millis: 12_000 }),
        1 => any::<bool>().prop_map(Step::Hold),
        3 => proptest::bool::weighted(0.2).prop_map(|fails| Step::Finish { fails }),
        3 => (0..GROUPS).prop_map(|group| Step::Round { group }),
        1 => Just(Step::Refuse),
        1 => Just(Step::FailOver),
        1 => Just(Step::Expire),
        1 => (0..GROUPS).prop_map(|group| Step::Delete { group }),
    ]
}

/// What a consumer knows of itself.
#[derive(Clone, Debug, Default)]
struct Client {
    member_id: StrBytes,
    generation: i32,
    /// What it was told when it led: whom to assign to.
    members: Vec<StrBytes>,
    /// The generation it asked its assignment of.
    synced: i32,
}

struct History {
    host: Host,
    clients: Vec<Client>,
    given_ids: u128,
    /// The newest generation of each group that a member was told, and its protocol.
    told: BTreeMap<usize, (i32, Option<StrBytes>)>,
}

fn group_of(client: usize) -> usize {
    client % GROUPS
}

fn group_id(group: usize) -> StrBytes {
    StrBytes::from(format!("g{group}"))
}

/// Half of the clients are static members.
fn instance_id(client: usize) -> Option<StrBytes> {
    (client >= GROUPS * CLIENTS / 2).then(|| StrBytes::from(label(client)))
}

/// Also the first part of its member ids.
fn label(client: usize) -> String {
    format!("client{client}")
}

impl History {
    fn new() -> Self {
        let config = GroupCoordinatorConfig { max_size: 3, ..GroupCoordinatorConfig::default() };
        Self {
            host: Host::new(config),
            clients: vec![Client::default(); GROUPS * CLIENTS],
            given_ids: 0,
            told: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Join { client, sticky, restart } => self.join(client, sticky, restart),
            Step::Sync { client } => self.sync(client),
            Step::Heartbeat { client } => self.heartbeat(client),
            Step::Commit { client } => self.commit(client),
            Step::Leave { client } => self.leave(client),
            Step::Wait { millis } => self.host.wait(millis),
            Step::Late { millis } => self.host.late(millis),
            Step::Hold(true) => self.host.hold = true,
            Step::Hold(false) => self.host.release(),
            Step::Finish { fails } => {
                let error = Err(ErrorCode::RequestTimedOut);
                self.host.finish_held(if fails { error } else { Ok(()) });
            }
            Step::Round { group } => self.round(group),
            Step::Refuse => self.host.refuse = Some(ErrorCode::NotEnoughReplicas),
            Step::FailOver => {
                // A generation counts once it is written; one that was not is counted again.
                self.told.clear();
                self.host.fail_over();
            }
            Step::Expire => {
                let outcome = self.host.shard.expire_offsets(self.host.now().wall);
                self.host.decide(outcome);
            }
            Step::Delete { group } => {
                let outcome = self.host.shard.delete_groups(&[group_id(group)]);
                self.host.decide(outcome);
            }
        }
        self.observe();
        assert_eq!(self.host.shard.store(), self.host.twin().store());
    }

    fn join(&mut self, index: usize, sticky: bool, restart: bool) {
        let client = &mut self.clients[index];
        if restart {
            client.member_id = StrBytes::default();
        }
        let names: &[&str] = if sticky { &["sticky", "range"] } else { &["range"] };
        let protocols = names.iter().map(|name| {
            message!(JoinGroupRequestProtocol {
                name: StrBytes::from(*name),
                metadata: Bytes::new()
            })
        });
        let request = message!(JoinGroupRequest {
            group_id: group_id(group_of(index)),
            member_id: client.member_id.clone(),
            group_instance_id: instance_id(index),
            protocol_type: StrBytes::from("consumer"),
            protocols: protocols.collect(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 5_000,
        });
        let name = label(index);
        let context = RequestContext {
            client_id: &name,
            client_host: "/127.0.0.1",
            api_version: if index.is_multiple_of(3) { 3 } else { 9 },
        };
        self.given_ids += 1;
        let token = self.host.token(&index.to_string(), context.api_version);
        let now = self.host.now();
        let effects = self.host.shard.join_group(now, &context, &request, self.given_ids, token);
        self.host.perform(effects);
    }

    fn round(&mut self, group: usize) {
        let members: Vec<_> = (0..self.clients.len()).filter(|it| group_of(*it) == group).collect();
        // Twice: a new member first gets an id.
        for index in members.iter().chain(&members) {
            self.join(*index, false, false);
            self.observe();
        }
        self.host.wait(3_000);
        self.observe();
        for index in members {
            self.sync(index);
        }
    }

    fn sync(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.synced = client.generation;
        let generation = client.generation;
        let assignments = client.members.iter().map(|member| {
            let label = member.split('-').next().unwrap();
            message!(SyncGroupRequestAssignment {
                member_id: member.clone(),
                assignment: Bytes::from(format!("{generation} {label}")),
            })
        });
        let request = message!(SyncGroupRequest {
            group_id: group_id(group_of(index)),
            generation_id: generation,
            member_id: client.member_id.clone(),
            group_instance_id: instance_id(index),
            assignments: assignments.collect(),
        });
        let token = self.host.token(&index.to_string(), 5);
        let effects = self.host.shard.sync_group(self.host.now(), &request, token);
        self.host.perform(effects);
    }

    fn heartbeat(&mut self, index: usize) {
        let client = &self.clients[index];
        let request = message!(HeartbeatRequest {
            group_id: group_id(group_of(index)),
            generation_id: client.generation,
            member_id: client.member_id.clone(),
            group_instance_id: instance_id(index),
        });
        let response = self.host.shard.heartbeat(self.host.now(), &request);
        if response.error_code == ErrorCode::UnknownMemberId.code() {
            self.clients[index].member_id = StrBytes::default();
        }
    }

    fn commit(&mut self, index: usize) {
        let client = &self.clients[index];
        let request = message!(OffsetCommitRequest {
            group_id: group_id(group_of(index)),
            generation_id_or_member_epoch: client.generation,
            member_id: client.member_id.clone(),
            group_instance_id: instance_id(index),
            topics: vec![message!(OffsetCommitRequestTopic {
                name: StrBytes::from("t"),
                partitions: vec![message!(OffsetCommitRequestPartition {
                    partition_index: 0,
                    committed_offset: i64::try_from(self.host.elapsed_ms).unwrap(),
                })],
            })],
        });
        let outcome = self.host.shard.commit_offsets(self.host.now(), 9, &request);
        self.host.decide(outcome);
    }

    fn leave(&mut self, index: usize) {
        let request = message!(LeaveGroupRequest {
            group_id: group_id(group_of(index)),
            members: vec![message!(MemberIdentity {
                member_id: self.clients[index].member_id.clone(),
                group_instance_id: instance_id(index),
            })],
        });
        let token = self.host.token(&index.to_string(), 5);
        let effects = self.host.shard.leave_group(self.host.now(), 5, &request, token);
        self.host.perform(effects);
    }

    /// Lets clients see their replies, and checks them.
    fn observe(&mut self) {
        for event in std::mem::take(&mut self.host.events) {
            match event {
                Event::Reply { asker, reply } => {
                    let index: usize = asker.parse().unwrap();
                    match reply {
                        Reply::Join(response) => self.joined(index, &response),
                        Reply::Sync(response) => {
                            let client = &mut self.clients[index];
                            let expected = format!("{} {}", client.synced, label(index));
                            if response.error_code == 0 && !response.assignment.is_empty() {
                                assert_eq!(response.assignment, expected);
                            }
                        }
                        Reply::Leave(response) => {
                            if response.members[0].error_code == 0 {
                                self.clients[index] = Client::default();
                            }
                        }
                    }
                }
                Event::Append(CoordinatorRecord::GroupMetadata { key, value: None }) => {
                    self.told.retain(|group, _| group_id(*group) != key.group);
                }
                Event::Append(_) | Event::Refused(_) => {}
            }
        }
    }

    fn joined(&mut self, index: usize, response: &JoinGroupResponse) {
        let client = &mut self.clients[index];
        let keeps_id = [ErrorCode::None, ErrorCode::MemberIdRequired];
        if keeps_id.iter().any(|error| error.code() == response.error_code) {
            client.member_id = response.member_id.clone();
        } else if response.error_code == ErrorCode::UnknownMemberId.code() {
            client.member_id = StrBytes::default();
        }
        if response.error_code != 0 {
            return;
        }
        client.generation = response.generation_id;
        client.members = response.members.iter().map(|member| member.member_id.clone()).collect();
        if !response.members.is_empty() {
            assert_eq!(response.leader, response.member_id);
        }
        let group = group_of(index);
        let newest = (response.generation_id, response.protocol_name.clone());
        let told = self.told.entry(group).or_insert_with(|| newest.clone());
        assert!(newest.0 >= told.0, "generation {} after {}", newest.0, told.0);
        if told.0 == newest.0 {
            assert_eq!(told.1, newest.1, "two protocols in generation {}", newest.0);
        }
        *told = newest;
    }

    /// Everybody falls silent.
    fn end(&mut self) {
        self.host.release();
        self.host.wait(60 * 60 * 1000);
        self.observe();
        assert_eq!(self.host.waiting().count(), 0, "someone still waits");
        assert_eq!(self.host.shard.next_deadline(), None, "a timer is left");
        for group in self.host.shard.list_groups(&ListGroupsRequest::default()) {
            assert_eq!(&*group.group_state, "Empty");
        }
        assert_eq!(self.host.shard.store(), self.host.twin().store());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]
    #[test]
    fn random_histories(steps in proptest::collection::vec(any_step(), 1..120)) {
        let mut history = History::new();
        for step in &steps {
            history.step(step);
        }
        history.end();
    }
}
