//! No network: one log that is appended to, flushed and read while its node dies again and again.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use ottla_config::{BrokerConfig, LogConfig};
use ottla_env::Env;
use ottla_protocol::record_batch::{NewRecord, RecordBatch, RecordBatchBuilder};
use ottla_protocol::{
    BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, TopicId, TopicPartition,
};
use ottla_storage::{
    AppendOrigin, LeaderAppend, Log, LogAppendInfo, LogManager, LogManagerOptions,
};

use super::{Outcome, Setup, world_of};
use crate::power::Crash;
use crate::rng::SimRng;

const DATA: &str = "/data";
const LIVES: u32 = 25;
/// Small, so that segments roll.
const SEGMENT_BYTES: u32 = 4_000;

/// One record as it was written.
#[derive(Clone, PartialEq)]
struct Written {
    timestamp: Timestamp,
    value: Vec<u8>,
}

/// A batch of which it is not known whether it was stored.
struct InDoubt {
    batch: Bytes,
    records: Vec<Written>,
    /// Where it was found after all.
    found_at: Option<usize>,
}

/// What the log must hold; it watches from outside of the node.
#[derive(Default)]
struct Model {
    /// The record of each offset.
    stored: Vec<Written>,
    /// How many of them a flush has promised to keep whatever happens.
    flushed: usize,
    /// What was being appended when the node died.
    in_doubt: Option<InDoubt>,
    /// Whether power was lost since a life last got as far as being judged.
    power_lost: bool,
    /// The idempotent producer, and the sequence number of its next record.
    producer: (i64, i32),
    written: u64,
    resent: u32,
}

impl Model {
    /// Judges what a new life found, and goes on from there.
    fn recovered(&mut self, read: Vec<Written>) -> Result<()> {
        let power_lost = std::mem::take(&mut self.power_lost);
        let promised = if power_lost { self.flushed } else { self.stored.len() };
        let left = read.len();
        ensure!(left >= promised, "{left} records of {promised}, power lost: {power_lost}");
        let doubtful = self.in_doubt.as_ref().map_or(&[][..], |in_doubt| &in_doubt.records);
        let possible = [&self.stored[..], doubtful].concat();
        let wrong = read.iter().zip(&possible).position(|(read, written)| read != written);
        ensure!(wrong.is_none(), "offset {wrong:?} is not what was written there");
        ensure!(left <= possible.len(), "{left} records, {} written", possible.len());
        let torn = !power_lost && left != self.stored.len() && left != possible.len();
        ensure!(!torn, "a part of a batch was kept");
        if power_lost {
            // A producer whose records were lost has to begin anew (KIP-360).
            self.in_doubt = None;
            self.producer = (self.producer.0 + 1, 0);
        } else if let Some(in_doubt) = &mut self.in_doubt
            && left == possible.len()
        {
            in_doubt.found_at.get_or_insert(self.stored.len());
        }
        self.stored = read;
        Ok(())
    }

    /// Judges the answer to the batch in doubt.
    fn acknowledged(&mut self, info: &LogAppendInfo) -> Result<()> {
        let Some(InDoubt { records, found_at, .. }) = self.in_doubt.take() else { return Ok(()) };
        let expected = found_at.unwrap_or(self.stored.len());
        ensure!(info.first_offset == Offset(expected as i64), "{info:?} instead of {expected}");
        ensure!(info.duplicate == found_at.is_some(), "{info:?}, found at {found_at:?}");
        self.producer.1 += records.len() as i32;
        if found_at.is_none() {
            self.stored.extend(records);
        }
        Ok(())
    }
}

pub(super) fn run(setup: Setup) -> Result<Outcome> {
    let mut world = world_of(setup, Duration::from_secs(3600));
    let model = Rc::new(RefCell::new(Model::default()));
    let watched = model.clone();
    let node = world.host(
        "store",
        |node| Ok(node.install_dir(Path::new(DATA))?),
        move |env| live(env, watched.clone()),
    )?;
    for _ in 0..LIVES {
        let crash = [Crash::Process, Crash::PowerLoss][world.rng.below(2) as usize];
        // Some lives end while they recover from the one before.
        let changes = if world.rng.chance(0.3) { 30 } else { 400 };
        node.die_after(world.rng.below(changes), crash);
        world.run_until(|world| !world.is_running("store"))?;
        model.borrow_mut().power_lost |= crash == Crash::PowerLoss;
        world.restart("store")?;
    }
    world.run_for(Duration::from_millis(50))?;
    let Model { written, resent, stored, .. } = &*model.borrow();
    let summary = format!("wrote {written} records, kept {}, resent {resent}", stored.len());
    Ok(Outcome { hash: world.hash(), summary })
}

/// One life: session after session, until it dies.
async fn live(env: Env, model: Rc<RefCell<Model>>) -> Result<()> {
    loop {
        session(&env, &model).await?;
        let mut model = model.borrow_mut();
        model.flushed = model.stored.len();
    }
}

