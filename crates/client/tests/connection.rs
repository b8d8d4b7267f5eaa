//! A connection against brokers that behave and brokers that do not, over real sockets.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

#[path = "../../server/tests/api/stopped_clock.rs"]
mod stopped_clock;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use ottla_client::{ClientError, Connection, ConnectionOptions};
use ottla_env::{Env, Stream};
use ottla_protocol::messages::{ApiVersionsResponse, HeartbeatRequest, HeartbeatResponse};
use ottla_protocol::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::{
    ApiKey, Request, RequestHeader, Response, StrBytes, TopicRef, advertised_apis, message,
    unsupported_api_versions_response,
};
use stopped_clock::StoppedClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A broker of one connection that does what the test says.
struct Broker {
    stream: Box<dyn Stream>,
}

impl Broker {
    async fn read_frame(&mut self) -> Bytes {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).await.unwrap();
        let mut frame = BytesMut::zeroed(u32::from_be_bytes(length) as usize);
        self.stream.read_exact(&mut frame).await.unwrap();
        frame.freeze()
    }

    async fn read(&mut self) -> (RequestHeader, Request) {
        let (header, body) = RequestHeader::decode(&self.read_frame().await).unwrap();
        let request = Request::decode(&header, body).unwrap();
        (header, request)
    }

    async fn answer(&mut self, header: &RequestHeader, response: impl Into<Response>) {
        let frame = response.into().encode(header.correlation_id, header.api_version).unwrap();
        self.stream.write_all(&frame.into_bytes()).await.unwrap();
    }

    async fn answer_versions(&mut self) {
        let (header, _) = self.read().await;
        assert_eq!(header.api_key, ApiKey::ApiVersions);
        self.answer(&header, message!(ApiVersionsResponse { api_keys: advertised_apis() })).await;
    }
}

fn options() -> ConnectionOptions {
    ConnectionOptions { client_id: "test".to_owned(), ..ConnectionOptions::default() }
}

/// Runs `broker` on a free port and connects to it.
async fn connect<F: Future<Output = ()> + Send + 'static>(
    options: ConnectionOptions,
    broker: impl FnOnce(Broker) -> F,
) -> Result<Connection, ClientError> {
    connect_in(&Env::os(), options, broker).await
}

async fn connect_in<F: Future<Output = ()> + Send + 'static>(
    env: &Env,
    options: ConnectionOptions,
    broker: impl FnOnce(Broker) -> F,
) -> Result<Connection, ClientError> {
    let mut listener = env.net.listen("127.0.0.1:0", 8).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connecting = Connection::connect(env, &address, options);
    tokio::pin!(connecting);
    let (stream, _) = tokio::select! {
        accepted = listener.accept() => accepted.unwrap(),
        _ = &mut connecting => panic!("nobody accepted yet"),
    };
    let _running = env.spawn("broker", broker(Broker { stream }));
    connecting.await
}

fn heartbeat(generation_id: i32) -> HeartbeatRequest {
    message!(HeartbeatRequest { group_id: StrBytes::from("g"), generation_id: generation_id })
}

fn beaten(throttle_time_ms: i32) -> HeartbeatResponse {
    message!(HeartbeatResponse { throttle_time_ms: throttle_time_ms })
}

#[tokio::test]
async fn pipelined_calls_get_their_own_responses() {
    let connection = connect(options(), |mut broker| async move {
        broker.answer_versions().await;
        let mut asked = Vec::new();
        for _ in 0..3 {
            let (header, Request::Heartbeat(request)) = broker.read().await else { panic!() };
            assert_eq!(header.client_id.as_ref().unwrap().as_str(), "test");
            asked.push((header, request.generation_id));
        }
        for (header, generation) in asked {
            broker.answer(&header, beaten(generation)).await;
        }
    });
    let connection = connection.await.unwrap();
    let requests = [heartbeat(1), heartbeat(2), heartbeat(3)];
    let (one, two, three) = tokio::join!(
        connection.call(&requests[0]),
        connection.call(&requests[1]),
        connection.call(&requests[2])
    );
    let throttles = [one, two, three].map(|answer| answer.unwrap().throttle_time_ms);
    assert_eq!(throttles, [1, 2, 3]);
}

