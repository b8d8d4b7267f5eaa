//! Takes part in a group: joins, assigns if it leads, takes over what it is given, tells the
//! application. Kafka: `ConsumerCoordinator`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use ottla_protocol::messages::{
    JoinGroupRequest, JoinGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use ottla_protocol::{ErrorCode, Monotonic, StrBytes, TopicPartition, message};

use super::assignor::{Assignor, GroupMember, RebalanceProtocol};
use super::group_protocol::{
    PROTOCOL_TYPE, decode_assignment, decode_subscription, encode_assignment, encode_subscription,
};
use super::heartbeat::Place;
use super::listener::{Rebalance, RebalanceListener};
use super::membership::{Identity, Membership, Settings, Turn};
use super::{Consumer, ConsumerError, ConsumerOptions, Event, heartbeat};
use crate::silence::Patience;
use crate::{Client, ClientError, Connection, CoordinatorKey};

/// From this version on a reason is given (KIP-800).
const FIRST_JOIN_VERSION_WITH_REASON: i16 = 8;
/// From this version on the protocol is said again (KIP-559).
const FIRST_SYNC_VERSION_WITH_PROTOCOL: i16 = 5;
/// How much longer than `max.poll.interval.ms` JoinGroup is waited for: the coordinator answers
/// when that is over.
const JOIN_GRACE: Duration = Duration::from_secs(5);

/// The consumer's part in a group.
pub(super) struct Group {
    pub(super) place: Arc<Place>,
    task: ottla_env::TaskHandle,
    protocol: RebalanceProtocol,
    /// What it said to be subscribed to when it last joined.
    joined_topics: BTreeSet<String>,
    /// If it leads: the topics of all members, and how many partitions each had.
    led: Option<BTreeMap<String, i32>>,
    preparing: Option<Preparing>,
    /// What it is given in a generation that it has not taken over yet.
    given: Option<Vec<TopicPartition>>,
    /// What it was given last, and in which generation: sticky assignors go by that.
    last: (Vec<TopicPartition>, Option<i32>),
}

/// How far the preparations of a join are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preparing {
    /// What was handed out is being committed.
    Committing,
    /// The listener was told, and what it wants committed is being committed.
    Told,
}

/// A place that was given in a join, and what it takes to hold it.
pub(super) struct Joined {
    response: JoinGroupResponse,
    identity: Identity,
}

impl Drop for Group {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Group {
    pub(super) fn new(client: &Client, group: String, options: &ConsumerOptions) -> Self {
        let settings = Settings {
            heartbeat_interval: options.heartbeat_interval,
            max_poll_interval: options.max_poll_interval,
            retry_backoff: client.options().retry_backoff,
            is_static: options.group_instance_id.is_some(),
        };
        let env = client.env();
        let mut membership = Membership::new(settings, env.clock.now());
        // Nothing is subscribed to yet.
        membership.leave();
        let place = Arc::new(Place {
            membership: membership.into(),
            wake_task: tokio::sync::Notify::new(),
            wake_consumer: tokio::sync::Notify::new(),
            client: client.clone(),
            key: CoordinatorKey::Group(group.clone()),
            group,
            instance_id: options.group_instance_id.clone(),
        });
        let task = env.spawn("consumer heartbeat", heartbeat::run(Arc::clone(&place)));
        let cooperative = |it: &Arc<dyn Assignor>| it.protocol() == RebalanceProtocol::Cooperative;
        let protocol = match options.assignors.iter().all(cooperative) {
            true => RebalanceProtocol::Cooperative,
            false => RebalanceProtocol::Eager,
        };
        Self {
            place,
            task,
            protocol,
            joined_topics: BTreeSet::new(),
            led: None,
            preparing: None,
            given: None,
            last: (Vec::new(), None),
        }
    }

