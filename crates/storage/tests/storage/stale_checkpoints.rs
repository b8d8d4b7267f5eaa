//! A log that is made under the name of one that is gone never meets what checkpoints say of that.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ottla_config::LogConfig;
use ottla_env::Env;
use ottla_protocol::{Offset, Timestamp, TopicId, TopicPartition};
use ottla_storage::{CreateLogError, LogManager, LogManagerOptions};
use tempfile::TempDir;

use crate::faulty_disk::{Faults, faulty_env};
use crate::log_manager::{TOPIC, append, options};
use crate::single_log::root;

const AGAIN: TopicId = TopicId::from_bytes([8; 16]);
const FILES: [&str; 4] = ["recovery-point", "log-start", "replication", "cleaner"];
/// As the logs that are gone had it.
const OLD: i64 = 17;

fn orders(number: i32) -> TopicPartition {
    TopicPartition::new("orders", number)
}

fn two(roots: &[TempDir; 2]) -> LogManagerOptions {
    let mut options = options(roots[0].path());
    options.dirs.push(roots[1].path().to_owned());
    options.config.retention_check_interval = Duration::from_secs(3600);
    options
}

async fn open(roots: &[TempDir; 2], faults: &Arc<Faults>) -> LogManager {
    LogManager::open(faulty_env(Env::os(), faults), two(roots)).await.unwrap()
}

/// The log of `partition` in one of the directories, whose checkpoints all say [`OLD`].
fn old_log(manager: &LogManager, dir: usize, partition: &TopicPartition) {
    let home = manager.dirs().nth(dir).unwrap().id();
    let log = manager.create_log_in(home, partition, TOPIC, LogConfig::default()).unwrap();
    append(manager, partition, &["old"; OLD as usize]);
    log.checkpoint().unwrap();
    log.increment_log_start_offset(Offset(OLD)).unwrap();
}

fn create_again(
    manager: &LogManager,
    dir: usize,
    partition: &TopicPartition,
) -> Result<(), CreateLogError> {
    let home = manager.dirs().nth(dir).unwrap().id();
    manager.create_log_in(home, partition, AGAIN, LogConfig::default()).map(drop)
}

fn housekeeping_in(manager: &LogManager, minutes: i64) {
    manager.housekeeping(Timestamp(Env::os().clock.wall().0 + minutes * 60_000 + 1000));
}

/// What the checkpoint files of `dir` say of a partition that is not what they say of a new log.
fn believed(dir: &Path, partition: &TopicPartition) -> Vec<String> {
    let read = |file: &str| std::fs::read_to_string(dir.join(format!("{file}-offset-checkpoint")));
    let line = format!("{} {} {OLD}", partition.topic, partition.partition);
    let names_it = |file: &&str| read(file).unwrap_or_default().lines().any(|it| it == line);
    FILES.iter().filter(|file| names_it(file)).map(|file| (*file).to_owned()).collect()
}

#[tokio::test]
async fn one_that_was_set_aside_is_forgotten() {
    let (roots, faults) = ([root(), root()], Arc::default());
    let manager = open(&roots, &faults).await;
    old_log(&manager, 0, &orders(0));
    manager.checkpoint_log_starts();
    manager.delete_or_set_aside(&orders(0)).unwrap();
    let names = std::fs::read_dir(roots[0].path()).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.any(|name| name.ends_with("-stray")));
    create_again(&manager, 0, &orders(0)).unwrap();
    assert!(believed(roots[0].path(), &orders(0)).is_empty());
}

#[tokio::test]
async fn a_directory_that_was_full_keeps_no_lines_once_it_has_room() {
    let (roots, faults) = ([root(), root()], Arc::<Faults>::default());
    let manager = open(&roots, &faults).await;
    old_log(&manager, 0, &orders(0));
    old_log(&manager, 1, &orders(1));
    housekeeping_in(&manager, 1);
    assert!(believed(roots[1].path(), &orders(1)).len() >= 2);
    for number in [0, 1] {
        assert!(manager.delete_log(&orders(number)).unwrap());
    }
    faults.leave_free(roots[1].path(), Some(0));
    create_again(&manager, 0, &orders(0)).unwrap();
    faults.leave_free(roots[1].path(), None);
    create_again(&manager, 1, &orders(1)).unwrap();
    assert_eq!(believed(roots[1].path(), &orders(1)), [""; 0]);
}

#[tokio::test]
async fn checkpoints_that_are_written_while_it_is_deleted_are_written_again() {
    let (roots, faults) = ([root(), root()], Arc::<Faults>::default());
    let manager = open(&roots, &faults).await;
    old_log(&manager, 0, &orders(0));
    housekeeping_in(&manager, 1);
    std::thread::scope(|threads| {
        let gate = faults.gate.lock();
        threads.spawn(|| manager.delete_log(&orders(0)).unwrap());
        // It has another name, which is not on the disk yet.
        while roots[0].path().join("orders-0").exists() {
            std::thread::yield_now();
        }
        housekeeping_in(&manager, 2);
        assert!(believed(roots[0].path(), &orders(0)).len() >= 2, "it is among the logs");
        drop(gate);
    });
    create_again(&manager, 0, &orders(0)).unwrap();
    assert_eq!(believed(roots[0].path(), &orders(0)), [""; 0]);
}

#[tokio::test]
async fn the_directory_it_once_lay_in_forgets_it_though_the_last_one_failed() {
    let (roots, faults) = ([root(), root()], Arc::<Faults>::default());
    let manager = open(&roots, &faults).await;
    old_log(&manager, 0, &orders(0));
    housekeeping_in(&manager, 1);
    let target = manager.dirs().nth(1).unwrap();
    let begun = manager.begin_move(&manager.log(&orders(0)).unwrap(), target).unwrap();
    begun.copy(u64::MAX).unwrap();
    let log = manager.finish_move(&begun).unwrap();
    append(&manager, &orders(0), &["lost"]);
    faults.break_below(Some(roots[1].path()));
    assert!(log.flush(Offset(OLD + 1)).is_err() && target.failure().is_some());
    assert!(manager.delete_log(&orders(0)).is_err());
    create_again(&manager, 0, &orders(0)).unwrap();
    assert_eq!(believed(roots[0].path(), &orders(0)), [""; 0]);
}
