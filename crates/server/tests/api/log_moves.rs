//! Logs that move to another directory of `log.dirs` while they are written and read (KIP-113).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use ottla_client::{Admin, Client as OttlaClient, ConnectionOptions, ReplicaInDir};
use ottla_env::Env;
use ottla_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::{AlterReplicaLogDirsRequest, MetadataRequest};
use ottla_protocol::{BrokerId, ErrorCode, TopicPartition, message};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::faulty_disk::Faults;
use crate::node::{Node, in_time};
use crate::records::batch;
use crate::requests::text;

/// So slow that a test sees the copy on its way.
const SLOW: &str = "replica.alter.log.dirs.io.max.bytes.per.second=20000\n";

pub(crate) fn move_to(dir: &str, topic: &str, partition: i32) -> AlterReplicaLogDirsRequest {
    let topic =
        message!(AlterReplicaLogDirTopic { name: text(topic), partitions: vec![partition] });
    let dir = message!(AlterReplicaLogDir { path: text(dir), topics: vec![topic] });
    message!(AlterReplicaLogDirsRequest { dirs: vec![dir] })
}

/// Two directories below one; the metadata log lies in the first.
struct TwoDirs {
    root: Arc<TempDir>,
    faults: Arc<Faults>,
    properties: String,
    node: Node,
}

impl TwoDirs {
    async fn new(properties: &str) -> Self {
        let (root, faults) = (Arc::new(tempfile::tempdir().unwrap()), Arc::new(Faults::default()));
        let [one, other] = ["one", "other"].map(|name| root.path().join(name));
        let dirs = format!("log.dirs={},{}\n", one.display(), other.display());
        let properties = format!("{dirs}{properties}");
        let node = Node::start_faulty(Arc::clone(&root), &faults, &properties).await.unwrap();
        Self { root, faults, properties, node }
    }

    fn dir(&self, number: usize) -> PathBuf {
        self.root.path().join(["one", "other"][number])
    }

    async fn client(&self) -> Client {
        Client::connect(&self.node).await
    }

    async fn admin(&self) -> Admin {
        let servers = vec![self.node.address().to_string()];
        let client = OttlaClient::connect(&Env::os(), servers, ConnectionOptions::default()).await;
        Admin::new(client.unwrap(), crate::node::PATIENCE)
    }

    /// Asks for a move, and answers with what it was refused.
    async fn ask(&self, topic: &str, partition: i32, dir: usize) -> ErrorCode {
        let partition = TopicPartition::new(topic, partition);
        let dir = self.dir(dir).display().to_string();
        let moves = BTreeMap::from([(partition.clone(), dir)]);
        let told = self.admin().await.alter_replica_log_dirs(BrokerId(1), &moves).await.unwrap();
        let refused = told[&partition].as_ref().err();
        refused.map_or(ErrorCode::None, |error| error.code().unwrap())
    }

    /// What lies where of a partition: its log, and a copy of it.
    async fn replicas(
        &self,
        admin: &Admin,
        partition: &TopicPartition,
    ) -> [Option<ReplicaInDir>; 2] {
        let told = admin.describe_log_dirs(BrokerId(1), None).await.unwrap();
        [0, 1].map(|number| {
            let dir = told.get(&self.dir(number).display().to_string())?.as_ref().ok()?;
            dir.replicas.get(partition).copied()
        })
    }

    async fn home(&self, partition: &TopicPartition) -> usize {
        let replicas = self.replicas(&self.admin().await, partition).await;
        replicas.iter().position(|it| it.is_some_and(|it| !it.is_future)).unwrap()
    }

    /// Waits until what lies where is as wanted.
    async fn wait_for(
        &self,
        partition: &TopicPartition,
        wanted: impl Fn(&[Option<ReplicaInDir>; 2]) -> bool,
    ) {
        let admin = self.admin().await;
        let looking = async { while !wanted(&self.replicas(&admin, partition).await) {} };
        in_time("the move", Box::pin(looking)).await;
    }

    async fn moved(&self, partition: &TopicPartition, to: usize) {
        let is_there = |it: &Option<ReplicaInDir>| it.is_some_and(|it| !it.is_future);
        self.wait_for(partition, |dirs| is_there(&dirs[to]) && dirs[1 - to].is_none()).await;
    }

    async fn crash(mut self) -> Self {
        self.node.crash().await;
        self.start_again().await
    }

