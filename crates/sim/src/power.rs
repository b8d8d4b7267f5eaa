//! Whether a node runs, and at which operation it will stop.

use parking_lot::Mutex;

/// How a node ends against its will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// `kill -9`: the page cache survives, so every finished write does.
    Process,
    /// The machine loses power: what was not synced may be lost, torn or reordered.
    PowerLoss,
}

/// One life of a node after another. A life is told by its number, so that what is left of an
/// earlier one (a file handle, a socket) can no longer act.
#[derive(Debug, Default)]
pub(crate) struct Power(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    life: u64,
    planned: Option<Planned>,
    died: Option<Crash>,
    changes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Planned {
    after_operations: u64,
    crash: Crash,
}

/// What becomes of one change to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is done.
    Done,
    /// The node dies in the middle of it.
    Last,
    /// The node is dead already.
    Refused,
}

impl Power {
    /// Begins a new life and answers its number. What was planned since the last crash holds.
    pub(crate) fn on(&self) -> u64 {
        let mut state = self.0.lock();
        state.life += 1;
        state.died = None;
        state.life
    }

    /// Ends the current life, and forgets what was planned for it.
    pub(crate) fn off(&self, crash: Crash) {
        let mut state = self.0.lock();
        state.planned = None;
        state.died.get_or_insert(crash);
    }

    /// Lets the node die in the middle of a disk operation: the `after_operations`-th from now.
    pub(crate) fn plan(&self, after_operations: u64, crash: Crash) {
        self.0.lock().planned = Some(Planned { after_operations, crash });
    }

    /// Forgets what was planned.
    pub(crate) fn unplan(&self) {
        self.0.lock().planned = None;
    }

    /// Whether `life` is the current one and has not ended.
    pub(crate) fn is_alive(&self, life: u64) -> bool {
        let state = self.0.lock();
        state.life == life && state.died.is_none()
    }

    /// The number of the current life, from 1.
    pub(crate) fn life(&self) -> u64 {
        self.0.lock().life
    }

    /// How the current life ended, if it did.
    pub(crate) fn died(&self) -> Option<Crash> {
        self.0.lock().died
    }

    /// Changes to the disk in all lives so far.
    pub(crate) fn changes(&self) -> u64 {
        self.0.lock().changes
    }

    /// Counts a change to the disk.
    pub(crate) fn change(&self, life: u64) -> Fate {
        let mut state = self.0.lock();
        if state.life != life || state.died.is_some() {
            return Fate::Refused;
        }
        state.changes += 1;
        let Some(mut planned) = state.planned else { return Fate::Done };
        if planned.after_operations == 0 {
            state.died = Some(planned.crash);
            return Fate::Last;
        }
        planned.after_operations -= 1;
        state.planned = Some(planned);
        Fate::Done
    }
}