    /// All topics whose partitions it has to know.
    pub(super) fn led_topics(&self) -> impl Iterator<Item = &String> {
        self.led.iter().flat_map(BTreeMap::keys)
    }
}

impl Consumer {
    /// Goes on with whatever the membership has to do.
    pub(super) fn step_group(&mut self, now: Monotonic) {
        if !self.subscription.is_of_group() || !self.subscription.is_known() {
            return;
        }
        self.take_over(now);
        let Some(group) = &mut self.group else { return };
        match group.preparing {
            // Callbacks come after all commits that were begun before.
            Some(_) if self.commits.is_busy() => return,
            Some(Preparing::Committing) => {
                group.preparing = Some(Preparing::Told);
                let revoked = self.given_up_before_join();
                self.give_up(&revoked, false);
                // What was to go when the commits began, and is subscribed to again.
                self.partitions.map.values_mut().for_each(|state| state.leaving = false);
                if self.commits.is_busy() {
                    return;
                }
            }
            Some(Preparing::Told) | None => {}
        }
        let Some(group) = &mut self.group else { return };
        if group.preparing == Some(Preparing::Told) {
            group.preparing = None;
            group.place.membership.lock().prepared();
        }
        loop {
            let Some(group) = &mut self.group else { return };
            let turn = group.place.membership.lock().turn(now);
            match turn {
                Turn::Wait(until) => {
                    if let Some(until) = until {
                        self.wake_at(until);
                    }
                    return;
                }
                Turn::Prepare { lost: true } => {
                    let all: Vec<_> = self.partitions.names().into_iter().collect();
                    self.give_up(&all, true);
                    if let Some(group) = &self.group {
                        group.place.membership.lock().prepared();
                    }
                }
                Turn::Prepare { lost: false } => {
                    group.preparing = Some(Preparing::Committing);
                    let leaving = self.given_up_before_join();
                    self.of(&leaving).for_each(|state| state.leaving = true);
                    if self.options.auto_commit {
                        self.commit_consumed();
                    }
                    self.changed = true;
                    return;
                }
                Turn::Join(identity) => return self.join(identity),
                Turn::Rejected(code) => {
                    let all: Vec<_> = self.partitions.names().into_iter().collect();
                    self.give_up(&all, true);
                    let Some(group) = &self.group else { return };
                    self.errors.push_back(ConsumerError::rejected(&group.place.group, code));
                    return;
                }
            }
        }
    }

    /// What is given up before a join: with an eager protocol everything, else what nobody is
    /// subscribed to any more.
    fn given_up_before_join(&self) -> Vec<TopicPartition> {
        let eager = self.group.as_ref().is_none_or(|it| it.protocol == RebalanceProtocol::Eager);
        let topics = self.subscribed_topics();
        let owned = self.partitions.map.keys();
        owned.filter(|it| eager || !topics.contains(&*it.topic)).cloned().collect()
    }

    /// Reads `partitions` no longer, and tells the listener before.
    pub(super) fn give_up(&mut self, partitions: &[TopicPartition], lost: bool) {
        if partitions.is_empty() {
            return;
        }
        self.tell(|listener, rebalance| match lost {
            true => listener.lost(rebalance, partitions),
            false => listener.revoked(rebalance, partitions),
        });
        self.partitions.map.retain(|it, _| !partitions.contains(it));
        self.fetcher.discard(|it| partitions.contains(it));
    }

