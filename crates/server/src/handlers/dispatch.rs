//! From the bytes of a frame to the handler of its API, and from the answer back to bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::{
    ApiKey, Frame, Part, Request, RequestHeader, RequestHeaderError,
    unsupported_api_versions_response,
};
use tracing::error;

use super::bill::Bill;
use super::*;
use crate::broker::Broker;
use crate::network::{self, ConnectionContext, Outgoing, Reply};
use crate::replica::FetchedRecords;

/// Answers one request frame.
pub(crate) fn dispatch(
    broker: &Arc<Broker>,
    connection: &ConnectionContext,
    frame: Bytes,
) -> Reply {
    let (header, body) = match RequestHeader::decode(&frame) {
        Ok(decoded) => decoded,
        Err(RequestHeaderError::UnsupportedVersion { header, .. })
            if header.api_key == ApiKey::ApiVersions =>
        {
            // The one answer that every client understands, whatever it asked (KIP-511).
            return encode(unsupported_api_versions_response().into(), header.correlation_id, 0)
                .map_or_else(Reply::Close, |parts| Reply::Ready(parts.into()));
        }
        Err(reason) => return Reply::Close(reason.to_string()),
    };
    if controller_apis::is_for_the_controller(header.api_key) && !broker.leads_the_quorum() {
        return forward(broker, connection, &frame);
    }
    let bytes = frame.len();
    drop(frame);
    // Only records are worth keeping as slices of the connection's buffer. What other requests name may live long (a member
    // of a group, a partition of a fetch session) and must not keep that buffer alive.
    let body = if header.api_key == ApiKey::Produce { body } else { Bytes::copy_from_slice(&body) };
    let request = match Request::decode(&header, body) {
        Ok(request) => request,
        Err(reason) => return Reply::Close(format!("{}: {reason}", header.api_key)),
    };
    let context = RequestContext { connection: Arc::clone(connection), header };
    let mut bill = Bill::open(broker.env(), broker.quotas(), &context, bytes);
    let answer = Bill::work(&mut bill, || handle(broker, &context, request));
    reply(answer, bill, (context.header.correlation_id, context.header.api_version))
}

/// Passes a request on to the active controller (KIP-590), and its answer back. Later requests of the connection wait: they may
/// build on what this one changes.
fn forward(broker: &Arc<Broker>, connection: &ConnectionContext, frame: &Bytes) -> Reply {
    let (broker, connection) = (Arc::clone(broker), Arc::clone(connection));
    let frame = Bytes::copy_from_slice(frame);
    Reply::Held(Box::pin(async move {
        let answer = broker.forward(&connection, frame).await;
        let (answer, throttle) =
            answer.map_err(|reason| format!("could not pass a request on: {reason}"))?;
        let length = i32::try_from(answer.len()).map_err(|reason| reason.to_string())?;
        let length = Bytes::copy_from_slice(&length.to_be_bytes());
        let parts = vec![network::Part::Bytes(length), network::Part::Bytes(answer)];
        Ok(Outgoing { parts, throttle })
    }))
}

/// The reply to request `id`, its correlation id and version.
pub(super) fn reply(answer: Answer, mut bill: Option<Bill>, id: (i32, i16)) -> Reply {
    match answer {
        Answer::Now(response) => {
            respond(response, bill, id).map_or_else(Reply::Close, Reply::Ready)
        }
        Answer::Later(response) => Reply::Later(Box::pin(async move {
            let response = Bill::work_later(&mut bill, response).await;
            respond(response, bill, id)
        })),
        Answer::Held(response) => Reply::Held(Box::pin(async move {
            let response = Bill::work_later(&mut bill, response).await;
            respond(response, bill, id)
        })),
        Answer::Nothing => bill.map_or(Reply::Nothing, |bill| Reply::Ready(silence(bill))),
        Answer::Unanswered(done) => Reply::Later(Box::pin(async move {
            done.await.map(|()| bill.map_or_else(|| Vec::new().into(), silence))
        })),
        Answer::Close(reason) => Reply::Close(reason),
    }
}

/// A response, and for how long its client has to be silent then.
fn respond(
    mut response: Response,
    bill: Option<Bill>,
    (correlation_id, version): (i32, i16),
) -> Result<Outgoing, String> {
    let throttle = bill.map_or(Duration::ZERO, |bill| bill.settle(&mut response));
    let parts = encode(response, correlation_id, version)?;
    Ok(Outgoing { parts, throttle })
}

/// No response, and for how long the client has to be silent all the same.
fn silence(bill: Bill) -> Outgoing {
    Outgoing { parts: Vec::new(), throttle: bill.settle_unanswered() }
}

