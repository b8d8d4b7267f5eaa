//! Which part of a log may be cleaned, and how badly it needs to be. Kafka's `LogToClean` and
//! `LogCleanerManager.cleanableOffsets`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_config::LogConfig;
use ottla_protocol::{Offset, Timestamp};

use super::cleaning_state::Seen;
use crate::log::Log;
use crate::log_segment::LogSegment;

/// A segment, and the offset that its last batch ends before.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) segment: Arc<LogSegment>,
    pub(super) end: Offset,
}

/// A log as a cleaner sees it.
///
/// ```text
///  │ clean │ clean │ dirty │ dirty │ too young, or not stable yet │ active │
///                  └ first dirty   └ end
/// ```
pub(super) struct CleanableLog {
    pub(super) log: Arc<Log>,
    /// The log as it was when this was found out.
    pub(super) seen: Seen,
    /// Where the section begins that was never cleaned.
    pub(super) first_dirty: Offset,
    /// Where what may not be cleaned yet begins: always a segment's start.
    pub(super) end: Offset,
    pub(super) clean_bytes: u64,
    pub(super) dirty_bytes: u64,
    /// Some of it has waited for `max.compaction.lag.ms` (KIP-354).
    pub(super) is_due: bool,
}

impl CleanableLog {
    pub(super) fn of(log: &Arc<Log>, now: Timestamp) -> io::Result<Self> {
        // Before anything else: what is found out is void once the log was cut.
        let seen = log.cleaning().look();
        let config = log.config();
        let first_dirty = first_dirty(log, &config);
        let segments = log.segments();
        let sealed = segments.split_last().map_or(&[][..], |(_active, sealed)| sealed);
        let active_base = segments.last().map_or(Offset(0), |active| active.base_offset());
        let dirty = sealed.get(holder_of(sealed, first_dirty)..).unwrap_or_default();
        let mut bound = log.last_stable_offset(log.high_watermark()).min(active_base);
        let mut earliest = i64::MAX;
        for segment in dirty {
            if is_too_young(segment, config.min_compaction_lag, now)? {
                bound = bound.min(segment.base_offset());
                break;
            }
        }
        if config.max_compaction_lag.is_some() {
            for segment in dirty {
                let first = segment.first_timestamp()?.0;
                earliest = if first > 0 { earliest.min(first) } else { earliest };
            }
        }
        let end = match sealed.get(holder_of(sealed, bound)) {
            Some(segment) if bound < active_base => segment.base_offset(),
            Some(_) | None => active_base,
        };
        let bytes = |segments: &[Arc<LogSegment>], from: Offset, to: Offset| -> u64 {
            let within = |segment: &&Arc<LogSegment>| (from..to).contains(&segment.base_offset());
            segments.iter().filter(within).map(|segment| segment.size()).sum()
        };
        let due_before = config.max_compaction_lag.map(|lag| now.0.saturating_sub(millis(lag)));
        Ok(Self {
            first_dirty,
            end,
            clean_bytes: bytes(sealed, Offset(0), first_dirty),
            dirty_bytes: bytes(dirty, Offset(0), end),
            is_due: due_before.is_some_and(|before| earliest < before),
            log: log.clone(),
            seen,
        })
    }

    /// The dirty share of what may be cleaned, from 0.0 to 1.0.
    pub(super) fn ratio(&self) -> f64 {
        match self.clean_bytes + self.dirty_bytes {
            0 => 0.0,
            total => self.dirty_bytes as f64 / total as f64,
        }
    }

    /// Whether it is worth the work, or the work is due anyway.
    pub(super) fn needs_cleaning(&self) -> bool {
        (self.is_due && self.dirty_bytes > 0)
            || self.ratio() > self.log.config().min_cleanable_dirty_ratio
    }

    /// The segments that begin before `end`, from the first one on.
    pub(super) fn sources(&self, end: Offset) -> Vec<Source> {
        let segments = self.log.segments();
        let source = |pair: &[Arc<LogSegment>]| match pair {
            [segment, next] => Some(Source { segment: segment.clone(), end: next.base_offset() }),
            [] | [_] | [_, _, ..] => None,
        };
        let sources = segments.windows(2).filter_map(source);
        sources.take_while(|source| source.segment.base_offset() < end).collect()
    }
}

/// The offset in the checkpoint, if it still makes sense.
fn first_dirty(log: &Log, config: &LogConfig) -> Offset {
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    let Some(known) = log.cleaning().first_dirty() else { return start };
    if (start..=end).contains(&known) {
        return known;
    }
    // Retention moves the start of a log that is compacted and deleted: nothing to wonder about.
    if known > end || !config.cleanup_policy.delete {
        tracing::warn!(
            partition = %log.partition(), checkpoint = %known, log_start = %start, log_end = %end,
            "the cleaner's checkpoint lies outside the log: cleaning from the start"
        );
    }
    log.cleaning().reset(start);
    start
}

/// The number of the segment that holds `offset`; the first one if it lies before all.
fn holder_of(segments: &[Arc<LogSegment>], offset: Offset) -> usize {
    segments.partition_point(|segment| segment.base_offset() <= offset).saturating_sub(1)
}

fn is_too_young(segment: &LogSegment, lag: Duration, now: Timestamp) -> io::Result<bool> {
    Ok(!lag.is_zero() && segment.largest_timestamp()?.0 > now.0.saturating_sub(millis(lag)))
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Puts neighbours together that fit into one segment, so that segments do not become ever
/// smaller.
pub(super) fn group(sources: Vec<Source>, config: &LogConfig) -> Vec<Vec<Source>> {
    let mut groups: Vec<Vec<Source>> = Vec::new();
    let (mut bytes, mut index_bytes) = (0, 0);
    for source in sources {
        let (size, index_size) = (source.segment.size(), source.segment.index_size());
        if let Some(group) = groups.last_mut()
            && let Some(first) = group.first()
            && bytes + size <= u64::from(config.segment_bytes)
            && index_bytes + index_size <= u64::from(config.segment_index_bytes)
            && (size == 0
                || source.end.0 - 1 - first.segment.base_offset().0 <= i64::from(i32::MAX))
        {
            bytes += size;
            index_bytes += index_size;
            group.push(source);
        } else {
            (bytes, index_bytes) = (size, index_size);
            groups.push(vec![source]);
        }
    }
    groups
}
