//! A disk that fills up and empties again under a log that dies now and then: nothing acknowledged is lost, nothing is
//! torn, and the directory never goes offline.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ottla_config::BrokerConfig;
use ottla_env::Env;
use ottla_protocol::record_batch::{NewRecord, RecordBatch, RecordBatchBuilder};
use ottla_protocol::{BrokerId, LeaderEpoch, Offset, TopicId, TopicPartition};
use ottla_sim::{Crash, DiskFaults, EventLog, SimRng, Simulation};
use ottla_storage::{
    AppendError, AppendOrigin, LeaderAppend, Log, LogDirFailure, LogManager, LogManagerOptions,
};

const LIVES: u32 = 12;
const SEEDS: u64 = 20;

/// What must be there, seen from outside of the node.
#[derive(Default)]
struct Model {
    /// The number in the record of each offset.
    stored: Vec<u64>,
    /// How many of them a flush has promised to keep whatever happens.
    flushed: usize,
    /// Records before it were deleted.
    start: usize,
    power_lost: bool,
    appended: u64,
    refused: u64,
}

impl Model {
    /// Compares a log with what was acknowledged, and goes on from there.
    fn check(&mut self, log: &Log) -> Result<()> {
        let (start, end) = (log.log_start_offset().0 as usize, log.log_end_offset().0 as usize);
        let promised = match std::mem::take(&mut self.power_lost) {
            true => self.flushed,
            false => self.stored.len(),
        };
        ensure!(end >= promised, "{end} records of {promised}");
        ensure!(
            end <= self.stored.len() || start == end,
            "{end} records, {} written",
            self.stored.len()
        );
        self.stored.resize(end, 0);
        self.start = self.start.max(start).min(end);
        let read = read(log, self.start)?;
        ensure!(read == self.stored[self.start..], "other records from {} on", self.start);
        Ok(())
    }
}

fn read(log: &Log, from: usize) -> Result<Vec<u64>> {
    let (mut numbers, end) = (Vec::new(), log.log_end_offset());
    let mut next = Offset(from as i64);
    while next < end {
        let bytes = log.read(next, 5000, true, end)?.read()?;
        let mut rest = &bytes[..];
        ensure!(!rest.is_empty(), "nothing at {next}");
        while !rest.is_empty() {
            let batch = RecordBatch::parse(rest).context("a torn batch")?;
            ensure!(batch.crc_is_valid(), "a torn batch at {next}");
            for record in batch.records()? {
                let record = record?;
                let value = record.value.unwrap_or_default();
                if batch.offset_of(&record) >= next {
                    numbers.push(u64::from_be_bytes(value[..8].try_into()?));
                    next = next.next();
                }
            }
            rest = &rest[batch.len()..];
        }
    }
    Ok(numbers)
}

