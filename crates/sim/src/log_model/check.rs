//! Compares everything visible with the model.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use ottla_protocol::compression::{Compression, Compressor};
use ottla_protocol::{LeaderEpoch, Offset, Timestamp};
use ottla_storage::{AbortedTxn, ReadError};

use super::model::{Model, Transaction};
use super::observed::{Fetched, Seen, fetch, read_all};
use super::run::Run;

pub(super) fn compressor(codec: Compression) -> Compressor {
    Compressor::new(codec, None)
}

/// Start, end, high watermark and last stable offset.
pub(super) fn offsets(run: &mut Run) -> Result<()> {
    run.tell_high_watermark();
    let (log, model) = (&run.log, &run.model);
    let found = (log.log_start_offset().0, log.log_end_offset().0, log.high_watermark().0);
    let wanted = (model.start, model.end, model.high_watermark);
    ensure!(found == wanted, "start, end, high watermark: {found:?} instead of {wanted:?}");
    if !model.last_stable_unknown {
        let stable = log.last_stable_offset(Offset(model.high_watermark)).0;
        let wanted = model.last_stable_offset();
        ensure!(stable == wanted, "the last stable offset is {stable} instead of {wanted}");
    }
    Ok(())
}

/// All records, and all that is known of them.
pub(super) fn everything(run: &mut Run) -> Result<()> {
    offsets(run)?;
    let all = read_all(&run.log)?;
    same_records(all.records.iter(), &run.model).context("reading everything")?;
    size(run)?;
    epochs(run)?;
    times(run)?;
    committed(run)?;
    for offset in [run.model.start - 1, run.model.end + 1] {
        let refused = run.log.read(Offset(offset), 1, true, Offset(run.model.end)).err();
        let out_of_range = matches!(refused, Some(ReadError::OffsetOutOfRange { .. }));
        ensure!(out_of_range, "a read from {offset} is answered with {refused:?}");
    }
    Ok(())
}

fn same_records<'a>(found: impl Iterator<Item = &'a Seen>, model: &Model) -> Result<()> {
    let mut found = found.filter(|record| record.offset >= model.start);
    for wanted in model.visible() {
        let found = found.next().with_context(|| format!("{wanted:?} is missing in the end"))?;
        ensure!(found == wanted, "{found:?} instead of {wanted:?}");
    }
    let more = found.next();
    ensure!(more.is_none(), "{more:?} was never written");
    Ok(())
}

fn size(run: &Run) -> Result<()> {
    let segments = run.segments()?;
    let (size, files) = (run.log.size(), segments.iter().map(|(_, bytes)| bytes).sum::<u64>());
    ensure!(size == files, "the size is {size}, and the files have {files} bytes");
    let first = segments.first().map_or(0, |(base, _)| *base);
    let held = run.model.batches.iter().filter(|batch| batch.base >= first);
    let bytes: u64 = held.map(|batch| batch.bytes).sum();
    ensure!(run.model.compacted || size == bytes, "the size is {size} instead of {bytes}");
    ensure!(segments.len() == run.log.segment_count(), "{segments:?} are not the segments");
    Ok(())
}

fn epochs(run: &Run) -> Result<()> {
    let model = &run.model;
    let mut last: BTreeMap<i32, i64> = BTreeMap::new();
    let mut first: BTreeMap<i32, i64> = BTreeMap::new();
    for record in model.visible() {
        last.insert(record.epoch, record.offset);
        first.entry(record.epoch).or_insert(record.offset);
    }
    for (epoch, last) in last {
        let end = run.log.end_offset_for_epoch(LeaderEpoch(epoch));
        let end = end.with_context(|| format!("epoch {epoch} has records and is not known"))?;
        let next = first.range(epoch + 1..).next().map_or(model.end, |(_, first)| *first);
        let fits = end.epoch.0 == epoch && (last + 1..=next).contains(&end.end_offset.0);
        ensure!(fits, "epoch {epoch} ends at {end:?}, not within {} to {next}", last + 1);
        let found = run.log.epoch_for_offset(Offset(last));
        ensure!(found == Some(LeaderEpoch(epoch)), "{found:?} is the epoch of {last}, not {epoch}");
    }
    Ok(())
}

