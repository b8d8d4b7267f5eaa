//! One bit of a file flips while the node is off.

use anyhow::{Context, Result};

use super::check;
use super::history::{History, Step};
use super::run::Run;

/// Runs `history`, stops cleanly, flips one bit of every file of the log whose name ends with
/// `extension`, one file after the other, and starts again: everything visible has to be as before.
/// `place` says which bit. Answers how many flips there were.
pub fn flip_each(history: &History, after: &[Step], extension: &str, place: u64) -> Result<u64> {
    let mut flips = 0;
    loop {
        let mut run = Run::new(history, false)?;
        for step in &history.steps {
            run.step(step)?;
        }
        run.stop()?;
        let files = run.machine.list(run.log.path())?;
        let mut files = files.into_iter().filter(|f| f.name.ends_with(extension) && f.len > 0);
        let Some(file) = files.nth(flips as usize) else { return Ok(flips) };
        let bit = place % (file.len * 8);
        run.machine.flip_bit(&file.path, bit)?;
        let judged = run.start().and_then(|()| check::everything(&mut run));
        let judged = judged.and_then(|()| after.iter().try_for_each(|step| run.step(step)));
        judged.with_context(|| format!("bit {bit} of {} flipped\n{history}", file.name))?;
        flips += 1;
    }
}
