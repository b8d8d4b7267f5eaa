//! Groups and their members.

use std::collections::BTreeMap;

use ottla_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, LeaveGroupRequest, ListGroupsRequest,
};
use ottla_protocol::{BrokerId, StrBytes, TopicPartition, decode_consumer_assignment, message};

use super::routing::{checked, complete};
use super::{Admin, Answers};
use crate::{ClientError, CoordinatorKey};

/// From these versions on ListGroups filters by state (KIP-518) and by type (KIP-848).
const FIRST_VERSION_WITH_STATES: i16 = 4;
const FIRST_VERSION_WITH_TYPES: i16 = 5;
/// From this version on members leave in a list (KIP-345).
const FIRST_LEAVE_OF_MANY: i16 = 3;
const NEWEST: i16 = i16::MAX;

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// What its members speak: `consumer`, or empty.
    pub protocol_type: String,
    /// Its state, as `Stable`; empty if the broker is too old to say.
    pub state: String,
    /// `Classic`, `Consumer`, …; empty if the broker is too old to say.
    pub kind: String,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// The broker that coordinates it.
    pub coordinator: BrokerId,
    /// Where that broker is: `host:port`.
    pub coordinator_address: String,
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable` or `Dead`.
    pub state: String,
    /// What its members speak: `consumer`, or empty.
    pub protocol_type: String,
    /// The assignor that its leader uses.
    pub assignor: String,
    /// Its members.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// What the coordinator calls it.
    pub member_id: String,
    /// `group.instance.id`, of a static member.
    pub group_instance_id: Option<String>,
    /// `client.id`.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// What it has to read.
    pub assignment: Vec<TopicPartition>,
}

/// Who is to leave a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberToRemove {
    /// A member by the id the coordinator gave it.
    MemberId(String),
    /// A static member by its `group.instance.id` (KIP-345).
    InstanceId(String),
}

impl Admin {
    /// The groups of all brokers, by id; those in `states` and of `kinds` if any are named.
    pub async fn list_groups(
        &self,
        states: &[&str],
        kinds: &[&str],
    ) -> Result<BTreeMap<String, GroupListing>, ClientError> {
        let texts = |texts: &[&str]| texts.iter().map(|text| StrBytes::from(*text)).collect();
        let mut groups = BTreeMap::new();
        for broker in self.brokers().await? {
            let version = self.client.broker(broker).await?.version_of::<ListGroupsRequest>()?;
            let mut request = ListGroupsRequest::default();
            if version >= FIRST_VERSION_WITH_STATES {
                request.states_filter = texts(states);
            }
            if version >= FIRST_VERSION_WITH_TYPES {
                request.types_filter = texts(kinds);
            }
            let response =
                self.ask_broker(broker, &request, |it| checked(it.error_code, None)).await?;
            groups.extend(response.groups.into_iter().map(|row| {
                let listing = GroupListing {
                    protocol_type: row.protocol_type.into_string(),
                    state: row.group_state.into_string(),
                    kind: row.group_type.into_string(),
                };
                (row.group_id.into_string(), listing)
            }));
        }
        Ok(groups)
    }

    /// State, members and assignments of groups.
    ///
    /// A group that is not there is `GROUP_ID_NOT_FOUND`, or `Dead` if the broker is older than
    /// KIP-1043.
    pub async fn describe_groups(
        &self,
        groups: &[&str],
    ) -> Result<Answers<String, GroupDescription>, ClientError> {
        let mut answers = Answers::new();
        for group in groups {
            let request = message!(DescribeGroupsRequest { groups: vec![StrBytes::from(*group)] });
            // Whether the coordinator is the right one is said of each group.
            let answer = self
                .ask_coordinator(group, &request, NEWEST, |it| {
                    it.groups
                        .iter()
                        .try_for_each(|row| checked(row.error_code, row.error_message.clone()))
                })
                .await;
            let response = match answer {
                Err(error @ ClientError::Refused { .. }) => {
                    answers.insert((*group).to_owned(), Err(error));
                    continue;
                }
                answer => answer?,
            };
            let key = CoordinatorKey::Group((*group).to_owned());
            let coordinator = self.client.coordinator_address(&key).await?;
            for row in response.groups {
                let id = row.group_id.as_str().to_owned();
                answers.insert(id, description(row, coordinator.clone()));
            }
        }
        Ok(complete(answers, groups.iter().map(|group| (*group).to_owned())))
    }

    /// Deletes groups that have no members, and their offsets (KIP-229).
    pub async fn delete_groups(&self, groups: &[&str]) -> Result<Answers<String>, ClientError> {
        let mut answers = Answers::new();
        for group in groups {
            let request =
                message!(DeleteGroupsRequest { groups_names: vec![StrBytes::from(*group)] });
            let answer = self
                .ask_coordinator(group, &request, NEWEST, |it| {
                    it.results
                        .iter()
                        .try_for_each(|row| checked(row.error_code, row.error_message.clone()))
                })
                .await;
            let answer = match answer {
                Ok(_) => Ok(()),
                Err(error @ ClientError::Refused { .. }) => Err(error),
                Err(error) => return Err(error),
            };
            answers.insert((*group).to_owned(), answer);
        }
        Ok(answers)
    }

    /// Makes members leave a group (KIP-345). One that comes back joins anew.
    pub async fn remove_members(
        &self,
        group: &str,
        members: &[MemberToRemove],
        reason: &str,
    ) -> Result<Answers<MemberToRemove>, ClientError> {
        let key = CoordinatorKey::Group(group.to_owned());
        let coordinator = self.retried(|| self.client.coordinator_once(&key)).await?;
        let version = coordinator.version_of::<LeaveGroupRequest>()?;
        if version < FIRST_LEAVE_OF_MANY {
            return Err(ClientError::Nonsense(
                "this broker cannot remove members by id (KIP-345)".to_owned(),
            ));
        }
        // From version 5 on with a reason (KIP-800).
        let reason = (version >= 5).then(|| StrBytes::from(reason));
        let rows = members.iter().map(|member| match member {
            MemberToRemove::MemberId(id) => message!(MemberIdentity {
                member_id: StrBytes::from(id.as_str()),
                group_instance_id: None,
                reason: reason.clone(),
            }),
            MemberToRemove::InstanceId(id) => message!(MemberIdentity {
                group_instance_id: Some(StrBytes::from(id.as_str())),
                reason: reason.clone(),
            }),
        });
        let request = message!(LeaveGroupRequest {
            group_id: StrBytes::from(group),
            members: rows.collect(),
        });
        let response = self
            .ask_coordinator(group, &request, NEWEST, |it| checked(it.error_code, None))
            .await?;
        let answers = response.members.into_iter().map(|row| {
            let member = match row.group_instance_id {
                Some(id) => MemberToRemove::InstanceId(id.into_string()),
                None => MemberToRemove::MemberId(row.member_id.into_string()),
            };
            (member, checked(row.error_code, None))
        });
        Ok(complete(answers.collect(), members.iter().cloned()))
    }
}

fn description(
    row: DescribedGroup,
    (coordinator, coordinator_address): (BrokerId, String),
) -> Result<GroupDescription, ClientError> {
    checked(row.error_code, row.error_message)?;
    let protocol_type = row.protocol_type.into_string();
    let members = row.members.into_iter().map(|row| member(row, &protocol_type)).collect();
    Ok(GroupDescription {
        coordinator,
        coordinator_address,
        state: row.group_state.into_string(),
        protocol_type,
        assignor: row.protocol_data.into_string(),
        members,
    })
}

fn member(row: DescribedGroupMember, protocol_type: &str) -> GroupMember {
    let mut assignment = Vec::new();
    // What other protocols assign only their members understand; while a group rebalances there
    // is nothing.
    if protocol_type == "consumer"
        && let Ok(decoded) = decode_consumer_assignment(row.member_assignment)
    {
        for topic in decoded.assigned_partitions {
            let name = topic.topic.as_str();
            assignment.extend(topic.partitions.iter().map(|it| TopicPartition::new(name, *it)));
        }
        assignment.sort();
    }
    GroupMember {
        member_id: row.member_id.into_string(),
        group_instance_id: row.group_instance_id.map(StrBytes::into_string),
        client_id: row.client_id.into_string(),
        host: row.client_host.into_string(),
        assignment,
    }
}
