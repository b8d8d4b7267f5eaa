//! A node for the examples in the documentation of `ottla-client`: so they run, and stay true.

use std::error::Error;
use std::time::Duration;

use ottla_client::{Producer, ProducerConfig, ProducerRecord};
use ottla_config::BrokerConfig;
use ottla_env::Env;
use ottla_server::Server;
use tokio::runtime::Builder;

/// What an example comes to; the question mark works in it.
pub type Outcome = Result<(), Box<dyn Error>>;

/// Longest that an example may take; only one that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `example` with the `host:port` of a node of its own: empty, on a port that the system hands
/// out, making topics that are asked for.
///
/// # Panics
/// If the example fails, or does not end.
#[allow(clippy::panic, clippy::expect_used, reason = "it is a test")]
pub fn run(example: impl AsyncFnOnce(&str) -> Outcome) {
    let dir = tempfile::tempdir().expect("a directory for the node");
    let properties = format!(
        "node.id=1\n\
         listeners=PLAINTEXT://127.0.0.1:0\n\
         log.dirs={}\n\
         offsets.topic.num.partitions=1\n\
         group.initial.rebalance.delay.ms=0\n",
        dir.path().display()
    );
    let (config, _warnings) = BrokerConfig::parse(&[&properties], &[]).expect("a configuration");
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let env = Env::os();
        let server = Server::start(env.clone(), config).await.expect("the node does not start");
        let address = server.addresses()[0].1.to_string();
        let ended = env.timeout(PATIENCE, example(&address)).await;
        server.shutdown().await;
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => panic!("the example failed: {error}"),
            Err(_) => panic!("the example did not end within {PATIENCE:?}"),
        }
    });
}

/// Puts `count` records into partition 0 of `topic`: the keys are texts, `customer-0` to
/// `customer-2` in turn, the values numbers of 64 bits from 0 on.
///
/// # Errors
/// What the producer says.
pub async fn fill(servers: &str, topic: &str, count: i64) -> Outcome {
    let (config, _warnings) = ProducerConfig::from_properties([("bootstrap.servers", servers)])?;
    let producer = Producer::connect(&Env::os(), config).await?;
    let mut deliveries = Vec::new();
    for number in 0..count {
        let key = format!("customer-{}", number % 3);
        let record = ProducerRecord::to(topic).partition(0).key(key).value(number);
        deliveries.push(producer.send(record).await?);
    }
    producer.flush().await;
    for delivery in deliveries {
        delivery.await?;
    }
    Ok(())
}
