//! Two brokers that answer as a script says, and as one topic of one partition where it says nothing; or do not answer at all.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ottla_env::{Env, Stream};
use ottla_protocol::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use ottla_protocol::messages::find_coordinator_response::Coordinator;
use ottla_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_protocol::messages::{ApiVersionsResponse, FindCoordinatorResponse, MetadataResponse};
use ottla_protocol::record_batch::{NewRecord, RecordBatchBuilder};
use ottla_protocol::{
    ApiKey, ErrorCode, LeaderEpoch, Offset, Request, RequestHeader, Response, StrBytes, TopicId,
    TopicRef, advertised_apis, message,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) const TOPIC: &str = "t";
pub(crate) const TOPIC_ID: TopicId = TopicId::from_bytes([7; 16]);

/// A request as a broker got it.
pub(crate) struct Asked {
    /// The broker.
    pub(crate) node: i32,
    pub(crate) version: i16,
    pub(crate) request: Request,
}

/// What a script answers; `None` leaves it to the default.
type Script = Box<dyn FnMut(&Asked) -> Option<Response> + Send>;

/// The brokers 1, which leads, coordinates and speaks for the controller, and 2.
#[derive(Clone)]
pub(crate) struct Brokers(Arc<Mutex<State>>);

struct State {
    script: Script,
    ports: Vec<u16>,
    caps: Vec<(ApiKey, i16)>,
    leader: i32,
    epoch: i32,
    coordinator: i32,
    controller: i32,
    /// Those that are brokers of the cluster.
    members: Vec<i32>,
    /// What a broker owes an answer to; what comes behind it on the same connection waits too.
    owed: BTreeSet<(i32, ApiKey)>,
    /// Of that, what it has been asked.
    asked: BTreeSet<(i32, ApiKey)>,
}