#[tokio::test]
async fn a_dropped_call_does_not_disturb_the_next() {
    let connection = connect(options(), |mut broker| async move {
        broker.answer_versions().await;
        let first = broker.read().await.0;
        let second = broker.read().await.0;
        broker.answer(&first, beaten(1)).await;
        broker.answer(&second, beaten(2)).await;
    });
    let connection = connection.await.unwrap();
    let request = heartbeat(1);
    {
        let mut dropped = Box::pin(connection.call(&request));
        assert!(futures_util::poll!(&mut dropped).is_pending());
    }
    assert_eq!(connection.call(&request).await.unwrap().throttle_time_ms, 2);
}

#[tokio::test]
async fn an_older_broker_is_asked_again_in_its_own_version() {
    let connection = connect(options(), |mut broker| async move {
        let (header, _) = broker.read().await;
        assert_eq!(header.api_version, 4);
        let refusal = Response::<Bytes>::from(unsupported_api_versions_response());
        let frame = refusal.encode(header.correlation_id, 0).unwrap();
        broker.stream.write_all(&frame.into_bytes()).await.unwrap();
        let (header, _) = broker.read().await;
        assert_eq!(header.api_version, 3);
        let mut rows = advertised_apis();
        rows.retain(|row| row.api_key != ApiKey::Heartbeat.key());
        broker.answer(&header, message!(ApiVersionsResponse { api_keys: rows })).await;
        broker.read_frame().await;
    });
    let connection = connection.await.unwrap();
    let error = connection.call(&heartbeat(1)).await.unwrap_err();
    assert!(matches!(error, ClientError::NoCommonVersion { broker: None, .. }), "{error}");
}

#[tokio::test]
async fn acks_0_waits_for_no_response() {
    let (told, seen) = tokio::sync::oneshot::channel();
    let connection = connect(options(), |mut broker| async move {
        broker.answer_versions().await;
        let (_, Request::Produce(request)) = broker.read().await else { panic!() };
        told.send(request).unwrap();
        let (header, _) = broker.read().await;
        broker.answer(&header, beaten(7)).await;
    });
    let connection = connection.await.unwrap();
    let records = Some(Bytes::from_static(b"not looked at"));
    let partitions = vec![PartitionProduceData { index: 0, records }];
    let topics = vec![TopicProduceData { topic: TopicRef::Id(Default::default()), partitions }];
    let request = ProduceRequest { acks: 0, topics, ..ProduceRequest::default() };
    assert_eq!(connection.produce(&request).await.unwrap(), None);
    assert_eq!(seen.await.unwrap(), request);
    assert_eq!(connection.call(&heartbeat(1)).await.unwrap().throttle_time_ms, 7);
}

#[tokio::test]
async fn a_silent_broker_is_given_up() {
    let clock = StoppedClock::going();
    clock.stop();
    let env = clock.env();
    let silent = connect_in(&env, options(), |mut broker| async move {
        broker.answer_versions().await;
        broker.read_frame().await;
        std::future::pending().await
    });
    let connection = silent.await.unwrap();
    let patience = options().request_timeout;
    let request = heartbeat(1);
    let waiting = async {
        clock.wait_for_sleeper(patience).await;
        clock.set_forward(patience);
    };
    let (answer, ()) = tokio::join!(connection.call(&request), waiting);
    let error = answer.unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { api: ApiKey::Heartbeat, .. }), "{error}");
    let error = connection.call(&heartbeat(1)).await.unwrap_err();
    assert!(matches!(error, ClientError::Closed { .. }), "{error}");
    assert!(connection.is_closed());
}

