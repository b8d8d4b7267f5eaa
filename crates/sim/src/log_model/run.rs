//! Drives a log through a history, and keeps the model up to date.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use ottla_config::{
    BrokerConfig, CleanupPolicy, LogConfig, LogManagerConfig, MessageTimestampType,
};
use ottla_protocol::compression::Compression;
use ottla_protocol::record_batch::{ControlRecordType, NewRecord, RecordBatchBuilder};
use ottla_protocol::{
    BrokerId, ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, TopicId,
    TopicPartition,
};
use ottla_storage::{
    AppendOrigin, CleanError, CleanerLimits, LeaderAppend, Log, LogAppendInfo, LogManager,
    LogManagerOptions,
};
use parking_lot::Mutex;

use super::check;
use super::history::{History, NewBatch, Settings, Step};
use super::machine::{Machine, PowerCut};
use super::model::{Batch, Doubt, Model, Producer, Sent};
use super::observed::Seen;

pub(super) const DATA: &str = "/data";
/// Distance of the ids of one producer after another.
const GENERATION: i64 = 1000;
const EVERY: Duration = Duration::from_millis(1);
/// Batches of each producer that a log remembers.
const WINDOW: usize = 5;
const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
    Compression::Gzip,
];

/// What a history that kept all promises came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Records appended.
    pub written: u64,
    /// Times that the node died.
    pub deaths: u32,
    /// Changes to the disk.
    pub changes: u64,
}

/// A history under way.
pub(super) struct Run {
    pub(super) machine: Machine,
    settings: Settings,
    pub(super) manager: Arc<LogManager>,
    pub(super) log: Arc<Log>,
    pub(super) model: Model,
    pub(super) topics: u8,
    /// How often each producer had to begin anew, with another id.
    generations: BTreeMap<i64, i64>,
    pub(super) report: Report,
    /// What a planned death takes; `None` is a death of the process.
    pub(super) planned: Option<PowerCut>,
    /// Lets the first recovery from now on die as well, after so many changes.
    pub(super) recovery_dies_after: Option<u64>,
}

/// A batch ready to be sent, and what the model will hold of it.
struct Made {
    bytes: Bytes,
    batch: Batch,
}

#[derive(Clone, Copy, Default)]
struct Sender {
    producer: i64,
    epoch: i16,
    sequence: i32,
    transactional: bool,
}

const NOBODY: Sender = Sender { producer: -1, epoch: -1, sequence: -1, transactional: false };

impl Run {
    pub(super) fn new(history: &History, trace: bool) -> Result<Self> {
        let machine = Machine::new(history.seed, trace, Path::new(DATA))?;
        let manager = open(&machine, history.settings)?;
        let log = create(&manager, history.settings, 0)?;
        Ok(Self {
            machine,
            settings: history.settings,
            manager,
            log,
            model: Model::new(),
            topics: 0,
            generations: BTreeMap::new(),
            report: Report::default(),
            planned: None,
            recovery_dies_after: None,
        })
    }

    /// Takes all steps, and closes and opens the log once more in the end.
    pub(super) fn finish(mut self, steps: &[Step]) -> Result<Report> {
        for (index, step) in steps.iter().enumerate() {
            self.step(step).with_context(|| format!("at step {index}, {step:?}"))?;
        }
        self.step(&Step::Restart).context("at the restart in the end")?;
        check::everything(&mut self)?;
        self.report.changes = self.machine.changes();
        Ok(self.report)
    }

    pub(super) fn step(&mut self, step: &Step) -> Result<()> {
        self.model.doubt = None;
        match self.act(step) {
            Err(_) if self.machine.is_dead() => self.recover(),
            Ok(()) if self.machine.is_dead() => self.recover(),
            Ok(()) => check::offsets(self),
            Err(broken) => Err(broken),
        }
    }

