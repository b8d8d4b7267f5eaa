//! Judges what a death left, and goes on from there.

use anyhow::{Context, Result, ensure};
use ottla_protocol::Offset;

use super::check;
use super::model::{Batch, Doubt, Model};
use super::observed::{Seen, read_all};
use super::run::{Run, partition};

impl Run {
    /// A sync fails, if there is anything to sync, and a new process is to go on.
    pub(super) fn fail_sync(&mut self, in_group: bool) -> Result<()> {
        // Who dies before the directory is marked leaves the next start without a word.
        self.machine.forget_plans();
        self.machine.fail_syncs(true);
        let flushed = if in_group { self.flush_in_group() } else { self.flush() };
        self.machine.fail_syncs(false);
        self.machine.kill();
        match self.log.log_dir().failure() {
            Some(_) => Ok(()),
            None => flushed,
        }
    }

    /// Begins a new life, and again should that one die while it recovers; then the log has to hold
    /// what was promised.
    pub(super) fn recover(&mut self) -> Result<()> {
        let died_in = self.machine.last_change();
        let judged = self.try_recover();
        judged.with_context(|| {
            let (start, end) = (self.log.log_start_offset(), self.log.log_end_offset());
            let (died_in, segments) = (died_in.unwrap_or_default(), self.segments());
            format!("after it died in: {died_in}; left {start} to {end} in {segments:?}")
        })
    }

    fn try_recover(&mut self) -> Result<()> {
        let mut power_lost = false;
        loop {
            self.report.deaths += 1;
            match self.planned.take() {
                Some(cut) => {
                    self.machine.cut_power(cut);
                    power_lost = true;
                    if let Some(changes) = self.recovery_dies_after.take() {
                        self.planned = Some(cut);
                        self.machine.die_after(changes);
                    }
                }
                None => self.machine.kill(),
            }
            match self.open() {
                Err(_) if self.machine.is_dead() => continue,
                opened => opened.context("opening what is left")?,
            }
            if !self.machine.is_dead() {
                break;
            }
        }
        self.planned = None;
        self.machine.forget_plans();
        self.judge(power_lost)
    }

    fn judge(&mut self, power_lost: bool) -> Result<()> {
        let doubt = self.model.doubt.take();
        let mut found = self.manager.log(&partition());
        let whose = found.as_ref().and_then(|log| log.topic_id());
        if whose.is_some_and(|id| id != self.topic_id()) {
            // The name of the new topic's directory went with the power, and the deleted topic's is
            // back. A node sees whose it is, and sets it aside.
            ensure!(
                self.may_be_gone(),
                "the log of a deleted topic came back, and this one is gone"
            );
            self.manager.delete_or_set_aside(&partition())?;
            found = None;
        }
        let deleted = matches!(doubt, Some(Doubt::Delete | Doubt::Create));
        let is_new = match &found {
            None => true,
            Some(log) => log.log_end_offset() == Offset(0) && log.log_start_offset() == Offset(0),
        };
        if deleted && is_new {
            // A directory without its partition.metadata is nobody's yet.
            self.topics += u8::from(matches!(doubt, Some(Doubt::Delete)) && found.is_none());
            self.create()?;
            self.model = Model::new();
            self.new_generation();
            return check::everything(self);
        }
        ensure!(!matches!(doubt, Some(Doubt::Create)), "records of a deleted topic came back");
        ensure!(found.is_some() || self.may_be_gone(), "the log is gone");
        self.create()?;
        self.judge_records(doubt, power_lost)?;
        check::everything(self)
    }

    /// The topic was made, and nothing of it was ever flushed.
    fn may_be_gone(&self) -> bool {
        self.model.flushed == 0 && self.model.checkpointed_start == 0
    }

