//! DescribeGroups, ListGroups and DeleteGroups.

use std::collections::BTreeSet;

use ottla_protocol::messages::ListGroupsRequest;
use ottla_protocol::messages::delete_groups_response::DeletableGroupResult;
use ottla_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use ottla_protocol::messages::list_groups_response::ListedGroup;
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::classic_group::{ClassicGroup, GroupState};
use super::offset_commit::offset_tombstone;
use super::{GroupCoordinator, Outcome};
use crate::records::{CoordinatorRecord, GroupMetadataKey};

/// From this version on an unknown group is an error, not a dead group (KIP-1043).
const FIRST_VERSION_WITH_GROUP_ID_NOT_FOUND: i16 = 6;
/// The type of every group here, as ListGroups 5 prints it.
const CLASSIC: &str = "classic";

impl GroupCoordinator {
    /// One group for DescribeGroups. The host fills in `authorized_operations`.
    pub fn describe_group(&self, group_id: &StrBytes, api_version: i16) -> DescribedGroup {
        let Some(group) = self.group(group_id) else {
            let mut dead = message!(DescribedGroup {
                group_id: group_id.clone(),
                group_state: StrBytes::from("Dead"),
            });
            if api_version >= FIRST_VERSION_WITH_GROUP_ID_NOT_FOUND {
                dead.error_code = ErrorCode::GroupIdNotFound.code();
                dead.error_message = Some(StrBytes::from(format!("Group {group_id} not found.")));
            }
            return dead;
        };
        // Before the group is stable what its members agreed on is not settled.
        let protocol = group.protocol().filter(|_| group.state() == GroupState::Stable);
        message!(DescribedGroup {
            group_id: group_id.clone(),
            group_state: StrBytes::from(group.state().name()),
            protocol_type: group.protocol_type().cloned().unwrap_or_default(),
            protocol_data: protocol.cloned().unwrap_or_default(),
            members: describe_members(&group, protocol),
        })
    }

    /// Groups for ListGroups, by state and by type, neither minding case. No filter takes all.
    pub fn list_groups(&self, request: &ListGroupsRequest) -> Vec<ListedGroup> {
        let states = lower_case(&request.states_filter);
        let types = lower_case(&request.types_filter);
        if !types.is_empty() && !types.contains(CLASSIC) {
            return Vec::new();
        }
        let ids: BTreeSet<_> =
            self.store.groups().map(|(id, _)| id).chain(self.soft.groups.keys()).collect();
        ids.into_iter()
            .filter_map(|id| self.group(id))
            .filter(|group| {
                states.is_empty() || states.contains(&group.state().name().to_lowercase())
            })
            .map(|group| {
                message!(ListedGroup {
                    group_id: group.id().clone(),
                    protocol_type: group.protocol_type().cloned().unwrap_or_default(),
                    group_state: StrBytes::from(group.state().name()),
                    group_type: StrBytes::from(CLASSIC),
                })
            })
            .collect()
    }

    /// Deletes groups without members, and all they committed.
    pub fn delete_groups(&self, group_ids: &[StrBytes]) -> Outcome<Vec<DeletableGroupResult>> {
        let mut records = Vec::new();
        let mut answer = Vec::with_capacity(group_ids.len());
        for group_id in group_ids {
            let error = match self.group(group_id) {
                None => ErrorCode::GroupIdNotFound,
                Some(group) if group.state() != GroupState::Empty => ErrorCode::NonEmptyGroup,
                Some(_) => {
                    for (topic, partitions) in
                        self.store.get(group_id).iter().flat_map(|stored| stored.offsets())
                    {
                        let tombstone = |it: &i32| offset_tombstone(group_id, topic, *it);
                        records.extend(partitions.keys().map(tombstone));
                    }
                    records.push(group_tombstone(group_id));
                    ErrorCode::None
                }
            };
            answer.push(message!(DeletableGroupResult {
                group_id: group_id.clone(),
                error_code: error.code(),
            }));
        }
        Outcome { records, answer }
    }
}

fn describe_members(
    group: &ClassicGroup,
    protocol: Option<&StrBytes>,
) -> Vec<DescribedGroupMember> {
    let described = group.members().map(|member| {
        message!(DescribedGroupMember {
            member_id: member.id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            member_metadata: protocol
                .map(|protocol| member.subscription.metadata(protocol))
                .unwrap_or_default(),
            member_assignment: member.assignment.clone(),
        })
    });
    described.collect()
}

fn lower_case(filter: &[StrBytes]) -> BTreeSet<String> {
    filter.iter().map(|name| name.trim().to_lowercase()).collect()
}

/// The record that says a group is gone.
pub(super) fn group_tombstone(group: &StrBytes) -> CoordinatorRecord {
    CoordinatorRecord::GroupMetadata { key: GroupMetadataKey { group: group.clone() }, value: None }
}