impl Brokers {
    /// Listens, and answers nothing newer than `caps` say.
    pub(crate) async fn start(
        caps: &[(ApiKey, i16)],
        script: impl FnMut(&Asked) -> Option<Response> + Send + 'static,
    ) -> Self {
        let env = Env::os();
        let mut listeners = Vec::new();
        for _ in 0..2 {
            listeners.push(env.net.listen("127.0.0.1:0", 8).await.unwrap());
        }
        let ports = listeners.iter().map(|it| it.local_addr().unwrap().port()).collect();
        let (script, caps) = (Box::new(script), caps.to_vec());
        let (owed, asked) = (BTreeSet::new(), BTreeSet::new());
        let (leader, epoch, coordinator, controller, members) = (1, 1, 1, 1, vec![1, 2]);
        let state = State {
            script,
            ports,
            caps,
            leader,
            epoch,
            coordinator,
            controller,
            members,
            owed,
            asked,
        };
        let brokers = Self(Arc::new(Mutex::new(state)));
        for (mut listener, node) in listeners.into_iter().zip(1..) {
            let brokers = brokers.clone();
            let _running = env.spawn("listener", async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let _running = Env::os().spawn("broker", brokers.clone().serve(stream, node));
                }
            });
        }
        brokers
    }

    pub(crate) fn address(&self) -> String {
        self.address_of(1)
    }

    /// Where a broker is.
    pub(crate) fn address_of(&self, node: i32) -> String {
        format!("127.0.0.1:{}", self.0.lock().unwrap().ports[node as usize - 1])
    }

    /// The ports of both.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.0.lock().unwrap().ports.clone()
    }

    /// A new leader epoch, with the same leader.
    pub(crate) fn set_epoch(&self, epoch: i32) {
        self.0.lock().unwrap().epoch = epoch;
    }

    /// Another leader, in the next epoch.
    pub(crate) fn set_leader(&self, leader: i32) {
        let state = &mut *self.0.lock().unwrap();
        (state.leader, state.epoch) = (leader, state.epoch + 1);
    }

    /// Another coordinator, of all groups.
    pub(crate) fn set_coordinator(&self, coordinator: i32) {
        self.0.lock().unwrap().coordinator = coordinator;
    }

    /// Another broker that speaks for the controller.
    pub(crate) fn set_controller(&self, controller: i32) {
        self.0.lock().unwrap().controller = controller;
    }

    /// Others are the brokers of the cluster; whoever is none any more answers all the same.
    pub(crate) fn set_members(&self, members: &[i32]) {
        self.0.lock().unwrap().members = members.to_vec();
    }

    /// From now on `node` owes the answer to every such request, until it [pays](Self::pay).
    pub(crate) fn owe(&self, node: i32, api: ApiKey) {
        self.0.lock().unwrap().owed.insert((node, api));
    }

    /// Whether `node` owes the answer to such a request.
    pub(crate) fn owes(&self, node: i32, api: ApiKey) -> bool {
        self.0.lock().unwrap().asked.contains(&(node, api))
    }

    /// Answers what `node` owes.
    pub(crate) fn pay(&self, node: i32, api: ApiKey) {
        self.0.lock().unwrap().owed.remove(&(node, api));
    }

    /// Whether an answer may be given now.
    fn is_free(&self, question: (i32, ApiKey)) -> bool {
        let state = &mut *self.0.lock().unwrap();
        let owed = state.owed.contains(&question);
        if owed {
            state.asked.insert(question);
        }
        !owed
    }

    async fn serve(self, mut stream: Box<dyn Stream>, node: i32) {
        while let Ok(length) = stream.read_u32().await {
            let mut frame = BytesMut::zeroed(length as usize);
            if stream.read_exact(&mut frame).await.is_err() {
                return;
            }
            let (header, body) = RequestHeader::decode(&frame.freeze()).unwrap();
            let request = Request::decode(&header, body).unwrap();
            let asked = Asked { node, version: header.api_version, request };
            while !self.is_free((node, header.api_key)) {
                Env::os().clock.sleep(Duration::from_millis(5)).await;
            }
            let answer = self.answer(&asked);
            if let Response::Fetch(fetch) = &answer
                && fetch.topics.is_empty()
            {
                // As long as a broker waits for records, in short.
                Env::os().clock.sleep(Duration::from_millis(5)).await;
            }
            let frame = answer.encode(header.correlation_id, header.api_version).unwrap();
            if stream.write_all(&frame.into_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, asked: &Asked) -> Response {
        let state = &mut *self.0.lock().unwrap();
        if let Some(answer) = (state.script)(asked) {
            return answer;
        }
        #[allow(clippy::wildcard_enum_match_arm, reason = "what no test asks without a script")]
        match &asked.request {
            Request::ApiVersions(_) => {
                let mut rows = advertised_apis();
                for row in &mut rows {
                    let cap = state.caps.iter().find(|(api, _)| api.key() == row.api_key);
                    row.max_version = cap.map_or(row.max_version, |(_, cap)| *cap);
                }
                message!(ApiVersionsResponse { api_keys: rows }).into()
            }
            Request::Metadata(request) => {
                let asked = request.topics.iter().flatten().filter_map(|topic| topic.name.clone());
                let asked = asked.filter(|name| name.as_str() != TOPIC);
                metadata(state, asked).into()
            }
            Request::FindCoordinator(request) => {
                coordinator(state, asked.version, &request.coordinator_keys).into()
            }
            Request::Fetch(_) => nothing_fetched().into(),
            other => panic!("{} is not in the script", other.api_key()),
        }
    }
}

/// Of the one topic, and of others that are asked for and have the same leader.
fn metadata(state: &State, others: impl Iterator<Item = StrBytes>) -> MetadataResponse {
    let brokers = state.ports.iter().zip(1..).filter(|(_, node)| state.members.contains(node));
    let brokers = brokers.map(|(port, node)| {
        let host = StrBytes::from("127.0.0.1");
        message!(MetadataResponseBroker { node_id: node, host: host, port: i32::from(*port) })
    });
    let partition = message!(MetadataResponsePartition {
        leader_id: state.leader,
        leader_epoch: state.epoch,
        replica_nodes: vec![1, 2],
        isr_nodes: vec![1, 2],
    });
    let topic = |(name, topic_id)| {
        message!(MetadataResponseTopic {
            name: Some(name),
            topic_id: topic_id,
            partitions: vec![partition.clone()],
        })
    };
    let others = others.map(|name| (name, TopicId::from_bytes([8; 16])));
    let topics = others.chain([(StrBytes::from(TOPIC), TOPIC_ID)]).map(topic);
    message!(MetadataResponse {
        brokers: brokers.collect(),
        controller_id: state.controller,
        topics: topics.collect(),
    })
}

fn coordinator(state: &State, version: i16, keys: &[StrBytes]) -> FindCoordinatorResponse {
    let id = state.coordinator;
    let port = i32::from(state.ports[id as usize - 1]);
    let host = StrBytes::from("127.0.0.1");
    if version < 4 {
        return message!(FindCoordinatorResponse { node_id: id, host: host, port: port });
    }
    let row = |key: &StrBytes| {
        message!(Coordinator { key: key.clone(), node_id: id, host: host.clone(), port: port })
    };
    message!(FindCoordinatorResponse { coordinators: keys.iter().map(row).collect() })
}

/// An answer to Fetch without a partition.
pub(crate) fn nothing_fetched() -> FetchResponse {
    FetchResponse {
        throttle_time_ms: 0,
        error_code: ErrorCode::None,
        session_id: 0,
        topics: Vec::new(),
        node_endpoints: Vec::new(),
    }
}

/// An answer to Fetch about the only partition, named as `version` names it.
pub(crate) fn fetched(version: i16, data: PartitionData) -> Response {
    let topic = match version {
        ..13 => TopicRef::Name(StrBytes::from(TOPIC)),
        _ => TopicRef::Id(TOPIC_ID),
    };
    let topics = vec![FetchableTopicResponse { topic, partitions: vec![data] }];
    FetchResponse { topics, ..nothing_fetched() }.into()
}

/// Records with the values `v0`, `v1` … by their offsets, appended in `epoch`.
pub(crate) fn records(epoch: i32, offsets: std::ops::Range<i64>) -> PartitionData {
    let mut builder = RecordBatchBuilder::new()
        .base_offset(Offset(offsets.start))
        .leader_epoch(LeaderEpoch(epoch));
    let end = offsets.end;
    for offset in offsets {
        let value = format!("v{offset}");
        builder.append(&NewRecord { value: Some(value.as_bytes()), ..NewRecord::default() });
    }
    let records: Bytes = builder.build();
    PartitionData { high_watermark: Offset(end), records, ..refused(ErrorCode::None) }
}

/// An answer about the only partition without records.
pub(crate) fn refused(code: ErrorCode) -> PartitionData {
    PartitionData::failed(0, code)
}
