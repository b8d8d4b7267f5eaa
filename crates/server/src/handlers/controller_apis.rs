//! What the controller is asked: by other nodes on its own listener, by clients through their brokers. Kafka's
//! `ControllerApis`.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use ottla_metadata::{BrokerEpoch, Controller, Outcome};
use ottla_protocol::messages::{
    AllocateProducerIdsResponse, AlterPartitionResponse, ApiVersionsResponse,
    AssignReplicasToDirsResponse, BrokerHeartbeatRequest, BrokerHeartbeatResponse,
    BrokerRegistrationRequest, BrokerRegistrationResponse, DescribeClusterRequest,
    DescribeClusterResponse, EnvelopeRequest, EnvelopeResponse,
    describe_cluster_response::DescribeClusterBroker,
};
use ottla_protocol::newcomer::Newcomer;
use ottla_protocol::{
    ApiKey, BrokerId, ErrorCode, Frame, ListenerType, Part, Request, RequestHeader, StrBytes,
    controller_apis, encode_opaque_response, envelope, message, unsupported_api_versions_response,
};
use tracing::warn;

use super::bill::Bill;
use super::dispatch::{encode, parts};
use super::{
    Answer, RequestContext, Response, add_raft_voter, alter_client_quotas, alter_configs,
    alter_partition_reassignments, authorized_operations, create_partitions, create_topics,
    delete_topics, describe_quorum, elect_leaders, incremental_alter_configs, remove_raft_voter,
    unregister_broker, update_features,
};
use crate::controller_host::{ControllerError, ControllerHost};
use crate::metadata_cache::MetadataCache;
use crate::network::{Connection, ConnectionContext, Reply};
use crate::replica::FetchedRecords;

/// `endpoint_type`: controllers (KIP-919).
pub(crate) const CONTROLLERS: i8 = 2;

/// Whether the controller alone can answer: a broker passes such requests on (KIP-590).
pub(super) fn is_for_the_controller(api: ApiKey) -> bool {
    matches!(
        api,
        ApiKey::CreateTopics
            | ApiKey::DeleteTopics
            | ApiKey::CreatePartitions
            | ApiKey::ElectLeaders
            | ApiKey::AlterPartitionReassignments
            | ApiKey::AlterClientQuotas
            | ApiKey::UpdateFeatures
            | ApiKey::UnregisterBroker
            | ApiKey::AddRaftVoter
            | ApiKey::RemoveRaftVoter
            | ApiKey::DescribeQuorum
    )
}

/// What answers on the listeners of a controller. They are open before the controller is there: the voters of a new cluster
/// have to find each other first.
pub(crate) struct ControllerListener {
    /// Who this node is as long as it belongs to no cluster.
    pub(crate) newcomer: Newcomer,
    /// The cluster, as soon as this node belongs to one.
    pub(crate) cluster_id: OnceLock<String>,
    /// The controller, as soon as its log is open.
    pub(crate) host: OnceLock<Arc<ControllerHost>>,
}

impl ControllerListener {
    pub(crate) fn new(newcomer: Newcomer) -> Self {
        Self { newcomer, cluster_id: OnceLock::new(), host: OnceLock::new() }
    }

