//! A watcher: where a partition ends for consumers never goes back (KIP-207).

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, ensure};
use ottla_client::{Consumer, ConsumerOptions, OffsetSpec};
use ottla_env::Env;

use super::{BACKOFF, Shared, connect, wait_for_topic};
use crate::node::Node;
use crate::rng::SimRng;

/// Asks again and again where every partition ends.
pub(in crate::scenario) async fn run(env: Env, node: Node, shared: Rc<Shared>) -> Result<()> {
    let rng = SimRng::new(env.rng.next_u64(), "workload");
    wait_for_topic(&env, &shared).await;
    let options = ConsumerOptions {
        default_api_timeout: Duration::from_secs(2),
        ..ConsumerOptions::default()
    };
    let consumer = Consumer::new(connect(&env, &shared).await, options);
    let mut ends = BTreeMap::new();
    while shared.producing.get() > 0 {
        let wishes = shared.partitions().map(|partition| (partition, OffsetSpec::Latest)).collect();
        match consumer.offsets(wishes).await {
            Ok(found) => {
                for (partition, found) in found {
                    let end = found.offset.0;
                    node.fold(format_args!("{partition} ends at {end}"), &[]);
                    let before = ends.insert(partition.clone(), end).unwrap_or(0);
                    ensure!(
                        end >= before || !shared.keeps_all(),
                        "{partition} ended at {before}, and now ends at {end}"
                    );
                }
            }
            Err(_) => env.clock.sleep(BACKOFF).await,
        }
        env.clock.sleep(Duration::from_millis(rng.below(500))).await;
    }
    Ok(())
}
