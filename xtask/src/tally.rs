//! What passed, what failed and what could not be tried.

use std::fmt;

pub(crate) struct Tally {
    require_all: bool,
    passed: usize,
    failed: Vec<String>,
    skipped: usize,
}

impl Tally {
    /// With `require_all`, what is skipped has failed.
    pub(crate) fn new(require_all: bool) -> Self {
        Self { require_all, passed: 0, failed: Vec::new(), skipped: 0 }
    }

    pub(crate) fn pass(&mut self, name: &str) {
        println!("PASS {name}");
        self.passed += 1;
    }

    pub(crate) fn fail(&mut self, name: &str, reason: &str) {
        println!("FAIL {name}: {reason}");
        self.failed.push(format!("{name}: {reason}"));
    }

    pub(crate) fn record(&mut self, name: &str, passed: bool, otherwise: &str) {
        if passed {
            self.pass(name);
        } else {
            self.fail(name, otherwise);
        }
    }

    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        println!("skipped: {name} ({reason})");
        self.skipped += 1;
    }

    /// Adds results that were printed elsewhere.
    pub(crate) fn add(&mut self, passed: usize, failed: impl IntoIterator<Item = String>) {
        self.passed += passed;
        self.failed.extend(failed);
    }

    /// Adds what was seen by another.
    pub(crate) fn take_over(&mut self, other: Self) {
        self.add(other.passed, other.failed);
        self.skipped += other.skipped;
    }

    pub(crate) fn is_well(&self) -> bool {
        self.failed.is_empty() && !(self.require_all && self.skipped > 0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A reader of the end of a long log sees what to look for.
        for failed in &self.failed {
            writeln!(f, "failed: {failed}")?;
        }
        let (passed, failed, skipped) = (self.passed, self.failed.len(), self.skipped);
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}
