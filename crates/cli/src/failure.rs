//! Failures as people read them: what happened, why, and what to type next.

use std::fmt;
use std::io::Write;

/// Something that a person can repair.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What did not work.
    pub(crate) what: String,
    /// Why, perhaps in several lines.
    pub(crate) why: String,
    /// What to do or to type next.
    pub(crate) next: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        for line in self.why.lines() {
            write!(f, "\n  {line}")?;
        }
        write!(f, "\nnext: {}", self.next)
    }
}

impl std::error::Error for Failure {}

/// Writes a failure and its causes to stderr.
pub(crate) fn report(failure: &anyhow::Error) {
    // Nobody to tell if even stderr is gone.
    let _ = writeln!(std::io::stderr(), "error: {failure:#}");
}
