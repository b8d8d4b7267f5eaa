//! What passed, what failed and what could not be tried.

use std::fmt;

pub(crate) struct Tally {
    require_all: bool,
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Tally {
    /// With `require_all`, what is skipped has failed.
    pub(crate) fn new(require_all: bool) -> Self {
        Self { require_all, passed: 0, failed: 0, skipped: 0 }
    }

    pub(crate) fn pass(&mut self, name: &str) {
        println!("PASS {name}");
        self.passed += 1;
    }

    pub(crate) fn fail(&mut self, name: &str, reason: &str) {
        println!("FAIL {name}: {reason}");
        self.failed += 1;
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
    pub(crate) fn add(&mut self, passed: usize, failed: usize) {
        self.passed += passed;
        self.failed += failed;
    }

    pub(crate) fn is_well(&self) -> bool {
        self.failed == 0 && !(self.require_all && self.skipped > 0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}
