//! Which cluster a node belongs to, when its directories do not say: they are new. Kafka wants `kafka-storage format` first.
//!
//! A node that is alone makes an id. The voters of a new cluster have to agree on one: the voter with the lowest id makes it,
//! once all others have told it that they have none either. Everybody else asks until somebody knows. So a voter whose
//! directories were wiped learns the id of its cluster, and does not found another.
//!
//! With `controller.quorum.bootstrap.servers` nobody knows beforehand who the voters are (KIP-853). There a node founds a
//! cluster only if it finds itself among those servers, all of them answer, none belongs to a cluster, all list the same
//! servers, and it has the lowest id. Any other waits for somebody who knows: it cannot found a second one by accident.

use std::time::Duration;

use futures_util::future::join_all;
use ottla_client::{Connection, ConnectionOptions};
use ottla_config::BrokerConfig;
use ottla_env::Env;
use ottla_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use ottla_protocol::newcomer::Newcomer;
use ottla_protocol::{ErrorCode, Uuid, format_uuid, message};
use tracing::info;

use crate::handlers::controller_apis::CONTROLLERS;

/// Between two rounds of questions.
const ROUND: Duration = Duration::from_millis(100);

/// The id of the cluster that `config` names the voters of; waits until there is one.
pub(crate) async fn agree_on_cluster_id(env: &Env, config: &BrokerConfig) -> String {
    let node_id = config.node.node_id;
    let voters = &config.quorum.voters;
    let founder = voters.iter().map(|voter| voter.node_id).min();
    let others: Vec<_> = voters.iter().filter(|voter| voter.node_id != node_id).collect();
    let mut missing_before = Vec::new();
    loop {
        let (mut missing, mut found) = (Vec::new(), None);
        for voter in &others {
            let address = format!("{}:{}", voter.host, voter.port);
            match ask(env, &address, config.quorum.request_timeout).await {
                Some(answer) if !answer.cluster_id.is_empty() => {
                    found = Some(answer.cluster_id.to_string());
                }
                Some(_) => {}
                None => missing.push(voter.node_id.0),
            }
        }
        if let Some(id) = found {
            info!(cluster_id = id, "the cluster is known to other voters");
            return id;
        }
        if founder == Some(node_id) && missing.is_empty() {
            return new_cluster_id(env);
        }
        if missing != missing_before {
            info!(?missing, "waiting for voters that may know which cluster this is");
            missing_before = missing;
        }
        env.clock.sleep(ROUND).await;
    }
}

fn new_cluster_id(env: &Env) -> String {
    let id = format_uuid(Uuid::from_bytes(env.rng.next_u128().to_be_bytes()));
    info!(cluster_id = id, "a new cluster: nobody who was asked knew of one");
    id
}

/// Who this node is to others as long as it belongs to no cluster.
pub(crate) fn newcomer(env: &Env, config: &BrokerConfig) -> Newcomer {
    let mut servers: Vec<_> =
        config.quorum.bootstrap_servers.iter().map(ToString::to_string).collect();
    servers.sort();
    servers.dedup();
    let incarnation = Uuid::from_bytes(env.rng.next_u128().to_be_bytes());
    Newcomer { node_id: config.node.node_id.0, incarnation, servers }
}

/// The id of the cluster that `controller.quorum.bootstrap.servers` belong to; waits until there is one.
pub(crate) async fn find_cluster_id(env: &Env, config: &BrokerConfig, me: &Newcomer) -> String {
    let limit = config.quorum.request_timeout;
    let mut waited_for = String::new();
    loop {
        let asked = me.servers.iter().map(|server| ask(env, server, limit));
        let answers = join_all(asked).await;
        let mut known = answers.iter().flatten().map(|answer| &answer.cluster_id);
        if let Some(id) = known.find(|id| !id.is_empty()) {
            info!(cluster_id = id.as_str(), "the cluster is known to other controllers");
            return id.to_string();
        }
        let why = match config.node.is_controller {
            true => why_not_found(me, &answers),
            false => Some("controllers that know which cluster this is".to_owned()),
        };
        let Some(why) = why else { return new_cluster_id(env) };
        if why != waited_for {
            info!("waiting for {why}");
            waited_for = why;
        }
        env.clock.sleep(ROUND).await;
    }
}

/// What keeps this node from founding a cluster, given what its bootstrap servers answered, in order; `None` if nothing does.
fn why_not_found(me: &Newcomer, answers: &[Option<DescribeClusterResponse>]) -> Option<String> {
    let silent: Vec<_> =
        me.servers.iter().zip(answers).filter(|(_, it)| it.is_none()).map(|it| &**it.0).collect();
    if !silent.is_empty() {
        return Some(format!(
            "controllers that may know which cluster this is: {}",
            silent.join(", ")
        ));
    }
    let others: Vec<_> = answers.iter().flatten().filter_map(Newcomer::read).collect();
    if !others.iter().any(|it| it.incarnation == me.incarnation) {
        return Some("one of controller.quorum.bootstrap.servers to found a cluster: this node is none of them".to_owned());
    }
    let twin = |it: &&Newcomer| it.node_id == me.node_id && it.incarnation != me.incarnation;
    if let Some(twin) = others.iter().find(twin) {
        return Some(format!(
            "another node to have another node.id than {}, which is this one's",
            twin.node_id
        ));
    }
    if let Some(other) = others.iter().find(|it| it.servers != me.servers) {
        return Some(format!(
            "node {} to list the same controller.quorum.bootstrap.servers: it has {}, this node {}",
            other.node_id,
            other.servers.join(", "),
            me.servers.join(", ")
        ));
    }
    let lowest = others.iter().map(|it| it.node_id).min()?;
    (lowest != me.node_id).then(|| format!("node {lowest} to found the cluster"))
}

/// What a controller answers; `None` if it does not.
async fn ask(env: &Env, address: &str, limit: Duration) -> Option<DescribeClusterResponse> {
    let options = ConnectionOptions {
        client_id: "cluster-identity".to_owned(),
        connect_timeout: limit,
        request_timeout: limit,
        ..ConnectionOptions::default()
    };
    let connection = Connection::connect(env, address, options).await.ok()?;
    let request = message!(DescribeClusterRequest { endpoint_type: CONTROLLERS });
    let response = connection.call(&request).await.ok()?;
    let is_answer = ErrorCode::from_wire(response.error_code) == ErrorCode::None;
    is_answer.then_some(response)
}
