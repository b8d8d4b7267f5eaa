//! A follower and its fetcher, and a leader that answers as the test says: what is asked of it, and when.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ottla_config::BrokerConfig;
use ottla_env::{Env, Stream};
use ottla_protocol::fetch::{
    EpochEndOffset, FetchPartition, FetchRequest, FetchResponse, FetchableTopicResponse,
    PartitionData,
};
use ottla_protocol::messages::ApiVersionsResponse;
use ottla_protocol::{
    BrokerEpoch, ErrorCode, LeaderEpoch, Offset, Request, RequestHeader, Response, advertised_apis,
    message,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::{Side, TOPIC};
use crate::faulty_disk::{Faults, faulty_env};
use crate::replica::one_of_two::OneOfTwo;

/// Longest that anything may take; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(30);
/// The session that the leader opens.
const SESSION: i32 = 5;

/// A fetch that waits for its answer.
struct Asked {
    /// The number of the connection that it came over.
    connection: usize,
    request: FetchRequest,
    answer: oneshot::Sender<FetchResponse>,
}

impl Asked {
    /// What is asked of the partition, if it is named.
    fn row(&self) -> Option<&FetchPartition> {
        self.request.topics.first()?.partitions.first()
    }

    /// What the follower tells of its log by what it asks for: where it ends and begins.
    fn told(&self) -> Option<(Offset, Offset)> {
        self.row().map(|row| (row.fetch_offset, row.log_start_offset))
    }

    fn answer(self, response: FetchResponse) {
        // A follower may have given the fetch up.
        let _given_up = self.answer.send(response);
    }

    /// Two records, of which the first is deleted already.
    async fn answer_two_records(self) {
        let mut side = Side::start(1).await;
        side.hear(1, 0, &[1]);
        side.append("one");
        side.append("two");
        let records = side.log();
        self.answer_with(|data| {
            data.records = records.into();
            data.high_watermark = Offset(2);
            data.log_start_offset = Offset(1);
        });
    }

    /// Says something of the partition.
    fn answer_with(self, say: impl FnOnce(&mut PartitionData<Bytes>)) {
        let mut data = PartitionData::failed(0, ErrorCode::None);
        say(&mut data);
        let topic = self.request.topics.first().unwrap().topic.clone();
        let topics = vec![FetchableTopicResponse { topic, partitions: vec![data] }];
        self.answer(FetchResponse { topics, ..nothing() });
    }

    /// There is nothing new.
    fn answer_nothing(self) {
        self.answer(nothing());
    }
}

fn nothing() -> FetchResponse {
    FetchResponse {
        throttle_time_ms: 0,
        error_code: ErrorCode::None,
        session_id: SESSION,
        topics: Vec::new(),
        node_endpoints: Vec::new(),
    }
}

/// Broker 1.
struct Leader {
    port: u16,
    fetches: mpsc::UnboundedReceiver<Asked>,
}

impl Leader {
    async fn start() -> Self {
        let env = Env::os();
        let mut listener = env.net.listen("127.0.0.1:0", 8).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (told, fetches) = mpsc::unbounded_channel();
        let _running = env.spawn("listener", async move {
            for connection in 1.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let told = told.clone();
                let _running = Env::os().spawn("leader", serve(stream, connection, told));
            }
        });
        Self { port, fetches }
    }

    /// The next fetch that comes.
    async fn asked(&mut self) -> Asked {
        let asked = Env::os().timeout(PATIENCE, self.fetches.recv()).await;
        asked.expect("no fetch comes").unwrap()
    }

    /// The next fetch that names the partition, after one that was answered without a session.
    async fn asked_for_all(&mut self) -> Asked {
        self.asked_at_rest().await.answer(FetchResponse { session_id: 0, ..nothing() });
        self.asked().await
    }

    /// What the next fetch that names the partition tells.
    async fn told(&mut self) -> (Offset, Offset) {
        loop {
            let asked = self.asked().await;
            let told = asked.told();
            asked.answer_nothing();
            if let Some(told) = told {
                return told;
            }
        }
    }

    /// The first fetch of a session's later ones that waits for as long as one does when nothing is new to fetch.
    async fn asked_at_rest(&mut self) -> Asked {
        loop {
            let asked = self.asked().await;
            if asked.request.session_epoch > 0 && asked.request.max_wait_ms == 500 {
                return asked;
            }
            asked.answer_nothing();
        }
    }
}

async fn serve(mut stream: Box<dyn Stream>, connection: usize, told: mpsc::UnboundedSender<Asked>) {
    while let Ok(length) = stream.read_u32().await {
        let mut frame = BytesMut::zeroed(length as usize);
        if stream.read_exact(&mut frame).await.is_err() {
            return;
        }
        let (header, body) = RequestHeader::decode(&frame.freeze()).unwrap();
        #[allow(clippy::wildcard_enum_match_arm, reason = "a follower asks nothing else here")]
        let response: Response<Bytes> = match Request::decode(&header, body).unwrap() {
            Request::ApiVersions(_) => {
                message!(ApiVersionsResponse { api_keys: advertised_apis() }).into()
            }
            Request::Fetch(request) => {
                let (answer, answered) = oneshot::channel();
                if told.send(Asked { connection, request, answer }).is_err() {
                    return;
                }
                let Ok(response) = answered.await else { return };
                response.into()
            }
            other => panic!("{} was not expected", other.api_key()),
        };
        let frame = response.encode(header.correlation_id, header.api_version).unwrap();
        if stream.write_all(&frame.into_bytes()).await.is_err() {
            return;
        }
    }
}