async fn live(env: Env, model: Rc<RefCell<Model>>) -> Result<()> {
    let (config, _) = BrokerConfig::parse(&["log.dir.reserved.bytes=6000"], &[])?;
    let mut of_topic = config.log_config::<&str, &str>([])?;
    (of_topic.segment_bytes, of_topic.index_interval_bytes) = (3000, 100);
    of_topic.file_delete_delay = Duration::ZERO;
    let options = LogManagerOptions {
        dirs: vec![PathBuf::from("/data")],
        node_id: BrokerId(1),
        cluster_id: None,
        config: config.log_manager,
        max_open_files: 4,
    };
    let rng = SimRng::new(env.rng.next_u64(), "workload");
    let logs = LogManager::open(env.clone(), options).await?;
    let partition = TopicPartition::new("t", 0);
    let log = loop {
        match logs.create_log(&partition, TopicId::from_bytes([7; 16]), of_topic.clone()) {
            Ok(log) => break log,
            // There is no room for it yet.
            Err(_) => env.clock.sleep(Duration::from_millis(5)).await,
        }
        ensure!(logs.offline_dirs().is_empty(), "offline: {:?}", logs.offline_dirs()[0].failure());
    };
    model.borrow_mut().check(&log)?;
    loop {
        env.clock.sleep(Duration::from_millis(1 + rng.below(5))).await;
        let mut model = model.borrow_mut();
        match rng.below(12) {
            0 => match log.flush(log.log_end_offset()) {
                Ok(()) => model.flushed = model.stored.len(),
                Err(LogDirFailure::Full { .. }) => model.refused += 1,
                Err(other) => bail!("a flush: {other}"),
            },
            1 => {
                let wall = env.clock.wall();
                log.set_high_watermark(log.log_end_offset());
                logs.housekeeping(ottla_protocol::Timestamp(wall.0 + 600_000));
            }
            // DeleteRecords.
            2 => {
                let kept = rng.below(20) as i64;
                let start =
                    log.increment_log_start_offset(Offset(log.log_end_offset().0 - kept))?;
                model.start = model.start.max(start.0 as usize);
            }
            3 => model.check(&log)?,
            _ => append(&env, &rng, &log, &mut model)?,
        }
        ensure!(logs.offline_dirs().is_empty(), "offline: {:?}", logs.offline_dirs()[0].failure());
    }
}

fn append(env: &Env, rng: &SimRng, log: &Log, model: &mut Model) -> Result<()> {
    let number = model.appended + model.refused;
    let mut value = number.to_be_bytes().to_vec();
    value.resize(8 + rng.below(900) as usize, b'.');
    let now = env.clock.wall();
    let mut batch = RecordBatchBuilder::new();
    batch.append(&NewRecord { timestamp: now, value: Some(&value), ..NewRecord::default() });
    let origin = [AppendOrigin::Client, AppendOrigin::Coordinator][rng.below(2) as usize];
    let append = LeaderAppend { leader_epoch: LeaderEpoch(0), origin, now };
    match log.append_as_leader(&batch.build(), append) {
        Ok(info) => {
            ensure!(info.first_offset.0 as usize == model.stored.len(), "{info:?}");
            model.stored.push(number);
            model.appended += 1;
        }
        Err(AppendError::Storage(LogDirFailure::Full { .. })) => model.refused += 1,
        Err(other) => bail!("an append: {other}"),
    }
    Ok(())
}

fn fill_and_empty(seed: u64) -> Result<(u64, u64)> {
    let mut world = Simulation::new(seed, Duration::from_secs(600), EventLog::new(false));
    let model = Rc::new(RefCell::new(Model::default()));
    let watched = model.clone();
    let node = world.host(
        "store",
        |node| Ok(node.install_dir(Path::new("/data"))?),
        move |env| live(env, watched.clone()),
    )?;
    world.run_for(Duration::from_millis(50))?;
    for _ in 0..LIVES {
        for _ in 0..6 {
            // Little, less, or as much as one likes; sometimes less than there is already.
            let capacity =
                [None, Some(3_000 + world.rng.below(40_000))][world.rng.below(2) as usize];
            node.set_disk_faults(DiskFaults { capacity, ..DiskFaults::default() });
            world.run_for(Duration::from_millis(world.rng.below(150)))?;
        }
        let crash = [Crash::Process, Crash::PowerLoss][world.rng.below(2) as usize];
        world.crash("store", crash)?;
        model.borrow_mut().power_lost |= crash == Crash::PowerLoss;
        world.restart("store")?;
    }
    node.set_disk_faults(DiskFaults::default());
    world.run_for(Duration::from_millis(200))?;
    let model = model.borrow();
    Ok((model.appended, model.refused))
}

#[test]
fn whatever_is_acknowledged_on_a_disk_that_fills_up_is_kept_whole() {
    let (mut appended, mut refused) = (0, 0);
    for seed in 0..SEEDS {
        let counts = fill_and_empty(seed).unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
        appended += counts.0;
        refused += counts.1;
    }
    assert!(appended > 1000 && refused > 1000, "{appended} appended, {refused} refused");
}