fn times(run: &Run) -> Result<()> {
    let model = &run.model;
    let largest = model.visible().map(|record| record.timestamp).max();
    let found = run.log.max_timestamp()?.map(|found| (found.timestamp.0, found.offset.0));
    let wanted = largest.and_then(|largest| {
        model.visible().find(|r| r.timestamp == largest).map(|r| (largest, r.offset))
    });
    // The largest of all may lie before the start, or be gone from a segment that was compacted.
    let may_miss = found.is_none() && (model.compacted || run.first_base()? < model.start);
    ensure!(
        found == wanted || may_miss,
        "the largest timestamp is {found:?} instead of {wanted:?}"
    );
    let smallest = model.visible().map(|record| record.timestamp).min();
    for target in
        [smallest.map(|t| t + 1), largest, largest.map(|t| t - 30), largest.map(|t| t + 1)]
    {
        let Some(target) = target else { continue };
        time(run, target)?;
    }
    Ok(())
}

fn time(run: &Run, target: i64) -> Result<()> {
    let found = run.log.offset_for_timestamp(Timestamp(target))?;
    let found = found.map(|f| (f.offset.0, f.timestamp.0, f.leader_epoch.0));
    let wanted = run.model.visible().find(|record| record.timestamp >= target);
    let wanted = wanted.map(|r| (r.offset, r.timestamp, r.epoch));
    ensure!(found == wanted, "first at {target}: {found:?} instead of {wanted:?}");
    Ok(())
}

/// Reads as a `read_committed` consumer does, and passes over what was aborted as it does.
fn committed(run: &Run) -> Result<()> {
    let model = &run.model;
    if model.last_stable_unknown {
        return Ok(());
    }
    let stable = model.last_stable_offset();
    // A batch is read whole or not at all.
    let split = model.batches.iter().find(|batch| batch.last >= stable);
    let whole = split.map_or(stable, |batch| batch.base.min(stable));
    let (mut next, mut seen) = (model.start, Vec::new());
    while next < stable {
        let fetched = fetch(&run.log, next, 500, stable, true)?;
        let Some((_, last)) = fetched.batches.last() else { break };
        aborted(model, &fetched, next, *last)?;
        seen.extend(pass_over_aborted(&fetched));
        next = last + 1;
    }
    let wanted: Vec<_> = model
        .visible()
        .filter(|r| r.offset < whole && r.marker.is_none() && !model.is_aborted(r))
        .map(|record| record.offset)
        .collect();
    seen.retain(|offset| *offset >= model.start);
    ensure!(seen == wanted, "committed are {seen:?} instead of {wanted:?}");
    Ok(())
}

/// What a client does with the list of aborted transactions (KIP-98).
fn pass_over_aborted(fetched: &Fetched) -> Vec<i64> {
    let mut to_come = fetched.aborted.clone();
    to_come.sort_by_key(|aborted| aborted.first_offset);
    let (mut to_come, mut aborting) = (to_come.into_iter().peekable(), BTreeSet::new());
    let mut committed = Vec::new();
    for record in &fetched.records {
        while let Some(begun) = to_come.next_if(|a| a.first_offset.0 <= record.offset) {
            aborting.insert(begun.producer_id.0);
        }
        match record.marker {
            Some(false) => drop(aborting.remove(&record.producer)),
            Some(true) => {}
            None if record.transactional && aborting.contains(&record.producer) => {}
            None => committed.push(record.offset),
        }
    }
    committed
}

/// The list names all transactions that were aborted and have records here, and none that was not.
fn aborted(model: &Model, fetched: &Fetched, from: i64, to: i64) -> Result<()> {
    for AbortedTxn { producer_id, first_offset, last_offset, .. } in &fetched.aborted {
        let told = Transaction {
            producer: producer_id.0,
            first: first_offset.0,
            end: Some((last_offset.0, false)),
        };
        // Retention or compaction may have taken its first records before the index was made anew.
        let no_earlier_record = |t: &Transaction| {
            let of_it = |r: &&Seen| r.transactional && r.producer == t.producer;
            !model.visible().filter(of_it).any(|r| (t.first..told.first).contains(&r.offset))
        };
        let is_it = |t: &Transaction| {
            (t.producer, t.end) == (told.producer, told.end)
                && t.first <= told.first
                && no_earlier_record(t)
        };
        ensure!(model.transactions.iter().any(is_it), "{told:?} was not aborted");
    }
    let here = fetched.records.iter().filter(|r| (from..=to).contains(&r.offset));
    for record in here.filter(|record| record.marker.is_none() && model.is_aborted(record)) {
        let named = fetched.aborted.iter().any(|aborted| {
            aborted.producer_id.0 == record.producer
                && (aborted.first_offset.0..=aborted.last_offset.0).contains(&record.offset)
        });
        ensure!(named, "{record:?} was aborted, and a fetch from {from} does not say so");
    }
    Ok(())
}

