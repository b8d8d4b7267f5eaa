//! What the scenarios run against: a node of Ottla, or Apache Kafka, which must pass them too, or three nodes of Ottla
//! that are killed in turn.

use std::path::Path;

use anyhow::{Result, bail};

use super::kills::Kills;
use crate::cluster::NODES;
use crate::interop::{Jvm, Kafka};
use crate::node::{Node, Settings};

/// Whose scenarios they are to pass.
pub(super) enum Broker {
    Ottla,
    Kafka(Jvm),
    Killed,
}

/// One that runs.
pub(super) enum Running {
    Ottla(Node),
    Kafka(Kafka),
    Killed(Kills),
}

impl Broker {
    /// Apache Kafka from Maven, for a look at the scenarios themselves.
    pub(super) fn kafka() -> Result<Self> {
        match Jvm::prepare()? {
            Ok(jvm) => Ok(Self::Kafka(jvm)),
            Err(missing) => bail!("Apache Kafka cannot be run here: {missing}"),
        }
    }

    /// Starts one on the data in `folder`, which may hold an earlier one's, and waits until it is ready.
    pub(super) fn start(&self, folder: &Path) -> Result<Running> {
        Ok(match self {
            Self::Ottla => {
                let mut settings = Settings::default();
                settings.set.push(("metrics.listener", "127.0.0.1:0".to_owned()));
                Running::Ottla(Node::start(folder, &settings)?)
            }
            Self::Kafka(jvm) => Running::Kafka(Kafka::start(jvm, &folder.join("kafka"))?),
            Self::Killed => Running::Killed(Kills::start(folder)?),
        })
    }
}

impl Running {
    /// Host and port; of several, with commas between.
    pub(super) fn address(&self) -> &str {
        match self {
            Self::Ottla(node) => node.address(),
            Self::Kafka(kafka) => kafka.address(),
            Self::Killed(kills) => kills.bootstrap(),
        }
    }

    /// What a client's program is told beside the address: how many brokers there are (`BROKERS`), if not one that stays,
    /// and where each tells its metrics over HTTP (`METRICS_URLS`), if it does.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let metrics = |urls: &str| ("METRICS_URLS", urls.to_owned());
        match self {
            Self::Ottla(node) => node.metrics_url().map(metrics).into_iter().collect(),
            Self::Kafka(_) => Vec::new(),
            Self::Killed(kills) => {
                vec![metrics(kills.metrics_urls()), ("BROKERS", NODES.to_string())]
            }
        }
    }

    /// Ends it in good order, and starts it again on its data in `folder`.
    pub(super) fn restart(self, broker: &Broker, folder: &Path) -> Result<Self> {
        match self {
            Self::Killed(kills) => Ok(Self::Killed(kills.restart()?)),
            one @ (Self::Ottla(_) | Self::Kafka(_)) => {
                one.stop()?;
                broker.start(folder)
            }
        }
    }

    /// Ends it in good order.
    pub(super) fn stop(self) -> Result<()> {
        match self {
            Self::Ottla(node) => node.stop(),
            Self::Kafka(kafka) => kafka.stop(),
            Self::Killed(kills) => kills.stop(),
        }
    }
}
