//! The table of what clients saw of each kind of fault.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::board::Seen;
use crate::cluster::Layout;
use crate::fault::Fault;
use crate::trouble::Record;

/// What was seen, by layout and fault.
#[derive(Default)]
pub(crate) struct Report(BTreeMap<(Layout, Fault), Vec<Seen>>);

impl Report {
    pub(crate) fn add(&mut self, layout: Layout, record: Record) {
        self.0.entry((layout, record.fault)).or_default().push(record.seen);
    }

    /// How many faults were seen.
    pub(crate) fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// What took more than `slack` times as long as is promised, or was heard of and should not have been.
    pub(crate) fn broken_promises(&self, slack: f64) -> Vec<String> {
        let mut broken = Vec::new();
        for ((layout, fault), seen) in &self.0 {
            let title = fault.title();
            let worst = |times: Vec<Duration>| times.into_iter().max().unwrap_or_default();
            let taken = [
                ("acknowledgement", gaps(seen), fault.acknowledgement_bound(*layout)),
                ("topic made", metadata(seen), fault.metadata_bound()),
            ];
            for (what, times, bound) in taken {
                let (worst, Some(bound)) = (worst(times), bound) else { continue };
                if worst > bound.mul_f64(slack) {
                    broken.push(format!("{title} ({layout:?}): no {what} for {worst:?}"));
                }
            }
            if fault.is_silent() {
                let errors = seen.iter().flat_map(|seen| &seen.errors);
                let told =
                    errors.map(|it| format!("{title} ({layout:?}): {}: {}", it.who, it.text));
                broken.extend(told);
            }
        }
        broken
    }

    /// As markdown.
    pub(crate) fn table(&self) -> String {
        let mut table = "| layout | fault | times | no acknowledgement: median, worst, bound | a topic made again: \
                         median, worst, bound | no commit: median, worst | errors |\n\
                         |---|---|--:|---|---|---|--:|\n"
            .to_owned();
        for ((layout, fault), seen) in &self.0 {
            let errors: usize = seen.iter().map(|seen| seen.errors.len()).sum();
            let row = [
                format!("{layout:?}").to_lowercase(),
                fault.title().to_owned(),
                seen.len().to_string(),
                told(gaps(seen), fault.acknowledgement_bound(*layout)),
                told(metadata(seen), fault.metadata_bound()),
                told(seen.iter().map(|seen| seen.commits).collect(), None),
                errors.to_string(),
            ];
            // Writing to a string does not fail.
            let _infallible = writeln!(table, "| {} |", row.join(" | "));
        }
        table
    }
}

/// The longest time without an acknowledgement of each fault, over all partitions.
fn gaps(seen: &[Seen]) -> Vec<Duration> {
    seen.iter().map(|seen| seen.gaps.values().max().copied().unwrap_or_default()).collect()
}

fn metadata(seen: &[Seen]) -> Vec<Duration> {
    seen.iter().filter_map(|seen| seen.metadata).collect()
}

fn told(mut times: Vec<Duration>, bound: Option<Duration>) -> String {
    times.sort();
    let ms =
        |time: Option<&Duration>| time.map_or("–".to_owned(), |it| it.as_millis().to_string());
    let mut told = format!("{}, {} ms", ms(times.get(times.len() / 2)), ms(times.last()));
    if let Some(bound) = bound {
        told += &format!(", {}", bound.as_millis());
        if times.last().is_some_and(|worst| *worst > bound) {
            told += " (missed)";
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use ottla_client::TopicPartition;

    use super::*;

    #[test]
    fn what_takes_longer_than_promised_is_told() {
        let mut report = Report::default();
        for ms in [150, 250, 900] {
            let gaps = BTreeMap::from([(TopicPartition::new("t", 0), Duration::from_millis(ms))]);
            let record =
                |fault| Record { fault, seen: Seen { gaps: gaps.clone(), ..Seen::default() } };
            report.add(Layout::Together, record(Fault::KillLeader));
            report.add(Layout::Together, record(Fault::Restart));
        }
        let wanted = "a node restarted in order (Together): no acknowledgement for 900ms";
        assert_eq!(report.broken_promises(1.0), [wanted]);
        assert_eq!(report.broken_promises(5.0), [""; 0]);
        assert!(report.table().contains("| 3 | 250, 900 ms, 200 (missed) |"), "{}", report.table());
    }
}
