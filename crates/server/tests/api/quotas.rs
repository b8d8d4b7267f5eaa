//! Quotas hold clients to what they may send, fetch, occupy and change, and tell them so.

use std::sync::Arc;
use std::time::Duration;

use ottla_client::{
    AutoOffsetReset, ConnectionOptions, Consumer, ConsumerOptions, Producer, ProducerConfig,
    ProducerRecord,
};
use ottla_env::{Clock, Env};
use ottla_protocol::fetch::FetchRequest;
use ottla_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use ottla_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use ottla_protocol::messages::delete_topics_request::DeleteTopicState;
use ottla_protocol::messages::{
    AlterClientQuotasRequest, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteTopicsRequest,
};
use ottla_protocol::produce::ProduceRequest;
use ottla_protocol::{ErrorCode, TopicPartition, message};

use crate::client::Client;
use crate::disks::get;
use crate::node::{Node, in_time};
use crate::records::{batch, values};
use crate::requests::{BY_NAME, fetch, named, produce, text, topic};
use crate::stopped_clock::StoppedClock;

const TOO_MUCH: i16 = ErrorCode::ThrottlingQuotaExceeded.code();
/// No burst: a client is held to its rate from the first request on.
const NO_BURST: &str = "quota.window.num=1\n";

/// Sets quotas of one entity.
async fn set(node: &Node, (kind, name): (&str, &str), quotas: &[(&str, f64)]) {
    let part = message!(EntityData { entity_type: text(kind), entity_name: Some(text(name)) });
    let ops = quotas.iter().map(|(key, value)| message!(OpData { key: text(key), value: *value }));
    let entry = message!(EntryData { entity: vec![part], ops: ops.collect() });
    let request = message!(AlterClientQuotasRequest { entries: vec![entry] });
    let mut admin = Client::connect_as(node, "admin").await;
    let answer = admin.call(1, &request).await.entries.remove(0);
    assert_eq!((answer.error_code, answer.error_message), (0, None));
}

fn millis(throttle_time_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(throttle_time_ms).unwrap())
}

fn api_versions() -> ApiVersionsRequest {
    message!(ApiVersionsRequest {
        client_software_name: text("api-test"),
        client_software_version: text("1.0"),
    })
}

/// A node whose clock stands still.
async fn timeless(properties: &str) -> (Node, Arc<StoppedClock>) {
    let clock = StoppedClock::going();
    (Node::start_by(&clock, properties).await, clock)
}

/// Bytes per second of one who always has something to send, and is silent for as long as he is told: between the first
/// time that he is told so and the end of some seconds. `send` answers how many bytes went, and what he is told.
async fn rate(clock: &StoppedClock, mut send: impl AsyncFnMut() -> (usize, i32)) -> f64 {
    let (mut began, mut bytes) = (None, 0);
    loop {
        let (sent, throttle_time_ms) = send().await;
        let silent = millis(throttle_time_ms);
        match began {
            Some(_) => bytes += sent,
            None if !silent.is_zero() => began = Some(clock.now()),
            None => bytes += sent,
        }
        let seconds = began.map_or(0.0, |began| clock.now().since(began).as_secs_f64());
        if seconds >= 4.0 {
            return bytes as f64 / seconds;
        }
        assert!(bytes < 100_000_000, "{bytes} bytes in {seconds} seconds");
        if !silent.is_zero() {
            clock.wait_for_sleeper(silent).await;
            clock.set_forward(silent);
        }
    }
}

#[tokio::test]
async fn a_producer_is_held_to_its_byte_rate() {
    let (node, clock) = timeless(NO_BURST).await;
    let mut client = Client::connect_as(&node, "etl").await;
    client.create_topic("orders", 1).await;
    set(&node, ("client-id", "etl"), &[("producer_byte_rate", 1e6)]).await;
    let records = batch(&[&"x".repeat(50_000)]);
    let sent = records.len();
    let rate = rate(&clock, async || {
        let answer = client.produce(BY_NAME, &produce(named("orders"), 0, records.clone())).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::None, "it is carried out");
        assert!(answer.throttle_time_ms > 0, "told of it each time");
        (sent, answer.throttle_time_ms)
    })
    .await;
    // What is around the records counts as well.
    assert!((0.98e6..=1e6).contains(&rate), "{rate} bytes per second");
    let mut other = Client::connect_as(&node, "other").await;
    let answer = other.produce(BY_NAME, &produce(named("orders"), 0, records)).await;
    assert_eq!(answer.throttle_time_ms, 0, "it is not the other's quota");
    node.stop().await;
}