    #[allow(clippy::too_many_lines, reason = "an arm for each kind of step")]
    fn act(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Append(batch) => {
                let made = self.make(batch, NOBODY, 0, self.model.epoch)?;
                self.append(vec![made], AppendOrigin::Client).map(|_| ())
            }
            Step::AppendMany(batches) => {
                let mut base = 0;
                let made = batches.iter().map(|batch| {
                    let made = self.make(batch, NOBODY, base, self.model.epoch);
                    base += batch.values.len() as i64;
                    made
                });
                let made = made.collect::<Result<_>>()?;
                self.append(made, AppendOrigin::Coordinator).map(|_| ())
            }
            Step::Follow(batch, gap) => self.follow(batch, *gap),
            Step::Idempotent(index, batch) => {
                self.produce(self.producer_id(*index, false), batch, false)
            }
            Step::Again(index, back) => self.send_again(*index, usize::from(*back)),
            Step::OutOfOrder(index, batch) => self.send_out_of_order(*index, batch),
            Step::NewEpoch(index) => {
                let id = self.producer_id(*index, false);
                let producer = self.model.producers.entry(id).or_default();
                *producer = Producer { epoch: producer.epoch + 1, ..Producer::default() };
                Ok(())
            }
            Step::Transactional(index, batch) => {
                self.produce(self.producer_id(*index, true), batch, true)
            }
            Step::EndTransaction(index, commit) => self.end_transaction(*index, *commit),
            Step::NewLeader => {
                self.model.epoch += 1;
                self.log.assign_epoch_start(LeaderEpoch(self.model.epoch));
                Ok(())
            }
            Step::HighWatermark(place) => {
                self.model.follows = *place >= 200;
                let moved = self.place(*place).max(self.model.high_watermark);
                self.model.high_watermark = moved;
                self.model.follow();
                Ok(())
            }
            Step::Flush => self.flush(),
            Step::FlushInGroup => self.flush_in_group(),
            Step::Truncate(place) => self.truncate(self.place(*place)),
            Step::TruncateFully(place) => self.truncate_fully(self.place(*place) + 3),
            Step::DeleteRecords(place) => {
                let before = self.place(*place).min(self.model.high_watermark);
                self.model.doubt = Some(Doubt::Retention(before));
                let start = self.log.increment_log_start_offset(Offset(before))?;
                self.manager.checkpoint_log_starts();
                self.log.log_dir().failure().map_or(Ok(()), Err)?;
                self.model.start = self.model.start.max(before);
                self.model.checkpointed_start = self.model.start;
                ensure!(start.0 == self.model.start, "the start is {start}");
                Ok(())
            }
            Step::Housekeeping(milliseconds) => self.housekeeping(i64::from(*milliseconds) + 1),
            Step::Clean => self.clean(),
            Step::Read(places) => check::a_read(self, *places),
            Step::Restart => self.restart(),
            Step::FailedSync(shared) => self.fail_sync(*shared),
            Step::Kill => {
                self.machine.kill();
                Ok(())
            }
            Step::PowerLoss(cut) => {
                self.planned = Some(*cut);
                self.machine.kill();
                Ok(())
            }
            Step::KillWithin(changes) => {
                self.planned = None;
                self.machine.die_after(u64::from(*changes));
                Ok(())
            }
            Step::PowerLossWithin(changes, cut) => {
                self.planned = Some(*cut);
                self.machine.die_after(u64::from(*changes));
                Ok(())
            }
            Step::Recreate => self.recreate(),
        }
    }

    /// An offset from the start to the end, both included.
    fn place(&self, share: u8) -> i64 {
        let Model { start, end, .. } = self.model;
        start + i64::from(share) * (end - start) / 255
    }

    fn producer_id(&self, index: u8, transactional: bool) -> i64 {
        let kind = if transactional { 100 } else { 0 };
        let index = kind + i64::from(index);
        self.generations.get(&index).copied().unwrap_or(0) * GENERATION + index
    }

    // --- appends ---

    fn make(&mut self, new: &NewBatch, sender: Sender, after: i64, epoch: i32) -> Result<Made> {
        let now = self.machine.now().0;
        let base = self.model.end + after;
        let mut builder = RecordBatchBuilder::new();
        if sender.producer >= 0 {
            let (id, epoch) = (ProducerId(sender.producer), ProducerEpoch(sender.epoch));
            builder = builder.producer(id, epoch, sender.sequence);
        }
        if sender.transactional {
            builder = builder.transactional();
        }
        let mut records = Vec::with_capacity(new.values.len());
        for (index, value) in new.values.iter().enumerate() {
            self.report.written += 1;
            let timestamp = now - i64::from(value.age);
            let key = vec![b'k', value.key];
            let value = value.len.map(|len| {
                let mut bytes = self.report.written.to_be_bytes().to_vec();
                bytes.resize(8 + usize::from(len), b'.');
                bytes
            });
            builder.append(&NewRecord {
                timestamp: Timestamp(timestamp),
                key: Some(&key),
                value: value.as_deref(),
                headers: &[],
            });
            records.push(Seen {
                offset: base + index as i64,
                timestamp: if self.settings.log_append_time { now } else { timestamp },
                epoch,
                producer: sender.producer,
                marker: None,
                transactional: sender.transactional,
                key,
                value,
            });
        }
        let bytes = match CODECS[usize::from(new.codec) % CODECS.len()] {
            Compression::None => builder.build(),
            codec @ (Compression::Gzip
            | Compression::Snappy
            | Compression::Lz4
            | Compression::Zstd) => builder.build_compressed(&mut check::compressor(codec))?,
        };
        let last = base + records.len() as i64 - 1;
        Ok(Made { batch: Batch { base, last, bytes: bytes.len() as u64, records }, bytes })
    }

    fn leader_append(&self, origin: AppendOrigin) -> LeaderAppend {
        LeaderAppend {
            leader_epoch: LeaderEpoch(self.model.epoch),
            origin,
            now: self.machine.now(),
        }
    }

    /// Appends new batches in one go.
    fn append(&mut self, made: Vec<Made>, origin: AppendOrigin) -> Result<LogAppendInfo> {
        let bytes: Bytes = match made.as_slice() {
            [one] => one.bytes.clone(),
            several => several.iter().flat_map(|made| made.bytes.iter().copied()).collect(),
        };
        let batches: Vec<Batch> = made.into_iter().map(|made| made.batch).collect();
        let (first, last) = (self.model.end, batches.last().map_or(0, |batch| batch.last));
        self.model.doubt = Some(Doubt::Append(batches.clone()));
        let info = self.log.append_as_leader(&bytes, self.leader_append(origin))?;
        ensure!(!info.duplicate, "new, and called a duplicate: {info:?}");
        let told = (info.first_offset.0, info.last_offset.0, info.log_end_offset.0);
        ensure!(told == (first, last, last + 1), "{info:?} instead of {first} to {last}");
        self.model.appended(batches);
        Ok(info)
    }

    fn follow(&mut self, new: &NewBatch, gap: u8) -> Result<()> {
        let Made { mut batch, .. } = self.make(new, NOBODY, i64::from(gap), self.model.epoch)?;
        let mut builder = RecordBatchBuilder::new()
            .base_offset(Offset(batch.base))
            .leader_epoch(LeaderEpoch(self.model.epoch));
        for (record, value) in batch.records.iter_mut().zip(&new.values) {
            // A follower takes the leader's word for the time.
            record.timestamp = self.machine.now().0 - i64::from(value.age);
            builder.append(&NewRecord {
                timestamp: Timestamp(record.timestamp),
                key: Some(&record.key),
                value: record.value.as_deref(),
                headers: &[],
            });
        }
        let bytes = builder.build();
        batch.bytes = bytes.len() as u64;
        self.model.doubt = Some(Doubt::Append(vec![batch.clone()]));
        let info = self.log.append_as_follower(&bytes)?;
        ensure!(info.last_offset.0 == batch.last, "{info:?} instead of {}", batch.last);
        self.model.appended(vec![batch]);
        Ok(())
    }

    fn produce(&mut self, id: i64, new: &NewBatch, transactional: bool) -> Result<()> {
        let producer = self.model.producers.entry(id).or_default();
        let (epoch, sequence) = (producer.epoch, producer.next_sequence());
        let sender = Sender { producer: id, epoch, sequence, transactional };
        let open = self.model.transactions.iter().any(|t| t.producer == id && t.end.is_none());
        let origin = match transactional && !open {
            // Only its coordinator may begin a transaction.
            true => AppendOrigin::Coordinator,
            false => AppendOrigin::Client,
        };
        let made = self.make(new, sender, 0, self.model.epoch)?;
        let (bytes, records) = (made.bytes.clone(), new.values.len() as i32);
        let (first, last) = (made.batch.base, made.batch.last);
        // Before the append: it is in doubt together with the batch, and cut with it.
        let sent = Sent { bytes, first_sequence: sequence, records, first, last };
        self.model.producers.entry(id).or_default().sent.push(sent);
        self.append(vec![made], origin).map(|_| ())
    }

    fn send_again(&mut self, index: u8, back: usize) -> Result<()> {
        let id = self.producer_id(index, false);
        let Some(producer) = self.model.producers.get(&id) else { return Ok(()) };
        let Some(at) = producer.sent.len().checked_sub(back + 1) else { return Ok(()) };
        let Some(sent) = producer.sent.get(at).cloned() else { return Ok(()) };
        let (must, may) = (at >= producer.surely && back < WINDOW, back < WINDOW);
        let result =
            self.log.append_as_leader(&sent.bytes, self.leader_append(AppendOrigin::Client));
        match result {
            Ok(info) if info.duplicate && may => {
                let told = (info.first_offset.0, info.last_offset.0);
                ensure!(
                    told == (sent.first, sent.last),
                    "{info:?} is at {} to {}",
                    sent.first,
                    sent.last
                );
                Ok(())
            }
            Ok(info) => bail!("{back} back was appended again: {info:?}"),
            Err(error) if error.error_code() == ErrorCode::OutOfOrderSequenceNumber && !must => {
                Ok(())
            }
            Err(error) => Err(error).with_context(|| format!("{back} back, which has to be known")),
        }
    }

    fn send_out_of_order(&mut self, index: u8, new: &NewBatch) -> Result<()> {
        let id = self.producer_id(index, false);
        let Some(producer) = self.model.producers.get(&id) else { return Ok(()) };
        if producer.sent.is_empty() {
            // Of somebody unknown any sequence is taken (KIP-360).
            return Ok(());
        }
        let (epoch, sequence) = (producer.epoch, producer.next_sequence() + 1);
        let sender = Sender { producer: id, epoch, sequence, transactional: false };
        let made = self.make(new, sender, 0, self.model.epoch)?;
        let result =
            self.log.append_as_leader(&made.bytes, self.leader_append(AppendOrigin::Client));
        match result {
            Err(error) if error.error_code() == ErrorCode::OutOfOrderSequenceNumber => Ok(()),
            other => bail!("a gap of sequence numbers: {other:?}"),
        }
    }

    fn end_transaction(&mut self, index: u8, commit: bool) -> Result<()> {
        let id = self.producer_id(index, true);
        let open = self.model.transactions.iter().any(|t| t.producer == id && t.end.is_none());
        let Some(producer) = self.model.producers.get(&id).filter(|_| open) else { return Ok(()) };
        let (epoch, base, now) = (producer.epoch, self.model.end, self.machine.now());
        let kind = if commit { ControlRecordType::Commit } else { ControlRecordType::Abort };
        let mut builder =
            RecordBatchBuilder::new().producer(ProducerId(id), ProducerEpoch(epoch), -1);
        builder = builder.transactional().control();
        builder.append_control(kind, now, &[0, 0, 0, 0, 0, 7]);
        let bytes = builder.build();
        let marker = Seen {
            offset: base,
            timestamp: now.0,
            epoch: self.model.epoch,
            producer: id,
            marker: Some(commit),
            transactional: true,
            key: Vec::new(),
            value: None,
        };
        let batch = Batch { base, last: base, bytes: bytes.len() as u64, records: vec![marker] };
        self.append(vec![Made { bytes, batch }], AppendOrigin::Coordinator).map(|_| ())
    }

    // --- what happens to a log besides ---

    fn flushed(&mut self, end: i64) -> Result<()> {
        // Of a log without records there is nothing to sync.
        if end > self.model.flushed && !self.model.batches.is_empty() {
            self.model.half_emptied = None;
        }
        self.model.flushed = self.model.flushed.max(end);
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        let end = self.model.end;
        self.log.flush(Offset(end))?;
        self.flushed(end)
    }

    pub(super) fn flush_in_group(&mut self) -> Result<()> {
        let (told, end) = (Arc::new(Mutex::new(None)), self.model.end);
        let answer = told.clone();
        self.log.flush_in_group(Offset(end), move |flushed| *answer.lock() = Some(flushed));
        self.machine.run_blocking_work();
        let told = told.lock().take();
        told.context("nobody was told of the flush")??;
        self.flushed(end)
    }

    fn truncate(&mut self, to: i64) -> Result<()> {
        self.model.doubt = Some(match to <= self.model.start {
            true => Doubt::TruncateFully,
            false => Doubt::Truncate(to),
        });
        self.manager.truncate_to(&self.log, Offset(to))?;
        let end = self.log.log_end_offset().0;
        let Model { start, end: before, .. } = self.model;
        if to >= before {
            ensure!(end == before, "nothing was to be cut, and the end is {end}");
            self.model.checkpointed_start = start;
            return Ok(());
        }
        let whole = |batch: &&Batch| batch.last < to && self.model.surely_holds(batch);
        let kept = self.model.batches.iter().rfind(whole);
        let least = kept.map_or(0, |batch| batch.last + 1);
        if to <= start || least < start && end == start && self.log.size() == 0 {
            ensure!(end <= start.max(to), "the end is {end} after all was cut");
            self.empty(end);
            // A transaction that began before the start may still be open.
            self.model.last_stable_unknown = to > start;
        } else {
            ensure!((least..=to).contains(&end), "the end is {end}, to be cut at {to}");
            self.model.cut(end);
        }
        self.model.checkpointed_start = self.model.start;
        if self.model.compacted {
            // Of what is cleaned no follower is cut, so compaction keeps the last batches only.
            self.new_generation();
            self.model.producers.clear();
            self.model.last_stable_unknown = true;
        }
        self.producers_rebuilt(false)?;
        // Which transactions ended above the high watermark is in no snapshot.
        self.model.follows = true;
        self.tell_high_watermark();
        check::everything(self)
    }

    fn truncate_fully(&mut self, to: i64) -> Result<()> {
        self.model.doubt = Some(Doubt::TruncateFully);
        // As a follower does it: the checkpoints may not say more than the log holds.
        self.manager.truncate_fully_and_start_at(&self.log, Offset(to))?;
        self.empty(to);
        self.model.checkpointed_start = to;
        check::everything(self)
    }

    /// The log has no records, and the next one gets `at`.
    pub(super) fn empty(&mut self, at: i64) {
        let epoch = self.model.epoch;
        self.model = Model { start: at, end: at, epoch, loose_below: at, ..Model::new() };
        self.model.flushed = at;
        self.new_generation();
        self.tell_high_watermark();
    }

    fn housekeeping(&mut self, milliseconds: i64) -> Result<()> {
        self.machine.advance(milliseconds);
        let expected = check::retained_start(self)?;
        self.model.doubt = Some(Doubt::Retention(expected));
        self.manager.housekeeping(self.machine.now());
        self.manager.checkpoint_high_watermarks();
        self.machine.run_blocking_work();
        if let Some(failure) = self.log.log_dir().failure() {
            return Err(failure.into());
        }
        self.model.start = expected;
        self.model.checkpointed_start = expected;
        self.model.follow();
        Ok(())
    }

    fn clean(&mut self) -> Result<()> {
        if !self.settings.compact {
            return Ok(());
        }
        let limits = CleanerLimits {
            dedupe_buffer_bytes: 4096,
            io_buffer_bytes: 512,
            ..CleanerLimits::default()
        };
        self.model.doubt = Some(Doubt::Clean);
        match self.log.clean(&limits, self.machine.now()) {
            Ok(_) => {}
            Err(CleanError::Aborted) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        check::compacted(self)
    }

    fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.start()?;
        check::everything(self)
    }

    /// A clean stop.
    pub(super) fn stop(&mut self) -> Result<()> {
        let manager = self.manager.clone();
        self.machine.run(async move { manager.shutdown(-1).await })?;
        if self.machine.is_dead() {
            bail!("it died");
        }
        if let Some(failure) = self.log.log_dir().failure() {
            return Err(failure.into());
        }
        self.model.flushed = self.model.end;
        self.model.checkpointed_start = self.model.start;
        Ok(())
    }

    /// A start after it.
    pub(super) fn start(&mut self) -> Result<()> {
        self.manager = open(&self.machine, self.settings)?;
        self.log = create(&self.manager, self.settings, self.topics)?;
        self.producers_rebuilt(true)?;
        self.model.follows = true;
        self.model.follow();
        self.tell_high_watermark();
        Ok(())
    }

    fn recreate(&mut self) -> Result<()> {
        self.model.doubt = Some(Doubt::Delete);
        ensure!(self.manager.delete_log(&partition())?, "there was no log to delete");
        self.model.doubt = Some(Doubt::Create);
        self.topics += 1;
        self.log = create(&self.manager, self.settings, self.topics)?;
        self.model = Model::new();
        self.new_generation();
        Ok(())
    }

    // --- what others here need as well ---

    pub(super) fn tell_high_watermark(&mut self) {
        self.model.follow();
        self.log.set_high_watermark(Offset(self.model.high_watermark));
    }

    /// Forgets all producers: others take their places.
    pub(super) fn new_generation(&mut self) {
        for index in [0, 1, 2, 100, 101, 102] {
            *self.generations.entry(index).or_default() += 1;
        }
    }

    pub(super) fn producers_rebuilt(&mut self, surely: bool) -> Result<()> {
        let first_base = self.first_base()?;
        for id in self.model.producers_rebuilt(first_base, surely) {
            *self.generations.entry(id % GENERATION).or_default() += 1;
        }
        Ok(())
    }

    pub(super) fn settings(&self) -> Settings {
        self.settings
    }

    /// Base offset and size of each segment, from the directory.
    pub(super) fn segments(&self) -> Result<Vec<(i64, u64)>> {
        let mut segments = Vec::new();
        for entry in self.machine.list(self.log.path())? {
            if let Some(base) = entry.name.strip_suffix(".log") {
                segments.push((base.parse()?, entry.len));
            }
        }
        Ok(segments)
    }

    pub(super) fn first_base(&self) -> Result<i64> {
        Ok(self.segments()?.first().map_or(0, |(base, _)| *base))
    }

    /// Opens what is there, as a new life does.
    pub(super) fn open(&mut self) -> Result<()> {
        self.manager = open(&self.machine, self.settings)?;
        Ok(())
    }

    /// Of the topic that there is now.
    pub(super) fn topic_id(&self) -> TopicId {
        topic_id(self.topics)
    }

    pub(super) fn create(&mut self) -> Result<()> {
        self.log = create(&self.manager, self.settings, self.topics)?;
        Ok(())
    }
}

