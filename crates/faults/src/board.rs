//! What clients see of the cluster, and when: the longest time without an acknowledgement, a commit or a change of
//! metadata, and every error that reached a program.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ottla_client::TopicPartition;
use parking_lot::Mutex;

/// What is to happen again and again.
#[derive(Clone, Debug)]
struct Pulse {
    last: Instant,
    longest: Duration,
    /// When that began.
    began: Instant,
}

/// An error that reached a program.
#[derive(Clone, Debug)]
pub(crate) struct ClientError {
    pub(crate) who: String,
    pub(crate) text: String,
}

/// What was seen while a fault and its consequences lasted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Longest time without an acknowledgement, by partition.
    pub(crate) gaps: BTreeMap<TopicPartition, Duration>,
    /// When the longest of them began.
    pub(crate) longest_began: Option<Instant>,
    /// From the fault until a topic was made that was asked for afterwards.
    pub(crate) metadata: Option<Duration>,
    /// Longest time without a commit of the group.
    pub(crate) commits: Duration,
    pub(crate) errors: Vec<ClientError>,
}

struct State {
    began: Instant,
    acknowledgements: BTreeMap<TopicPartition, Pulse>,
    metadata: Option<Duration>,
    commits: Pulse,
    errors: Vec<ClientError>,
}

/// Shared by all clients.
pub(crate) struct Board(Mutex<State>);

impl Pulse {
    fn new(now: Instant) -> Self {
        Self { last: now, longest: Duration::ZERO, began: now }
    }

    fn beat(&mut self, now: Instant) {
        (self.longest, self.began) = self.longest_by(now);
        self.last = self.last.max(now);
    }

    /// How long it was, and when it began.
    fn longest_by(&self, now: Instant) -> (Duration, Instant) {
        (self.longest, self.began).max((now.saturating_duration_since(self.last), self.last))
    }
}

impl Board {
    pub(crate) fn new(partitions: impl IntoIterator<Item = TopicPartition>) -> Self {
        let now = Instant::now();
        let acknowledgements = partitions.into_iter().map(|it| (it, Pulse::new(now))).collect();
        let (metadata, commits, errors) = (None, Pulse::new(now), Vec::new());
        Self(Mutex::new(State { began: now, acknowledgements, metadata, commits, errors }))
    }

    /// From now on counts what is seen.
    pub(crate) fn begin(&self) {
        let now = Instant::now();
        let state = &mut *self.0.lock();
        state.began = now;
        state.acknowledgements.values_mut().for_each(|pulse| *pulse = Pulse::new(now));
        (state.metadata, state.commits) = (None, Pulse::new(now));
        state.errors.clear();
    }

    /// What was seen since the beginning.
    pub(crate) fn seen(&self) -> Seen {
        let now = Instant::now();
        let state = self.0.lock();
        let gap = |(partition, pulse): (&TopicPartition, &Pulse)| {
            (partition.clone(), pulse.longest_by(now).0)
        };
        let longest = state.acknowledgements.values().map(|pulse| pulse.longest_by(now)).max();
        Seen {
            longest_began: longest.map(|(_, began)| began),
            gaps: state.acknowledgements.iter().map(gap).collect(),
            metadata: state.metadata,
            commits: state.commits.longest_by(now).0,
            errors: state.errors.clone(),
        }
    }

    /// Whether all that is to happen happened since `when`.
    pub(crate) fn all_went_on_since(&self, when: Instant) -> bool {
        let state = self.0.lock();
        state.acknowledgements.values().all(|pulse| pulse.last > when)
            && state.commits.last > when
            && state.metadata.is_some()
    }

    pub(crate) fn acknowledged(&self, partition: &TopicPartition) {
        if let Some(pulse) = self.0.lock().acknowledgements.get_mut(partition) {
            pulse.beat(Instant::now());
        }
    }

    pub(crate) fn committed(&self) {
        self.0.lock().commits.beat(Instant::now());
    }

    /// A topic was made that was asked for at `asked`.
    pub(crate) fn topic_made(&self, asked: Instant) {
        let now = Instant::now();
        let state = &mut *self.0.lock();
        if asked >= state.began && state.metadata.is_none() {
            state.metadata = Some(now.saturating_duration_since(state.began));
        }
    }

    pub(crate) fn failed(&self, who: &str, error: &dyn std::fmt::Display) {
        let error = ClientError { who: who.to_owned(), text: format!("{error:#}") };
        self.0.lock().errors.push(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_time_between_two_beats_counts_and_that_since_the_last() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pulse = Pulse::new(start);
        [10, 90, 100].into_iter().for_each(|ms| pulse.beat(at(ms)));
        assert_eq!(pulse.longest_by(at(150)), (Duration::from_millis(80), at(10)));
        assert_eq!(pulse.longest_by(at(300)), (Duration::from_millis(200), at(100)));
    }

    #[test]
    fn a_topic_counts_that_was_asked_for_after_the_fault() {
        let board = Board::new([]);
        let before = Instant::now();
        board.begin();
        board.topic_made(before);
        assert_eq!(board.seen().metadata, None);
        board.topic_made(Instant::now());
        assert!(board.seen().metadata.is_some());
    }
}
