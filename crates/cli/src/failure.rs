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
    let _ = writeln!(std::io::stderr(), "error: {}", with_causes(failure));
}

/// What happened, and why. An error that ends with what its cause says has said it: an I/O error
/// with the path of its file does.
fn with_causes(failure: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in failure.chain().map(ToString::to_string) {
        if said.is_empty() {
            said = cause;
        } else if !said.ends_with(&cause) {
            said.push_str(": ");
            said.push_str(&cause);
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use anyhow::Context;
    use ottla_env::PathError;

    use super::*;

    #[test]
    fn what_a_cause_says_is_said_once() {
        let gone = || PathError::at(Path::new("/d/f"), io::Error::other("no such file"));
        let failed = Err::<(), _>(gone()).context("cannot start");
        let said = failed.map_err(|error| with_causes(&error));
        assert_eq!(said, Err("cannot start: /d/f: no such file".to_owned()));
        assert_eq!(with_causes(&gone().into()), "/d/f: no such file");
    }
}