/// A read from a random place up to a random bound.
pub(super) fn a_read(run: &Run, places: u64) -> Result<()> {
    let Model { start, end, .. } = run.model;
    let place = |share: u64| start + (share % 256) as i64 * (end - start) / 255;
    let (from, bound, max) = (place(places), place(places >> 8), (places >> 16) as usize % 900);
    let fetched = fetch(&run.log, from, max, bound, false)?;
    let Some((first, last)) = fetched.batches.first().zip(fetched.batches.last()) else {
        let missed = run.model.batches.iter().find(|batch| batch.last >= from);
        let missed = missed.filter(|batch| batch.last < bound && !run.model.compacted);
        ensure!(missed.is_none(), "nothing from {from} up to {bound}, where {missed:?} is");
        return Ok(());
    };
    ensure!(first.1 >= from && last.1 < bound, "{first:?} to {last:?}, from {from} up to {bound}");
    let within = |record: &&Seen| (first.0..=last.1).contains(&record.offset);
    let held: Vec<&Seen> =
        run.model.batches.iter().flat_map(|b| &b.records).filter(within).collect();
    let read: Vec<&Seen> = fetched.records.iter().collect();
    // Before the start compaction may have taken something that nobody looked at.
    let loose = run.model.loose_below;
    let tight = |records: &[&Seen]| -> Vec<Seen> {
        records.iter().filter(|r| r.offset >= loose).map(|r| (*r).clone()).collect()
    };
    ensure!(
        tight(&read) == tight(&held),
        "from {from} up to {bound}: {read:?} instead of {held:?}"
    );
    let one = fetched.batches.len() == 1;
    ensure!(one || fetched.bytes <= max, "{} bytes, {max} were asked for", fetched.bytes);
    if from < end {
        let target = held.first().map_or(0, |record| record.timestamp);
        time(run, target)?;
    }
    Ok(())
}

/// Where the log begins after retention: what `retention.bytes` and DeleteRecords leave.
pub(super) fn retained_start(run: &Run) -> Result<i64> {
    let (model, settings) = (&run.model, run.settings());
    if settings.compact && settings.retention_bytes.is_none() {
        return Ok(model.start);
    }
    let segments = run.segments()?;
    let total: u64 = segments.iter().map(|(_, bytes)| bytes).sum();
    let mut surplus = settings.retention_bytes.map_or(0, |limit| total.saturating_sub(limit));
    let mut start = model.start;
    for pair in segments.windows(2) {
        let [(_, size), (end, _)] = *pair else { continue };
        let too_much = surplus > 0 && surplus >= size;
        if end > model.high_watermark || !(too_much || end <= model.start) {
            break;
        }
        surplus = surplus.saturating_sub(size);
        start = start.max(end);
    }
    Ok(start)
}

/// Compaction took only what it may; the model goes on from what is left.
pub(super) fn compacted(run: &mut Run) -> Result<()> {
    let found = read_all(&run.log)?;
    let left: Vec<Seen> =
        found.records.into_iter().filter(|r| r.offset >= run.model.start).collect();
    let before: Vec<Seen> = run.model.visible().cloned().collect();
    same_after_compaction(&run.model, &before, &left)?;
    adopt(&mut run.model, &left);
    everything(run)
}

/// `left` is part of `before`, and gives who reads it from the start the same last value of each key.
pub(super) fn same_after_compaction(model: &Model, before: &[Seen], left: &[Seen]) -> Result<()> {
    let mut rest = before.iter();
    for record in left {
        ensure!(rest.any(|other| other == record), "{record:?} was not there before");
    }
    let view = |records: &[Seen]| -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut view = BTreeMap::new();
        for record in records.iter().filter(|r| r.marker.is_none() && !model.is_aborted(r)) {
            match &record.value {
                Some(value) => drop(view.insert(record.key.clone(), value.clone())),
                None => drop(view.remove(&record.key)),
            }
        }
        view
    };
    ensure!(view(before) == view(left), "the last values differ: {before:?} became {left:?}");
    Ok(())
}

/// Takes over what compaction left of the visible records.
pub(super) fn adopt(model: &mut Model, left: &[Seen]) {
    let kept: BTreeSet<i64> = left.iter().map(|record| record.offset).collect();
    let start = model.start;
    for batch in &mut model.batches {
        let records = batch.records.len();
        batch.records.retain(|r| r.offset < start || kept.contains(&r.offset));
        model.compacted |= batch.records.len() < records;
    }
    // Batches before the start were compacted, too, and it may be that nothing else was. A batch
    // that has a tombstone is written anew with its delete horizon, which takes other bytes.
    let horizon = left.iter().any(|record| record.value.is_none() && record.marker.is_none());
    if start > 0 || horizon {
        model.compacted = true;
    }
    model.loose_below = model.loose_below.max(start);
}
