//! The Rust client's consumers, alone and in groups, at a whole node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla_client::assignor::assignor_named;
use ottla_client::{
    Admin, AutoOffsetReset, Client, ConnectionOptions, Consumer, ConsumerError, ConsumerOptions,
    NewTopic, OffsetAndMetadata, OffsetSpec, Producer, ProducerConfig, ProducerRecord, Rebalance,
    RebalanceListener,
};
use ottla_env::Env;
use ottla_protocol::{ErrorCode, Offset, Timestamp, TopicPartition};

use crate::node::{Node, PATIENCE, in_time};
use crate::stopped_clock::StoppedClock;

const TICK: Duration = Duration::from_millis(20);

async fn client(node: &Node) -> Client {
    client_by(&Env::os(), node).await
}

async fn client_by(env: &Env, node: &Node) -> Client {
    let servers = vec![node.address().to_string()];
    Client::connect(env, servers, ConnectionOptions::default()).await.unwrap()
}

async fn make_topic(client: &Client, name: &str, partitions: i32) {
    let topic = NewTopic { partitions: Some(partitions), ..NewTopic::new(name) };
    Admin::new(client.clone(), PATIENCE).create_topic(topic).await.unwrap();
}

/// Writes `count` records to each of the partitions, with the values `partition:number` and the
/// numbers from `first` on as times.
async fn produce(client: &Client, topic: &str, partitions: i32, (first, count): (i64, i64)) {
    let producer = Producer::builder(ProducerConfig::default()).over(client.clone());
    for partition in 0..partitions {
        for number in first..first + count {
            let record = ProducerRecord::to(topic)
                .partition(partition)
                .timestamp(Timestamp(number))
                .value(format!("{partition}:{number}"));
            drop(producer.send(record).await.unwrap());
        }
    }
    producer.flush().await;
    assert_eq!(producer.metrics().record_error_total, 0);
}

fn in_group(group: &str, assignor: &str) -> ConsumerOptions {
    ConsumerOptions {
        assignors: vec![assignor_named(assignor).unwrap()],
        auto_offset_reset: AutoOffsetReset::Earliest,
        heartbeat_interval: TICK,
        session_timeout: Duration::from_secs(6),
        ..ConsumerOptions::in_group(group)
    }
}

async fn subscribed(client: &Client, options: ConsumerOptions, topics: &[&str]) -> Consumer {
    let mut consumer = Consumer::new(client.clone(), options);
    consumer.subscribe(topics.iter().copied()).unwrap();
    consumer
}

/// Polls all of them in turn until `done`, and answers what they read.
async fn poll_until(
    consumers: &mut [Consumer],
    what: &str,
    mut done: impl FnMut(&[Consumer], &BTreeSet<String>) -> bool,
) -> BTreeSet<String> {
    let mut read = BTreeSet::new();
    in_time(what, async {
        while !done(consumers, &read) {
            for consumer in consumers.iter_mut() {
                for record in consumer.poll(TICK).await.unwrap().iter() {
                    let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                    assert!(read.insert(value.clone()), "{value} was read twice");
                }
            }
        }
    })
    .await;
    read
}

/// How many partitions each has, when together they have `all` and each at least one.
fn shares(consumers: &[Consumer], all: usize) -> Option<Vec<usize>> {
    let assigned: Vec<_> = consumers.iter().map(Consumer::assignment).collect();
    let union: BTreeSet<_> = assigned.iter().flatten().collect();
    let sizes: Vec<_> = assigned.iter().map(BTreeSet::len).collect();
    let whole = union.len() == all && sizes.iter().sum::<usize>() == all;
    (whole && sizes.iter().all(|size| *size > 0)).then_some(sizes)
}