    /// Answers one request frame.
    pub(crate) fn dispatch(&self, connection: &ConnectionContext, frame: Bytes) -> Reply {
        use ottla_protocol::RequestHeaderError::UnsupportedVersion;
        let (header, body) = match RequestHeader::decode_on(ListenerType::Controller, &frame) {
            Ok(decoded) => decoded,
            Err(UnsupportedVersion { header, .. }) if header.api_key == ApiKey::ApiVersions => {
                return encode(
                    unsupported_api_versions_response().into(),
                    header.correlation_id,
                    0,
                )
                .map_or_else(Reply::Close, |parts| Reply::Ready(parts.into()));
            }
            Err(reason) => return Reply::Close(reason.to_string()),
        };
        let body = Bytes::copy_from_slice(&body);
        let id = (header.correlation_id, header.api_version);
        if header.api_key == ApiKey::QuorumMessage {
            return self.quorum_message(id.0, body);
        }
        let request = match Request::decode(&header, body) {
            Ok(request) => request,
            Err(reason) => return Reply::Close(format!("{}: {reason}", header.api_key)),
        };
        let context = RequestContext { connection: Arc::clone(connection), header };
        let answer = match (request, self.host.get()) {
            (Request::ApiVersions(_), _) => Answer::now(self.api_versions()),
            (Request::DescribeCluster(request), _) => Answer::now(self.describe_cluster(&request)),
            (request, Some(host)) => handle(host, &context, request),
            (request, None) => {
                let api = request.api_key();
                return Reply::NotYet(format!("{api}: the controller has not started yet"));
            }
        };
        super::dispatch::reply(answer, None, id)
    }

    /// A word of another voter, which is no concern of anybody but the quorum.
    fn quorum_message(&self, correlation_id: i32, body: Bytes) -> Reply {
        let Some(host) = self.host.get() else {
            return Reply::NotYet("the metadata quorum has not started yet".to_owned());
        };
        let answer = host.quorum().answer(body);
        Reply::Later(Box::pin(async move {
            let frame = encode_opaque_response(correlation_id, &answer.await);
            let frame = frame.map_err(|reason| reason.to_string())?;
            Ok(parts(Frame::contiguous(frame.into_bytes())).into())
        }))
    }

    fn api_versions(&self) -> ApiVersionsResponse {
        message!(ApiVersionsResponse { api_keys: controller_apis() })
    }

    /// The controllers; as long as there is no cluster yet, an answer without an id of it.
    fn describe_cluster(&self, request: &DescribeClusterRequest) -> DescribeClusterResponse {
        if request.endpoint_type != CONTROLLERS {
            return message!(DescribeClusterResponse {
                error_code: ErrorCode::MismatchedEndpointType.code(),
                error_message: Some(StrBytes::from(
                    "this listener serves controllers: ask with endpoint type 2",
                )),
            });
        }
        let host = self.host.get();
        let voters = host.map(|host| host.quorum().describe().addresses).unwrap_or_default();
        let leader = host.and_then(|host| host.quorum().leader().borrow().leader);
        let brokers = voters.into_iter().map(|voter| {
            message!(DescribeClusterBroker {
                broker_id: voter.node_id,
                host: StrBytes::from(voter.host),
                port: i32::from(voter.port),
            })
        });
        let mut response = message!(DescribeClusterResponse {
            endpoint_type: CONTROLLERS,
            cluster_id: StrBytes::from(self.cluster_id.get().map_or("", String::as_str)),
            controller_id: leader.unwrap_or(-1),
            brokers: brokers.collect(),
            cluster_authorized_operations: authorized_operations::NOT_ASKED,
        });
        if response.cluster_id.is_empty() {
            self.newcomer.write(&mut response);
        }
        response
    }
}

/// Answers a request of this node itself.
pub(crate) async fn answer_own(host: &Arc<ControllerHost>, request: Request) -> Response {
    let header = RequestHeader {
        api_key: request.api_key(),
        api_version: i16::MAX,
        correlation_id: 0,
        client_id: None,
    };
    let connection = Connection::internal(SocketAddr::from(([127, 0, 0, 1], 0)));
    let context = RequestContext { connection, header };
    match handle(host, &context, request) {
        Answer::Now(response) => response,
        Answer::Later(response) | Answer::Held(response) => response.await,
        Answer::Nothing | Answer::Unanswered(_) | Answer::Close(_) => {
            unreachable!("a node asks its controller only what that answers")
        }
    }
}

