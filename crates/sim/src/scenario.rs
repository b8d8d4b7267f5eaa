//! What a run does, by name.

mod broker;
mod cluster;
mod echo;
mod libraries;
mod log;
mod workload;

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::event_log::EventLog;
use crate::log_model::{self, Report};
use crate::simulation::Simulation;
pub use cluster::Story;

/// A kind of run. Everything else about it follows from the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// No broker: an echo over files, to try the world itself.
    Echo,
    /// No broker: what libraries draw behind our back.
    Libraries,
    /// No network: one log on a node that dies again and again.
    Log,
    /// No network, and no world: a random history of one log against a model.
    LogModel,
    /// A broker that dies and comes back, under producers and a consumer.
    Broker,
    /// Three or five nodes, and everything that can happen to them.
    Cluster,
    /// Nodes, and what happened to them once.
    Story(&'static Story),
}

/// What decides a run.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Decides everything.
    pub seed: u64,
    /// Whether every event is printed to standard error.
    pub trace: bool,
}

/// What a run that kept all promises came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Of all events.
    pub hash: u64,
    /// A few words for people.
    pub summary: String,
}

impl Scenario {
    /// All of them, but for stories.
    pub const ALL: [Self; 6] =
        [Self::Echo, Self::Libraries, Self::Log, Self::LogModel, Self::Broker, Self::Cluster];

    /// As the command line calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Libraries => "libraries",
            Self::Log => "log",
            Self::LogModel => "log-model",
            Self::Broker => "broker",
            Self::Cluster => "cluster",
            Self::Story(story) => story.name,
        }
    }

    /// What was found once, each by its name.
    pub fn stories() -> impl Iterator<Item = Self> {
        const STORIES: &[Story] = &Story::ALL;
        STORIES.iter().map(Self::Story)
    }

    /// Runs it; an error is a broken promise.
    pub fn run(self, setup: Setup) -> Result<Outcome> {
        match self {
            Self::Echo => echo::run(setup),
            Self::Libraries => libraries::run(setup),
            Self::Log => log::run(setup),
            Self::LogModel => {
                let Report { written, deaths, changes } =
                    log_model::run_seed(setup.seed, setup.trace)?;
                let summary = format!("wrote {written} records, died {deaths} times");
                Ok(Outcome { hash: changes, summary })
            }
            Self::Broker => broker::run(setup),
            Self::Cluster => cluster::run(setup, None),
            Self::Story(story) => cluster::run(setup, Some(story)),
        }
    }
}

impl FromStr for Scenario {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let all = || Self::ALL.into_iter().chain(Self::stories());
        all().find(|scenario| scenario.name() == name).ok_or_else(|| {
            let known: Vec<_> = all().map(Self::name).collect();
            anyhow!("no scenario {name}; there are: {}", known.join(", "))
        })
    }
}

fn world_of(setup: Setup, duration: Duration) -> Simulation {
    Simulation::new(setup.seed, duration, EventLog::new(setup.trace))
}
