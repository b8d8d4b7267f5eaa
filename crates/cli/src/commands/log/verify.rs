//! `ottla log verify`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;
use ottla_env::{Disk, Env};
use ottla_protocol::TopicPartition;
use ottla_storage::inspect::{
    Directory, Finding, PartitionContext, PartitionReport, Severity, verify_file, verify_partition,
};
use serde_json::json;

use super::output::{self, Output};
use super::place::Place;
use super::progress::Reading;
use super::{Target, text};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    target: Target,
}

/// Whether nothing is wrong.
pub(super) fn run(env: &Env, options: &Options) -> Result<bool> {
    let disk = &*env.disk;
    let (places, _locks) = Place::all(disk, &options.target)?;
    let mut verification = Verification {
        disk,
        output: Output::new(options.target.format),
        reading: Reading::of(disk, &places),
        checked: Checked::default(),
        found: BTreeMap::new(),
    };
    for place in &places {
        verification.place(place)?;
    }
    verification.finish()
}

struct Verification<'a> {
    disk: &'a dyn Disk,
    output: Output,
    reading: Reading,
    checked: Checked,
    found: BTreeMap<Severity, u64>,
}

/// What was looked at.
#[derive(Default)]
struct Checked {
    partitions: u64,
    segments: u64,
    batches: u64,
    records: u64,
    bytes: u64,
}

impl Verification<'_> {
    fn place(&mut self, place: &Place) -> Result<()> {
        match place {
            Place::Directory(path) => {
                let directory = read_directory(self.disk, path)?;
                self.report(directory.findings())?;
                let partitions = directory.partitions().to_vec();
                self.partitions(Some(directory), &partitions)
            }
            Place::Partition(partition, path) => {
                let parent = path.parent().filter(|parent| Directory::is_one(self.disk, parent));
                let directory = parent.map(|it| read_directory(self.disk, it)).transpose()?;
                self.partitions(directory, &[(partition.clone(), path.clone())])
            }
            Place::File(path) => {
                let found = verify_file(self.disk, path, &mut |bytes| self.reading.read(bytes))
                    .with_context(|| format!("cannot read {}", path.display()))?;
                self.report(&found)
            }
        }
    }

    fn partitions(
        &mut self,
        mut directory: Option<Directory>,
        partitions: &[(TopicPartition, std::path::PathBuf)],
    ) -> Result<()> {
        for (partition, path) in partitions {
            let context = directory
                .as_ref()
                .map_or(PartitionContext::default(), |directory| directory.context(partition));
            let report =
                verify_partition(self.disk, path, context, &mut |bytes| self.reading.read(bytes))
                    .with_context(|| format!("cannot read {}", path.display()))?;
            self.report(&report.findings)?;
            if let Some(directory) = &mut directory {
                self.report(&directory.compare(partition, path, &report))?;
            }
            self.checked.add(&report);
        }
        Ok(())
    }

    fn report(&mut self, findings: &[Finding]) -> Result<()> {
        for finding in findings {
            let severity = finding.severity();
            *self.found.entry(severity).or_default() += 1;
            let (name, advice) = (severity.name(), finding.problem.advice());
            self.reading.hide();
            self.output.text(|| format!("{name}: {finding}\n  next: {advice}"))?;
            self.output.json(|| {
                json!({
                    "severity": name,
                    "problem": finding.problem.name(),
                    "file": output::path(&finding.path),
                    "position": finding.position,
                    "reason": finding.reason,
                    "advice": advice,
                })
            })?;
        }
        // What is found early is worth seeing early.
        self.output.flush()
    }

    fn finish(mut self) -> Result<bool> {
        self.reading.hide();
        let found = |severity| self.found.get(&severity).copied().unwrap_or(0);
        let (errors, warnings) = (found(Severity::Error), found(Severity::Warning));
        let count = |number, what: &str| text::count(number, what, &format!("{what}s"));
        let clean = errors == 0 && warnings == 0;
        let Checked { partitions, segments, batches, records, bytes } = self.checked;
        self.output.text(|| {
            let verdict = match clean {
                true => "all is well".to_owned(),
                false => {
                    let (errors, warnings) = (count(errors, "error"), count(warnings, "warning"));
                    format!("{errors}, {warnings}")
                }
            };
            [
                count(partitions, "partition"),
                count(segments, "segment"),
                text::count(batches, "batch", "batches"),
                count(records, "record"),
                format!("{}: {verdict}", text::size(bytes)),
            ]
            .join(", ")
        })?;
        self.output.json(|| {
            json!({
                "summary": true, "clean": clean, "errors": errors, "warnings": warnings,
                "notes": found(Severity::Note), "partitions": partitions, "segments": segments,
                "batches": batches, "records": records, "bytes": bytes,
            })
        })?;
        self.output.flush()?;
        Ok(clean)
    }
}

impl Checked {
    fn add(&mut self, report: &PartitionReport) {
        self.partitions += 1;
        self.segments += report.segments as u64;
        self.batches += report.batches;
        self.records += report.records;
        self.bytes += report.bytes;
    }
}

fn read_directory(disk: &dyn Disk, path: &Path) -> Result<Directory> {
    Directory::read(disk, path).with_context(|| format!("cannot read {}", path.display()))
}
