//! What each request means: one file per API, one exhaustive table ([`dispatch`]). Kafka's `KafkaApis`.
//!
//! A handler checks the request, asks the part of the node that owns the matter, and shapes the answer. It decides nothing
//! itself and keeps nothing.

mod add_raft_voter;
mod alter_client_quotas;
mod alter_configs;
mod alter_partition_reassignments;
mod alter_replica_log_dirs;
mod api_versions;
mod bill;
pub(crate) mod controller_apis;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod dispatch;
mod elect_leaders;
mod fetch;
mod find_coordinator;
mod get_telemetry_subscriptions;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod push_telemetry;
mod remove_raft_voter;
mod sync_group;
mod unregister_broker;
mod update_features;

use std::sync::Arc;

use ottla_coordinator::group::Reply;
use ottla_env::BoxFuture;
use ottla_metadata::BrokerRegistration;
use ottla_protocol::{BrokerId, ErrorCode, NodeEndpoint, RequestHeader, StrBytes};
use tokio::sync::oneshot;

use crate::broker::Broker;
use crate::controller_host::ControllerHost;
use crate::coordinator_host::{Committing, Decided};
use crate::network::ConnectionContext;
use crate::quotas::{ClientName, MutationQuota};
use crate::replica::FetchedRecords;

pub(crate) use dispatch::dispatch;

/// The body of a response; records of a Fetch are file ranges.
type Response = ottla_protocol::Response<FetchedRecords>;

/// What a handler gives back.
enum Answer {
    /// The response, now.
    Now(Response),
    /// The response, later; the connection's next requests are handled meanwhile.
    Later(BoxFuture<'static, Response>),
    /// The response, later; the connection's next requests wait for it.
    Held(BoxFuture<'static, Response>),
    /// None is due (`acks=0`).
    Nothing,
    /// None is due, but the request keeps its place until this is done; an error closes the connection.
    Unanswered(BoxFuture<'static, Result<(), String>>),
    /// None can be given; the connection is closed for this reason.
    Close(String),
}

impl Answer {
    fn now(response: impl Into<Response>) -> Self {
        Self::Now(response.into())
    }

    /// For what changes the cluster: later requests of the connection may build on it.
    fn held<R: Into<Response>>(response: impl Future<Output = R> + Send + 'static) -> Self {
        Self::Held(Box::pin(async move { response.await.into() }))
    }

    /// For what merely waits.
    fn later<R: Into<Response>>(response: impl Future<Output = R> + Send + 'static) -> Self {
        Self::Later(Box::pin(async move { response.await.into() }))
    }
}

/// The user of a connection that says of nobody that it is his. Kafka: `KafkaPrincipal.ANONYMOUS`.
const ANONYMOUS: &str = "ANONYMOUS";

/// Who asks, and how.
#[derive(Clone, Debug)]
pub(crate) struct RequestContext {
    pub(crate) connection: ConnectionContext,
    pub(crate) header: RequestHeader,
}

impl RequestContext {
    fn version(&self) -> i16 {
        self.header.api_version
    }

    /// The client's address as Java prints it, for the description of groups.
    fn client_host(&self) -> String {
        format!("/{}", self.connection.peer.ip())
    }

    /// The request as the group coordinator wants to know it.
    fn of_group<'a>(
        &'a self,
        client_host: &'a str,
    ) -> ottla_coordinator::group::RequestContext<'a> {
        ottla_coordinator::group::RequestContext {
            client_id: self.client_id(),
            client_host,
            api_version: self.version(),
        }
    }

    /// Who asks, as quotas see it.
    fn client(&self) -> ClientName<'_> {
        ClientName { user: ANONYMOUS, client_id: self.client_id() }
    }

    /// What the request may create and delete; strictly from that version on.
    fn mutation_quota(&self, host: &ControllerHost, strict_since: i16) -> MutationQuota {
        let is_strict = self.version() >= strict_since;
        MutationQuota::new(host.env(), host.quotas(), self.client(), is_strict)
    }

