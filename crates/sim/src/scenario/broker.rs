//! A broker that dies and comes back, under producers, consumers and commits. The real server and
//! the real client, unchanged.

mod commit;
mod consume;
mod produce;

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use ottla_client::{Admin, Client, ClientError, ConnectionOptions, NewTopic};
use ottla_config::BrokerConfig;
use ottla_env::Env;
use ottla_protocol::{ErrorCode, TopicPartition};
use ottla_server::Server;

use super::{Outcome, Setup, world_of};
use crate::checker::{History, Promise, RecordId};
use crate::disk::DiskFaults;
use crate::node::Node;
use crate::power::Crash;
use crate::rng::SimRng;
use crate::simulation::Simulation;

const BROKER: &str = "broker";
const DATA: &str = "/data";
const TOPIC: &str = "t";
const PROPERTIES: &str = "
    process.roles=broker,controller
    node.id=1
    listeners=PLAINTEXT://0.0.0.0:9092
    advertised.listeners=PLAINTEXT://broker:9092
    log.dirs=/data
    log.segment.bytes=1048576
    offsets.topic.replication.factor=1
    offsets.topic.num.partitions=5
";
/// A client waits this long before it tries again what failed.
const BACKOFF: Duration = Duration::from_millis(100);

/// What a seed decides beyond the order of things.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// How the broker dies.
    crash: Crash,
    crashes: u64,
    /// `log.flush.interval.messages=1`.
    flush: bool,
    idempotent: bool,
    producers: u64,
    partitions: u64,
    /// Bytes added to each record.
    padding: u64,
    /// Whether the disk fails at times.
    faults: bool,
    /// Whether the network fails at times.
    holds: bool,
}

impl Plan {
    fn draw(rng: &SimRng) -> Self {
        Self {
            crash: [Crash::Process, Crash::PowerLoss][rng.below(2) as usize],
            crashes: 1 + rng.below(4),
            flush: rng.chance(0.5),
            idempotent: rng.chance(0.7),
            producers: 1 + rng.below(3),
            partitions: 1 + rng.below(3),
            padding: if rng.chance(0.3) { 20_000 } else { 0 },
            faults: rng.chance(0.3),
            holds: rng.chance(0.3),
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
    /// Of each partition.
    histories: Vec<RefCell<History>>,
    topic_made: Cell<bool>,
    /// The disk fails these days.
    faulty: Rc<Cell<bool>>,
    /// The broker has died for the last time.
    calm: Cell<bool>,
    producing: Cell<u64>,
}

impl Shared {
    fn history(&self, partition: &TopicPartition) -> &RefCell<History> {
        &self.histories[partition.partition as usize]
    }

    fn partitions(&self) -> impl Iterator<Item = TopicPartition> + use<> {
        (0..self.plan.partitions).map(|partition| TopicPartition::new(TOPIC, partition as i32))
    }
}

pub(super) fn run(setup: Setup) -> Result<Outcome> {
    let mut world = world_of(setup, Duration::from_secs(200));
    let plan = Plan::draw(&world.rng);
    let faulty = Rc::new(Cell::new(false));
    let shown = faulty.clone();
    let broker = world.host(
        BROKER,
        |node| Ok(node.install_dir(Path::new(DATA))?),
        move |env| serve(env, plan, shown.clone()),
    )?;
    let shared = Rc::new(Shared {
        plan,
        broker,
        histories: (0..plan.partitions).map(|_| RefCell::default()).collect(),
        topic_made: Cell::new(false),
        faulty,
        calm: Cell::new(false),
        producing: Cell::new(plan.producers),
    });
    for number in 0..plan.producers {
        let shared = shared.clone();
        world.client(&producer_name(number), |env, node| produce::run(env, node, shared));
    }
    let told = shared.clone();
    world.client("consumer", |env, node| consume::run(env, node, told));
    let told = shared.clone();
    world.client("committer", |env, node| commit::run(env, node, told));
    trouble(&mut world, &shared).and_then(|()| world.run()).with_context(|| format!("{plan:?}"))?;
    let kept: usize = shared.histories.iter().map(|it| it.borrow().acknowledged_count()).sum();
    let Plan { crash, crashes, .. } = plan;
    let summary = format!("acknowledged {kept} records over {crashes} crashes ({crash:?})");
    Ok(Outcome { hash: world.hash(), summary })
}

fn producer_name(number: u64) -> String {
    format!("producer-{number}")
}

/// Does to the broker what the plan says, and leaves it running.
fn trouble(world: &mut Simulation, shared: &Shared) -> Result<()> {
    let plan = shared.plan;
    for _ in 0..plan.crashes {
        world.run_for(Duration::from_millis(world.rng.below(3000)))?;
        if plan.holds {
            let producer = producer_name(world.rng.below(plan.producers));
            world.hold(&producer, BROKER);
            world.run_for(Duration::from_millis(world.rng.below(8000)))?;
            world.release(&producer, BROKER);
        }
        if plan.faults {
            shared.faulty.set(true);
            shared.broker.set_disk_faults(draw_faults(&world.rng));
            world.run_for(Duration::from_millis(world.rng.below(3000)))?;
        }
        if world.is_running(BROKER) {
            shared.broker.die_after(world.rng.below(60), plan.crash);
        }
        let patience = world.elapsed() + Duration::from_secs(5);
        world.run_until(|world| !world.is_running(BROKER) || world.elapsed() > patience)?;
        if world.is_running(BROKER) {
            world.crash(BROKER, plan.crash)?;
        }
        shared.broker.set_disk_faults(healthy());
        shared.faulty.set(false);
        world.run_for(Duration::from_millis(world.rng.below(2000)))?;
        world.restart(BROKER)?;
    }
    shared.calm.set(true);
    Ok(())
}

/// A disk that works; now and then something is not in memory.
fn healthy() -> DiskFaults {
    DiskFaults { cold_read: 0.1, ..DiskFaults::default() }
}

/// One way for a disk to fail.
fn draw_faults(rng: &SimRng) -> DiskFaults {
    let none = healthy();
    match rng.below(4) {
        0 => DiskFaults { write_error: 0.02, ..none },
        1 => DiskFaults { sync_error: 0.05, ..none },
        2 => DiskFaults { read_error: 0.02, ..none },
        _ => DiskFaults { capacity: Some(rng.below(1 << 20)), ..none },
    }
}

/// One life of the broker.
async fn serve(env: Env, plan: Plan, faulty: Rc<Cell<bool>>) -> Result<()> {
    let flush: &[_] = if plan.flush { &[("log.flush.interval.messages", "1")] } else { &[] };
    let (config, _) = BrokerConfig::parse(&[PROPERTIES], flush)?;
    match Server::start(env, config).await {
        Ok(_server) => std::future::pending().await,
        // With such a disk it may refuse to start; it is turned off and on again.
        Err(_) if faulty.get() => std::future::pending().await,
        Err(error) => Err(error.into()),
    }
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
    while !shared.topic_made.get() {
        let topic = NewTopic {
            partitions: Some(shared.plan.partitions as i32),
            replication_factor: Some(1),
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

/// The value of a record, and the record of a value.
fn value_of(id: &RecordId, padding: u64) -> Vec<u8> {
    let mut value = format!("{id}|").into_bytes();
    value.resize(value.len() + padding as usize, b'.');
    value
}

fn id_of(value: &[u8]) -> Result<RecordId> {
    let id = value.split(|byte| *byte == b'|').next().unwrap_or_default();
    Ok(String::from_utf8(id.to_vec())?)
}