pub(super) fn partition() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn open(machine: &Machine, settings: Settings) -> Result<Arc<LogManager>> {
    let options = LogManagerOptions {
        dirs: vec![PathBuf::from(DATA)],
        node_id: BrokerId(1),
        cluster_id: Some("cluster".to_owned()),
        config: LogManagerConfig {
            defaults: log_config(settings),
            recovery_threads_per_data_dir: 1,
            retention_check_interval: EVERY,
            flush_offset_checkpoint_interval: EVERY,
            flush_start_offset_checkpoint_interval: EVERY,
            dir_sync_max_bytes: if settings.share_syncs { 1 << 30 } else { 0 },
            dir_checkpoint_bytes: settings.checkpoint_bytes,
            ..defaults().0.clone()
        },
        max_open_files: 4,
    };
    let env = machine.boot();
    Ok(Arc::new(machine.run(LogManager::open(env, options))??))
}

fn create(manager: &LogManager, settings: Settings, topic: u8) -> Result<Arc<Log>> {
    Ok(manager.create_log(&partition(), topic_id(topic), log_config(settings))?)
}

fn topic_id(topic: u8) -> TopicId {
    TopicId::from_bytes([topic + 1; 16])
}

fn log_config(settings: Settings) -> LogConfig {
    LogConfig {
        segment_bytes: settings.segment_bytes,
        index_interval_bytes: settings.index_interval_bytes,
        retention_bytes: settings.retention_bytes,
        retention_ms: None,
        file_delete_delay: Duration::from_millis(500),
        delete_retention_ms: Duration::from_millis(700),
        cleanup_policy: CleanupPolicy {
            compact: settings.compact,
            delete: !settings.compact || settings.retention_bytes.is_some(),
        },
        message_timestamp_type: match settings.log_append_time {
            true => MessageTimestampType::LogAppendTime,
            false => MessageTimestampType::CreateTime,
        },
        ..defaults().1.clone()
    }
}

/// What nobody sets. Read once: there are many histories.
fn defaults() -> &'static (LogManagerConfig, LogConfig) {
    static DEFAULTS: OnceLock<(LogManagerConfig, LogConfig)> = OnceLock::new();
    DEFAULTS.get_or_init(|| {
        let config = BrokerConfig::default();
        (config.log_manager, LogConfig::default())
    })
}
