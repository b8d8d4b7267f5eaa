//! A shard on a partition with several replicas: who is told what, and when.

use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use ottla_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use ottla_protocol::{LeaderEpoch, TopicPartition, message};

use super::*;
use crate::replica::one_of_two::OneOfTwo;

const GROUP: &str = "billing";

/// Broker 1, which holds the only partition of `__consumer_offsets` together with broker 2.
struct Node {
    groups: Arc<CoordinatorHost>,
    broker: OneOfTwo,
}

impl Node {
    async fn start(commit_timeout_ms: &str) -> Self {
        let set = [("offsets.commit.timeout.ms", commit_timeout_ms)];
        let (config, _) = BrokerConfig::parse(&[], &set).unwrap();
        let groups = Arc::new(CoordinatorHost::new(Env::os(), &config));
        Self { groups, broker: OneOfTwo::start(1, GROUP_METADATA_TOPIC, config).await }
    }

    /// What the controller decided about the partition, applied as a node does.
    fn elect(&mut self, leader: i32, epoch: i32, isr: &[i32]) {
        let applied = self.broker.hear(leader, epoch, isr);
        applied.resigned.iter().for_each(|it| self.groups.resigned(it.partition));
        applied.leading.into_iter().for_each(|it| self.groups.elected(it));
    }

    fn partition(&self) -> Arc<Partition> {
        self.broker.partition()
    }

    fn commit(&self, offset: i64) -> Result<Decided<OffsetCommitResponse>, ErrorCode> {
        let partition =
            message!(OffsetCommitRequestPartition { partition_index: 0, committed_offset: offset });
        let topic = message!(OffsetCommitRequestTopic {
            name: StrBytes::from("orders"),
            partitions: vec![partition],
        });
        let request = message!(OffsetCommitRequest {
            group_id: StrBytes::from(GROUP),
            generation_id_or_member_epoch: -1,
            topics: vec![topic],
        });
        self.groups.decide(1, GROUP, |groups, now| groups.commit_offsets(now, 8, &request))
    }

    /// What is committed, and what comes before anybody is told; once the groups are loaded.
    async fn fetch(&self) -> Result<Decided<i64>, ErrorCode> {
        let asked =
            message!(OffsetFetchRequestGroup { group_id: StrBytes::from(GROUP), topics: None });
        loop {
            let fetched = self.groups.look(1, GROUP, |groups, _| {
                let topics = groups.fetch_offsets(&asked).topics;
                topics.first().map_or(-1, |topic| topic.partitions[0].committed_offset)
            });
            match fetched {
                Err(ErrorCode::CoordinatorLoadInProgress) => tokio::task::yield_now().await,
                fetched => return fetched,
            }
        }
    }
}

#[tokio::test]
async fn a_commit_is_told_once_every_replica_in_sync_has_it() {
    let mut node = Node::start("600000").await;
    node.elect(1, 0, &[1, 2]);
    assert_eq!(node.fetch().await.ok().unwrap().answer, -1);
    let mut waiting = node.commit(7).ok().unwrap().committing.unwrap();
    let told = node.fetch().await.ok().unwrap();
    assert_eq!(told.answer, 7);
    let mut told = told.committing.unwrap();
    assert!(is_pending(waiting.as_mut()).await && is_pending(told.as_mut()).await);
    // Broker 2 is not in sync any more: all that are have it.
    node.elect(1, 0, &[1]);
    assert_eq!(waiting.await, Ok(()));
    assert_eq!(told.await, Ok(()));
    assert!(node.commit(8).ok().unwrap().committing.is_none());
}

#[tokio::test]
async fn whoever_waits_when_the_leadership_is_lost_looks_for_the_coordinator_elsewhere() {
    let mut node = Node::start("600000").await;
    node.elect(1, 0, &[1, 2]);
    node.fetch().await.ok().unwrap();
    let waiting = node.commit(7).ok().unwrap().committing.unwrap();
    node.elect(2, 1, &[1, 2]);
    assert_eq!(waiting.await, Err(ErrorCode::NotCoordinator));
    assert_eq!(node.commit(8).err(), Some(ErrorCode::NotCoordinator));
}

