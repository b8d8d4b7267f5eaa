//! What happened, folded into one number.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use parking_lot::Mutex;

/// Every operation on a network or a disk and every step of a workload, in order.
///
/// Two runs that agree on the hash did the same things at the same virtual times. Where they do
/// not, `--trace` prints one line an event, and `diff` shows the first that differs.
#[derive(Clone)]
pub struct EventLog(Option<Arc<Mutex<Folded>>>);

struct Folded {
    hash: Mixed,
    events: u64,
    trace: bool,
}

/// All that happened so far, eight bytes at a time: nobody means to make two runs look alike, and all that nodes send and write
/// passes through here.
#[derive(Default)]
struct Mixed(u64);

impl Mixed {
    fn bytes(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.word(word.try_into().map_or(0, u64::from_le_bytes));
        }
        let rest = words.remainder().iter();
        // Its first digit says how many bytes there are.
        self.word(rest.fold(1, |word, byte| word << 8 | u64::from(*byte)));
    }

    fn word(&mut self, word: u64) {
        // An odd factor and a rotation lose nothing: two states that differ go on to differ.
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

/// Takes text.
impl fmt::Write for Mixed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}

impl EventLog {
    /// An empty log; with `trace` each event is also printed to standard error.
    pub fn new(trace: bool) -> Self {
        Self(Some(Arc::new(Mutex::new(Folded { hash: Mixed::default(), events: 0, trace }))))
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
        folded.hash.word(at.as_nanos() as u64);
        folded.hash.bytes(node.as_bytes());
        // Mixed in as it is formatted: most runs print nothing.
        let _never_fails = folded.hash.write_fmt(what);
        folded.hash.bytes(bytes);
        folded.events += 1;
        if folded.trace {
            let so_far = folded.hash.0;
            #[allow(clippy::print_stderr, reason = "asked for by --trace")]
            {
                eprintln!("{:>12.6} {node} {what} {so_far:016x}", at.as_secs_f64());
            }
        }
    }

    /// The hash of all events so far.
    pub fn hash(&self) -> u64 {
        self.0.as_ref().map_or(0, |folded| folded.lock().hash.0)
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.0.as_ref().map_or(0, |folded| folded.lock().events)
    }
}
