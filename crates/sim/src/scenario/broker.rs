//! A broker that dies and comes back, under producers and a consumer. The real server and the
//! real client, unchanged.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ottla_client::{
    Acks, Admin, Client, ClientError, ConnectionOptions, Consumer, ConsumerOptions, NewTopic,
    OffsetSpec, Producer, ProducerOptions,
};
use ottla_config::BrokerConfig;
use ottla_env::Env;
use ottla_protocol::record_batch::NewRecord;
use ottla_protocol::{ErrorCode, Offset, TopicPartition};
use ottla_server::Server;

use super::{Outcome, Setup, world_of};
use crate::checker::{History, Promise, RecordId};
use crate::node::Node;
use crate::power::Crash;
use crate::rng::SimRng;

const DATA: &str = "/data";
const TOPIC: &str = "t";
const PROPERTIES: &str = "
    process.roles=broker,controller
    node.id=1
    listeners=PLAINTEXT://0.0.0.0:9092
    advertised.listeners=PLAINTEXT://broker:9092
    log.dirs=/data
    offsets.topic.replication.factor=1
";
/// A client waits this long before it tries again what failed.
const BACKOFF: Duration = Duration::from_millis(100);

/// What a seed decides beyond the order of things.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// How the broker dies.
    crash: Crash,
    crashes: u64,
    /// `flush.messages=1`.
    flush: bool,
    idempotent: bool,
    producers: u64,
}

impl Plan {
    fn draw(rng: &SimRng) -> Self {
        Self {
            crash: [Crash::Process, Crash::PowerLoss][rng.below(2) as usize],
            crashes: 1 + rng.below(4),
            flush: rng.chance(0.5),
            idempotent: rng.chance(0.7),
            producers: 1 + rng.below(3),
        }
    }

    fn promise(&self) -> Promise {
        match self.crash {
            Crash::PowerLoss if !self.flush => Promise::KeepsPrefix,
            Crash::PowerLoss | Crash::Process => Promise::KeepsAcknowledged,
        }
    }
}

/// What the clients share; none of it is known to the broker.
struct Shared {
    plan: Plan,
    broker: Node,
    history: RefCell<History>,
    topic_made: Cell<bool>,
    /// The broker has died for the last time.
    calm: Cell<bool>,
    producing: Cell<u64>,
}

pub(super) fn run(setup: Setup) -> Result<Outcome> {
    let mut world = world_of(setup, Duration::from_secs(600));
    let plan = Plan::draw(&world.rng);
    let broker = world.host("broker", |node| Ok(node.install_dir(Path::new(DATA))?), serve)?;
    let shared = Rc::new(Shared {
        plan,
        broker: broker.clone(),
        history: RefCell::default(),
        topic_made: Cell::new(false),
        calm: Cell::new(false),
        producing: Cell::new(plan.producers),
    });
    for number in 0..plan.producers {
        let shared = shared.clone();
        world.client(&format!("producer-{number}"), |env, node| produce(env, node, shared));
    }
    let told = shared.clone();
    world.client("reader", |env, node| read(env, node, told));
    for _ in 0..plan.crashes {
        world.run_for(Duration::from_millis(world.rng.below(3000)))?;
        broker.die_after(world.rng.below(60), plan.crash);
        let patience = world.elapsed() + Duration::from_secs(5);
        world.run_until(|world| !world.is_running("broker") || world.elapsed() > patience)?;
        if world.is_running("broker") {
            world.crash("broker", plan.crash)?;
        }
        world.run_for(Duration::from_millis(world.rng.below(2000)))?;
        world.restart("broker")?;
    }
    shared.calm.set(true);
    world.run().with_context(|| format!("{plan:?}"))?;
    let kept = shared.history.borrow().acknowledged_count();
    let Plan { crash, crashes, .. } = plan;
    let summary = format!("acknowledged {kept} records over {crashes} crashes ({crash:?})");
    Ok(Outcome { hash: world.hash(), summary })
}

/// One life of the broker.
async fn serve(env: Env) -> Result<()> {
    let (config, _) = BrokerConfig::parse(&[PROPERTIES], &[])?;
    let _server = Server::start(env, config).await?;
    std::future::pending().await
}

/// Connects, however long it takes.
async fn connect(env: &Env) -> Client {
    let options = ConnectionOptions {
        connect_timeout: Duration::from_secs(2),
        request_timeout: Duration::from_secs(5),
        ..ConnectionOptions::default()
    };
    loop {
        match Client::connect(env, vec!["broker:9092".to_owned()], options.clone()).await {
            Ok(client) => return client,
            Err(_) => env.clock.sleep(BACKOFF).await,
        }
    }
}

