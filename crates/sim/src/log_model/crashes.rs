//! A history that loses the power at every change to the disk, one after the other.

use anyhow::{Context, Result};

use super::history::{History, Step};
use super::machine::PowerCut;
use super::run::Run;

/// What [`every_crash`] has been through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crashes {
    /// Times that the power went.
    pub crashes: u64,
    /// Of those, times that it went again during the recovery.
    pub twice: u64,
}

/// Runs `history` again and again. In each run the power goes in the middle of another change to the
/// disk, in every way that there is, and every other time once more while the log recovers. What is
/// left must be what was promised, and the log must go on working. An error names the change.
pub fn every_crash(history: &History) -> Result<Crashes> {
    let whole = history.run()?;
    let mut done = Crashes::default();
    for change in 0..whole.changes {
        for (number, cut) in PowerCut::ALL.into_iter().enumerate() {
            let twice = (change + number as u64).is_multiple_of(2);
            let again = twice.then_some(change % 7);
            let crashed = crash_at(history, change, cut, again);
            let crashed =
                crashed.with_context(|| format!("power lost at change {change}, {cut:?}"));
            if crashed.with_context(|| format!("{history}"))? {
                done.crashes += 1;
                done.twice += u64::from(twice);
            }
        }
    }
    Ok(done)
}

/// Whether it came to that.
fn crash_at(history: &History, change: u64, cut: PowerCut, again: Option<u64>) -> Result<bool> {
    let mut run = Run::new(history, false)?;
    let Some(left) = change.checked_sub(run.machine.changes()) else { return Ok(false) };
    run.planned = Some(cut);
    run.recovery_dies_after = again;
    run.machine.die_after(left);
    let mut steps = history.steps.iter();
    for step in steps.by_ref() {
        run.step(step).with_context(|| format!("at {step:?}"))?;
        if run.report.deaths > 0 {
            break;
        }
    }
    if run.report.deaths == 0 {
        run.step(&Step::Restart)?;
    }
    run.machine.forget_plans();
    // It goes on as if nothing had happened, through another loss of power and a clean stop.
    let rest: Vec<Step> = steps.cloned().collect();
    run.planned = None;
    for step in rest.iter().chain([&Step::Flush, &Step::PowerLoss(PowerCut::LosesAll)]) {
        run.step(step).with_context(|| format!("later, at {step:?}"))?;
    }
    run.finish(&[]).map(|_| true)
}