fn partition(topic: &str, number: i32) -> TopicPartition {
    TopicPartition::new(topic, number)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assigned_consumer_reads_from_where_it_is_told() {
    let node = Node::start().await;
    let client = client(&node).await;
    make_topic(&client, "t", 1).await;
    produce(&client, "t", 1, (0, 100)).await;
    let options = ConsumerOptions { max_poll_records: 7, ..ConsumerOptions::default() };
    let mut consumer = Consumer::new(client, options);
    let t0 = partition("t", 0);
    consumer.assign([t0.clone()]).unwrap();
    let at = |first: i64| format!("0:{first}");
    for (spec, first) in [(OffsetSpec::Earliest, 0), (OffsetSpec::At(Timestamp(40)), 40)] {
        consumer.seek_to(&t0, spec).unwrap();
        let records = in_time("records", consumer.poll(PATIENCE)).await.unwrap();
        assert_eq!(records.len(), 7);
        assert_eq!(records.iter().next().unwrap().value, Some(at(first).as_bytes()));
        assert_eq!(consumer.position(&t0), Some(Offset(first + 7)));
        assert_eq!(consumer.lag(&t0), Some(100 - first - 7));
    }
    consumer.seek(&t0, Offset(98)).unwrap();
    assert_eq!(consumer.recv().await.unwrap().offset, Offset(98));
    assert_eq!(consumer.recv().await.unwrap().offset, Offset(99));
    consumer.pause([&t0]).unwrap();
    consumer.seek_to(&t0, OffsetSpec::Earliest).unwrap();
    assert!(consumer.poll(TICK).await.unwrap().is_empty());
    consumer.resume([&t0]).unwrap();
    assert_eq!(consumer.recv().await.unwrap().offset, Offset(0));
    consumer.seek_to(&t0, OffsetSpec::At(Timestamp(1000))).unwrap();
    assert_eq!(consumer.await_position(&t0).await.unwrap(), Offset(100));
    let wishes = BTreeMap::from([(t0.clone(), OffsetSpec::At(Timestamp(55)))]);
    let found = consumer.offsets(wishes).await.unwrap()[&t0];
    assert_eq!((found.offset, found.timestamp), (Offset(55), Timestamp(55)));
    consumer.close(PATIENCE).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_offset_reset_decides_where_nothing_is_committed_and_where_it_is_gone() {
    let node = Node::start().await;
    let client = client(&node).await;
    make_topic(&client, "t", 1).await;
    produce(&client, "t", 1, (0, 10)).await;
    let t0 = partition("t", 0);
    let with = |reset: AutoOffsetReset| {
        let options = ConsumerOptions { auto_offset_reset: reset, ..ConsumerOptions::default() };
        let mut consumer = Consumer::new(client.clone(), options);
        consumer.assign([t0.clone()]).unwrap();
        consumer
    };
    for (reset, offset) in [
        (AutoOffsetReset::Earliest, 0),
        (AutoOffsetReset::Latest, 10),
        // All records have times of long ago.
        (AutoOffsetReset::ByDuration(Duration::from_secs(3600)), 10),
    ] {
        let mut consumer = with(reset);
        assert_eq!(consumer.await_position(&t0).await.unwrap(), Offset(offset), "{reset:?}");
        consumer.seek(&t0, Offset(77)).unwrap();
        in_time("the reset", async {
            while consumer.position(&t0) == Some(Offset(77)) || consumer.position(&t0).is_none() {
                consumer.poll(TICK).await.unwrap();
            }
        })
        .await;
        assert!([Offset(offset), Offset(10)].contains(&consumer.position(&t0).unwrap()));
    }
    let mut consumer = with(AutoOffsetReset::None);
    let error = in_time("an error", consumer.poll(PATIENCE)).await.unwrap_err();
    assert!(matches!(error, ConsumerError::NoOffset(_)) && !error.is_retriable(), "{error}");
    consumer.seek(&t0, Offset(77)).unwrap();
    let error = in_time("an error", consumer.poll(PATIENCE)).await.unwrap_err();
    let expected = matches!(&error, ConsumerError::OffsetOutOfRange { offset: Offset(77), .. });
    assert!(expected, "{error}");
    consumer.seek(&t0, Offset(9)).unwrap();
    assert_eq!(consumer.recv().await.unwrap().offset, Offset(9));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_with_each_assignor_and_take_over_when_one_leaves() {
    let node = Node::start().await;
    let client = client(&node).await;
    for assignor in ["range", "roundrobin", "sticky", "cooperative-sticky"] {
        make_topic(&client, assignor, 6).await;
        produce(&client, assignor, 6, (0, 5)).await;
        let mut consumers = Vec::new();
        for _ in 0..3 {
            consumers.push(subscribed(&client, in_group(assignor, assignor), &[assignor]).await);
        }
        let balanced = |consumers: &[Consumer], _: &BTreeSet<String>| {
            shares(consumers, 6) == Some(vec![2, 2, 2])
        };
        poll_until(&mut consumers, assignor, balanced).await;
        for consumer in &mut consumers {
            consumer.commit().await.unwrap();
        }
        consumers.pop().unwrap().close(PATIENCE).await.unwrap();
        let taken_over =
            |consumers: &[Consumer], _: &BTreeSet<String>| shares(consumers, 6) == Some(vec![3, 3]);
        poll_until(&mut consumers, assignor, taken_over).await;
        for consumer in consumers {
            consumer.close(PATIENCE).await.unwrap();
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_read_twice_or_left_out_while_members_come_and_go() {
    let node = Node::start().await;
    let client = client(&node).await;
    make_topic(&client, "t", 4).await;
    for assignor in ["range", "cooperative-sticky"] {
        let options = || in_group(&format!("g-{assignor}"), assignor);
        let mut consumers = vec![subscribed(&client, options(), &["t"]).await];
        let mut read = BTreeSet::new();
        let base = if assignor == "range" { 0 } else { 1000 };
        for round in 0..4 {
            produce(&client, "t", 4, (base + round * 25, 25)).await;
            if round % 2 == 0 {
                consumers.push(subscribed(&client, options(), &["t"]).await);
            } else {
                consumers.remove(0).close(PATIENCE).await.unwrap();
            }
            let before = if assignor == "range" { 0 } else { 400 };
            let wanted = (before + (round + 1) * 100) as usize;
            let new =
                poll_until(&mut consumers, assignor, |_, new| read.len() + new.len() >= wanted);
            let new = new.await;
            assert!(read.is_disjoint(&new), "round {round} of {assignor} read again");
            read.extend(new);
            // Who leaves in the middle of a rebalance may not be able to commit any more.
            let settled = |it: &[Consumer], _: &BTreeSet<String>| shares(it, 4).is_some();
            poll_until(&mut consumers, assignor, settled).await;
        }
        for consumer in consumers {
            consumer.close(PATIENCE).await.unwrap();
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_resumes_from_its_commits_with_their_metadata() {
    let node = Node::start().await;
    let client = client(&node).await;
    make_topic(&client, "t", 2).await;
    produce(&client, "t", 2, (0, 10)).await;
    let options = || ConsumerOptions { auto_commit: false, ..in_group("g", "range") };
    let mut consumer = subscribed(&client, options(), &["t"]).await;
    let polled = poll_until(std::slice::from_mut(&mut consumer), "all", |_, read| read.len() == 20);
    polled.await;
    let commit = |offset: i64, text: &str| OffsetAndMetadata {
        metadata: text.to_owned(),
        ..OffsetAndMetadata::new(Offset(offset))
    };
    let offsets = BTreeMap::from([
        (partition("t", 0), commit(4, "four")),
        (partition("t", 1), commit(10, "")),
    ]);
    consumer.commit_offsets(offsets.clone()).await.unwrap();
    assert_eq!(consumer.committed(offsets.keys().cloned()).await.unwrap(), offsets);
    consumer.close(PATIENCE).await.unwrap();

    let node = node.restart().await;
    let client = self::client(&node).await;
    let mut consumer = subscribed(&client, options(), &["t"]).await;
    assert_eq!(in_time("a record", consumer.recv()).await.unwrap().value.unwrap(), "0:4");
    let (told, heard) = std::sync::mpsc::channel();
    consumer.commit_async(None, move |result| told.send(result).unwrap()).unwrap();
    let mut result = None;
    let called = poll_until(std::slice::from_mut(&mut consumer), "the callback", |_, _| {
        result = heard.try_recv().ok();
        result.is_some()
    });
    called.await;
    result.unwrap().unwrap();
    let committed = consumer.committed([partition("t", 0)]).await.unwrap();
    assert_eq!(committed[&partition("t", 0)].offset, Offset(5));
    consumer.close(PATIENCE).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_keeps_its_place_and_a_second_one_fences_it() {
    let node = Node::start().await;
    let client = client(&node).await;
    make_topic(&client, "t", 4).await;
    let options = |id: &str| ConsumerOptions {
        group_instance_id: Some(id.to_owned()),
        ..in_group("g", "range")
    };
    let mut consumers = vec![
        subscribed(&client, options("a"), &["t"]).await,
        subscribed(&client, options("b"), &["t"]).await,
    ];
    let shared = |consumers: &[Consumer], _: &BTreeSet<String>| shares(consumers, 4).is_some();
    poll_until(&mut consumers, "both", shared).await;
    let (before, generation) = (consumers[1].assignment(), generation(&consumers[0]));
    consumers.remove(1).close(PATIENCE).await.unwrap();
    consumers.push(subscribed(&client, options("b"), &["t"]).await);
    poll_until(&mut consumers, "again", shared).await;
    assert_eq!(consumers[1].assignment(), before);
    assert_eq!(self::generation(&consumers[0]), generation, "nobody had to rebalance");

    let mut second = [subscribed(&client, options("b"), &["t"]).await];
    poll_until(&mut second, "the second b", |it, _| it[0].assignment() == before).await;
    let fenced = in_time("the fence", async {
        loop {
            if let Err(error) = consumers[1].poll(TICK).await {
                return error;
            }
        }
    });
    let error = fenced.await;
    let expected =
        matches!(&error, ConsumerError::Rejected { code: ErrorCode::FencedInstanceId, .. });
    assert!(expected, "{error}");
    node.stop().await;
}

fn generation(consumer: &Consumer) -> i32 {
    consumer.group_metadata().unwrap().generation
}

/// Notes what it hears, and commits what it gives up.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl RebalanceListener for Notes {
    fn assigned(&mut self, _: &mut Rebalance<'_>, partitions: &[TopicPartition]) {
        self.0.lock().unwrap().push(format!("+{}", partitions.len()));
    }

    fn revoked(&mut self, rebalance: &mut Rebalance<'_>, partitions: &[TopicPartition]) {
        self.0.lock().unwrap().push(format!("-{}", partitions.len()));
        rebalance.commit_positions();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_hears_of_what_comes_and_goes_and_its_commits_count() {
    let node = Node::start().await;
    let client = client(&node).await;
    make_topic(&client, "t", 2).await;
    produce(&client, "t", 2, (0, 10)).await;
    for (assignor, expected) in [
        ("range", vec!["+2", "-2", "+1", "-1"]),
        ("cooperative-sticky", vec!["+2", "-1", "+0", "+0", "-1"]),
    ] {
        let options = || ConsumerOptions {
            auto_commit: false,
            ..in_group(&format!("l-{assignor}"), assignor)
        };
        let notes = Notes::default();
        let mut first = subscribed(&client, options(), &["t"]).await;
        first.set_rebalance_listener(notes.clone());
        let mut consumers = vec![first];
        poll_until(&mut consumers, "all", |_, read| read.len() == 20).await;
        consumers.push(subscribed(&client, options(), &["t"]).await);
        // The second begins where the first committed, so nothing comes.
        let read = poll_until(&mut consumers, "both", |it, _| shares(it, 2).is_some()).await;
        assert!(read.is_empty(), "{assignor}: read again: {read:?}");
        for consumer in consumers {
            consumer.close(PATIENCE).await.unwrap();
        }
        let mut heard = notes.0.lock().unwrap().clone();
        // Whether it takes an empty rebalance more depends on who joins first.
        heard.dedup();
        let mut expected = expected;
        expected.dedup();
        assert_eq!(heard, expected, "{assignor}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_finds_topics_that_come_later() {
    let node = Node::start().await;
    let client = client(&node).await;
    for topic in ["orders-eu", "orders", "other"] {
        make_topic(&client, topic, 1).await;
    }
    let options = ConsumerOptions { metadata_max_age: TICK, ..in_group("g", "range") };
    let mut consumers = [Consumer::new(client.clone(), options)];
    consumers[0].subscribe_pattern("orders-.*").unwrap();
    let reads = |topics: &'static [&'static str]| {
        move |it: &[Consumer], _: &BTreeSet<String>| {
            it[0].assignment() == topics.iter().map(|topic| partition(topic, 0)).collect()
        }
    };
    poll_until(&mut consumers, "the first", reads(&["orders-eu"])).await;
    make_topic(&client, "orders-us", 1).await;
    poll_until(&mut consumers, "the second", reads(&["orders-eu", "orders-us"])).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_does_not_poll_leaves_and_its_commit_is_refused() {
    let node = Node::start().await;
    let clock = StoppedClock::going();
    let client = client_by(&clock.env(), &node).await;
    make_topic(&client, "t", 1).await;
    produce(&client, "t", 1, (0, 10)).await;
    // Longer than the polls here are apart, and shorter than a request may take.
    let max_poll_interval = Duration::from_secs(20);
    let options =
        ConsumerOptions { max_poll_interval, auto_commit: false, ..in_group("g", "range") };
    let mut slow = [subscribed(&client, options.clone(), &["t"]).await];
    poll_until(&mut slow, "all", |_, read| read.len() == 10).await;
    clock.set_forward(max_poll_interval);
    let mut other = [subscribed(&client, options, &["t"]).await];
    poll_until(&mut other, "the place of the slow one", |it, _| shares(it, 1).is_some()).await;
    let error = slow[0].commit().await.unwrap_err();
    assert!(matches!(error, ConsumerError::CommitFailed(_)), "{error}");
    node.stop().await;
}