fn handle(broker: &Arc<Broker>, context: &RequestContext, request: Request) -> Answer {
    match request {
        Request::Produce(request) => produce::handle(broker, context, request),
        Request::Fetch(request) => fetch::handle(broker, context, &request),
        Request::ListOffsets(request) => list_offsets::handle(broker, context, &request),
        Request::Metadata(request) => metadata::handle(broker, context, request),
        Request::OffsetCommit(request) => offset_commit::handle(broker, context, request),
        Request::OffsetFetch(request) => offset_fetch::handle(broker, context, request),
        Request::FindCoordinator(request) => find_coordinator::handle(broker, context, request),
        Request::JoinGroup(request) => join_group::handle(broker, context, &request),
        Request::Heartbeat(request) => heartbeat::handle(broker, &request),
        Request::LeaveGroup(request) => leave_group::handle(broker, context, &request),
        Request::SyncGroup(request) => sync_group::handle(broker, context, &request),
        Request::DescribeGroups(request) => describe_groups::handle(broker, context, &request),
        Request::ListGroups(request) => list_groups::handle(broker, &request),
        Request::ApiVersions(request) => api_versions::handle(broker, context, &request),
        Request::DeleteRecords(request) => delete_records::handle(broker, &request),
        Request::InitProducerId(request) => init_producer_id::handle(broker, &request),
        Request::OffsetForLeaderEpoch(request) => offset_for_leader_epoch::handle(broker, &request),
        Request::DescribeConfigs(request) => describe_configs::handle(broker, &request),
        Request::AlterConfigs(request) => alter_configs::handle(broker, context, request),
        Request::DeleteGroups(request) => delete_groups::handle(broker, &request),
        Request::ListPartitionReassignments(request) => {
            list_partition_reassignments::handle(broker, &request)
        }
        Request::DescribeProducers(request) => describe_producers::handle(broker, &request),
        Request::IncrementalAlterConfigs(request) => {
            incremental_alter_configs::handle(broker, context, request)
        }
        Request::OffsetDelete(request) => offset_delete::handle(broker, request),
        Request::DescribeClientQuotas(request) => describe_client_quotas::handle(broker, &request),
        Request::GetTelemetrySubscriptions(request) => {
            get_telemetry_subscriptions::handle(broker, context, &request)
        }
        Request::PushTelemetry(request) => push_telemetry::handle(broker, context, request),
        Request::ListConfigResources(request) => {
            list_config_resources::handle(broker, context, &request)
        }
        Request::DescribeCluster(request) => describe_cluster::handle(broker, context, &request),
        Request::AlterReplicaLogDirs(request) => alter_replica_log_dirs::handle(broker, request),
        Request::DescribeLogDirs(request) => describe_log_dirs::handle(broker, request),
        Request::DescribeTopicPartitions(request) => {
            describe_topic_partitions::handle(broker, context, &request)
        }
        request @ (Request::CreateTopics(_)
        | Request::DeleteTopics(_)
        | Request::CreatePartitions(_)
        | Request::ElectLeaders(_)
        | Request::AlterPartitionReassignments(_)
        | Request::AlterClientQuotas(_)
        | Request::UpdateFeatures(_)
        | Request::UnregisterBroker(_)
        | Request::AddRaftVoter(_)
        | Request::RemoveRaftVoter(_)
        | Request::DescribeQuorum(_)) => match broker.channel().here() {
            Some(host) => controller_apis::handle(host, context, request),
            None => Answer::Close("the active controller has just changed: ask again".to_owned()),
        },
        request @ (Request::AlterPartition(_)
        | Request::Envelope(_)
        | Request::BrokerRegistration(_)
        | Request::BrokerHeartbeat(_)
        | Request::AllocateProducerIds(_)
        | Request::AssignReplicasToDirs(_)) => {
            Answer::Close(format!("{} is for listeners of controllers", request.api_key()))
        }
    }
}

/// The bytes and file ranges of a response, or why there are none.
pub(super) fn encode(
    response: Response,
    correlation_id: i32,
    version: i16,
) -> Result<Vec<network::Part>, String> {
    let api = response.api_key();
    response.encode(correlation_id, version).map(parts).map_err(|reason| {
        error!(%api, version, %reason, "a handler made a response that its version cannot carry");
        format!("the response of {api} version {version} could not be encoded")
    })
}

pub(super) fn parts(frame: Frame<FetchedRecords>) -> Vec<network::Part> {
    let mut parts = Vec::with_capacity(frame.parts.len());
    for part in frame.parts {
        match part {
            Part::Bytes(bytes) => parts.push(network::Part::Bytes(bytes)),
            Part::Records(records) => parts.extend(records.into_parts()),
        }
    }
    parts
}