    /// The client's name for itself, empty if it gave none.
    fn client_id(&self) -> &str {
        self.header.client_id.as_ref().map_or("", StrBytes::as_str)
    }
}

/// What a coordinator answers, as soon as what it tells of is committed.
fn once_committed<R: Into<Response> + Send + 'static>(
    pending: Vec<Committing>,
    response: R,
    refuse: impl FnOnce(ErrorCode) -> R + Send + 'static,
) -> Answer {
    if pending.is_empty() {
        return Answer::now(response);
    }
    Answer::later(async move {
        match all_committed(pending).await {
            Ok(()) => response,
            Err(error) => refuse(error),
        }
    })
}

async fn all_committed(pending: impl IntoIterator<Item = Committing>) -> Result<(), ErrorCode> {
    for committing in pending {
        committing.await?;
    }
    Ok(())
}

/// The answer to a request that a group may hold back: `take` picks the reply's kind, `refuse` shapes an error.
fn group_reply<R: Into<Response> + Send + 'static>(
    asked: Result<oneshot::Receiver<Decided<Reply>>, ErrorCode>,
    take: impl FnOnce(Reply) -> Option<R> + Send + 'static,
    refuse: impl FnOnce(ErrorCode) -> R + Send + 'static,
) -> Answer {
    let mut reply = match asked {
        Ok(reply) => reply,
        Err(error) => return Answer::now(refuse(error)),
    };
    // The shard was dropped with the request in it: another broker coordinates the group now.
    let gone = ErrorCode::NotCoordinator;
    let answer = move |reply: Result<Reply, ErrorCode>| match reply {
        Ok(reply) => take(reply).unwrap_or_else(|| refuse(gone)),
        Err(error) => refuse(error),
    };
    match reply.try_recv() {
        Ok(Decided { answer: reply, committing: None }) => Answer::now(answer(Ok(reply))),
        Err(oneshot::error::TryRecvError::Closed) => Answer::now(answer(Err(gone))),
        Ok(Decided { answer: reply, committing }) => {
            Answer::later(async move { answer(all_committed(committing).await.map(|()| reply)) })
        }
        Err(oneshot::error::TryRecvError::Empty) => Answer::later(async move {
            let Ok(Decided { answer: reply, committing }) = reply.await else {
                return answer(Err(gone));
            };
            answer(all_committed(committing).await.map(|()| reply))
        }),
    }
}

/// What a client may do with a topic, a group or the cluster when no authorizer is configured: everything that exists for
/// such a resource, as the bits of `AclOperation` (KIP-430).
mod authorized_operations {
    /// Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs.
    pub(super) const TOPIC: i32 = 0b1101_1111_1000;
    /// Read, Delete, Describe, DescribeConfigs, AlterConfigs.
    pub(super) const GROUP: i32 = 0b1101_0100_1000;
    /// Create, Alter, Describe, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite.
    pub(super) const CLUSTER: i32 = 0b1_1111_1010_0000;
    /// The client did not ask.
    pub(super) const NOT_ASKED: i32 = i32::MIN;
}

/// Where `broker` is to be reached by who came in by `listener`; a broker without that listener is not shown.
fn endpoint(broker: &BrokerRegistration, listener: &str) -> Option<NodeEndpoint> {
    let address = broker.listener(listener)?;
    Some(NodeEndpoint {
        node_id: broker.id,
        host: StrBytes::from(&*address.host),
        port: i32::from(address.port),
        rack: broker.rack.as_deref().map(StrBytes::from),
    })
}

/// Where to find the brokers `ids`, for answers that name a new leader (KIP-951).
fn endpoints_of(
    broker: &Arc<Broker>,
    listener: &str,
    ids: impl Iterator<Item = BrokerId>,
) -> Vec<NodeEndpoint> {
    let image = broker.image();
    let mut ids: Vec<BrokerId> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().filter_map(|id| endpoint(image.broker(id)?, listener)).collect()
}