#[tokio::test]
async fn a_leader_that_missed_its_successor_acknowledges_nothing_of_its_old_epoch() {
    let mut node = Node::start("600000").await;
    node.elect(1, 0, &[1, 2]);
    node.fetch().await.ok().unwrap();
    let waiting = node.commit(7).ok().unwrap().committing.unwrap();
    // In one step from epoch 0 to epoch 2, and everything in the log is committed then.
    node.elect(1, 2, &[1]);
    assert_eq!(waiting.await, Err(ErrorCode::NotCoordinator));
    let reloaded = node.fetch().await.ok().unwrap();
    assert_eq!((reloaded.answer, reloaded.committing.is_none()), (7, true));
}

#[tokio::test]
async fn an_old_shard_appends_nothing_in_a_newer_epoch() {
    let mut node = Node::start("600000").await;
    node.elect(1, 0, &[1]);
    node.fetch().await.ok().unwrap();
    let (old, partition) = (node.groups.shards.lock()[&0].clone(), node.partition());
    node.elect(1, 1, &[1]);
    let decided = old.decide(node.groups.now(), |_, _| Outcome { records: vec![], answer: () });
    assert_eq!(decided.err(), Some(ErrorCode::NotCoordinator));
    let end = partition.log().log_end_offset();
    let (bytes, origin) = (bytes::Bytes::new(), ottla_storage::AppendOrigin::Coordinator);
    let now = node.groups.now().wall;
    let appended = partition.append_in_epoch(LeaderEpoch(0), &bytes, origin, now);
    assert_eq!(appended.err().map(|it| it.error_code()), Some(ErrorCode::NotLeaderOrFollower));
    assert_eq!(partition.log().log_end_offset(), end);
}

#[tokio::test]
async fn a_new_leader_replays_what_is_not_committed_yet_and_tells_of_it_once_it_is() {
    let mut node = Node::start("600000").await;
    node.elect(1, 0, &[1, 2]);
    node.fetch().await.ok().unwrap();
    drop(node.commit(7));
    node.elect(2, 1, &[1, 2]);
    node.elect(1, 2, &[1, 2]);
    let fetched = node.fetch().await.ok().unwrap();
    assert_eq!(fetched.answer, 7);
    let committing = fetched.committing.unwrap();
    node.elect(1, 2, &[1]);
    assert_eq!(committing.await, Ok(()));
}

#[tokio::test]
async fn a_commit_that_its_replicas_do_not_take_in_time_is_told_so() {
    let mut node = Node::start("1").await;
    node.elect(1, 0, &[1, 2]);
    node.fetch().await.ok().unwrap();
    let waiting = node.commit(7).ok().unwrap().committing.unwrap();
    assert_eq!(waiting.await, Err(ErrorCode::CoordinatorNotAvailable));
}

#[tokio::test]
async fn a_topic_that_is_deleted_leaves_nobody_waiting() {
    let mut node = Node::start("600000").await;
    node.elect(1, 0, &[1, 2]);
    node.fetch().await.ok().unwrap();
    let waiting = node.commit(7).ok().unwrap().committing.unwrap();
    let applied = node.broker.hear_of_deletion();
    let gone = TopicPartition::new(GROUP_METADATA_TOPIC, 0);
    assert_eq!(applied.resigned, [gone]);
    node.groups.resigned(0);
    assert_eq!(waiting.await, Err(ErrorCode::NotCoordinator));
}

/// Whether a future is not complete, now that it has been asked.
async fn is_pending<F: Future + Unpin>(future: F) -> bool {
    tokio::select! {
        biased;
        _ = future => false,
        () = std::future::ready(()) => true,
    }
}