    /// Calls the listener, and begins the commits that it wants.
    fn tell(&mut self, call: impl FnOnce(&mut dyn RebalanceListener, &mut Rebalance<'_>)) {
        let Some(mut listener) = self.listener.take() else { return };
        let now = self.client.env().clock.now();
        let commits = BTreeMap::new();
        let mut rebalance = Rebalance { partitions: &mut self.partitions, commits, now };
        call(&mut *listener, &mut rebalance);
        let commits = rebalance.commits;
        self.listener = Some(listener);
        // A seek of the listener leaves nothing of what was fetched before.
        let partitions = &self.partitions;
        self.fetcher.discard(|it| partitions.map.get(it).is_none_or(|state| state.buffered == 0));
        if !commits.is_empty() {
            self.start_commit(commits, None);
        }
    }

    fn join(&mut self, identity: Identity) {
        let topics = self.subscribed_topics();
        let Some(group) = &mut self.group else { return };
        group.joined_topics.clone_from(&topics);
        group.led = None;
        let owned: Vec<_> = self.partitions.map.keys().cloned().collect();
        let generation = Some(identity.generation).filter(|it| *it >= 0);
        let rack = Some(self.options.client_rack.clone()).filter(|rack| !rack.is_empty());
        let protocols = self.options.assignors.iter().map(|assignor| {
            let member = GroupMember {
                topics: topics.iter().cloned().collect(),
                user_data: assignor.user_data(&group.last.0, group.last.1),
                owned: owned.clone(),
                generation,
                rack: rack.clone(),
                ..GroupMember::default()
            };
            message!(JoinGroupRequestProtocol {
                name: StrBytes::from(assignor.name()),
                metadata: encode_subscription(&member),
            })
        });
        let millis = |duration: Duration| i32::try_from(duration.as_millis()).unwrap_or(i32::MAX);
        let request = message!(JoinGroupRequest {
            group_id: StrBytes::from(group.place.group.as_str()),
            session_timeout_ms: millis(self.options.session_timeout),
            rebalance_timeout_ms: millis(self.options.max_poll_interval),
            member_id: StrBytes::from(identity.member_id.as_str()),
            group_instance_id: group.place.instance_id.as_deref().map(StrBytes::from),
            protocol_type: StrBytes::from(PROTOCOL_TYPE),
            protocols: protocols.collect(),
        });
        let place = Arc::clone(&group.place);
        let limit = self.options.max_poll_interval.saturating_add(JOIN_GRACE);
        self.metrics.rebalances += 1;
        self.start(async move { Event::Joined(join_group(&place, request, limit).await) });
    }

    /// JoinGroup was answered. The leader assigns.
    pub(super) fn joined(&mut self, result: Result<JoinGroupResponse, ClientError>) {
        let Some(group) = &mut self.group else { return };
        let now = self.client.env().clock.now();
        let mut membership = group.place.membership.lock();
        let response = match result {
            Ok(response) => response,
            Err(error) => return membership.join_failed(now, &error),
        };
        let code = ErrorCode::from_wire(response.error_code);
        if code == ErrorCode::MemberIdRequired {
            return membership.named(response.member_id.into_string());
        }
        if !code.is_none() {
            return membership.join_failed(now, &ClientError::refused(code));
        }
        let member_id = response.member_id.as_str().to_owned();
        let identity = Identity { member_id, generation: response.generation_id };
        if !membership.joined(identity.clone()) {
            return;
        }
        drop(membership);
        let place = Arc::clone(&group.place);
        let assignors = self.options.assignors.clone();
        let may_create = self.options.allow_auto_create_topics;
        let joined = Joined { response, identity };
        self.start(async move {
            Event::Synced(sync_group(&place, &assignors, joined, may_create).await)
        });
    }

    /// SyncGroup was answered: what to read from the next poll on.
    pub(super) fn synced(&mut self, result: Result<Synced, ClientError>) {
        let Some(group) = &mut self.group else { return };
        let now = self.client.env().clock.now();
        let mut membership = group.place.membership.lock();
        let synced = match result {
            Ok(synced) => synced,
            Err(error) => return membership.join_failed(now, &error),
        };
        let Some(assigned) = decode_assignment(synced.assignment) else {
            let text = "the leader of the group sent an assignment that cannot be decoded";
            membership.join_failed(now, &ClientError::Nonsense(text.to_owned()));
            drop(membership);
            self.errors.push_back(ClientError::Nonsense(text.to_owned()).into());
            return;
        };
        if !membership.synced(now) {
            return;
        }
        group.last = (assigned.clone(), Some(membership.identity().generation));
        drop(membership);
        group.led = synced.led;
        group.given = Some(assigned);
        group.place.wake_task.notify_one();
    }

    /// Reads what it is given from now on.
    fn take_over(&mut self, now: Monotonic) {
        let Some(group) = &mut self.group else { return };
        let Some(given) = group.given.take() else { return };
        // The place may be lost since.
        if !group.place.membership.lock().took_over() {
            return;
        }
        self.exchange(given, now);
        // What was subscribed to, or began to match, while this was under way.
        let topics = self.subscribed_topics();
        if let Some(group) = self.group.as_ref().filter(|it| it.joined_topics != topics) {
            group.place.membership.lock().want_rejoin();
        }
    }

    fn exchange(&mut self, assigned: Vec<TopicPartition>, now: Monotonic) {
        let assigned: BTreeSet<_> = assigned.into_iter().collect();
        let owned = self.partitions.names();
        let revoked: Vec<_> = owned.difference(&assigned).cloned().collect();
        if !revoked.is_empty() {
            // KIP-429: what was given up is given out in another rebalance.
            if self.options.auto_commit {
                self.commit_consumed();
            }
            self.give_up(&revoked, false);
            if let Some(group) = &self.group {
                group.place.membership.lock().want_rejoin();
            }
        }
        self.partitions.assign(&assigned, now);
        let added: Vec<_> = assigned.difference(&owned).cloned().collect();
        self.metadata.wanted |= !added.is_empty();
        self.tell(|listener, rebalance| listener.assigned(rebalance, &added));
        self.changed = true;
    }

    /// New metadata came: topics may match a pattern that did not, partitions may have come.
    pub(super) fn check_subscription(&mut self) {
        if !self.subscription.is_of_group() {
            return;
        }
        let topics = self.subscribed_topics();
        let metadata = self.client.metadata();
        let Some(group) = &self.group else { return };
        let count = |topic: &String| {
            let found = metadata.topics.get(topic).filter(|it| it.error_code.is_none());
            i32::try_from(found.map_or(0, |it| it.partitions.len())).unwrap_or(i32::MAX)
        };
        let grown = group.led.iter().flatten().any(|(topic, known)| count(topic) != *known);
        let mut membership = group.place.membership.lock();
        if membership.is_stable() && (grown || topics != group.joined_topics) {
            membership.want_rejoin();
            self.changed = true;
        }
    }
}

async fn join_group(
    place: &Place,
    mut request: JoinGroupRequest,
    limit: Duration,
) -> Result<JoinGroupResponse, ClientError> {
    let join = |connection: Connection| async move {
        if connection.version_of::<JoinGroupRequest>()? >= FIRST_JOIN_VERSION_WITH_REASON {
            request.reason = Some(StrBytes::from("the consumer polls"));
        }
        connection.call_within(&request, limit).await
    };
    let result = place.client.ask_coordinator_once(&place.key, Patience::LONG, join).await;
    let code = result.as_ref().map_or(ErrorCode::None, |it| ErrorCode::from_wire(it.error_code));
    if ClientError::refused(code).is_coordinator_lost() {
        place.client.forget_coordinator(&place.key);
    }
    result
}

/// What SyncGroup brought.
pub(super) struct Synced {
    assignment: Bytes,
    /// Of the leader: the topics of all members, and how many partitions each has.
    led: Option<BTreeMap<String, i32>>,
}

async fn sync_group(
    place: &Place,
    assignors: &[Arc<dyn Assignor>],
    Joined { response, identity }: Joined,
    may_create: bool,
) -> Result<Synced, ClientError> {
    let mut request = message!(SyncGroupRequest {
        group_id: StrBytes::from(place.group.as_str()),
        generation_id: identity.generation,
        member_id: response.member_id.clone(),
        group_instance_id: place.instance_id.as_deref().map(StrBytes::from),
    });
    let mut led = None;
    if response.leader == response.member_id {
        let (topics, assignments) = lead(place, assignors, &response, may_create).await?;
        // KIP-814: a static leader that came back leaves everything as it is.
        if !response.skip_assignment {
            request.assignments = assignments;
        }
        led = Some(topics);
    }
    let sync = |connection: Connection| async move {
        if connection.version_of::<SyncGroupRequest>()? >= FIRST_SYNC_VERSION_WITH_PROTOCOL {
            request.protocol_type = Some(StrBytes::from(PROTOCOL_TYPE));
            request.protocol_name = response.protocol_name;
        }
        let answer: SyncGroupResponse = connection.call(&request).await?;
        ClientError::check(ErrorCode::from_wire(answer.error_code), None)?;
        Ok(answer.assignment)
    };
    // It waits for the member that assigns.
    let assignment = place.client.ask_coordinator_once(&place.key, Patience::LONG, sync).await?;
    Ok(Synced { assignment, led })
}

/// Assigns for all members: the partitions of their topics, and who gets which.
async fn lead(
    place: &Place,
    assignors: &[Arc<dyn Assignor>],
    response: &JoinGroupResponse,
    may_create: bool,
) -> Result<(BTreeMap<String, i32>, Vec<SyncGroupRequestAssignment>), ClientError> {
    let chosen = response.protocol_name.as_ref().map_or("", |name| name.as_str());
    let assignor = assignors.iter().find(|it| it.name() == chosen).ok_or_else(|| {
        ClientError::Nonsense(format!(
            "the group chose the assignor {chosen:?}, which this member has not"
        ))
    })?;
    let mut members = Vec::new();
    for row in &response.members {
        // A member that cannot be understood gets nothing.
        let said = decode_subscription(row.metadata.clone()).unwrap_or_default();
        members.push(GroupMember {
            id: row.member_id.as_str().to_owned(),
            instance_id: row.group_instance_id.as_ref().map(|it| it.as_str().to_owned()),
            ..said
        });
    }
    let topics: BTreeSet<_> = members.iter().flat_map(|it| &it.topics).collect();
    let asked: Vec<&str> = topics.iter().map(|topic| topic.as_str()).collect();
    let metadata = place.client.query_metadata(Some(&asked), may_create).await?;
    let count = |topic: &&String| {
        let found = metadata.topics.get(*topic).filter(|it| it.error_code.is_none());
        let count = found.map_or(0, |it| it.partitions.len());
        ((*topic).clone(), i32::try_from(count).unwrap_or(i32::MAX))
    };
    let counts: BTreeMap<_, _> = topics.iter().map(count).collect();
    let existing = counts.iter().filter(|(_, count)| **count > 0);
    let existing: BTreeMap<_, _> = existing.map(|(topic, count)| (topic.clone(), *count)).collect();
    let assignment = assignor.assign(&members, &existing);
    let rows = assignment.iter().map(|(member, assigned)| {
        message!(SyncGroupRequestAssignment {
            member_id: StrBytes::from(member.as_str()),
            assignment: encode_assignment(assigned),
        })
    });
    Ok((counts, rows.collect()))
}