/// Handles a request that the controller alone can answer.
#[allow(clippy::wildcard_enum_match_arm, reason = "all others are for brokers")]
pub(super) fn handle(
    host: &Arc<ControllerHost>,
    context: &RequestContext,
    request: Request,
) -> Answer {
    match request {
        Request::CreateTopics(request) => create_topics::handle(host, context, request),
        Request::DeleteTopics(request) => delete_topics::handle(host, context, request),
        Request::CreatePartitions(request) => create_partitions::handle(host, context, request),
        Request::AlterConfigs(request) => alter_configs::decide(host, request),
        Request::IncrementalAlterConfigs(request) => {
            incremental_alter_configs::decide(host, request)
        }
        Request::ElectLeaders(request) => elect_leaders::handle(host, request),
        Request::AlterPartitionReassignments(request) => {
            alter_partition_reassignments::handle(host, request)
        }
        Request::ListPartitionReassignments(request) => {
            Answer::now(host.cache().image().partition_reassignments(&request))
        }
        Request::AlterClientQuotas(request) => alter_client_quotas::handle(host, request),
        Request::UpdateFeatures(request) => update_features::handle(host, context, request),
        Request::UnregisterBroker(request) => unregister_broker::handle(host, &request),
        Request::AddRaftVoter(request) => add_raft_voter::handle(host, request),
        Request::RemoveRaftVoter(request) => remove_raft_voter::handle(host, request),
        Request::DescribeQuorum(request) => describe_quorum::handle(host, context, &request),
        Request::Envelope(request) => open_envelope(host, context, request),
        Request::BrokerRegistration(request) => register_broker(host, request),
        Request::BrokerHeartbeat(request) => broker_heartbeat(host, context, request),
        Request::AlterPartition(request) => decided(
            host,
            move |controller| controller.alter_partition(&request),
            |error_code| message!(AlterPartitionResponse { error_code: error_code }),
        ),
        Request::AllocateProducerIds(request) => decided(
            host,
            move |controller| controller.allocate_producer_ids(&request),
            |error_code| message!(AllocateProducerIdsResponse { error_code: error_code }),
        ),
        Request::AssignReplicasToDirs(request) => decided(
            host,
            move |controller| controller.assign_replicas_to_dirs(&request),
            |error_code| message!(AssignReplicasToDirsResponse { error_code: error_code }),
        ),
        request => Answer::Close(format!("{} is not for a controller", request.api_key())),
    }
}

/// What the controller decides on by itself. Nodes have several such requests on their way, and what one decides is no
/// condition of the next.
fn decided<R: Into<Response> + Send + 'static>(
    host: &Arc<ControllerHost>,
    decide: impl FnOnce(&Controller) -> Outcome<R> + Send + 'static,
    refuse: fn(i16) -> R,
) -> Answer {
    let host = Arc::clone(host);
    Answer::later(async move {
        let decided = host.decide(|controller, _| decide(controller)).await;
        decided.unwrap_or_else(|error| refuse(error.error_code().code()))
    })
}

fn register_broker(host: &Arc<ControllerHost>, request: BrokerRegistrationRequest) -> Answer {
    let host = Arc::clone(host);
    Answer::held(async move {
        let now = host.env().clock.now();
        let mut reason = None;
        let decided = host.decide(|controller, _| {
            let (outcome, refused) = controller.register_broker(&request, now);
            reason = refused;
            outcome
        });
        let decided = decided.await;
        if let Some(reason) = reason {
            warn!(broker = request.broker_id, %reason, "a broker is not let in");
        }
        let response = decided.unwrap_or_else(|error| {
            message!(BrokerRegistrationResponse {
                error_code: error.error_code().code(),
                broker_epoch: -1,
            })
        });
        if response.error_code == ErrorCode::None.code() {
            let (id, epoch) = (BrokerId(request.broker_id), BrokerEpoch(response.broker_epoch));
            host.cache().controller().broker_heard(id, epoch, host.env().clock.now());
        }
        response
    })
}