/// What the client says when the broker answers a heartbeat with these bytes.
async fn told_by(answer: impl FnOnce(i32) -> Vec<u8>) -> String {
    let (give, bytes) = tokio::sync::oneshot::channel::<Vec<u8>>();
    let (ask, correlation_id) = tokio::sync::oneshot::channel();
    let options = ConnectionOptions { max_frame_bytes: 10_000, ..options() };
    let connection = connect(options, |mut broker| async move {
        broker.answer_versions().await;
        ask.send(broker.read().await.0.correlation_id).unwrap();
        broker.stream.write_all(&bytes.await.unwrap()).await.unwrap();
    });
    let connection = connection.await.unwrap();
    let request = heartbeat(1);
    let answering = async { give.send(answer(correlation_id.await.unwrap())).unwrap() };
    let (result, ()) = tokio::join!(connection.call(&request), answering);
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn nonsense_ends_the_connection_with_a_reason() {
    let frame = |correlation_id: i32, tagged_fields: &[u8]| {
        let mut bytes = Vec::new();
        bytes.put_i32(4 + tagged_fields.len() as i32);
        bytes.put_i32(correlation_id);
        bytes.put_slice(tagged_fields);
        bytes
    };
    let said = told_by(|id| frame(id + 1, &[0])).await;
    assert!(said.ends_with("response 2 came instead of response 1"), "{said}");
    let said = told_by(|_| i32::MAX.to_be_bytes().to_vec()).await;
    assert!(said.ends_with("above the limit of 10000"), "{said}");
    let said = told_by(|_| (-1_i32).to_be_bytes().to_vec()).await;
    assert!(said.contains("-1 bytes"), "{said}");
    let said = told_by(|_| Vec::new()).await;
    assert!(said.ends_with("the broker closed the connection"), "{said}");
    let said = told_by(|id| frame(id, &[])).await;
    assert!(said.contains("ended: unexpected end of input"), "{said}");
    let said = told_by(|id| frame(id, &[0])).await;
    assert!(said.starts_with("the response cannot be decoded"), "{said}");
}

#[tokio::test]
async fn an_idle_connection_is_closed_but_not_one_that_waits() {
    let clock = StoppedClock::going();
    clock.stop();
    let limit = Duration::from_secs(10);
    let options = ConnectionOptions { max_idle: Some(limit), ..options() };
    let (say, said) = tokio::sync::oneshot::channel::<()>();
    let env = clock.env();
    let connection = connect_in(&env, options, |mut broker| async move {
        broker.answer_versions().await;
        let (header, _) = broker.read().await;
        said.await.unwrap();
        broker.answer(&header, beaten(7)).await;
        std::future::pending().await
    });
    let connection = connection.await.unwrap();
    let half_later = async || {
        clock.wait_for_sleeper(limit / 2).await;
        clock.set_forward(limit / 2);
    };
    let request = heartbeat(1);
    let waits = async {
        for _ in 0..4 {
            half_later().await;
        }
        clock.wait_for_sleeper(limit / 2).await;
        say.send(()).unwrap();
    };
    let (answer, ()) = tokio::join!(connection.call(&request), waits);
    assert_eq!(answer.unwrap().throttle_time_ms, 7);
    half_later().await;
    clock.wait_for_sleeper(limit / 2).await;
    assert!(!connection.is_closed(), "idle for half of the time");
    half_later().await;
    while !connection.is_closed() {
        tokio::task::yield_now().await;
    }
    let error = connection.call(&request).await.unwrap_err();
    assert!(error.to_string().ends_with("idle for 10s (connections.max.idle.ms)"), "{error}");
    assert!(error.is_retriable());
}

#[tokio::test]
async fn nobody_at_the_address_is_told_so() {
    let env = Env::os();
    let error = Connection::connect(&env, "127.0.0.1:1", options()).await.err().unwrap();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    assert!(error.is_retriable() && !error.is_indeterminate());
}
