//! The process dies at every step of a pass: the log comes back whole, old or new.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ottla_config::LogConfig;
use ottla_protocol::record_batch::batches;
use ottla_protocol::{LeaderEpoch, Offset, TopicPartition};
use ottla_storage::inspect::{Finding, PartitionContext, Severity, verify_partition};
use ottla_storage::{CleanError, CleanerLimits, Log, LogDir, LogOpenOptions};

use super::{Found, batch, compacted, records};
use crate::faulty_disk::{Faults, faulty_env};
use crate::single_log::{NOW, SingleLog, env};

/// Ten segments, of which a pass makes fewer; every key is written many times.
fn dirty_log() -> SingleLog {
    let log = SingleLog::compacted(300);
    for round in 0..10 {
        let value = format!("{round}");
        log.put(&[("a", Some(&value)), (&format!("only {round}"), Some("1")), ("b", None)]);
        log.put(&[("c", Some(&"x".repeat(round))), ("b", Some(&value))]);
    }
    log.seal();
    log.log.flush(log.log.log_end_offset()).unwrap();
    log
}

/// A log that was compacted once and got new records: a pass puts its small segments together.
fn dirty_again() -> SingleLog {
    let log = dirty_log();
    log.clean();
    log.put(&[("a", Some("again")), ("c", Some("again"))]);
    log.seal();
    log.log.flush(log.log.log_end_offset()).unwrap();
    log
}

/// What the offline check has to say of the log's files.
fn findings(log: &SingleLog) -> Vec<Finding> {
    let context = PartitionContext {
        clean_shutdown: true,
        recovery_point: Some(log.log.log_end_offset()),
        log_start_offset: None,
        compacted: true,
    };
    let report = verify_partition(&*env().disk, &log.dir(), context, &mut |_| {}).unwrap();
    report.findings.into_iter().filter(|finding| finding.severity() > Severity::Note).collect()
}

/// Opens the log of `root` as after a crash, on a disk that may fail.
fn open(root: &Path, faults: Arc<Faults>, recovery_point: Offset, config: LogConfig) -> Arc<Log> {
    let dir = LogDir::new(&faulty_env(env(), &faults), root.to_owned(), 3);
    let mut options = LogOpenOptions::new(config, Duration::from_secs(3600));
    options.recovery_point = recovery_point;
    options.high_watermark = Offset(i64::MAX);
    Arc::new(Log::open(dir, TopicPartition::new("topic", 0), options).unwrap())
}

fn contents(log: &Log) -> Vec<Found> {
    let data = log.read(Offset(0), usize::MAX, true, log.log_end_offset()).unwrap();
    records(&data.read().unwrap())
}

#[test]
fn a_crash_at_any_step_leaves_the_old_segments_or_the_new_ones() {
    die_at_every_change(dirty_log, &compacted(300));
}

#[test]
fn a_crash_while_segments_are_put_together_leaves_all_of_them_or_one() {
    // The topic's policy may be known late, or may have changed.
    let policy = LogConfig { segment_bytes: 300, ..LogConfig::default() };
    die_at_every_change(dirty_again, &policy);
}

/// Lets the process die at every change that a pass makes, and opens the log again with `policy`.
fn die_at_every_change(prepare: fn() -> SingleLog, policy: &LogConfig) {
    let whole = prepare();
    let before = contents(&whole.log);
    whole.clean();
    let after = contents(&whole.log);
    assert!(after.len() < before.len());
    let (mut seen_old, mut seen_new, mut last_change) = (false, false, 0);
    loop {
        last_change += 1;
        let mut log = prepare();
        let end = log.log.log_end_offset();
        let faults = Arc::new(Faults::default());
        let dying = open(log.root.path(), faults.clone(), end, compacted(300));
        let made = faults.changes.load(Ordering::Relaxed);
        faults.last_change.store(made + last_change, Ordering::Relaxed);
        let cleaned = dying.clean(&CleanerLimits::default(), NOW);
        drop(dying);
        log.log = open(log.root.path(), Arc::default(), end, policy.clone());
        let found = contents(&log.log);
        assert_eq!(log.log.log_end_offset(), end, "change {last_change}");
        assert!(found.iter().all(|record| before.contains(record)), "change {last_change}");
        assert!(after.iter().all(|record| found.contains(record)), "change {last_change}");
        assert!(found.is_sorted_by_key(|(offset, _, _)| *offset), "change {last_change}");
        assert!(log.files("cleaned").is_empty() && log.files("swap").is_empty());
        (seen_old, seen_new) = (seen_old || found == before, seen_new || found == after);
        log.log.update_config(compacted(300));
        log.clean();
        assert_eq!(contents(&log.log), after, "change {last_change}: the next pass goes on");
        log.log.close().unwrap();
        assert_eq!(findings(&log), [], "change {last_change}");
        match cleaned {
            Ok(_) => break,
            Err(error) => assert!(matches!(error, CleanError::Storage(_)), "{error}"),
        }
    }
    assert!(seen_old && seen_new && last_change > 20, "{last_change} changes");
}