/// Opens the log, is judged for what it holds, works, and closes it in good order.
async fn session(env: &Env, model: &RefCell<Model>) -> Result<()> {
    let rng = SimRng::new(env.rng.next_u64(), "workload");
    let (mut config, log_config) = configure()?;
    // Now and then a checkpoint.
    config.log_manager.dir_checkpoint_bytes = 500 + rng.below(3000);
    let options = LogManagerOptions {
        dirs: vec![PathBuf::from(DATA)],
        node_id: BrokerId(1),
        cluster_id: None,
        config: config.log_manager,
        max_open_files: 4,
    };
    let logs = LogManager::open(env.clone(), options).await?;
    let partition = TopicPartition::new("t", 0);
    let log = logs.create_log(&partition, TopicId::from_bytes([7; 16]), log_config)?;
    model.borrow_mut().recovered(read_from(&log, 0)?)?;
    if model.borrow().in_doubt.is_some() {
        model.borrow_mut().resent += 1;
        deliver(env, &log, &mut model.borrow_mut())?;
    }
    for _ in 0..50 + rng.below(500) {
        match rng.below(30) {
            0 | 1 => {
                log.flush(log.log_end_offset())?;
                let mut model = model.borrow_mut();
                model.flushed = model.stored.len();
            }
            2 => logs.housekeeping(env.clock.wall()),
            3 => check_read(&rng, &log, &model.borrow())?,
            _ => append(env, &rng, &log, &mut model.borrow_mut())?,
        }
        env.clock.sleep(Duration::from_millis(rng.below(20))).await;
    }
    logs.shutdown(-1).await;
    ensure!(env.disk.exists(Path::new(DATA)), "the node died while it closed the log");
    Ok(())
}

fn configure() -> Result<(BrokerConfig, LogConfig)> {
    let (config, _) = BrokerConfig::parse(&[], &[])?;
    let mut log_config = config.log_config::<&str, &str>([])?;
    log_config.segment_bytes = SEGMENT_BYTES;
    log_config.index_interval_bytes = 200;
    Ok((config, log_config))
}

/// Appends a new batch of random size.
fn append(env: &Env, rng: &SimRng, log: &Log, model: &mut Model) -> Result<()> {
    let timestamp = env.clock.wall();
    let mut records = Vec::new();
    for _ in 0..1 + rng.below(5) {
        model.written += 1;
        let mut value = model.written.to_be_bytes().to_vec();
        value.resize(8 + rng.below(200) as usize, b'.');
        records.push(Written { timestamp, value });
    }
    let (producer, sequence) = model.producer;
    let mut builder =
        RecordBatchBuilder::new().producer(ProducerId(producer), ProducerEpoch(0), sequence);
    for Written { timestamp, value } in &records {
        let value = Some(&value[..]);
        builder.append(&NewRecord { timestamp: *timestamp, value, ..NewRecord::default() });
    }
    model.in_doubt = Some(InDoubt { batch: builder.build(), records, found_at: None });
    deliver(env, log, model)
}

/// Appends the batch in doubt.
fn deliver(env: &Env, log: &Log, model: &mut Model) -> Result<()> {
    let Some(InDoubt { batch, .. }) = &model.in_doubt else { return Ok(()) };
    let append = LeaderAppend {
        leader_epoch: LeaderEpoch(0),
        origin: AppendOrigin::Client,
        now: env.clock.wall(),
    };
    let info = log.append_as_leader(batch, append)?;
    model.acknowledged(&info)
}

/// Reads from a random offset, and looks for it by its time.
fn check_read(rng: &SimRng, log: &Log, Model { stored, .. }: &Model) -> Result<()> {
    let from = rng.below(stored.len() as u64 + 1) as usize;
    ensure!(read_from(log, from as i64)? == stored[from..], "a read from {from} differs");
    if let Some(Written { timestamp, .. }) = stored.get(from) {
        let first = stored.partition_point(|earlier| earlier.timestamp < *timestamp) as i64;
        let found = log.offset_for_timestamp(*timestamp)?.map(|found| found.offset.0);
        ensure!(found == Some(first), "{found:?} is first at {timestamp:?}, not {first}");
    }
    Ok(())
}

/// All records from `from` on; their offsets must count up by one.
fn read_from(log: &Log, from: i64) -> Result<Vec<Written>> {
    let mut read = Vec::new();
    let end = log.log_end_offset();
    let mut next = Offset(from);
    while next < end {
        let bytes = log.read(next, 3000, true, end)?.read()?;
        let mut rest = &bytes[..];
        ensure!(!rest.is_empty(), "nothing at {next:?} before the end {end:?}");
        while !rest.is_empty() {
            let batch = RecordBatch::parse(rest).context("parsing what was read")?;
            ensure!(batch.crc_is_valid(), "a torn batch at {next:?}");
            for record in batch.records()? {
                let record = record?;
                let offset = batch.offset_of(&record);
                // The first batch may begin before the offset asked for.
                if offset >= next {
                    ensure!(offset == next, "{offset:?} instead of {next:?}");
                    let timestamp = batch.timestamp_of(&record);
                    let value = record.value.unwrap_or_default().to_vec();
                    read.push(Written { timestamp, value });
                    next = Offset(offset.0 + 1);
                }
            }
            rest = &rest[batch.len()..];
        }
    }
    Ok(read)
}
