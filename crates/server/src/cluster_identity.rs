//! Which cluster a node belongs to, when its directories do not say: they are new. Kafka wants `kafka-storage format` first.
//!
//! A node that is alone makes an id. The voters of a new cluster have to agree on one: the voter with the lowest id makes it,
//! once all others have told it that they have none either. Everybody else asks until somebody knows. So a voter whose
//! directories were wiped learns the id of its cluster, and does not found another.

use std::time::Duration;

use ottla_client::{Connection, ConnectionOptions};
use ottla_config::{BrokerConfig, QuorumVoter};
use ottla_env::Env;
use ottla_protocol::messages::DescribeClusterRequest;
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
            match ask(env, voter, config.quorum.request_timeout).await {
                Some(id) if !id.is_empty() => found = Some(id),
                Some(_) => {}
                None => missing.push(voter.node_id.0),
            }
        }
        if let Some(id) = found {
            info!(cluster_id = id, "the cluster is known to other voters");
            return id;
        }
        if founder == Some(node_id) && missing.is_empty() {
            let id = format_uuid(Uuid::from_bytes(env.rng.next_u128().to_be_bytes()));
            info!(cluster_id = id, "a new cluster: no voter knew of one");
            return id;
        }
        if missing != missing_before {
            info!(?missing, "waiting for voters that may know which cluster this is");
            missing_before = missing;
        }
        env.clock.sleep(ROUND).await;
    }
}

/// The id that a voter knows, empty if it has none; `None` if it does not answer.
async fn ask(env: &Env, voter: &QuorumVoter, limit: Duration) -> Option<String> {
    let options = ConnectionOptions {
        client_id: "cluster-identity".to_owned(),
        connect_timeout: limit,
        request_timeout: limit,
        ..ConnectionOptions::default()
    };
    let address = format!("{}:{}", voter.host, voter.port);
    let connection = Connection::connect(env, &address, options).await.ok()?;
    let request = message!(DescribeClusterRequest { endpoint_type: CONTROLLERS });
    let response = connection.call(&request).await.ok()?;
    let is_answer = ErrorCode::from_wire(response.error_code) == ErrorCode::None;
    is_answer.then(|| response.cluster_id.to_string())
}
