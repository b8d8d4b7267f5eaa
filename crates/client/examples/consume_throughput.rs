//! Reads a topic from its beginning with default settings, as an application would, and prints how fast and at
//! which cost: `cargo run --profile quick -p ottla-client --example consume_throughput -- SERVER TOPIC RECORDS`.
#![allow(clippy::print_stdout, reason = "its purpose")]

use std::error::Error;
use std::time::Duration;

use ottla_client::{Consumer, ConsumerConfig};
use ottla_env::Env;
use ottla_env::process::ProcessStats;
use ottla_protocol::TopicPartition;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [server, topic, goal] = &given[..] else {
        return Err("usage: consume_throughput SERVER TOPIC RECORDS".into());
    };
    let goal: u64 = goal.parse()?;
    let env = Env::os();
    let properties = [("bootstrap.servers", server.as_str()), ("auto.offset.reset", "earliest")];
    let (config, _warnings) = ConsumerConfig::from_properties(properties)?;
    let mut consumer = Consumer::connect(&env, &config).await?;
    let partitions = consumer.partitions_for(topic).await?;
    consumer
        .assign(partitions.keys().map(|number| TopicPartition::new(topic.as_str(), *number)))?;
    let (start, mut records, mut bytes) = (env.clock.now(), 0, 0);
    while records < goal {
        let polled = consumer.poll(Duration::from_secs(5)).await?;
        if polled.is_empty() {
            return Err(format!("the topic ends after {records} records").into());
        }
        for record in polled.iter() {
            bytes += record.value.map_or(0, <[u8]>::len) as u64;
            records += 1;
        }
    }
    let seconds = env.clock.now().since(start).as_secs_f64();
    let cpu = ProcessStats::own()?.cpu_time().as_secs_f64();
    println!(
        "{records} records, {bytes} bytes in {seconds:.3} s: {:.0} records/s, {cpu:.3} s of CPU, {:?}",
        records as f64 / seconds,
        consumer.metrics(),
    );
    Ok(())
}