/// Makes the topic; whoever comes first does.
async fn make_topic(env: &Env, client: &Client, shared: &Shared) {
    let admin = Admin::new(client.clone(), Duration::from_secs(5));
    let flush = if shared.plan.flush { "1" } else { "9223372036854775807" };
    while !shared.topic_made.get() {
        let configs = vec![("flush.messages".to_owned(), flush.to_owned())];
        let topic = NewTopic {
            partitions: Some(1),
            replication_factor: Some(1),
            configs,
            ..NewTopic::new(TOPIC)
        };
        match admin.create_topic(topic).await {
            Ok(()) => shared.topic_made.set(true),
            Err(ClientError::Refused { code: ErrorCode::TopicAlreadyExists, .. }) => {
                shared.topic_made.set(true);
            }
            Err(_) => env.clock.sleep(BACKOFF).await,
        }
    }
}

/// Sends batches one after the other until the broker has died for the last time, and a few more.
async fn produce(env: Env, node: Node, shared: Rc<Shared>) -> Result<()> {
    let rng = SimRng::new(env.rng.next_u64(), "workload");
    let client = connect(&env).await;
    make_topic(&env, &client, &shared).await;
    let idempotent = shared.plan.idempotent;
    let options = ProducerOptions {
        acks: Acks::All,
        idempotent,
        request_timeout: Duration::from_secs(5),
        // Without idempotence a second try may store a second copy.
        delivery_timeout: Duration::from_secs(if idempotent { 60 } else { 0 }),
        ..ProducerOptions::default()
    };
    let producer = Producer::new(client, options);
    let mut sent = 0;
    let mut more = 10;
    while more > 0 {
        if shared.calm.get() {
            more -= 1;
        }
        let ids: Vec<RecordId> =
            (0..1 + rng.below(4)).map(|i| format!("{}/{}", node.name(), sent + i)).collect();
        sent += ids.len() as u64;
        send(&env, &node, &producer, &ids, &shared).await?;
        env.clock.sleep(Duration::from_millis(rng.below(50))).await;
    }
    shared.producing.set(shared.producing.get() - 1);
    Ok(())
}

/// Sends one batch and notes what became of it.
async fn send(
    env: &Env,
    node: &Node,
    producer: &Producer,
    ids: &[RecordId],
    shared: &Shared,
) -> Result<()> {
    ids.iter().for_each(|id| shared.history.borrow_mut().sending(id));
    let timestamp = env.clock.wall();
    let records: Vec<_> = ids
        .iter()
        .map(|id| NewRecord { timestamp, value: Some(id.as_bytes()), ..NewRecord::default() })
        .collect();
    let life = shared.broker.life();
    let outcome = producer.send(&TopicPartition::new(TOPIC, 0), &records).await;
    let mut history = shared.history.borrow_mut();
    match outcome {
        Ok(stored) => {
            let Offset(first) = stored.base_offset;
            node.fold(format_args!("acknowledged {ids:?} at {first}"), &[]);
            ensure!(first >= 0, "acknowledged without an offset");
            let life = (shared.broker.life() == life).then_some(life);
            for (id, offset) in ids.iter().zip(first..) {
                history.acknowledged(node.name(), id, offset, life);
            }
        }
        Err(error) => {
            node.fold(format_args!("failed {ids:?}: {error}"), &[]);
            if !error.maybe_stored {
                ids.iter().for_each(|id| history.refused(id));
            }
        }
    }
    Ok(())
}

/// Waits for the producers, reads everything, and judges.
async fn read(env: Env, node: Node, shared: Rc<Shared>) -> Result<()> {
    while shared.producing.get() > 0 {
        env.clock.sleep(BACKOFF).await;
    }
    let partition = TopicPartition::new(TOPIC, 0);
    let mut consumer = Consumer::new(connect(&env).await, ConsumerOptions::default());
    let end = consumer.offset(&partition, OffsetSpec::Latest).await?;
    let start = consumer.offset(&partition, OffsetSpec::Earliest).await?;
    ensure!(start == Offset(0), "the log begins at {start:?}");
    consumer.assign(partition.clone(), start);
    let mut read = Vec::new();
    while consumer.position(&partition).is_some_and(|position| position < end) {
        for record in consumer.poll().await? {
            let value = record.value.context("a record without a value")?;
            read.push((record.offset.0, String::from_utf8(value.to_vec())?));
        }
    }
    node.fold(format_args!("read {} records", read.len()), &[]);
    let Plan { idempotent, .. } = shared.plan;
    shared.history.borrow().check(&read, shared.plan.promise(), idempotent)?;
    Ok(())
}