#[tokio::test]
async fn a_consumer_is_held_to_its_byte_rate_and_keeps_its_session() {
    // All that is fetched at once has to fit into the samples but one.
    let (node, clock) = timeless("quota.window.num=2\n").await;
    let mut client = Client::connect_as(&node, "reports").await;
    client.create_topic("orders", 1).await;
    let mut producer = Client::connect(&node).await;
    for _ in 0..20 {
        producer.append_ok("orders", batch(&[&"x".repeat(50_000)])).await;
    }
    set(&node, ("client-id", "reports"), &[("consumer_byte_rate", 1e6)]).await;
    let mut wanted = FetchRequest { session_epoch: 0, ..fetch(named("orders"), 0, 0) };
    wanted.topics[0].partitions[0].partition_max_bytes = 60_000;
    let opened = client.fetch(BY_NAME, &wanted).await;
    assert!(opened.session_id != 0);
    let (mut epoch, mut empty, mut burst) = (0, 0, 50_000);
    let fetched = async || {
        epoch += 1;
        let request = FetchRequest {
            session_id: opened.session_id,
            session_epoch: epoch,
            topics: Vec::new(),
            ..wanted.clone()
        };
        let answer = client.fetch(BY_NAME, &request).await;
        assert_eq!(answer.error_code, ErrorCode::None);
        assert_eq!(answer.session_id, opened.session_id);
        let topics = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let bytes: usize = topics.map(|data| data.records.len()).sum();
        assert_eq!(bytes == 0, answer.throttle_time_ms > 0, "records, or silence");
        empty += usize::from(bytes == 0);
        burst += if empty == 0 { bytes } else { 0 };
        (bytes, answer.throttle_time_ms)
    };
    let rate = rate(&clock, fetched).await;
    assert!((0.9e6..=1.1e6).contains(&rate), "{rate} bytes per second");
    assert!((0.9e6..=1e6).contains(&(burst as f64)), "{burst} bytes at once, a second's worth");
    assert!(empty > 5, "{empty} empty answers");
    node.stop().await;
}

/// Nothing here is slower than a machine: what a client may do in a time is a bound, and what it is told is at most that.
#[tokio::test]
async fn the_rust_client_waits_as_it_is_told_and_counts_it() {
    let node = Node::start_with(NO_BURST).await;
    Client::connect(&node).await.create_topic("orders", 1).await;
    let quotas = [("producer_byte_rate", 1e6), ("consumer_byte_rate", 4e6)];
    set(&node, ("client-id", "etl"), &quotas).await;
    let servers = vec![node.address().to_string()];
    let options = ConnectionOptions { client_id: "etl".to_owned(), ..ConnectionOptions::default() };
    let env = Env::os();
    let client = ottla_client::Client::connect(&env, servers, options).await.unwrap();
    let config = ProducerConfig { batch_size: 50_000, ..ProducerConfig::default() };
    let producer = Producer::builder(config).over(client.clone());
    let began = env.clock.now();
    let (count, size) = (100, 10_000);
    for _ in 0..count {
        drop(producer.send(ProducerRecord::to("orders").value("x".repeat(size))).await.unwrap());
    }
    producer.flush().await;
    let took = env.clock.now().since(began);
    let metrics = producer.metrics();
    assert_eq!((metrics.record_send_total, metrics.record_error_total), (count, 0));
    // The last batch is not waited for.
    let rate = (metrics.byte_total - 50_000) as f64 / took.as_secs_f64();
    assert!(rate <= 1.02e6, "{rate} bytes per second");
    let told = Duration::from_millis(metrics.produce_throttle_time_total);
    let owed = Duration::from_secs_f64(metrics.byte_total as f64 / 0.98e6);
    assert!(!told.is_zero() && told <= owed, "told to be silent for {told:?} of {owed:?}");

    let options = ConsumerOptions {
        auto_offset_reset: AutoOffsetReset::Earliest,
        ..ConsumerOptions::default()
    };
    let mut consumer = Consumer::new(client, options);
    consumer.assign([TopicPartition::new("orders", 0)]).unwrap();
    let mut read = 0;
    while read < count {
        let records = in_time("records", consumer.poll(Duration::from_secs(1))).await.unwrap();
        read += records.len() as u64;
    }
    let metrics = consumer.metrics();
    assert!(!metrics.fetch_throttle_time_max.is_zero());
    node.stop().await;
}