    async fn start_again(self) -> Self {
        let Self { root, faults, properties, .. } = self;
        let node = Node::start_faulty(Arc::clone(&root), &faults, &properties).await.unwrap();
        Self { root, faults, properties, node }
    }
}

fn orders() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

fn value(number: usize) -> String {
    format!("{number} {}", "x".repeat(1000))
}

/// Values that are on the log, in order, all of them read.
async fn read_all(client: &mut Client) -> Vec<String> {
    let (mut values, mut next) = (Vec::new(), 0);
    loop {
        let data = client.read("orders", next).await;
        assert_eq!(data.error_code, ErrorCode::None);
        let read = crate::records::read(&data.records);
        let Some((last, _)) = read.last() else { return values };
        next = last + 1;
        values.extend(read.into_iter().map(|(_, value)| value));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_moves_under_load_and_nothing_is_lost_refused_or_written_twice() {
    let dirs = TwoDirs::new("").await;
    let mut client = dirs.client().await;
    // Each batch is on the disk before it is answered: some flushes begin in one directory and end in the other.
    let configs = [("flush.messages", "1"), ("segment.bytes", "1048576")];
    client.create_topic_with("orders", 1, &configs).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (mut writers, mut readers) = (JoinSet::new(), JoinSet::new());
    for writer in 0..3 {
        let (mut client, stopped) = (dirs.client().await, stopped.clone());
        writers.spawn(async move {
            let mut written = Vec::new();
            while !*stopped.borrow() {
                let value = value(writer * 1_000_000 + written.len());
                let offset = client.append_ok("orders", batch(&[&value])).await;
                written.push((offset, value));
            }
            written
        });
    }
    readers.spawn({
        let (mut client, stopped) = (dirs.client().await, stopped.clone());
        async move {
            let mut next = 0;
            while !*stopped.borrow() {
                let data = client.read("orders", next).await;
                assert_eq!(data.error_code, ErrorCode::None, "a reader notices nothing");
                next = crate::records::read(&data.records).last().map_or(next, |(it, _)| it + 1);
            }
        }
    });
    let home = dirs.home(&orders()).await;
    for round in 0..4 {
        let to = (home + 1 + round) % 2;
        assert_eq!(dirs.ask("orders", 0, to).await, ErrorCode::None);
        dirs.moved(&orders(), to).await;
        let moved_at = client.append_ok("orders", batch(&["moved"])).await;
        in_time("more records", async {
            while client.append_ok("orders", batch(&["more"])).await < moved_at + 50 {}
        })
        .await;
    }
    stop.send_replace(true);
    readers.join_all().await;
    let written: BTreeMap<i64, String> = writers.join_all().await.into_iter().flatten().collect();
    assert!(written.len() > 100);
    let found = read_all(&mut dirs.client().await).await;
    assert!(written.iter().all(|(offset, value)| found[*offset as usize] == *value));
    let dirs = dirs.crash().await;
    assert_eq!(read_all(&mut dirs.client().await).await, found);
    assert_eq!(dirs.home(&orders()).await, home);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_shown_until_it_is_the_log_and_goes_with_a_crash_or_a_second_thought() {
    let dirs = TwoDirs::new(SLOW).await;
    let mut client = dirs.client().await;
    client.create_topic_with("orders", 1, &[("compression.type", "uncompressed")]).await;
    for number in 0..100 {
        client.append_ok("orders", batch(&[&value(number)])).await;
    }
    let home = dirs.home(&orders()).await;
    let (there, written) = (1 - home, read_all(&mut client).await);
    assert_eq!(dirs.ask("orders", 0, there).await, ErrorCode::None);
    let under_way = |copy: &Option<ReplicaInDir>| {
        copy.is_some_and(|it| it.is_future && it.size > 0 && it.offset_lag > 0)
    };
    let here =
        |log: &Option<ReplicaInDir>| log.is_some_and(|it| !it.is_future && it.size > 100_000);
    dirs.wait_for(&orders(), |dirs| under_way(&dirs[there]) && here(&dirs[home])).await;
    // Asked for again it goes on; asked for where it is, it is given up.
    assert_eq!(dirs.ask("orders", 0, there).await, ErrorCode::None);
    dirs.wait_for(&orders(), |dirs| under_way(&dirs[there])).await;
    assert_eq!(dirs.ask("orders", 0, home).await, ErrorCode::None);
    dirs.wait_for(&orders(), |dirs| dirs[there].is_none() && here(&dirs[home])).await;

    assert_eq!(dirs.ask("orders", 0, there).await, ErrorCode::None);
    dirs.wait_for(&orders(), |dirs| under_way(&dirs[there])).await;
    let dirs = dirs.crash().await;
    let left = Env::os().disk.read_dir(&dirs.dir(there)).unwrap();
    assert!(!left.iter().any(|entry| entry.name.starts_with("orders")));
    let mut client = dirs.client().await;
    assert_eq!((read_all(&mut client).await, dirs.home(&orders()).await), (written, home));
    // A log that is deleted takes its copy along.
    assert_eq!(dirs.ask("orders", 0, there).await, ErrorCode::None);
    dirs.wait_for(&orders(), |dirs| under_way(&dirs[there])).await;
    client.delete_topic("orders").await;
    dirs.wait_for(&orders(), |dirs| dirs.iter().all(Option::is_none)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_controller_knows_where_a_log_has_moved() {
    let dirs = TwoDirs::new("").await;
    let mut client = dirs.client().await;
    client.create_topic("orders", 4).await;
    let all: Vec<_> = (0..4).map(|index| TopicPartition::new("orders", index)).collect();
    let mut elsewhere = Vec::new();
    for partition in &all {
        if dirs.home(partition).await == 1 {
            elsewhere.push(partition.clone());
        }
    }
    assert_eq!(elsewhere.len(), 2);
    let (moves, stays) = (&elsewhere[0], &elsewhere[1]);
    assert_eq!(dirs.ask("orders", moves.partition, 0).await, ErrorCode::None);
    dirs.moved(moves, 0).await;
    dirs.faults.break_below(Some(&dirs.dir(1)));
    // Somebody has to look.
    let _failed = client.append("orders", stays.partition, batch(&["x"])).await;
    let request = message!(MetadataRequest {
        topics: Some(vec![message!(MetadataRequestTopic { name: Some(text("orders")) })]),
    });
    let leaders = async |client: &mut Client| {
        let mut answer = client.call(12, &request).await;
        let partitions = answer.topics.remove(0).partitions.into_iter();
        partitions.map(|it| (it.partition_index, it.leader_id)).collect::<BTreeMap<_, _>>()
    };
    let told = async { while leaders(&mut client).await[&stays.partition] != -1 {} };
    in_time("the loss of the directory", told).await;
    let mut client = dirs.client().await;
    assert_eq!(leaders(&mut client).await[&moves.partition], 1);
    let appended = client.append("orders", moves.partition, batch(&["still led"])).await;
    assert_eq!(appended.error_code, ErrorCode::None);
    // A directory that has failed takes none, and what lies in it does not leave it.
    assert_eq!(dirs.ask("orders", moves.partition, 1).await, ErrorCode::KafkaStorageError);
    assert_eq!(dirs.ask("orders", stays.partition, 0).await, ErrorCode::KafkaStorageError);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_move_is_refused_and_what_is_there_already_stays() {
    let dirs = TwoDirs::new("").await;
    let mut client = dirs.client().await;
    client.create_topic("orders", 1).await;
    let home = dirs.home(&orders()).await;
    assert_eq!(dirs.ask("orders", 0, home).await, ErrorCode::None);
    let unknown = ErrorCode::UnknownTopicOrPartition;
    for (topic, partition) in [("orders", 1), ("missing", 0), ("no name", 0), ("orders", -1)] {
        assert_eq!(dirs.ask(topic, partition, home).await, unknown, "{topic}-{partition}");
    }
    for dir in ["", "/nowhere", "one"] {
        let answer = client.call(2, &move_to(dir, "orders", 0)).await;
        let refused = answer.results[0].partitions[0].error_code;
        assert_eq!(ErrorCode::from_wire(refused), ErrorCode::LogDirNotFound, "{dir:?}");
    }
    assert_eq!(dirs.home(&orders()).await, home);
    // What is yet to come is made where it was asked for, although it is not here.
    let fuller = home;
    assert_eq!(dirs.ask("later", 0, fuller).await, unknown);
    client.create_topic("later", 1).await;
    assert_eq!(dirs.home(&TopicPartition::new("later", 0)).await, fuller);
}
