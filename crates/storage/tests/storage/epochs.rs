//! Leader epochs: where each began, and where it ended (KIP-101, KIP-279), whatever becomes of the log.

use ottla_config::LogConfig;
use ottla_protocol::{LeaderEpoch, Offset};
use ottla_storage::AppendOrigin;
use proptest::prelude::*;

use crate::batches::builder;
use crate::single_log::{NOW, SingleLog};

#[derive(Clone, Debug)]
enum Step {
    /// A batch of so many records, in an epoch so much newer.
    Append(usize, i32),
    /// A leader begins, so many epochs later, and has not written anything yet.
    Lead(i32),
    Flush,
    Checkpoint,
    Restart,
    Crash,
    Truncate(u8),
    DeleteUpTo(u8),
    Retention,
}

fn step() -> impl Strategy<Value = Step> {
    let newer = prop_oneof![4 => Just(0), 1 => 1..4i32];
    prop_oneof![
        12 => (1..4usize, newer).prop_map(|(count, newer)| Step::Append(count, newer)),
        2 => (1..4i32).prop_map(Step::Lead),
        2 => Just(Step::Flush),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Restart),
        2 => Just(Step::Crash),
        2 => any::<u8>().prop_map(Step::Truncate),
        1 => any::<u8>().prop_map(Step::DeleteUpTo),
        1 => Just(Step::Retention),
    ]
}

/// Where each epoch begins, oldest first.
#[derive(Default)]
struct Model {
    starts: Vec<(i32, i64)>,
}

impl Model {
    fn begin(&mut self, epoch: i32, start: i64) {
        if self.starts.last().is_none_or(|(latest, _)| *latest < epoch) {
            self.starts.retain(|(_, other)| *other < start);
            self.starts.push((epoch, start));
        }
    }

    fn truncate(&mut self, end: i64) {
        self.starts.retain(|(_, start)| *start < end);
    }

    fn delete(&mut self, start: i64) {
        let begun = self.starts.partition_point(|(_, other)| *other <= start);
        if let Some(floor) = begun.checked_sub(1) {
            self.starts.drain(..floor);
            self.starts[0].1 = start;
        }
    }

    /// Epoch and end, as `OffsetsForLeaderEpoch` answers.
    fn end_of(&self, epoch: i32, log_end: i64) -> Option<(i32, i64)> {
        if self.starts.last().is_some_and(|(latest, _)| *latest == epoch) {
            return Some((epoch, log_end));
        }
        let (_, end) = self.starts.iter().find(|(other, _)| *other > epoch)?;
        let floor = self.starts.iter().rfind(|(other, _)| *other <= epoch);
        Some((floor.map_or(epoch, |floor| floor.0), *end))
    }
}

fn check(log: &SingleLog, model: &Model, newest: i32) -> Result<(), TestCaseError> {
    let end = log.log.log_end_offset().0;
    for epoch in 0..=newest + 1 {
        let told = log.log.end_offset_for_epoch(LeaderEpoch(epoch));
        let told = told.map(|told| (told.epoch.0, told.end_offset.0));
        prop_assert_eq!(told, model.end_of(epoch, end), "epoch {} of {:?}", epoch, model.starts);
    }
    for offset in log.log.log_start_offset().0..end {
        let expected = model.starts.iter().rfind(|(_, start)| *start <= offset);
        let told = log.log.epoch_for_offset(Offset(offset)).map(|epoch| epoch.0);
        prop_assert_eq!(told, expected.map(|(epoch, _)| *epoch), "offset {}", offset);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn an_epoch_ends_where_the_next_one_begins(steps in prop::collection::vec(step(), 1..60)) {
        let config = LogConfig { segment_bytes: 400, retention_ms: None, ..LogConfig::default() };
        let mut log = SingleLog::new(config);
        let (mut model, mut epoch) = (Model::default(), 0);
        for step in steps {
            let end = log.log.log_end_offset().0;
            match step {
                Step::Append(count, newer) => {
                    epoch += newer;
                    let batch = builder(NOW.0, &vec!["x"; count]).build();
                    log.append_as(&batch, AppendOrigin::Client, epoch).unwrap();
                    model.begin(epoch, end);
                }
                Step::Lead(newer) => {
                    epoch += newer;
                    log.log.assign_epoch_start(LeaderEpoch(epoch));
                    model.begin(epoch, end);
                }
                Step::Flush => log.log.flush(Offset(end)).unwrap(),
                Step::Checkpoint => log.log.checkpoint().unwrap(),
                // The start of an epoch without a record is the controller's to say again.
                Step::Restart => {
                    log.restart();
                    model.truncate(end);
                }
                Step::Crash => {
                    log.crash();
                    model.truncate(end);
                }
                Step::Truncate(at) => {
                    let start = log.log.log_start_offset().0;
                    let at = start + i64::from(at) % (end - start + 1);
                    log.log.truncate_to(Offset(at)).unwrap();
                    // Of a leader that wrote nothing before it was replaced nothing is left.
                    model.truncate(log.log.log_end_offset().0);
                }
                Step::DeleteUpTo(at) => {
                    log.log.set_high_watermark(Offset(end));
                    // Not everything: whose epoch nothing has is nobody's business.
                    let at = i64::from(at) % end.max(1);
                    let start = log.log.increment_log_start_offset(Offset(at)).unwrap();
                    model.delete(start.0);
                }
                Step::Retention => log.log.housekeeping(NOW).unwrap(),
            }
            check(&log, &model, epoch)?;
        }
    }
}
