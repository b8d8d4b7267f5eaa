//! Starting, stopping and dying: what a node refuses to start on, and what it keeps.

use std::sync::Arc;

use ottla_env::Env;
use ottla_protocol::fetch::FetchRequest;
use ottla_protocol::message;
use ottla_protocol::messages::{DescribeClusterRequest, MetadataRequest};
use ottla_server::StartError;
use tempfile::TempDir;

use crate::client::Client;
use crate::node::{Node, PATIENCE};
use crate::records::batch;
use crate::requests::{BY_NAME, fetch, named, produce};

async fn refused(dir: Arc<TempDir>, properties: &str) -> StartError {
    match Node::start_in(dir, properties).await {
        Ok(_) => panic!("the node started"),
        Err(error) => error,
    }
}

/// The sentence of a refusal, with the directory left out.
fn sentence(error: &StartError, dir: &TempDir) -> String {
    error.to_string().replace(&dir.path().display().to_string(), "DIR")
}

#[tokio::test]
async fn a_directory_in_use_is_refused() {
    let node = Node::start().await;
    let error = refused(node.dir(), "").await;
    assert!(matches!(error, StartError::Logs(_)), "{error}");
    assert_eq!(
        sentence(&error, &node.dir()),
        "log directory DIR is in use by another process: stop it, or set another directory"
    );
    // The one that runs does not notice.
    Client::connect(&node).await.assert_served().await;
    node.restart().await.stop().await;
}

#[tokio::test]
async fn the_directory_of_another_node_is_refused() {
    let node = Node::start().await;
    let dir = node.dir();
    node.stop().await;
    let error = refused(Arc::clone(&dir), "node.id=2\n").await;
    assert_eq!(
        sentence(&error, &dir),
        "log directory DIR belongs to node 1, not to 2: set node.id=1, or another directory"
    );
    Node::start_in(dir, "").await.unwrap().stop().await;
}

#[tokio::test]
async fn directories_of_two_clusters_are_refused() {
    let (one, other) = (Node::start().await, Node::start().await);
    assert_ne!(one.cluster_id(), other.cluster_id());
    let (one_dir, other_dir) = (one.dir(), other.dir());
    one.stop().await;
    other.stop().await;
    let dirs = format!("log.dirs={},{}\n", one_dir.path().display(), other_dir.path().display());
    let error = refused(one_dir, &dirs).await;
    assert!(error.to_string().contains("cluster"), "{error}");
}

#[tokio::test]
async fn a_port_in_use_and_an_address_that_is_not_ours_are_refused() {
    let node = Node::start().await;
    for address in [node.address().to_string(), "192.0.2.1:9092".to_owned()] {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let error = refused(dir, &format!("listeners=PLAINTEXT://{address}\n")).await;
        assert!(matches!(error, StartError::Listen(_)), "{error}");
        assert!(error.to_string().contains(&address), "{error}");
    }
}

#[tokio::test]
async fn a_cluster_id_that_is_none_is_refused() {
    let node = Node::start().await;
    let (dir, id) = (node.dir(), node.cluster_id().to_owned());
    node.stop().await;
    let env = Env::os();
    let path = dir.path().join("meta.properties");
    let text = String::from_utf8(env.disk.read(&path).unwrap()).unwrap();
    assert!(text.contains(&id));
    env.disk.write_atomic(&path, text.replace(&id, "no-id").as_bytes()).unwrap();
    let error = refused(dir, "").await;
    assert!(error.to_string().contains("meta.properties"), "{error}");
}

#[tokio::test]
async fn a_stop_and_a_crash_lose_nothing_that_was_acknowledged() {
    let mut node = Node::start().await;
    let mut client = Client::connect(&node).await;
    let id = client.create_topic("orders", 3).await;
    let cluster_id = node.cluster_id().to_owned();
    let mut expected = Vec::new();
    for round in 0..6 {
        let mut client = Client::connect(&node).await;
        for number in 0..10 {
            let value = format!("{round}-{number}");
            client.append_ok("orders", batch(&[&value])).await;
            expected.push(value);
        }
        node = if round % 2 == 0 { node.crash_and_restart().await } else { node.restart().await };
        assert_eq!(node.cluster_id(), cluster_id);
        let mut client = Client::connect(&node).await;
        assert_eq!(client.read_values("orders").await, expected, "round {round}");
        let metadata = client.call(12, &message!(MetadataRequest { topics: None })).await;
        assert_eq!(metadata.topics[0].topic_id, id);
        assert_eq!(metadata.topics[0].partitions.len(), 3);
    }
}

#[tokio::test]
async fn a_crash_in_the_middle_of_producing_keeps_what_was_acknowledged_in_order() {
    let mut node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    let mut sent = Vec::new();
    for number in 0..200 {
        let request = produce(named("orders"), 0, batch(&[&number.to_string()]));
        sent.push(client.send_produce(BY_NAME, &request).await);
    }
    for correlation_id in &sent[..100] {
        client.produce_answer(BY_NAME, *correlation_id).await;
    }
    node.crash().await;
    let node = Node::start_in(node.dir(), "").await.unwrap();
    let mut client = Client::connect(&node).await;
    let kept = client.read_values("orders").await;
    assert!(kept.len() >= 100, "{} of 100 acknowledged are there", kept.len());
    let expected: Vec<_> = (0..kept.len()).map(|number| number.to_string()).collect();
    assert_eq!(kept, expected);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_connections_or_long_polls() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    let mut pollers = Vec::new();
    for _ in 0..20 {
        let mut poller = Client::connect(&node).await;
        poller.assert_served().await;
        let wait = FetchRequest {
            min_bytes: 1,
            max_wait_ms: 10 * 60 * 1000,
            ..fetch(named("orders"), 0, 0)
        };
        poller.send_fetch(BY_NAME, &wait).await;
        pollers.push(poller);
    }
    client.assert_served().await;
    let clock = Env::os().clock;
    let started = clock.now();
    node.stop().await;
    let took = clock.now().since(started);
    assert!(took < PATIENCE / 3, "the stop took {took:?}");
    for poller in &mut pollers {
        poller.assert_closed().await;
    }
    client.assert_closed().await;
}

#[tokio::test]
async fn a_client_finds_the_node_at_the_port_it_listens_on() {
    let node = Node::start().await.restart().await;
    let mut client = Client::connect(&node).await;
    let answer = client.call(2, &DescribeClusterRequest::default()).await;
    let broker = &answer.brokers[0];
    assert_eq!(format!("{}:{}", broker.host, broker.port), node.address().to_string());
    assert!(node.path().join("meta.properties").exists());
}
