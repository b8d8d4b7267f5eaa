//! Random histories of a log against a simple model, on the simulator's disk and without a network: fast
//! enough for a million.
//!
//! ```text
//! seed ─► History: settings, steps ─► Run: drives the real LogManager, step by step ─► Model: what has to be visible
//!                                      └─► dies at a step, or in the middle of any disk operation: Model judges what is left
//! ```
//!
//! A history that breaks a promise is made as short as it can be before it is shown.

mod bit_flips;
mod check;
mod crashes;
mod history;
mod machine;
mod model;
mod observed;
mod recovery;
mod run;

use anyhow::{Result, anyhow};

pub use bit_flips::flip_each;
pub use crashes::{Crashes, every_crash};
pub use history::{History, NewBatch, NewValue, Settings, Step};
pub use machine::PowerCut;
pub use run::Report;

/// Runs the history of a seed. An error names the promise that was broken and the shortest steps that
/// break it.
pub fn run_seed(seed: u64, trace: bool) -> Result<Report> {
    let history = History::random(seed);
    let broken = match history.run_and(false) {
        Ok(report) => return Ok(report),
        Err(broken) => broken,
    };
    let shortest = history.shrink();
    let broken = shortest.run_and(trace).err().unwrap_or(broken);
    Err(anyhow!("{broken:#}\n{shortest}"))
}