#[tokio::test]
async fn a_fetch_that_is_throttled_opens_no_session() {
    let node = Node::start_with(NO_BURST).await;
    let mut client = Client::connect_as(&node, "reports").await;
    client.create_topic("orders", 1).await;
    client.append_ok("orders", batch(&[&"x".repeat(5000)])).await;
    set(&node, ("client-id", "reports"), &[("consumer_byte_rate", 1e5)]).await;
    let opening = FetchRequest { session_epoch: 0, ..fetch(named("orders"), 0, 0) };
    let refused = client.fetch(BY_NAME, &opening).await;
    assert!((1..60).contains(&refused.throttle_time_ms), "{refused:?}");
    assert_eq!((refused.session_id, refused.topics.len()), (0, 0));
    set(&node, ("client-id", "reports"), &[("consumer_byte_rate", 1e9)]).await;
    assert_eq!(values(&client.read("orders", 0).await.records).len(), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_request_in_the_pipe_waits_until_its_client_may_speak_again() {
    let (node, clock) = timeless(NO_BURST).await;
    let mut client = Client::connect_as(&node, "etl").await;
    client.create_topic("orders", 1).await;
    set(&node, ("client-id", "etl"), &[("producer_byte_rate", 1e5)]).await;
    let records = batch(&[&"x".repeat(30_000)]);
    let first = client.send_produce(BY_NAME, &produce(named("orders"), 0, records.clone())).await;
    let answer = client.produce_answer(BY_NAME, first).await;
    // 30 kB, and the rest of the request.
    assert!((300..=310).contains(&answer.throttle_time_ms), "{}", answer.throttle_time_ms);
    let (silent, moment) = (millis(answer.throttle_time_ms), Duration::from_millis(1));
    let until_it_may_speak = async |client: &mut Client| {
        clock.wait_for_sleeper(silent).await;
        clock.set_forward(silent - moment);
        client.assert_nothing_came().await;
        clock.set_forward(moment);
    };
    let second = client.send(3, &api_versions()).await;
    until_it_may_speak(&mut client).await;
    client.answer::<ApiVersionsRequest>(3, second).await;

    // Without acks nobody is told, and the connection is silent all the same.
    let forgotten = Duration::from_secs(10);
    clock.set_forward(forgotten);
    let unanswered = ProduceRequest { acks: 0, ..produce(named("orders"), 0, records) };
    client.send_produce(BY_NAME, &unanswered).await;
    let second = client.send(3, &api_versions()).await;
    until_it_may_speak(&mut client).await;
    client.answer::<ApiVersionsRequest>(3, second).await;
    node.stop().await;
}

#[tokio::test]
async fn requests_that_take_too_much_of_a_processor_are_throttled() {
    let node = Node::start_with(NO_BURST).await;
    set(&node, ("user", "ANONYMOUS"), &[("request_percentage", 0.01)]).await;
    let mut client = Client::connect_as(&node, "busy").await;
    let clock = Env::os().clock;
    let began = clock.now();
    let answer = client.call(3, &api_versions()).await;
    // At most a sample, whatever it took.
    assert!((1..=1000).contains(&answer.throttle_time_ms), "{}", answer.throttle_time_ms);
    client.call(3, &api_versions()).await;
    let waited = clock.now().since(began);
    assert!(waited >= millis(answer.throttle_time_ms), "{waited:?}");
    node.stop().await;
}

#[tokio::test]
async fn quotas_hold_after_a_restart_and_are_seen_in_metrics() {
    let node = Node::start_with(&format!("{NO_BURST}metrics.listener=127.0.0.1:0\n")).await;
    set(&node, ("client-id", "etl"), &[("producer_byte_rate", 1000.0)]).await;
    let node = node.restart().await;
    let mut admin = Client::connect(&node).await;
    admin.create_topic("orders", 1).await;
    let page = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    assert!(!get(&node, page).await.contains("kafka_server_Produce"), "nobody produced yet");
    let mut client = Client::connect_as(&node, "etl").await;
    let records = batch(&[&"x".repeat(30_000)]);
    let answer = client.produce(BY_NAME, &produce(named("orders"), 0, records)).await;
    assert!((29_000..32_000).contains(&answer.throttle_time_ms), "{}", answer.throttle_time_ms);
    let page = get(&node, page).await;
    let told = r#"kafka_server_Produce_throttle_time{user="",client_id="etl"} "#;
    let told = page.lines().find_map(|line| line.strip_prefix(told)).expect(&page);
    assert_eq!(told.parse(), Ok(f64::from(answer.throttle_time_ms)));
    assert!(page.contains(r#"kafka_server_Produce_byte_rate{user="",client_id="etl"} "#));
    // A connection that has to be silent for long does not keep the node from stopping.
    node.stop().await;
}

fn creation(name: &str, partitions: i32) -> CreateTopicsRequest {
    message!(CreateTopicsRequest { topics: vec![topic(name, partitions, &[])], timeout_ms: 10_000 })
}

#[tokio::test]
async fn who_creates_and_deletes_too_many_partitions_is_refused_or_throttled() {
    let (node, _clock) = timeless("controller.quota.window.num=1\n").await;
    for client in ["strict", "old"] {
        set(&node, ("client-id", client), &[("controller_mutation_rate", 1.0)]).await;
    }
    let connect = async |name| Client::connect_as(&node, name).await;
    let first = connect("strict").await.call(7, &creation("a", 30)).await;
    assert_eq!((first.topics[0].error_code, first.throttle_time_ms), (0, 0), "it may go into debt");

    let refused = connect("strict").await.call(6, &creation("b", 1)).await;
    assert_eq!(refused.topics[0].error_code, TOO_MUCH);
    let words = refused.topics[0].error_message.as_ref().unwrap();
    assert_eq!(words.as_str(), "The throttling quota has been exceeded.");
    assert_eq!(refused.throttle_time_ms, 29_000);
    let more = message!(CreatePartitionsRequest {
        topics: vec![message!(CreatePartitionsTopic {
            name: text("a"),
            count: 31,
            assignments: None
        })],
        timeout_ms: 10_000,
    });
    let refused = connect("strict").await.call(3, &more).await;
    assert_eq!(refused.results[0].error_code, TOO_MUCH);
    assert!(refused.throttle_time_ms > 0);
    let deletion = message!(DeleteTopicsRequest {
        topics: vec![message!(DeleteTopicState { name: Some(text("a")) })],
        timeout_ms: 10_000,
    });
    let refused = connect("strict").await.call(6, &deletion).await;
    assert_eq!(refused.responses[0].error_code, TOO_MUCH);
    assert!(refused.throttle_time_ms > 0);

    // A client that cannot be told so is served, and pays afterwards.
    let done = connect("old").await.call(5, &creation("c", 30)).await;
    assert_eq!(done.topics[0].error_code, 0);
    assert_eq!(done.throttle_time_ms, 29_000);
    let done = connect("old").await.call(2, &more).await;
    assert_eq!(done.results[0].error_code, 0);
    let old_deletion =
        message!(DeleteTopicsRequest { topic_names: vec![text("c")], timeout_ms: 10_000 });
    let done = connect("old").await.call(4, &old_deletion).await;
    assert_eq!(done.responses[0].error_code, 0);
    assert_eq!(done.throttle_time_ms, 60_000);
    node.stop().await;
}

#[tokio::test]
async fn an_address_that_opens_connections_too_fast_is_held_back() {
    let (node, clock) = timeless("quota.window.num=2\n").await;
    set(&node, ("ip", "127.0.0.1"), &[("connection_creation_rate", 2.0)]).await;
    let mut first = Client::connect(&node).await;
    first.assert_served().await;
    let mut second = Client::connect(&node).await;
    second.assert_served().await;
    let mut held = Client::connect(&node).await;
    // Three at two per second, and a second is over before the first of them.
    let (wait, moment) = (Duration::from_millis(500), Duration::from_millis(1));
    clock.wait_for_sleeper(wait).await;
    clock.set_forward(wait - moment);
    held.assert_nothing_came().await;
    clock.set_forward(moment);
    held.assert_closed().await;
    first.assert_served().await;
    // After the time that it was held back there is room for one again.
    let mut again = Client::connect(&node).await;
    again.assert_served().await;
    node.stop().await;
}
