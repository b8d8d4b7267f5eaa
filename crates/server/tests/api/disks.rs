//! Disks that fail and disks that are full: what still works, what is answered, and that all comes back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_env::Env;
use ottla_protocol::fetch::PartitionData;
use ottla_protocol::messages::delete_topics_request::DeleteTopicState;
use ottla_protocol::messages::describe_log_dirs_response::DescribeLogDirsResult;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::messages::metadata_response::MetadataResponsePartition;
use ottla_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, DescribeLogDirsRequest, ListOffsetsRequest,
    MetadataRequest,
};
use ottla_protocol::{ErrorCode, message};
use ottla_server::StartError;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::Client;
use crate::faulty_disk::Faults;
use crate::node::{Node, in_time};
use crate::records::{batch, timed, values};
use crate::requests::{BY_NAME, fetch, named, text, topic};

const MIB: u64 = 1 << 20;

/// Two directories below one; the metadata log lies in the first.
struct TwoDirs {
    root: Arc<TempDir>,
    faults: Arc<Faults>,
    node: Node,
}

fn both(root: &TempDir) -> String {
    let [one, other] = dirs(root);
    format!("log.dirs={},{}\nmetrics.listener=127.0.0.1:0\n", one.display(), other.display())
}

fn dirs(root: &TempDir) -> [PathBuf; 2] {
    [root.path().join("one"), root.path().join("other")]
}

impl TwoDirs {
    /// With the topic `orders`, of four partitions with a record each.
    async fn new() -> Self {
        let (root, faults) = (Arc::new(tempfile::tempdir().unwrap()), Arc::new(Faults::default()));
        let node = Node::start_faulty(Arc::clone(&root), &faults, &both(&root)).await.unwrap();
        let mut client = Client::connect(&node).await;
        client.create_topic("orders", 4).await;
        for partition in 0..4 {
            let appended = client.append("orders", partition, batch(&[&value(partition)])).await;
            assert_eq!(appended.error_code, ErrorCode::None);
        }
        Self { root, faults, node }
    }

    async fn restart(self, in_order: bool) -> Self {
        let Self { root, faults, mut node } = self;
        if in_order {
            node.stop().await
        } else {
            node.crash().await
        }
        let node = Node::start_faulty(Arc::clone(&root), &faults, &both(&root)).await.unwrap();
        Self { root, faults, node }
    }

    fn dir(&self, which: usize) -> PathBuf {
        dirs(&self.root)[which].clone()
    }

    /// The partitions of `orders` in one of the directories.
    fn partitions_in(&self, which: usize) -> Vec<i32> {
        let here = |partition: &i32| self.dir(which).join(format!("orders-{partition}")).is_dir();
        (0..4).filter(here).collect()
    }
}

fn value(partition: i32) -> String {
    format!("first of {partition}")
}

impl Client {
    async fn read_partition(&mut self, partition: i32) -> PartitionData {
        let mut answer = self.fetch(BY_NAME, &fetch(named("orders"), partition, 0)).await;
        answer.topics.remove(0).partitions.remove(0)
    }

    async fn list_end(&mut self, partition: i32) -> ErrorCode {
        let asked = message!(ListOffsetsPartition {
            partition_index: partition,
            current_leader_epoch: -1,
            timestamp: -1,
        });
        let topics =
            vec![message!(ListOffsetsTopic { name: text("orders"), partitions: vec![asked] })];
        let answer =
            self.call(5, &message!(ListOffsetsRequest { replica_id: -1, topics: topics })).await;
        ErrorCode::from_wire(answer.topics[0].partitions[0].error_code)
    }

    async fn describe_partition(&mut self, partition: i32) -> MetadataResponsePartition {
        let mut answer = self.call(12, &message!(MetadataRequest { topics: None })).await;
        let topic = answer.topics.iter_mut().find(|it| it.name.as_deref() == Some("orders"));
        topic.unwrap().partitions.remove(partition as usize)
    }

    async fn describe_dirs(&mut self) -> Vec<DescribeLogDirsResult> {
        self.call(5, &message!(DescribeLogDirsRequest { topics: None })).await.results
    }

