//! What happened, folded into one number.

use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use parking_lot::Mutex;

/// Every operation on a network or a disk and every step of a workload, in order.
///
/// Two runs that agree on the hash did the same things at the same virtual times. Where they do
/// not, `--trace` prints one line an event, and `diff` shows the first that differs.
#[derive(Clone)]
pub struct EventLog(Option<Arc<Mutex<Folded>>>);

struct Folded {
    /// `DefaultHasher::new` has fixed keys, unlike `RandomState`.
    hasher: DefaultHasher,
    events: u64,
    trace: bool,
}

/// Takes text.
struct Hashing<'h>(&'h mut DefaultHasher);

impl fmt::Write for Hashing<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl EventLog {
    /// An empty log; with `trace` each event is also printed to standard error.
    pub fn new(trace: bool) -> Self {
        Self(Some(Arc::new(Mutex::new(Folded { hasher: DefaultHasher::new(), events: 0, trace }))))
    }

    /// A log that keeps nothing, for runs where speed is all.
    pub fn silent() -> Self {
        Self(None)
    }

    /// Folds in that `node` did `what` with `bytes`.
    pub fn fold(&self, node: &str, what: fmt::Arguments<'_>, bytes: &[u8]) {
        let Some(folded) = &self.0 else { return };
        let at = turmoil::sim_elapsed().unwrap_or_default();
        let mut folded = folded.lock();
        folded.hasher.write_u128(at.as_nanos());
        folded.hasher.write(node.as_bytes());
        // Into the hasher as it is formatted: most runs print nothing.
        let _never_fails = Hashing(&mut folded.hasher).write_fmt(what);
        folded.hasher.write(bytes);
        folded.events += 1;
        if folded.trace {
            let so_far = folded.hasher.finish();
            #[allow(clippy::print_stderr, reason = "asked for by --trace")]
            {
                eprintln!("{:>12.6} {node} {what} {so_far:016x}", at.as_secs_f64());
            }
        }
    }

    /// The hash of all events so far.
    pub fn hash(&self) -> u64 {
        self.0.as_ref().map_or(0, |folded| folded.lock().hasher.finish())
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.0.as_ref().map_or(0, |folded| folded.lock().events)
    }
}
