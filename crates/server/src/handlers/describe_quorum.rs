//! DescribeQuorum: who agrees on the metadata log, and how far each has come (KIP-595, KIP-836, KIP-853).

use std::sync::Arc;

use ottla_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use ottla_protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use ottla_protocol::topic_name::CLUSTER_METADATA_TOPIC;
use ottla_protocol::{BrokerId, ErrorCode, StrBytes, Uuid, message};

use super::{Answer, RequestContext};
use crate::controller_host::ControllerHost;
use crate::quorum::{QuorumDescription, ReplicaState as State};

/// From this version on voters are told with their directories and addresses (KIP-853).
const FIRST_VERSION_WITH_PLACES: i16 = 2;

pub(super) fn handle(
    host: &Arc<ControllerHost>,
    context: &RequestContext,
    request: &DescribeQuorumRequest,
) -> Answer {
    let quorum = host.quorum().describe();
    let response = if !asks_for_the_quorum(request) {
        refuse(request, ErrorCode::UnknownTopicOrPartition)
    } else if quorum.leader.leader != Some(host.config().node.node_id.0) {
        refuse(request, ErrorCode::NotLeaderOrFollower)
    } else {
        describe(host, &quorum, context.version() >= FIRST_VERSION_WITH_PLACES)
    };
    Answer::now(response)
}

/// There is one log to ask for, and nothing may be asked for beside it.
fn asks_for_the_quorum(request: &DescribeQuorumRequest) -> bool {
    let [topic] = &request.topics[..] else { return false };
    let [partition] = &topic.partitions[..] else { return false };
    topic.topic_name.as_str() == CLUSTER_METADATA_TOPIC && partition.partition_index == 0
}

fn describe(
    host: &ControllerHost,
    quorum: &QuorumDescription,
    with_places: bool,
) -> DescribeQuorumResponse {
    let replicas = |states: &[State]| {
        states.iter().map(|state| replica(state, with_places)).collect::<Vec<_>>()
    };
    let nodes = quorum.voters.iter().filter(|_| with_places).map(|voter| {
        let listeners = listeners(host, quorum, voter.node_id);
        message!(Node { node_id: voter.node_id, listeners: listeners })
    });
    let partition = message!(PartitionData {
        error_message: None,
        leader_id: quorum.leader.leader.unwrap_or(-1),
        leader_epoch: quorum.leader.epoch,
        high_watermark: quorum.high_watermark,
        current_voters: replicas(&quorum.voters),
        observers: replicas(&quorum.observers),
    });
    message!(DescribeQuorumResponse {
        error_message: None,
        topics: vec![message!(TopicData {
            topic_name: StrBytes::from(CLUSTER_METADATA_TOPIC),
            partitions: vec![partition],
        })],
        nodes: nodes.collect(),
    })
}

/// Where a voter takes requests for the controller.
fn listeners(host: &ControllerHost, quorum: &QuorumDescription, voter: i32) -> Vec<Listener> {
    let name = host.config().node.controller_listener_names.first();
    let address = quorum.addresses.iter().find(|it| it.node_id == voter && !it.host.is_empty());
    if let (Some(name), Some(address)) = (name, address) {
        return vec![message!(Listener {
            name: StrBytes::from(name.as_str()),
            host: StrBytes::from(address.host.as_str()),
            port: address.port,
        })];
    }
    // A node that is alone takes them where it takes all others.
    let image = host.cache().image();
    let registered = image.broker(BrokerId(voter));
    let listeners = registered.iter().flat_map(|broker| &broker.listeners).map(|listener| {
        message!(Listener {
            name: StrBytes::from(&*listener.name),
            host: StrBytes::from(&*listener.host),
            port: listener.port,
        })
    });
    listeners.collect()
}

fn replica(state: &State, with_place: bool) -> ReplicaState {
    message!(ReplicaState {
        replica_id: state.node_id,
        replica_directory_id: if with_place { state.directory_id } else { Uuid::ZERO },
        log_end_offset: state.log_end_offset,
        last_fetch_timestamp: state.last_fetch_timestamp,
        last_caught_up_timestamp: state.last_caught_up_timestamp,
    })
}

fn refuse(request: &DescribeQuorumRequest, error: ErrorCode) -> DescribeQuorumResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            message!(PartitionData {
                partition_index: partition.partition_index,
                error_code: error.code(),
                error_message: Some(StrBytes::from(error.message())),
            })
        });
        message!(TopicData {
            topic_name: topic.topic_name.clone(),
            partitions: partitions.collect()
        })
    });
    message!(DescribeQuorumResponse { error_message: None, topics: topics.collect() })
}
