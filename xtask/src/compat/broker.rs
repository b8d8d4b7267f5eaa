//! The broker that the scenarios run against: a node of Ottla, or Apache Kafka, which must pass them too.

use std::path::Path;

use anyhow::{Result, bail};

use crate::interop::{Jvm, Kafka};
use crate::node::{Node, Settings};

/// Whose scenarios they are to pass.
pub(super) enum Broker {
    Ottla,
    Kafka(Jvm),
}

/// One that runs.
pub(super) enum Running {
    Ottla(Node),
    Kafka(Kafka),
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
        })
    }
}

impl Running {
    /// Host and port.
    pub(super) fn address(&self) -> &str {
        match self {
            Self::Ottla(node) => node.address(),
            Self::Kafka(kafka) => kafka.address(),
        }
    }

    /// Where it tells its metrics over HTTP, if it does.
    pub(super) fn metrics_url(&self) -> Option<&str> {
        match self {
            Self::Ottla(node) => node.metrics_url(),
            Self::Kafka(_) => None,
        }
    }

    /// Ends it in good order.
    pub(super) fn stop(self) -> Result<()> {
        match self {
            Self::Ottla(node) => node.stop(),
            Self::Kafka(kafka) => kafka.stop(),
        }
    }
}
