//! The network layer over real sockets, with a handler that each test brings.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_config::{BrokerConfig, Sendfile, SocketServerConfig};
use ottla_env::Env;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use crate::cold_reads::ColdReads;
use crate::quotas::ClientQuotas;

use super::{BoundSockets, ConnectionContext, Handler, Part, Reply, SocketServer};

type Stream = Box<dyn ottla_env::Stream>;

fn config() -> SocketServerConfig {
    SocketServerConfig {
        queued_max_requests: 500,
        queued_max_request_bytes: None,
        request_max_bytes: 100 << 20,
        send_buffer_bytes: None,
        receive_buffer_bytes: None,
        listen_backlog: 50,
        connections_max_idle: None,
        max_connections: usize::MAX,
        max_connections_per_ip: usize::MAX,
        max_connections_per_ip_overrides: BTreeMap::new(),
        max_connection_creation_rate: u32::MAX,
    }
}

async fn serve(
    config: &SocketServerConfig,
    handler: impl Fn(&ConnectionContext, Bytes) -> Reply + Send + Sync + 'static,
) -> (Env, SocketServer, SocketAddr) {
    let env = Env::os();
    let listeners = [(Arc::from("PLAINTEXT"), "127.0.0.1:0".to_owned())];
    let handler: Handler = Arc::new(handler);
    let bound = BoundSockets::bind(&env, &listeners, config).await.unwrap();
    let address = bound.addresses()[0].1;
    let quotas = Arc::new(ClientQuotas::new(BrokerConfig::default().quotas));
    let server = SocketServer::start(&env, bound, config, reading(&env), (handler, quotas));
    (env, server, address)
}