fn broker_heartbeat(
    host: &Arc<ControllerHost>,
    context: &RequestContext,
    request: BrokerHeartbeatRequest,
) -> Answer {
    if !context.connection.is_internal() {
        let (told, broker) = (Arc::downgrade(host), BrokerId(request.broker_id));
        context.connection.at_end(move || {
            if let Some(host) = told.upgrade() {
                host.connection_lost(broker);
            }
        });
    }
    let host = Arc::clone(host);
    Answer::held(async move {
        let refused = |error: ControllerError| {
            message!(BrokerHeartbeatResponse { error_code: error.error_code().code() })
        };
        let decided = host.decide(|controller, _| controller.broker_heartbeat(&request)).await;
        let response = decided.unwrap_or_else(refused);
        if response.error_code != ErrorCode::None.code() {
            return response;
        }
        // At once: it is not to be fenced while the quorum is asked.
        host.cache().controller().heartbeat_heard(&request, host.env().clock.now());
        if response.is_fenced {
            return response;
        }
        // The answer is a lease (docs/adr/0013-coordinators-read-under-a-lease.md): only who leads gives any, and a leader
        // that is cut off hears only later that it was replaced.
        host.make_sure_to_lead().await.map_or_else(refused, |()| response)
    })
}

/// Answers what a broker passed on for its client.
fn open_envelope(
    host: &Arc<ControllerHost>,
    context: &RequestContext,
    request: EnvelopeRequest,
) -> Answer {
    let refused = |error: ErrorCode| message!(EnvelopeResponse { error_code: error.code() });
    if !host.is_active() {
        return Answer::now(refused(ErrorCode::NotController));
    }
    let Ok((header, body)) = RequestHeader::decode(&request.request_data) else {
        return Answer::now(refused(ErrorCode::UnsupportedVersion));
    };
    let may = is_for_the_controller(header.api_key)
        || matches!(header.api_key, ApiKey::AlterConfigs | ApiKey::IncrementalAlterConfigs);
    let Some(inner) = may.then(|| Request::decode(&header, body).ok()).flatten() else {
        return Answer::now(refused(ErrorCode::InvalidRequest));
    };
    let id = (header.correlation_id, header.api_version);
    let context = RequestContext { connection: Arc::clone(&context.connection), header };
    // As in Kafka, it is the controller that charges the client, whose broker holds him to the answer.
    let bytes = request.request_data.len();
    let mut bill = Bill::open(host.env(), host.quotas(), &context, bytes);
    let answer = Bill::work(&mut bill, || handle(host, &context, inner));
    let cache = Arc::clone(host.cache());
    Answer::later(async move {
        let mut response = match answer {
            Answer::Now(response) => response,
            Answer::Later(response) | Answer::Held(response) => {
                Bill::work_later(&mut bill, response).await
            }
            Answer::Nothing | Answer::Unanswered(_) | Answer::Close(_) => {
                return refused(ErrorCode::UnknownServerError);
            }
        };
        let throttle = bill.map_or(Duration::ZERO, |bill| bill.settle(&mut response));
        enclose(response, throttle, id, &cache).unwrap_or_else(|reason| {
            warn!(%reason, "could not answer a request that was passed on");
            refused(ErrorCode::UnknownServerError)
        })
    })
}

/// The answer in its envelope, and what the broker has to know of it.
fn enclose(
    response: Response,
    throttle: Duration,
    (correlation_id, version): (i32, i16),
    cache: &MetadataCache,
) -> Result<EnvelopeResponse, String> {
    let frame = response.encode(correlation_id, version).map_err(|reason| reason.to_string())?;
    let mut enclosed = message!(EnvelopeResponse { response_data: Some(without_length(frame)) });
    let metadata_offset = Some(cache.image().position().offset);
    envelope::Note { metadata_offset, throttle }.write_to(&mut enclosed);
    Ok(enclosed)
}

/// A frame as an envelope holds it.
fn without_length(frame: Frame<FetchedRecords>) -> Bytes {
    let pieces = frame.parts.into_iter().filter_map(|part| match part {
        Part::Bytes(bytes) => Some(bytes),
        // No answer of the controller holds records.
        Part::Records(_) => None,
    });
    let whole = pieces.collect::<Vec<Bytes>>().concat();
    Bytes::from(whole).split_off(size_of::<i32>())
}