    async fn assert_serves(&mut self, partition: i32) {
        let read = self.read_partition(partition).await;
        assert_eq!(read.error_code, ErrorCode::None, "partition {partition}");
        assert_eq!(values(&read.records)[0], value(partition));
        assert_eq!(self.list_end(partition).await, ErrorCode::None);
        let appended = self.append("orders", partition, batch(&["more"])).await;
        assert_eq!(appended.error_code, ErrorCode::None, "{:?}", appended.error_message);
    }

    async fn assert_offline(&mut self, partition: i32) {
        let appended = self.append("orders", partition, batch(&["lost"])).await;
        assert_eq!(appended.error_code, ErrorCode::KafkaStorageError, "partition {partition}");
        assert_eq!(self.read_partition(partition).await.error_code, ErrorCode::KafkaStorageError);
        assert_eq!(self.list_end(partition).await, ErrorCode::KafkaStorageError);
        let described = self.describe_partition(partition).await;
        assert_eq!(ErrorCode::from_wire(described.error_code), ErrorCode::LeaderNotAvailable);
        assert_eq!((described.leader_id, &described.offline_replicas[..]), (-1, &[1][..]));
    }
}

/// What the metrics say of `name`, which may have labels.
async fn metric(node: &Node, name: &str) -> String {
    let page = get(node, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).to_owned()
}

