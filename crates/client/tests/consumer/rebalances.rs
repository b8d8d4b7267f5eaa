//! Rebalances, and what is committed in the middle of one.

use ottla_client::{Rebalance, RebalanceListener};
use ottla_protocol::messages::{
    HeartbeatResponse, JoinGroupResponse, LeaveGroupResponse, SyncGroupResponse,
};

use super::*;

/// What a member is given: the only partition.
const ASSIGNMENT: &[u8] =
    &[0, 3, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 255, 255, 255, 255];

/// A group of one member, whose generations begin when the script says so, and what it is asked.
#[derive(Clone, Default)]
struct Group {
    notes: Notes,
    /// Heartbeats of generations before this one say that the group rebalances.
    wanted: Arc<Mutex<i32>>,
}

impl Group {
    fn note(&self, text: impl Into<String>) {
        self.notes.lock().unwrap().push(text.into());
    }

    fn count(&self, text: &str) -> usize {
        self.notes.lock().unwrap().iter().filter(|it| *it == text).count()
    }

    fn rebalance(&self) {
        *self.wanted.lock().unwrap() += 1;
    }

    fn answer(&self, request: &Request) -> Option<Response> {
        let wanted = *self.wanted.lock().unwrap();
        #[allow(clippy::wildcard_enum_match_arm, reason = "the rest is as usual")]
        match request {
            Request::JoinGroup(_) => {
                let member = StrBytes::from("m");
                Some(
                    message!(JoinGroupResponse { generation_id: wanted, member_id: member }).into(),
                )
            }
            Request::SyncGroup(_) => {
                Some(message!(SyncGroupResponse { assignment: ASSIGNMENT.into() }).into())
            }
            Request::Heartbeat(request) => {
                self.note(format!("heartbeat of {}", request.generation_id));
                let code = match request.generation_id < wanted {
                    true => ErrorCode::RebalanceInProgress,
                    false => ErrorCode::None,
                };
                Some(message!(HeartbeatResponse { error_code: code.code() }).into())
            }
            Request::OffsetCommit(request) => {
                let offset = request.topics[0].partitions[0].committed_offset;
                let member = &request.member_id;
                self.note(format!("commit {offset} as {member}"));
                Some(committed(ErrorCode::None))
            }
            Request::OffsetFetch(_) => Some(five_committed(-1)),
            Request::LeaveGroup(_) => {
                self.note("leave");
                Some(message!(LeaveGroupResponse {}).into())
            }
            _ => None,
        }
    }

    async fn brokers(&self) -> Brokers {
        let group = self.clone();
        Brokers::start(&[(ApiKey::OffsetFetch, 5)], move |asked| group.answer(&asked.request)).await
    }

    /// A member that was given the partition and knows where to begin, with this listener.
    async fn member(&self, brokers: &Brokers, options: ConsumerOptions) -> Consumer {
        let mut consumer = consumer(brokers, options).await;
        consumer.set_rebalance_listener(self.clone());
        consumer.subscribe([TOPIC]).unwrap();
        until(async || {
            consumer.poll(Duration::from_millis(1)).await.unwrap();
            consumer.position(&t0()).is_some()
        })
        .await;
        consumer
    }
}

impl RebalanceListener for Group {
    fn assigned(&mut self, _: &mut Rebalance<'_>, partitions: &[TopicPartition]) {
        self.note(format!("assigned {}", partitions.len()));
    }

    fn revoked(&mut self, rebalance: &mut Rebalance<'_>, partitions: &[TopicPartition]) {
        self.note(format!("revoked {}", partitions.len()));
        rebalance.commit(t0(), OffsetAndMetadata::new(Offset(7)));
    }
}

/// Goes on with `done` until it is true.
async fn until(mut done: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !done().await {
            Env::os().clock.sleep(Duration::from_millis(1)).await;
        }
    };
    Env::os().timeout(PATIENCE, Box::pin(waiting)).await.unwrap();
}

fn options(auto_commit: bool) -> ConsumerOptions {
    ConsumerOptions {
        auto_commit,
        auto_commit_interval: Duration::from_millis(5),
        heartbeat_interval: Duration::from_millis(5),
        fetch_max_wait: Duration::from_millis(20),
        ..ConsumerOptions::in_group("g")
    }
}

fn at(offset: i64) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
    BTreeMap::from([(t0(), OffsetAndMetadata::new(Offset(offset)))])
}

#[tokio::test]
async fn no_partition_comes_or_goes_while_a_commit_is_waited_for() {
    let group = Group::default();
    let brokers = group.brokers().await;
    let mut consumer = group.member(&brokers, options(false)).await;
    group.rebalance();
    // What the first of these heartbeats was told, the second one's sender knows.
    let told = group.count("heartbeat of 0") + 2;
    until(async || group.count("heartbeat of 0") > told).await;
    for _ in 0..3 {
        consumer.commit_offsets(at(6)).await.unwrap();
    }
    assert_eq!(group.count("revoked 1"), 0, "in the midst of work");
    assert_eq!(group.count("commit 6 as m"), 3, "the generation is not over yet");
    // Nor does it come back there.
    brokers.owe(1, ApiKey::SyncGroup);
    until(async || {
        consumer.poll(Duration::from_millis(1)).await.unwrap();
        brokers.owes(1, ApiKey::SyncGroup)
    })
    .await;
    assert_eq!(group.count("revoked 1"), 1);
    brokers.pay(1, ApiKey::SyncGroup);
    until(async || {
        let refused = consumer.commit_offsets(at(6)).await.unwrap_err();
        assert!(matches!(refused, ConsumerError::RebalanceInProgress), "{refused}");
        group.count("heartbeat of 1") > 0
    })
    .await;
    assert_eq!(group.count("assigned 1"), 1, "in the first generation");
    consumer.poll(Duration::from_millis(1)).await.unwrap();
    assert_eq!(group.count("assigned 1"), 2);
    consumer.commit_offsets(at(6)).await.unwrap();
}

#[tokio::test]
async fn what_is_committed_by_whoever_unsubscribes_is_committed_before_it_leaves() {
    let group = Group::default();
    let brokers = group.brokers().await;
    let mut consumer = group.member(&brokers, options(false)).await;
    consumer.commit_async(Some(at(6)), |_| {}).unwrap();
    consumer.unsubscribe().unwrap();
    // It need not be called again.
    drop(consumer);
    until(async || group.count("leave") > 0).await;
    let notes = group.notes.lock().unwrap();
    let notes: Vec<_> = notes.iter().filter(|it| !it.starts_with("heartbeat")).collect();
    let expected = ["assigned 1", "revoked 1", "commit 6 as m", "commit 7 as m", "leave"];
    assert_eq!(notes, expected);
}

#[tokio::test]
async fn a_position_that_does_not_change_is_committed_again_before_it_is_forgotten() {
    let group = Group::default();
    let brokers = group.brokers().await;
    let mut consumer = group.member(&brokers, options(true)).await;
    until(async || {
        consumer.poll(Duration::from_millis(1)).await.unwrap();
        group.count("commit 5 as m") > 2
    })
    .await;
}

#[tokio::test]
async fn without_an_interval_each_poll_commits_and_comes_to_an_end() {
    let group = Group::default();
    let brokers = group.brokers().await;
    let options = ConsumerOptions { auto_commit_interval: Duration::ZERO, ..options(true) };
    let mut consumer = group.member(&brokers, options).await;
    until(async || {
        consumer.poll(Duration::from_millis(1)).await.unwrap();
        group.count("commit 5 as m") > 2
    })
    .await;
}