#[test]
fn a_log_with_gaps_keeps_its_segments_whatever_its_policy() {
    let mut log = dirty_log();
    log.clean();
    let kept = log.records();
    let segments = log.log.segment_count();
    log.config = LogConfig { segment_bytes: 300, ..LogConfig::default() };
    // Nothing is known of it but its files.
    for extension in ["index", "timeindex", "snapshot"] {
        log.files(extension).iter().for_each(|file| std::fs::remove_file(file).unwrap());
    }
    let high_watermark = log.log.log_end_offset();
    log.reopen(Offset(0), false);
    log.log.set_high_watermark(high_watermark);
    assert_eq!((log.records(), log.log.segment_count()), (kept, segments));
}

/// Kafka's cleaner leaves segments that end before the next one begins.
#[test]
fn a_segment_that_was_compacted_may_end_early_and_another_one_is_torn() {
    for (compacted_before, kept) in [(Some(Offset(40)), true), (None, false)] {
        let mut log = dirty_log();
        log.clean();
        assert!(log.log.segment_count() > 2);
        let first = log.files("log")[0].clone();
        let bytes = std::fs::read(&first).unwrap();
        let lens = batches(&bytes).map(|batch| batch.unwrap().len());
        let last = lens.last().unwrap();
        std::fs::write(&first, &bytes[..bytes.len() - last]).unwrap();
        let end = log.log.log_end_offset();
        let mut options = LogOpenOptions::new(log.config.clone(), Duration::from_secs(3600));
        options.first_dirty_offset = compacted_before;
        log.open_with(options);
        assert_eq!(log.log.log_end_offset() == end, kept);
    }
}

/// A leader that has compacted its log sends batches with gaps between them.
#[test]
fn a_follower_keeps_what_it_got_around_a_gap() {
    let mut log = SingleLog::compacted(300);
    let mut expected = Vec::new();
    for round in 0..10 {
        let offset = round * 7;
        let records = batch(&[("a", Some(&"x".repeat(80)))]).base_offset(Offset(offset));
        log.log.append_as_follower(&records.leader_epoch(LeaderEpoch(0)).build()).unwrap();
        expected.push(offset);
    }
    assert!(log.log.segment_count() > 2);
    log.reopen(Offset(0), false);
    let found: Vec<_> = log.records().into_iter().map(|(offset, _, _)| offset).collect();
    assert_eq!(found, expected);
}

/// While one thread compacts the log again and again, others read it with hardly any file open.
#[test]
fn readers_never_see_a_half_of_a_swap() {
    let log = dirty_log();
    let done = AtomicBool::new(false);
    let read = |seed: i64| {
        let mut from = seed;
        while !done.load(Ordering::Relaxed) {
            let end = log.log.log_end_offset();
            from = (from * 31 + 7) % end.0;
            let data = log.log.read(Offset(from), 1000, true, end).unwrap();
            let bytes = data.read().unwrap();
            let mut next = from;
            for batch in batches(&bytes) {
                let batch = batch.unwrap();
                assert!(batch.crc_is_valid() && batch.last_offset().0 >= next, "from {from}");
                next = batch.next_offset().0;
            }
        }
    };
    std::thread::scope(|scope| {
        let readers = [1, 2].map(|seed| {
            scope.spawn({
                let read = &read;
                move || read(seed)
            })
        });
        for round in 0..60 {
            let value = format!("{round}");
            log.put(&[("a", Some(&value)), ("b", Some(&value)), (&value, Some("1"))]);
            log.seal();
            log.clean();
        }
        done.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}
