//! A disk that fails: the directory goes offline, answers say so, and nothing panics.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ottla_config::LogConfig;
use ottla_protocol::{ErrorCode, LeaderEpoch, Offset, TopicPartition};
use ottla_storage::{AppendError, AppendOrigin, LeaderAppend, Log, LogDir, LogOpenOptions, Wanted};

use crate::batches;
use crate::faulty_disk::{Faults, faulty_env};
use crate::single_log::{NOW, env};

struct Fixture {
    _root: tempfile::TempDir,
    faults: Arc<Faults>,
    log: Log,
    neighbour: Log,
}

/// Two logs of one directory, with a record each.
fn fixture() -> Fixture {
    let root = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let env = faulty_env(env(), &faults);
    let dir = LogDir::new(&env, root.path().to_owned(), 10);
    let open = |partition| {
        let options = LogOpenOptions::new(LogConfig::default(), Duration::from_secs(60));
        let log = Log::open(dir.clone(), TopicPartition::new("t", partition), options).unwrap();
        append(&log).unwrap();
        log
    };
    Fixture { log: open(0), neighbour: open(1), _root: root, faults }
}

fn append(log: &Log) -> Result<(), AppendError> {
    let append =
        LeaderAppend { leader_epoch: LeaderEpoch(0), origin: AppendOrigin::Client, now: NOW };
    log.append_as_leader(&batches::builder(NOW.0, &["a"]).build(), append).map(|_| ())
}

#[test]
fn a_failed_write_takes_the_whole_directory_offline() {
    let Fixture { log, neighbour, faults, .. } = fixture();
    faults.write.store(true, Ordering::Relaxed);
    let error = append(&log).unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::KafkaStorageError);
    assert!(error.to_string().contains("the disk is broken"), "{error}");
    assert_eq!(log.log_end_offset(), Offset(1), "nobody sees what may not be there");
    // The disk works again, but nobody knows what is on it.
    faults.write.store(false, Ordering::Relaxed);
    for log in [&log, &neighbour] {
        assert_eq!(append(log).unwrap_err().error_code(), ErrorCode::KafkaStorageError);
        let error = log.read(Offset(0), 10, true, Offset(1)).err().unwrap();
        assert_eq!(error.error_code(), ErrorCode::KafkaStorageError);
    }
    assert!(log.log_dir().failure().is_some());
}

#[test]
fn a_failed_sync_is_never_retried() {
    let Fixture { log, faults, .. } = fixture();
    faults.sync.store(true, Ordering::Relaxed);
    assert!(log.flush(Offset(1)).is_err());
    faults.sync.store(false, Ordering::Relaxed);
    assert!(log.flush(Offset(1)).is_err(), "the kernel may have dropped the pages");
    assert_eq!(log.recovery_point(), Offset(0));
    assert!(log.close().is_err(), "so there is no mark of a clean shutdown");
}

#[test]
fn a_failed_read_is_a_fault_and_no_end_of_the_log() {
    let Fixture { log, faults, .. } = fixture();
    faults.read.store(true, Ordering::Relaxed);
    let error = log.read(Offset(0), 10, true, Offset(1)).err().unwrap();
    assert_eq!(error.error_code(), ErrorCode::KafkaStorageError);
}

#[test]
fn who_will_not_wait_for_the_disk_is_told_that_he_would_have_to() {
    let Fixture { log, faults, .. } = fixture();
    let (from, upper_bound) = (Offset(0), Offset(1));
    let wanted =
        Wanted { from, upper_bound, max_bytes: 10, min_one_message: true, aborted_txns: false };
    let slices = log.try_fetch(&wanted).unwrap().unwrap().slices;
    assert!(slices[0].try_read().unwrap().is_some());
    faults.cold.store(true, Ordering::Relaxed);
    assert!(log.try_fetch(&wanted).unwrap().is_none());
    assert!(slices[0].try_read().unwrap().is_none());
    assert_eq!(log.fetch(&wanted).unwrap().len(), slices[0].len);
    assert!(log.log_dir().failure().is_none(), "that is no fault of the disk");
    // A fault is one, however it was met.
    faults.read.store(true, Ordering::Relaxed);
    let error = log.try_fetch(&wanted).err().unwrap();
    assert_eq!(error.error_code(), ErrorCode::KafkaStorageError);
}

#[test]
fn a_truncation_is_on_the_disk_before_it_is_done() {
    let Fixture { log, faults, .. } = fixture();
    append(&log).unwrap();
    faults.sync.store(true, Ordering::Relaxed);
    assert!(log.truncate_to(Offset(1)).is_err());
}