/// Broker 2, which follows `leader`.
async fn follower(env: &Env, leader: &Leader, properties: &str) -> OneOfTwo {
    let (config, _) = BrokerConfig::parse(&[properties], &[]).unwrap();
    let mut follower = OneOfTwo::start_in(env, 2, TOPIC, config).await;
    follower.register(1, leader.port);
    let _applied = follower.hear(1, 0, &[1, 2]);
    follower
}

#[tokio::test]
async fn news_that_change_nothing_of_what_is_fetched_do_not_disturb_a_fetch() {
    let mut leader = Leader::start().await;
    let mut follower = follower(&Env::os(), &leader, "").await;
    let asked = leader.asked_at_rest().await;
    let (connection, epoch) = (asked.connection, asked.request.session_epoch);
    // Another ISR: the same leader, in the same epoch.
    let _applied = follower.hear(1, 0, &[1]);
    asked.answer_nothing();
    let next = leader.asked().await;
    assert_eq!((next.connection, next.request.session_epoch), (connection, epoch + 1));
    assert_eq!(next.request.max_wait_ms, 500, "nothing new is to be fetched");
    // Another epoch is news.
    let _applied = follower.hear(1, 1, &[1]);
    let next = leader.asked().await;
    assert_eq!((next.connection, next.request.session_epoch), (connection + 1, 0));
    assert_eq!(next.row().unwrap().current_leader_epoch.0, 1);
    follower.replicas.shutdown().await;
}

#[tokio::test]
async fn a_broker_that_has_registered_again_says_so_of_every_partition_it_follows() {
    let mut leader = Leader::start().await;
    let follower = follower(&Env::os(), &leader, "").await;
    let asked = leader.asked_at_rest().await;
    assert_eq!((asked.request.replica_epoch, asked.row()), (2, None), "nothing is new");
    follower.replicas.set_epoch(BrokerEpoch(9));
    asked.answer_nothing();
    let next = leader.asked().await;
    assert_eq!((next.request.replica_epoch, next.request.session_epoch), (9, 0));
    assert_eq!(next.row().map(|row| row.partition), Some(0), "the leader notes it with the row");
    // Once is enough.
    next.answer_nothing();
    let next = leader.asked().await;
    assert_eq!((next.request.session_epoch, next.row()), (1, None));
    follower.replicas.shutdown().await;
}

/// Whether what a follower that has no room for `file` does next is told only when it is on the disk: what it asks for then.
async fn told_when_there_is_room(
    leader: &mut Leader,
    disk: &Faults,
    file: &'static str,
) -> (Offset, Offset) {
    let tried_again = disk.refused(3);
    tokio::pin!(tried_again);
    loop {
        tokio::select! {
            biased;
            asked = leader.asked() => {
                assert_eq!(asked.told(), None, "{file}");
                asked.answer_nothing();
            }
            () = &mut tried_again => break,
        }
    }
    disk.has_no_room_for(None);
    leader.told().await
}

async fn a_follower_tells_only_what_its_disk_holds(file: &'static str) {
    let mut leader = Leader::start().await;
    let disk = Arc::<Faults>::default();
    let env = faulty_env(Env::os(), &disk);
    let follower = follower(&env, &leader, "log.flush.interval.messages=1\n").await;
    let asked = leader.asked_for_all().await;
    disk.has_no_room_for(Some(file));
    asked.answer_two_records().await;
    let told = told_when_there_is_room(&mut leader, &disk, file).await;
    assert_eq!(told, (Offset(2), Offset(1)));
    follower.replicas.shutdown().await;
}

#[tokio::test]
async fn a_log_whose_cut_could_not_be_noted_is_not_appended_to() {
    let mut leader = Leader::start().await;
    let disk = Arc::<Faults>::default();
    let env = faulty_env(Env::os(), &disk);
    let follower = follower(&env, &leader, "log.flush.interval.messages=1\n").await;
    leader.asked_for_all().await.answer_two_records().await;
    assert_eq!(leader.told().await, (Offset(2), Offset(1)));
    // Answered without a session, it asks once more.
    let asked = leader.asked_for_all().await;
    let file = "recovery-point-offset-checkpoint";
    disk.has_no_room_for(Some(file));
    asked.answer_with(|data| {
        data.diverging_epoch =
            Some(EpochEndOffset { epoch: LeaderEpoch(0), end_offset: Offset(1) });
    });
    let told = told_when_there_is_room(&mut leader, &disk, file).await;
    assert_eq!(told, (Offset(1), Offset(1)));
    assert_eq!(follower.partition().log().log_end_offset(), Offset(1));
    follower.replicas.shutdown().await;
}

#[tokio::test]
async fn records_that_could_not_be_flushed_are_not_told_as_held() {
    a_follower_tells_only_what_its_disk_holds("leader-epoch-checkpoint").await;
}

#[tokio::test]
async fn a_log_start_that_could_not_be_noted_is_not_told() {
    a_follower_tells_only_what_its_disk_holds("log-start-offset-checkpoint").await;
}