    fn judge_records(&mut self, doubt: Option<Doubt>, power_lost: bool) -> Result<()> {
        let (start, end) = (self.log.log_start_offset().0, self.log.log_end_offset().0);
        let found = read_all(&self.log)?;
        let left: Vec<Seen> = found.records.into_iter().filter(|r| r.offset >= start).collect();
        let half_emptied = power_lost && self.model.half_emptied.is_some();
        let emptied = matches!(doubt, Some(Doubt::TruncateFully)) || half_emptied;
        if emptied && !self.fits(&left, start, end) {
            // Some segments were gone, some were not: what was to go away may be gone.
            let known = self.model.batches.iter().flat_map(|batch| &batch.records);
            let doubted = match &doubt {
                Some(Doubt::Append(batches)) => batches.as_slice(),
                _ => &[],
            };
            let doubted = doubted.iter().flat_map(|batch| &batch.records);
            let gone = self.model.half_emptied.iter().flatten();
            let known: Vec<_> = known.chain(gone).chain(doubted).collect();
            ensure!(
                left.iter().all(|record| known.contains(&record)),
                "{left:?} was never written"
            );
            self.adopt_anything(&found.batches, left, start, end);
            return Ok(());
        }
        let (possible, grown_from) = (self.model.batches.len(), self.model.end);
        let (lowest_start, highest_start) = self.starts(&doubt, end);
        let least = self.least_end(&doubt, power_lost);
        if let Some(Doubt::Append(batches)) = &doubt {
            // It may be there, whole: a process that dies tears no batch.
            self.model.appended(batches.clone());
        }
        let most = self.model.end;
        ensure!(
            (lowest_start..=highest_start).contains(&start),
            "the start is {start}, not within {lowest_start} to {highest_start}"
        );
        ensure!((least..=most).contains(&end), "the end is {end}, not within {least} to {most}");
        // An emptied batch is a gap, and may end anywhere.
        let within = |b: &&Batch| b.base < end && end <= b.last && !b.records.is_empty();
        let between = self.model.batches.iter().find(within);
        ensure!(between.is_none() || start == end, "the end {end} lies within {between:?}");
        let whole = power_lost || self.model.batches.len() == possible || end == most || {
            let Some(Doubt::Append(batches)) = &doubt else { unreachable!("it grew") };
            // All batches of one write or, where the process died within it, the first few.
            // The first may leave a gap to what is there already.
            end == grown_from || batches.iter().any(|batch| batch.base == end)
        };
        ensure!(whole, "the end is {end}");
        if matches!(doubt, Some(Doubt::Truncate(_))) && !power_lost && end < most {
            // The cut is not on the disk yet.
            let cut = self.model.batches.iter().flat_map(|batch| batch.records.iter().cloned());
            self.model.half_emptied = Some(cut.collect());
        }
        // Compaction, perhaps this one, knew of markers that the power took.
        let before = self.model.clone();
        self.model.compacted |= matches!(doubt, Some(Doubt::Clean));
        self.model.cut(end);
        self.model.start = start;
        if start == end {
            // A batch that begins before them is gone with what came after.
            self.model.batches.retain(|batch| batch.last < end);
            if power_lost {
                // Nobody knows how far what was before them was lost.
                self.model.last_stable_unknown = true;
                self.model.producers.clear();
                self.new_generation();
            }
        }
        self.compare(&doubt, &before, &left)?;
        if matches!(doubt, Some(Doubt::Truncate(_))) && self.model.compacted {
            // No follower is cut where it was cleaned: compaction keeps the last batches only.
            self.model.last_stable_unknown = true;
            self.model.producers.clear();
            self.new_generation();
        }
        self.model.checkpointed_start = lowest_start;
        self.model.flushed = if power_lost { end } else { self.model.flushed.min(end) };
        self.producers_rebuilt(false)?;
        self.model.follows = true;
        self.model.follow();
        self.tell_high_watermark();
        Ok(())
    }

    fn fits(&self, left: &[Seen], start: i64, end: i64) -> bool {
        let model = &self.model;
        start == model.start && end == model.end && model.visible().eq(left.iter())
    }

    /// What is there, against what has to be there.
    fn compare(&mut self, doubt: &Option<Doubt>, before: &Model, left: &[Seen]) -> Result<()> {
        let expected: Vec<Seen> = self.model.visible().cloned().collect();
        if matches!(doubt, Some(Doubt::Clean)) {
            check::same_after_compaction(before, &expected, left)?;
            check::adopt(&mut self.model, left);
            return Ok(());
        }
        let loose = self.model.loose_below;
        let tight = |records: &[Seen]| records.iter().position(|r| r.offset >= loose);
        let (from, other) = (tight(&expected), tight(left));
        let wanted = from.map_or(&[][..], |from| &expected[from..]);
        let found = other.map_or(&[][..], |other| &left[other..]);
        ensure!(wanted == found, "left are {found:?} instead of {wanted:?}");
        if loose > self.model.start {
            check::adopt(&mut self.model, left);
        }
        Ok(())
    }

    /// Where the log may begin: DeleteRecords and retention last once they are checkpointed.
    fn starts(&self, doubt: &Option<Doubt>, end: i64) -> (i64, i64) {
        let model = &self.model;
        let lowest = model.checkpointed_start.min(end);
        let highest = match doubt {
            Some(Doubt::Retention(start)) => (*start).max(model.start),
            // Cut below its start, it begins where it ends.
            Some(Doubt::Truncate(to)) => model.start.max(*to),
            _ => model.start,
        };
        let lowest = if let Some(Doubt::Truncate(to)) = doubt { lowest.min(*to) } else { lowest };
        (lowest, highest.max(lowest))
    }

    /// Where the log may end, at least.
    fn least_end(&self, doubt: &Option<Doubt>, power_lost: bool) -> i64 {
        let model = &self.model;
        let promised = if power_lost { model.flushed } else { model.end };
        // A gap in the end is nobody's record: that offsets in it were used once nobody promised.
        let held = model.batches.iter().rfind(|b| b.base < promised && model.surely_holds(b));
        let promised = promised.min(held.map_or(0, |batch| batch.last + 1));
        match doubt {
            Some(Doubt::Truncate(to)) => {
                let whole = |batch: &&Batch| batch.last < *to && model.surely_holds(batch);
                let kept = model.batches.iter().rfind(whole);
                let kept =
                    if *to <= model.start { *to } else { kept.map_or(0, |batch| batch.last + 1) };
                promised.min(kept)
            }
            Some(Doubt::TruncateFully) => 0,
            _ => promised,
        }
    }

    fn adopt_anything(&mut self, batches: &[(i64, i64)], left: Vec<Seen>, start: i64, end: i64) {
        let mut known: Vec<Seen> = self.model.half_emptied.take().unwrap_or_default();
        known.extend(self.model.batches.iter().flat_map(|batch| batch.records.iter().cloned()));
        self.empty(start);
        self.model.half_emptied = Some(known);
        let batches = batches.iter().map(|(base, last)| {
            let within = left.iter().filter(|record| (*base..=*last).contains(&record.offset));
            Batch { base: *base, last: *last, bytes: 0, records: within.cloned().collect() }
        });
        self.model.batches = batches.collect();
        for batch in &self.model.batches.clone() {
            self.model.note_transaction(batch);
        }
        self.model.end = end;
        self.model.flushed = 0;
        self.model.checkpointed_start = 0;
        self.model.compacted = true;
        // A snapshot may have outlived the transactions it tells of.
        self.model.last_stable_unknown = true;
        self.tell_high_watermark();
    }
}