fn reading(env: &Env) -> (Sendfile, Arc<ColdReads>) {
    (Sendfile::Auto, Arc::new(ColdReads::new(env, 2)))
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

/// Answers a request with its own bytes.
fn echo(_: &ConnectionContext, body: Bytes) -> Reply {
    Reply::Ready(vec![Part::Bytes(frame(&body).into())].into())
}

async fn connect(env: &Env, address: SocketAddr) -> Stream {
    env.net.connect(&address.to_string()).await.unwrap()
}

async fn receive(stream: &mut Stream) -> Vec<u8> {
    let len = stream.read_u32().await.unwrap();
    let mut body = vec![0; len as usize];
    stream.read_exact(&mut body).await.unwrap();
    body
}

async fn assert_closed(stream: &mut Stream) {
    // An end of stream and a reset both mean that the node has closed the connection.
    assert!(matches!(stream.read(&mut [0; 64]).await, Ok(0) | Err(_)));
}

async fn assert_alive(stream: &mut Stream) {
    stream.write_all(&frame(b"still there?")).await.unwrap();
    assert_eq!(receive(stream).await, b"still there?");
}

#[tokio::test]
async fn frames_of_every_size_come_back_in_order() {
    let (env, server, address) = serve(&config(), echo).await;
    let mut stream = connect(&env, address).await;
    let sizes = [1, 3, 4095, 4096, 4097, 65_535, 65_536, 65_537, 1 << 20, (3 << 20) + 7, 5, 0];
    let bodies: Vec<Vec<u8>> =
        sizes.iter().map(|&size| (0..size).map(|at| (at % 251) as u8).collect()).collect();
    let all: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
    let (mut read, mut write) = tokio::io::split(stream);
    let sender = tokio::join!(write.write_all(&all), async {
        for body in &bodies {
            let len = read.read_u32().await.unwrap();
            let mut received = vec![0; len as usize];
            read.read_exact(&mut received).await.unwrap();
            assert_eq!(&received, body);
        }
    });
    sender.0.unwrap();
    stream = read.unsplit(write);
    drop(stream);
    server.shutdown().await;
}

#[tokio::test]
async fn a_response_waits_for_the_ones_before_it() {
    let (release, held) = oneshot::channel::<()>();
    let held = Mutex::new(Some(held));
    let (env, server, address) = serve(&config(), move |context, body| {
        if body.as_ref() == b"slow" {
            let held = held.lock().take().unwrap();
            return Reply::Later(Box::pin(async move {
                held.await.unwrap();
                Ok(vec![Part::Bytes(frame(b"slow").into())].into())
            }));
        }
        echo(context, body)
    })
    .await;
    let mut stream = connect(&env, address).await;
    let mut other = connect(&env, address).await;
    stream.write_all(&[frame(b"slow"), frame(b"fast")].concat()).await.unwrap();
    assert_alive(&mut other).await;
    release.send(()).unwrap();
    assert_eq!(receive(&mut stream).await, b"slow");
    assert_eq!(receive(&mut stream).await, b"fast");
    server.shutdown().await;
}

#[tokio::test]
async fn a_held_request_is_not_overtaken() {
    let handled = Arc::new(Mutex::new(Vec::new()));
    let (release, held) = oneshot::channel::<()>();
    let held = Mutex::new(Some(held));
    let seen = Arc::clone(&handled);
    let (env, server, address) = serve(&config(), move |context, body| {
        seen.lock().push(body.to_vec());
        if body.as_ref() == b"create" {
            let held = held.lock().take().unwrap();
            return Reply::Held(Box::pin(async move {
                held.await.unwrap();
                Ok(vec![Part::Bytes(frame(b"created").into())].into())
            }));
        }
        echo(context, body)
    })
    .await;
    let mut stream = connect(&env, address).await;
    let mut other = connect(&env, address).await;
    stream.write_all(&[frame(b"create"), frame(b"list")].concat()).await.unwrap();
    assert_alive(&mut other).await;
    assert!(!handled.lock().contains(&b"list".to_vec()));
    release.send(()).unwrap();
    assert_eq!(receive(&mut stream).await, b"created");
    assert_eq!(receive(&mut stream).await, b"list");
    server.shutdown().await;
}

#[tokio::test]
async fn requests_that_had_to_wait_are_handled_though_no_byte_follows() {
    let large = Bytes::from(frame(&vec![7; 1 << 20]));
    let (env, server, address) = serve(&config(), move |context, body| match body.as_ref() {
        // It holds the others up, and is answered when it is first asked for.
        b"create" => {
            let created = vec![Part::Bytes(frame(b"created").into())];
            Reply::Held(Box::pin(std::future::ready(Ok(created.into()))))
        }
        b"read" => Reply::Ready(vec![Part::Bytes(large.clone())].into()),
        _ => echo(context, body),
    })
    .await;
    let mut stream = connect(&env, address).await;
    let requests = ["create", "create", "list", "read", "read", "list"];
    let all: Vec<u8> = requests.iter().flat_map(|it| frame(it.as_bytes())).collect();
    stream.write_all(&all).await.unwrap();
    for expected in [&b"created"[..], b"created", b"list"] {
        assert_eq!(receive(&mut stream).await, expected);
    }
    for _ in 0..2 {
        assert_eq!(receive(&mut stream).await.len(), 1 << 20);
    }
    assert_eq!(receive(&mut stream).await, b"list");
    server.shutdown().await;
}

#[tokio::test]
async fn small_requests_do_not_pile_large_responses_up() {
    let handled = Arc::new(Mutex::new(0));
    let count = Arc::clone(&handled);
    let response = Bytes::from(frame(&vec![7; 4 << 20]));
    let (env, server, address) = serve(&config(), move |_, _| {
        *count.lock() += 1;
        Reply::Ready(vec![Part::Bytes(response.clone())].into())
    })
    .await;
    let mut stream = connect(&env, address).await;
    stream.write_all(&frame(b"all").repeat(400)).await.unwrap();
    assert_eq!(receive(&mut stream).await.len(), 4 << 20);
    // Some fit into the sockets' buffers; the others wait to be handled.
    assert!(*handled.lock() < 100);
    server.shutdown().await;
}

#[tokio::test]
async fn an_absurd_length_closes_that_connection_only() {
    let (env, server, address) = serve(&config(), echo).await;
    let mut good = connect(&env, address).await;
    for length in [-1, i32::MIN, i32::MAX, (100 << 20) + 1] {
        let mut bad = connect(&env, address).await;
        bad.write_all(&length.to_be_bytes()).await.unwrap();
        assert_closed(&mut bad).await;
        assert_alive(&mut good).await;
    }
    server.shutdown().await;
}

#[tokio::test]
async fn silent_and_trickling_connections_are_closed() {
    let idle =
        SocketServerConfig { connections_max_idle: Some(Duration::from_millis(50)), ..config() };
    let (env, server, address) = serve(&idle, echo).await;
    let mut silent = connect(&env, address).await;
    let mut half = connect(&env, address).await;
    half.write_all(&1000_i32.to_be_bytes()).await.unwrap();
    let mut trickling = connect(&env, address).await;
    trickling.write_all(&1000_i32.to_be_bytes()).await.unwrap();
    // A byte now and then does not keep it alive: only a complete request does.
    while trickling.write_all(b".").await.is_ok() {
        env.clock.sleep(Duration::from_millis(5)).await;
    }
    assert_closed(&mut silent).await;
    assert_closed(&mut half).await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_peer_that_takes_no_responses_is_given_up() {
    let idle =
        SocketServerConfig { connections_max_idle: Some(Duration::from_millis(100)), ..config() };
    let (env, server, address) = serve(&idle, echo).await;
    let mut deaf = connect(&env, address).await;
    let request = frame(&vec![7; 1 << 20]);
    while deaf.write_all(&request).await.is_ok() {}
    server.shutdown().await;
}

#[tokio::test]
async fn an_address_has_its_share_of_connections() {
    let few = SocketServerConfig { max_connections_per_ip: 2, ..config() };
    let (env, server, address) = serve(&few, echo).await;
    let mut first = connect(&env, address).await;
    assert_alive(&mut first).await;
    let mut second = connect(&env, address).await;
    assert_alive(&mut second).await;
    let mut third = connect(&env, address).await;
    assert_closed(&mut third).await;
    drop(first);
    // The place is free as soon as the node has noticed.
    loop {
        let mut again = connect(&env, address).await;
        if again.write_all(&frame(b"x")).await.is_ok() && again.read_u32().await.is_ok() {
            break;
        }
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_request_beyond_the_memory_budget_is_served_alone() {
    let tight = SocketServerConfig { queued_max_request_bytes: Some(1000), ..config() };
    let (env, server, address) = serve(&tight, echo).await;
    let mut stream = connect(&env, address).await;
    let body = vec![1; 100_000];
    stream.write_all(&frame(&body)).await.unwrap();
    assert_eq!(receive(&mut stream).await, body);
    server.shutdown().await;
}

#[tokio::test]
async fn a_stopping_node_closes_what_is_open() {
    let (env, server, address) =
        serve(&config(), |_, _| Reply::Later(Box::pin(std::future::pending()))).await;
    let mut silent = connect(&env, address).await;
    let mut waiting = connect(&env, address).await;
    waiting.write_all(&frame(b"never answered")).await.unwrap();
    server.shutdown().await;
    assert_closed(&mut silent).await;
    assert_closed(&mut waiting).await;
}
