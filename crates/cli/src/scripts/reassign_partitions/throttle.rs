//! `--throttle` and `--replica-alter-log-dirs-throttle` (KIP-73): how fast replicas may move.

use std::collections::{BTreeMap, BTreeSet};

use ottla_client::{Admin, Reassignment};
use ottla_protocol::{BrokerId, TopicPartition};

use super::plan::Plan;
use super::{error, failed};
use crate::replication_throttle::{self, Changes};
use crate::scripts::options::Options;
use crate::scripts::{Outcome, say, target};

pub(super) const LOG_DIRS_RATE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";

/// Bytes per second.
pub(super) struct Rates {
    /// Between brokers.
    between: Option<i64>,
    /// Between directories of one.
    within: Option<i64>,
}

impl Rates {
    /// What the options ask for.
    pub(super) fn of(options: &Options) -> Outcome<Self> {
        // Less than nothing is none.
        let rate = |option| match options.number::<i64>(option) {
            Ok(rate) => Ok(rate.filter(|rate| *rate >= 0)),
            Err(stop) => Err(error(stop.said)),
        };
        Ok(Self { between: rate("throttle")?, within: rate("replica-alter-log-dirs-throttle")? })
    }
}

/// Sets them, before anything moves.
pub(super) async fn set(
    admin: &Admin,
    rates: &Rates,
    plan: &Plan,
    now: &BTreeMap<TopicPartition, Vec<BrokerId>>,
    under_way: &BTreeMap<TopicPartition, Reassignment>,
) -> Outcome {
    let Rates { between, within } = *rates;
    if between.is_none() && within.is_none() {
        return Ok(());
    }
    say(
        "Warning: You must run --verify periodically, until the reassignment completes, to ensure the throttle is removed.",
    )?;
    if let Some(rate) = between {
        let moves = replication_throttle::moves(plan.partitions.iter().cloned(), now, under_way);
        make(admin, &replication_throttle::named(&moves)).await?;
        make(admin, &replication_throttle::limited(&moves, rate)).await?;
        say(format!("The inter-broker throttle limit was set to {rate} B/s"))?;
    }
    if let Some(rate) = within {
        let brokers: BTreeSet<BrokerId> = plan.dirs.keys().map(|(_, broker)| *broker).collect();
        let rates = replication_throttle::set_rates(&brokers, &[LOG_DIRS_RATE], rate);
        make(admin, &rates).await?;
        say(format!("The replica-alter-dir throttle limit was set to {rate} B/s"))?;
    }
    Ok(())
}

pub(super) async fn make(admin: &Admin, changes: &Changes) -> Outcome {
    let answers = replication_throttle::make(admin, changes).await;
    answers.and_then(target::all_done).map_err(failed)
}