/// What the listener of metrics answers.
pub(crate) async fn get(node: &Node, request: &str) -> String {
    let address = node.metrics_address().to_string();
    let mut stream = Env::os().net.connect(&address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    in_time("metrics", stream.read_to_string(&mut page)).await.unwrap();
    page
}

#[tokio::test]
async fn a_directory_that_is_gone_at_the_start_takes_its_partitions_along_and_brings_them_back() {
    for in_order in [true, false] {
        let dirs = TwoDirs::new().await;
        let (one, other) = (dirs.partitions_in(0), dirs.partitions_in(1));
        assert_eq!((one.len(), other.len()), (2, 2));
        // A file in the place of the directory: it cannot even be made.
        let (lost, aside) = (dirs.dir(1), dirs.root.path().join("aside"));
        let disk = Env::os().disk;
        disk.rename(&lost, &aside).unwrap();
        disk.write_atomic(&lost, b"no directory").unwrap();

        let dirs = dirs.restart(in_order).await;
        let mut client = Client::connect(&dirs.node).await;
        for partition in &one {
            client.assert_serves(*partition).await;
        }
        for partition in &other {
            client.assert_offline(*partition).await;
        }
        assert_eq!(dirs.partitions_in(0), one, "nothing was made anew elsewhere");
        let described = client.describe_dirs().await;
        assert_eq!((described[0].error_code, described[1].error_code), (0, 56));
        assert_eq!((described[1].total_bytes, described[1].topics.len()), (-1, 0));
        // A new topic finds its place.
        client.create_topic("new", 1).await;
        client.append_ok("new", batch(&["a"])).await;

        disk.remove_file(&lost).unwrap();
        disk.rename(&aside, &lost).unwrap();
        let dirs = dirs.restart(true).await;
        let mut client = Client::connect(&dirs.node).await;
        for partition in 0..4 {
            client.assert_serves(partition).await;
        }
        assert_eq!(client.read_values("new").await, ["a"]);
    }
}

#[tokio::test]
async fn an_empty_directory_in_the_place_of_a_lost_one_gets_no_partition_that_lay_there() {
    let dirs = TwoDirs::new().await;
    let other = dirs.partitions_in(1);
    let (lost, aside) = (dirs.dir(1), dirs.root.path().join("aside"));
    Env::os().disk.rename(&lost, &aside).unwrap();
    let dirs = dirs.restart(true).await;
    let mut client = Client::connect(&dirs.node).await;
    for partition in other {
        client.assert_offline(partition).await;
    }
    assert_eq!(dirs.partitions_in(1), [] as [i32; 0], "acknowledged records would be missing");
}

#[tokio::test]
async fn a_directory_that_fails_while_the_node_runs_takes_only_its_own_partitions_along() {
    let dirs = TwoDirs::new().await;
    let (one, other) = (dirs.partitions_in(0), dirs.partitions_in(1));
    let mut client = Client::connect(&dirs.node).await;
    assert_eq!(metric(&dirs.node, "kafka_log_LogManager_OfflineLogDirectoryCount").await, "0");
    dirs.faults.break_below(Some(&dirs.dir(1)));
    let refused = client.append("orders", other[0], batch(&["lost"])).await;
    assert_eq!(refused.error_code, ErrorCode::KafkaStorageError);
    // The controller hears of it in about a second.
    in_time("the news", async {
        while client.describe_partition(other[1]).await.leader_id == 1 {}
    })
    .await;
    for partition in &other {
        client.assert_offline(*partition).await;
    }
    for partition in &one {
        client.assert_serves(*partition).await;
    }
    assert_eq!(metric(&dirs.node, "kafka_log_LogManager_OfflineLogDirectoryCount").await, "1");
    let failed = format!(
        "kafka_log_LogManager_LogDirectoryOffline{{logDirectory=\"{}\"}}",
        dirs.dir(1).display()
    );
    assert_eq!(metric(&dirs.node, &failed).await, "1");
    assert_eq!(metric(&dirs.node, "kafka_server_ReplicaManager_OfflineReplicaCount").await, "2");
    let described = client.describe_dirs().await;
    assert_eq!((described[0].error_code, described[1].error_code), (0, 56));

    // The disk is well again, but nobody knows what it holds, before a restart.
    dirs.faults.break_below(None);
    client.assert_offline(other[0]).await;
    let dirs = dirs.restart(true).await;
    let mut client = Client::connect(&dirs.node).await;
    for partition in 0..4 {
        client.assert_serves(partition).await;
    }
}

#[tokio::test]
async fn a_node_whose_metadata_directory_fails_stops_and_says_why() {
    let dirs = TwoDirs::new().await;
    dirs.faults.break_below(Some(&dirs.dir(0)));
    let mut client = Client::connect(&dirs.node).await;
    let here = dirs.partitions_in(0)[0];
    client.append("orders", here, batch(&["lost"])).await;
    let reason = dirs.node.failure().await;
    assert!(reason.contains("metadata log") && reason.contains("broken"), "{reason}");
    let TwoDirs { root, faults, mut node } = dirs;
    node.crash().await;
    let refused = Node::start_faulty(Arc::clone(&root), &faults, &both(&root)).await.err().unwrap();
    assert!(matches!(refused, StartError::MetadataDir(_)), "{refused}");
    let text = refused.to_string();
    assert!(text.contains("is offline") && text.contains("the metadata log lies there"), "{text}");
    faults.break_below(None);
    let node = Node::start_faulty(Arc::clone(&root), &faults, &both(&root)).await.unwrap();
    Client::connect(&node).await.assert_serves(here).await;
}

#[tokio::test]
async fn metrics_are_one_page() {
    let dirs = TwoDirs::new().await;
    let page = get(&dirs.node, "GET /metrics HTTP/1.0\r\n\r\n").await;
    assert!(page.contains("content-type: application/openmetrics-text"), "{page}");
    assert!(page.ends_with("# EOF\n"), "{page}");
    assert_eq!(metric(&dirs.node, "kafka_server_ReplicaManager_LeaderCount").await, "4");
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "405"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let answer = get(&dirs.node, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
    }
}

/// A node that keeps 4 MiB of its disk free.
pub(crate) async fn small_disk() -> (Node, Arc<Faults>) {
    let (dir, faults) = (Arc::new(tempfile::tempdir().unwrap()), Arc::new(Faults::default()));
    let reserve = format!("log.dir.reserved.bytes={}\n", 4 * MIB);
    let node = Node::start_faulty(dir, &faults, &reserve).await.unwrap();
    (node, faults)
}

/// Appends until the disk is looked at.
async fn append_until(client: &mut Client, wanted: ErrorCode, sent: &mut Vec<String>) -> String {
    loop {
        let value = format!("record {}", sent.len());
        let appended = client.append("orders", 0, batch(&[&value])).await;
        if appended.error_code == ErrorCode::None {
            sent.push(value);
        }
        if appended.error_code == wanted {
            return appended.error_message.map(|it| it.to_string()).unwrap_or_default();
        }
    }
}

#[tokio::test]
async fn a_full_disk_refuses_producers_and_new_topics_and_lets_topics_be_deleted() {
    let (node, faults) = small_disk().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    client.create_topic("garbage", 1).await;
    let mut sent = Vec::new();
    append_until(&mut client, ErrorCode::None, &mut sent).await;
    faults.leave_free(node.path(), Some(3 * MIB));
    let sentence = append_until(&mut client, ErrorCode::KafkaStorageError, &mut sent).await;
    assert!(sentence.contains("log.dir.reserved.bytes keeps 4194304"), "{sentence}");

    let request =
        message!(CreateTopicsRequest { topics: vec![topic("more", 1, &[])], timeout_ms: 10_000 });
    let refused = client.call(7, &request).await.topics.remove(0);
    assert_eq!(ErrorCode::from_wire(refused.error_code), ErrorCode::KafkaStorageError);
    assert!(refused.error_message.unwrap().contains("is full"));
    let request = message!(MetadataRequest { topics: None });
    let known = client.call(12, &request).await.topics.len();
    assert_eq!(known, 2, "nothing is left half made");
    assert_eq!(client.read_values("orders").await, sent);
    client.delete_topic("garbage").await;

    faults.leave_free(node.path(), None);
    append_until(&mut client, ErrorCode::None, &mut sent).await;
    client.create_topic("more", 1).await;
    assert_eq!(client.read_values("orders").await, sent);
}

#[tokio::test]
async fn a_disk_without_any_room_stops_decisions_but_not_the_node() {
    let (node, faults) = small_disk().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    let mut sent = Vec::new();
    append_until(&mut client, ErrorCode::None, &mut sent).await;
    // Not even the reserve is left.
    faults.leave_free(node.path(), Some(100));
    let request = message!(DeleteTopicsRequest {
        topics: vec![message!(DeleteTopicState { name: Some(text("orders")) })],
        timeout_ms: 10_000,
    });
    let refused = client.call(6, &request).await.responses.remove(0);
    assert_eq!(ErrorCode::from_wire(refused.error_code), ErrorCode::KafkaStorageError);
    assert!(refused.error_message.unwrap().contains("make room"));
    assert_eq!(client.read_values("orders").await, sent);
    faults.leave_free(node.path(), None);
    append_until(&mut client, ErrorCode::None, &mut sent).await;
    client.delete_topic("orders").await;
}

#[tokio::test]
async fn a_log_without_a_topic_is_set_aside() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    client.append_ok("orders", batch(&["a"])).await;
    let dir = node.dir();
    node.stop().await;
    let (disk, data) = (Env::os().disk, dir.path().to_owned());
    copy(&data.join("orders-0"), &data.join("ghost-0"));
    let node = Node::start_in(dir, "").await.unwrap();
    assert_eq!(Client::connect(&node).await.read_values("orders").await, ["a"]);
    let names: Vec<_> = disk.read_dir(&data).unwrap().into_iter().map(|it| it.name).collect();
    assert!(!names.contains(&"ghost-0".to_owned()), "{names:?}");
    let aside = names.iter().find(|it| it.starts_with("ghost-0.") && it.ends_with("-stray"));
    let log = data.join(aside.unwrap()).join("00000000000000000000.log");
    assert!(!disk.read(&log).unwrap().is_empty(), "it is kept");
}

fn copy(from: &Path, to: &Path) {
    let disk = Env::os().disk;
    disk.create_dir_all(to).unwrap();
    for file in disk.read_dir(from).unwrap() {
        disk.write_atomic(&to.join(&file.name), &disk.read(&file.path).unwrap()).unwrap();
    }
}

#[tokio::test]
async fn the_topics_own_retention_is_in_force_from_the_first_look_on() {
    let properties = "log.retention.check.interval.ms=1\n";
    let node = Node::start_with("").await;
    let mut client = Client::connect(&node).await;
    client.create_topic_with("kept", 1, &[("retention.ms", "-1")]).await;
    client.create_topic("old", 1).await;
    for topic in ["kept", "old"] {
        client.append_ok(topic, timed(&[(1_000_000, "of long ago")])).await;
    }
    let dir = node.dir();
    node.stop().await;
    let node = Node::start_in(dir, properties).await.unwrap();
    let mut client = Client::connect(&node).await;
    // The default of seven days has been looked at once this is gone.
    in_time("retention", async {
        while client.read("old", 0).await.error_code == ErrorCode::None {}
    })
    .await;
    assert_eq!(client.read_values("kept").await, ["of long ago"]);
}
