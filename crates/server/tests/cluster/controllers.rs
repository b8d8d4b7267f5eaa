//! Controllers: a cluster forms, decides, and goes on without the one that decided.

use std::time::{Duration, Instant};

use ottla_client::{Connection, NewTopic};
use ottla_env::Env;
use ottla_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use ottla_protocol::messages::{FindCoordinatorRequest, OffsetFetchRequest};
use ottla_protocol::{BrokerId, ErrorCode, message};

use crate::nodes::{Cluster, in_time, until};

fn topic(name: &str, replication_factor: i16) -> NewTopic {
    NewTopic {
        partitions: Some(3),
        replication_factor: Some(replication_factor),
        ..NewTopic::new(name)
    }
}

#[tokio::test]
async fn three_new_nodes_become_one_cluster() {
    let cluster = Cluster::start(3, "").await;
    assert_eq!(cluster.cluster_id(1), cluster.cluster_id(2));
    assert_eq!(cluster.cluster_id(1), cluster.cluster_id(3));
    cluster.wait_in_service(&[1, 2, 3]).await;
    // Whoever is asked, the topic is made, and known there at once.
    for id in 1..=3 {
        let name = format!("made-by-{id}");
        let admin =
            ottla_client::Admin::new(cluster.client_of(&[id]).await, Duration::from_secs(10));
        admin.create_topic(topic(&name, 1)).await.unwrap();
    }
    let admin = cluster.admin().await;
    let nodes = admin.describe_quorum().await.unwrap().nodes;
    for id in 1..=3 {
        let at = ("CONTROLLER".to_owned(), "127.0.0.1".to_owned(), cluster.controller_port(id));
        assert_eq!(nodes.get(&BrokerId(id)), Some(&vec![at]), "where voter {id} is");
    }
    let listed = admin.list_topics().await.unwrap();
    assert_eq!(listed.keys().filter(|name| name.starts_with("made-by-")).count(), 3);
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_dead_broker_is_fenced_at_once() {
    let mut cluster = Cluster::start(3, "").await;
    let active = cluster.active_controller().await;
    let victim = (1..=3).find(|id| *id != active).unwrap();
    let others: Vec<_> = (1..=3).filter(|id| *id != victim).collect();
    cluster.kill(victim).await;
    #[allow(clippy::disallowed_methods, reason = "a test that measures")]
    let began = Instant::now();
    cluster.wait_in_service(&others).await;
    println!("fenced after {:?}", began.elapsed());
    cluster.start_node(victim).await;
    cluster.wait_in_service(&[1, 2, 3]).await;
}

#[tokio::test]
async fn a_silent_broker_is_fenced_in_a_cluster_that_has_just_begun() {
    let cluster = Cluster::start_with_voters(1, 2).await;
    let admin = ottla_client::Admin::new(cluster.client_of(&[1]).await, Duration::from_secs(10));
    let standing_still = cluster.stand_still(2);
    until("the silent broker to be fenced", async || {
        let brokers = admin.describe_cluster(false).await.ok()?.brokers;
        brokers.iter().map(|it| it.id).eq([BrokerId(1)]).then_some(())
    })
    .await;
    drop(standing_still);
    cluster.wait_in_service(&[1, 2]).await;
    cluster.stop_all().await;
}

/// What the coordinator of a group is asked for; the code of its answer.
async fn fetch_offsets(connection: &Connection, group: &str) -> ErrorCode {
    let group = message!(OffsetFetchRequestGroup { group_id: group.into() });
    let request = message!(OffsetFetchRequest { groups: vec![group] });
    let answer = in_time("offsets", connection.call(&request)).await.unwrap();
    ErrorCode::from_code(answer.groups[0].error_code).unwrap()
}

/// docs/adr/0013-coordinators-read-under-a-lease.md: its own heartbeats reach it, but nobody of the majority that may have
/// fenced it.
#[tokio::test]
async fn a_controller_that_is_cut_off_does_not_let_itself_read_out_offsets() {
    // It answers itself until it fences the others after a session, as far as it knows; the lease that it has is for less than
    // a session as well, and would begin then.
    let properties = "broker.session.timeout.ms=6000\nbroker.heartbeat.interval.ms=500\n\
                      controller.quorum.fetch.timeout.ms=6000\noffsets.topic.num.partitions=3\n";
    let cluster = Cluster::start(3, properties).await;
    cluster.wait_in_service(&[1, 2, 3]).await;
    let active = cluster.active_controller().await;
    let address = cluster.address(active).to_string();
    let connection = Connection::connect(&Env::os(), &address, Default::default()).await.unwrap();
    let key = message!(FindCoordinatorRequest { coordinator_keys: vec!["group".into()] });
    connection.call(&key).await.unwrap();
    let group = until("a group that is coordinated there", async || {
        for group in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            if fetch_offsets(&connection, group).await == ErrorCode::None {
                return Some(group);
            }
        }
        None
    })
    .await;
    let others = (1..=3).filter(|id| *id != active);
    let standing_still: Vec<_> = others.map(|id| cluster.stand_still(id)).collect();
    let clock = Env::os().clock;
    let began = clock.now();
    until("the end of the lease", async || {
        (fetch_offsets(&connection, group).await == ErrorCode::NotCoordinator).then_some(())
    })
    .await;
    let lasted = clock.now().since(began);
    assert!(lasted < Duration::from_millis(8500), "a session and a half: {lasted:?}");
    drop(standing_still);
    cluster.wait_in_service(&[1, 2, 3]).await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn decisions_go_on_without_the_controller_that_made_them() {
    let mut cluster = Cluster::start(3, "").await;
    cluster.admin().await.create_topic(topic("before", 1)).await.unwrap();
    let active = cluster.active_controller().await;
    cluster.kill(active).await;
    #[allow(clippy::disallowed_methods, reason = "a test that measures")]
    let began = Instant::now();
    let admin = cluster.admin().await;
    until("a decision", async || admin.create_topic(topic("after", 1)).await.ok()).await;
    println!("decided after {:?}", began.elapsed());
    let listed = admin.list_topics().await.unwrap();
    assert!(listed.contains_key("before") && listed.contains_key("after"));
    cluster.start_node(active).await;
    cluster.wait_in_service(&[1, 2, 3]).await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn brokers_without_a_vote_follow_what_the_voters_decide() {
    let mut cluster = Cluster::start_with_voters(3, 5).await;
    cluster.wait_in_service(&[1, 2, 3, 4, 5]).await;
    let asked = Duration::from_secs(20);
    let admin = ottla_client::Admin::new(cluster.client_of(&[5]).await, asked);
    admin.create_topic(topic("through-5", 3)).await.unwrap();
    // They find the next controller, and one that is started anew learns everything again.
    let active = cluster.active_controller().await;
    cluster.kill(active).await;
    cluster.kill(4).await;
    let voters: Vec<_> = cluster.running().into_iter().filter(|id| *id != 5).collect();
    cluster.wait_in_service(&[&voters[..], &[5]].concat()).await;
    until("a decision", async || admin.create_topic(topic("later", 3)).await.ok()).await;
    cluster.start_node(4).await;
    let admin = ottla_client::Admin::new(cluster.client_of(&[4]).await, asked);
    let listed = admin.list_topics().await.unwrap();
    assert!(listed.contains_key("through-5") && listed.contains_key("later"));
}

#[tokio::test]
async fn controllers_that_are_no_brokers_decide_for_those_that_are() {
    // Silence is never what tells of a death here.
    let mut cluster = Cluster::start_apart(3, "broker.session.timeout.ms=600000\n").await;
    let brokers = [4, 5, 6];
    let client = cluster.client_of(&brokers).await;
    let admin = ottla_client::Admin::new(client, Duration::from_secs(20));
    let known = admin.describe_cluster(false).await.unwrap();
    assert_eq!(known.brokers.iter().map(|it| it.id.0).collect::<Vec<_>>(), brokers);
    admin.create_topic(topic("before", 3)).await.unwrap();
    let active = admin.describe_quorum().await.unwrap().leader.0;
    assert!((1..=3).contains(&active), "{active} leads the quorum");
    cluster.kill(active).await;
    until("a decision", async || admin.create_topic(topic("after", 3)).await.ok()).await;
    cluster.start_node(active).await;
    cluster.kill(4).await;
    until("the death of a broker", async || {
        let known = admin.describe_cluster(false).await.ok()?;
        (known.brokers.iter().map(|it| it.id.0).collect::<Vec<_>>() == [5, 6]).then_some(())
    })
    .await;
    cluster.start_node(4).await;
    cluster.stop_all().await;
}

/// Who votes, and where.
async fn voters(cluster: &Cluster) -> Option<Vec<(i32, u16)>> {
    let told = cluster.admin().await.describe_quorum().await.ok()?;
    let port = |id| told.nodes.get(id)?.first().map(|(_, _, port)| *port);
    told.voters.iter().map(|voter| Some((voter.id.0, port(&voter.id)?))).collect()
}

async fn wait_for_voters(cluster: &Cluster, due: &[i32]) {
    let due: Vec<_> = due.iter().map(|id| (*id, cluster.controller_port(*id))).collect();
    until("the voters", async || (voters(cluster).await? == due).then_some(())).await;
}

#[tokio::test]
async fn a_cluster_grows_from_one_node_that_the_others_ask() {
    // Node 1 founds the cluster, 2 and 3 give themselves votes, 4 is a broker.
    let join = "controller.quorum.auto.join.enable=true\n";
    let mut cluster = Cluster::found_by_servers(&[1], (3, 3), join).await;
    cluster.start_all().await;
    wait_for_voters(&cluster, &[1, 2, 3]).await;
    cluster.wait_in_service(&[1, 2, 3]).await;
    assert_eq!(cluster.cluster_id(1), cluster.cluster_id(3));
    cluster.admin().await.create_topic(topic("before", 3)).await.unwrap();
    // The first is gone for a while: those that are asked know the others.
    cluster.kill(1).await;
    let admin = cluster.admin().await;
    until("a decision", async || admin.create_topic(topic("after", 2)).await.ok()).await;
    cluster.set_servers(&[2, 3]);
    cluster.stop(3).await;
    cluster.move_controller(3).await;
    cluster.start_all().await;
    wait_for_voters(&cluster, &[1, 2, 3]).await;
    cluster.wait_in_service(&[1, 2, 3]).await;
    let listed = cluster.admin().await.list_topics().await.unwrap();
    assert!(listed.contains_key("before") && listed.contains_key("after"));
    cluster.stop_all().await;
}

#[tokio::test]
async fn new_controllers_that_ask_each_other_become_one_cluster_that_brokers_find() {
    let mut cluster = Cluster::found_by_servers(&[2, 3, 1], (3, 5), "").await;
    cluster.start_all().await;
    wait_for_voters(&cluster, &[1, 2, 3]).await;
    cluster.wait_in_service(&[1, 2, 3, 4, 5]).await;
    let admin = cluster.admin().await;
    admin.create_topic(topic("made", 3)).await.unwrap();
    let active = cluster.active_controller().await;
    cluster.kill(active).await;
    cluster.kill(5).await;
    cluster.start_node(5).await;
    let admin = ottla_client::Admin::new(cluster.client_of(&[5]).await, Duration::from_secs(20));
    until("a decision", async || admin.create_topic(topic("later", 2)).await.ok()).await;
}

#[tokio::test]
async fn a_node_that_nobody_takes_in_says_so_in_time() {
    let limit = "server.max.startup.time.ms=200\n";
    let cluster = Cluster::found_by_servers(&[1], (2, 2), limit).await;
    // Node 2 is not among those that found a cluster, and node 1 is not there.
    let refused = cluster.refusal(2).await;
    assert!(refused.contains("did not start within server.max.startup.time.ms=200"), "{refused}");
}
