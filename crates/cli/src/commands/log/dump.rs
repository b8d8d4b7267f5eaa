//! `ottla log dump`.

mod batches;
mod small_files;

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use ottla_env::{Disk, Env};
use ottla_protocol::compression::Decompressor;
use ottla_storage::inspect::{FileKind, partition_of};

use super::Target;
use super::output::Output;
use super::place::Place;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    target: Target,
    /// Print the records, too: keys, values, headers.
    #[arg(long)]
    records: bool,
    /// Only batches with offsets from A on, up to but not including B; both may be left out.
    #[arg(long, value_name = "A..B", value_parser = offsets)]
    offsets: Option<Range<i64>>,
    /// What the records mean; implies --records.
    /// [default: what the name of the directory says].
    #[arg(long, value_enum)]
    decode: Option<Decode>,
}

/// How the contents of records are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Decode {
    /// As records of __consumer_offsets.
    Offsets,
    /// As records of __cluster_metadata.
    Metadata,
    /// Not at all: bytes.
    None,
}

fn offsets(text: &str) -> Result<Range<i64>, String> {
    let (from, to) = text.split_once("..").ok_or("not A..B")?;
    let bound = |text: &str, otherwise| match text {
        "" => Ok(otherwise),
        digits => digits.parse().map_err(|_| format!("{digits} is no offset")),
    };
    Ok(bound(from, 0)?..bound(to, i64::MAX)?)
}

/// Whether nothing is damaged.
pub(super) fn run(env: &Env, options: &Options) -> Result<bool> {
    let disk = &*env.disk;
    let (places, _locks) = Place::all(disk, &options.target)?;
    let mut dump = Dump {
        disk,
        options,
        output: Output::new(options.target.format),
        decompressor: Decompressor::new(),
        clean: true,
    };
    for place in &places {
        match place {
            Place::Directory(path) => dump.directory(path)?,
            Place::Partition(_, path) => dump.files_of(path)?,
            Place::File(path) => dump.file(path)?,
        }
    }
    dump.output.flush()?;
    Ok(dump.clean)
}

struct Dump<'a> {
    disk: &'a dyn Disk,
    options: &'a Options,
    output: Output,
    decompressor: Decompressor,
    clean: bool,
}

impl Dump<'_> {
    fn directory(&mut self, path: &Path) -> Result<()> {
        self.files_of(path)?;
        for entry in self.list(path)?.into_iter().filter(|entry| partition_of(entry).is_some()) {
            self.files_of(&entry)?;
        }
        Ok(())
    }

    fn files_of(&mut self, path: &Path) -> Result<()> {
        let entries = self.disk.read_dir(path).with_context(|| unreadable(path))?;
        for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
            self.file(&entry.path)?;
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let entries = self.disk.read_dir(path).with_context(|| unreadable(path))?;
        Ok(entries.into_iter().filter(|entry| entry.is_dir).map(|entry| entry.path).collect())
    }

    fn file(&mut self, path: &Path) -> Result<()> {
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let kind = FileKind::of(&name);
        let is_leftover = matches!(kind, FileKind::Leftover(_));
        let kind = if is_leftover { FileKind::behind_leftover(&name) } else { kind };
        self.output.text(|| path.display().to_string())?;
        self.contents(path, kind).with_context(|| unreadable(path))
    }

    fn contents(&mut self, path: &Path, kind: FileKind) -> Result<()> {
        match kind {
            FileKind::Log(_) | FileKind::MetadataSnapshot => self.batches(path),
            FileKind::OffsetIndex(base) => self.offset_index(path, base),
            FileKind::TimeIndex(base) => self.time_index(path, base),
            FileKind::TransactionIndex(base) => self.transaction_index(path, base),
            FileKind::ProducerSnapshot(_) => self.producer_snapshot(path),
            FileKind::LeaderEpochs => self.leader_epochs(path),
            FileKind::PartitionMetadata => self.partition_metadata(path),
            FileKind::OffsetCheckpoint => self.offset_checkpoint(path),
            FileKind::MetaProperties => self.meta_properties(path),
            FileKind::CleanShutdown => self.plain_text(path),
            FileKind::QuorumState => self.quorum_state(path),
            FileKind::Lock | FileKind::Leftover(_) | FileKind::Unknown => {
                self.output.text(|| "  not printed: no file of a log".to_owned())
            }
        }
    }

    /// Says in its place that something is damaged.
    fn damaged(&mut self, path: &Path, position: Option<u64>, reason: &str) -> Result<()> {
        self.clean = false;
        self.output.text(|| match position {
            Some(position) => format!("  byte {position}  DAMAGED: {reason}"),
            None => format!("  DAMAGED: {reason}"),
        })?;
        self.output.json(|| {
            serde_json::json!({
                "file": path.display().to_string(), "kind": "damage", "position": position,
                "reason": reason,
            })
        })
    }
}

fn unreadable(path: &Path) -> String {
    format!("cannot read {}", path.display())
}
