//! `ottla log stats`.

use std::cmp::Reverse;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use ottla_env::{Disk, Env};
use ottla_protocol::{Timestamp, TopicPartition};
use ottla_storage::inspect::{Directory, LogStats};
use serde_json::json;

use super::output::Output;
use super::place::Place;
use super::progress::Reading;
use super::{Target, text};
use crate::failure::Failure;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    target: Target,
    /// What a line is about.
    #[arg(long, value_enum, default_value_t = By::Partition)]
    by: By,
    /// What the lines are sorted by: the largest first, names ascending.
    #[arg(long, value_enum, default_value_t = Sort::Name)]
    sort: Sort,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// A line for each partition.
    Partition,
    /// A line for each topic.
    Topic,
}

#[derive(Clone, Copy, ValueEnum)]
enum Sort {
    /// By name.
    Name,
    /// By bytes of batches.
    Bytes,
    /// By records.
    Records,
    /// By batches.
    Batches,
    /// By segments.
    Segments,
    /// By how well it is compressed.
    Ratio,
    /// By the share of records that compaction would remove.
    Compactable,
}

/// Whether nothing is damaged.
pub(super) fn run(env: &Env, options: &Options) -> Result<bool> {
    let disk = &*env.disk;
    let (places, _locks) = Place::all(disk, &options.target)?;
    let reading = Reading::of(disk, &places);
    let mut lines: Vec<(TopicPartition, LogStats)> = Vec::new();
    for (partition, path) in partitions(disk, &places)? {
        let stats = LogStats::of(disk, &path, &mut |bytes| reading.read(bytes))
            .with_context(|| format!("cannot read {}", path.display()))?;
        match lines.last_mut().filter(|(last, _)| last.topic == partition.topic) {
            Some((_, sum)) if options.by == By::Topic => sum.add(&stats),
            Some(_) | None => lines.push((partition, stats)),
        }
    }
    drop(reading);
    sort(&mut lines, options.sort);
    let mut total = LogStats::default();
    lines.iter().for_each(|(_, stats)| total.add(stats));
    print(options, &lines, &total)?;
    Ok(total.damaged == 0)
}

/// All partitions in question, by name.
fn partitions(disk: &dyn Disk, places: &[Place]) -> Result<Vec<(TopicPartition, PathBuf)>> {
    let mut partitions = Vec::new();
    for place in places {
        match place {
            Place::Directory(path) => {
                let directory = Directory::read(disk, path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                partitions.extend_from_slice(directory.partitions());
            }
            Place::Partition(partition, path) => {
                partitions.push((partition.clone(), path.clone()));
            }
            Place::File(path) => {
                return Err(Failure {
                    what: format!("{} is a file", path.display()),
                    why: "partitions are counted whole".to_owned(),
                    next: format!(
                        "name its directory: ottla log stats {}",
                        path.parent().unwrap_or(path).display()
                    ),
                }
                .into());
            }
        }
    }
    partitions.sort();
    Ok(partitions)
}

fn sort(lines: &mut [(TopicPartition, LogStats)], by: Sort) {
    // A share or a ratio in whole millionths sorts well enough.
    let millionths = |share: f64| (share * 1e6) as u64;
    let largest_first =
        |key: fn(&LogStats) -> u64| move |line: &(TopicPartition, LogStats)| Reverse(key(&line.1));
    match by {
        Sort::Name => {}
        Sort::Bytes => lines.sort_by_key(largest_first(|stats| stats.bytes)),
        Sort::Records => lines.sort_by_key(largest_first(|stats| stats.records)),
        Sort::Batches => lines.sort_by_key(largest_first(|stats| stats.batches)),
        Sort::Segments => lines.sort_by_key(largest_first(|stats| stats.segments)),
        Sort::Ratio => {
            lines.sort_by_key(|line| Reverse(millionths(line.1.compression_ratio())));
        }
        Sort::Compactable => {
            lines.sort_by_key(|line| Reverse(millionths(line.1.compactable_share())));
        }
    }
}

fn print(options: &Options, lines: &[(TopicPartition, LogStats)], total: &LogStats) -> Result<()> {
    let mut output = Output::new(options.target.format);
    let name = |partition: &TopicPartition| match options.by {
        By::Topic => partition.topic.to_string(),
        By::Partition => partition.to_string(),
    };
    let mut table = vec![HEAD.map(str::to_owned)];
    for (partition, stats) in lines {
        table.push(row(name(partition), stats));
        output.json(|| as_json(&name(partition), stats))?;
    }
    table.push(row("all".to_owned(), total));
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    for row in &table {
        output.text(|| {
            let cells =
                row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
                    0 => format!("{cell:<width$}"),
                    _ => format!("{cell:>width$}"),
                });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })?;
    }
    if total.damaged > 0 {
        output.text(|| {
            format!("{} damaged batches are not counted: see `ottla log verify`", total.damaged)
        })?;
    }
    output.flush()
}

const HEAD: [&str; 14] = [
    "",
    "segments",
    "size",
    "records",
    "batches",
    "per batch",
    "largest",
    "codecs",
    "ratio",
    "no key",
    "no value",
    "compactable",
    "producers",
    "from … to",
];

fn row(name: String, stats: &LogStats) -> [String; 14] {
    let codecs: Vec<String> = stats
        .codecs
        .iter()
        .map(|(codec, batches)| format!("{codec} {:.0}%", percent(*batches, stats.batches)))
        .collect();
    let average = stats.bytes.checked_div(stats.batches).unwrap_or(0);
    [
        name,
        stats.segments.to_string(),
        text::size(stats.bytes),
        stats.records.to_string(),
        stats.batches.to_string(),
        text::size(average),
        text::size(stats.largest_batch),
        codecs.join(" "),
        format!("{:.2}", stats.compression_ratio()),
        stats.null_keys.to_string(),
        stats.null_values.to_string(),
        format!("{:.0}%", 100.0 * stats.compactable_share()),
        stats.producers().to_string(),
        stats.times().map_or(String::new(), |(from, to)| {
            format!("{} … {}", text::time(from), text::time(to))
        }),
    ]
}

fn as_json(name: &str, stats: &LogStats) -> serde_json::Value {
    let codecs: serde_json::Map<String, serde_json::Value> =
        stats.codecs.iter().map(|(codec, batches)| (codec.to_string(), json!(batches))).collect();
    let time = |time: Option<Timestamp>| time.map(|time| time.0);
    let times = stats.times();
    json!({
        "name": name, "segments": stats.segments, "bytes": stats.bytes,
        "uncompressedBytes": stats.uncompressed_bytes, "batches": stats.batches,
        "largestBatch": stats.largest_batch, "codecs": codecs, "records": stats.records,
        "compressionRatio": stats.compression_ratio(), "nullKeys": stats.null_keys,
        "nullValues": stats.null_values, "keyBytes": stats.key_bytes,
        "valueBytes": stats.value_bytes, "controlRecords": stats.control_records,
        "transactionalBatches": stats.transactional_batches, "damagedBatches": stats.damaged,
        "compactableShare": stats.compactable_share(), "producers": stats.producers(),
        "oldest": time(times.map(|it| it.0)), "newest": time(times.map(|it| it.1)),
    })
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}
