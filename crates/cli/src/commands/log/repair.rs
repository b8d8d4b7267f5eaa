//! `ottla log repair`.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use ottla_env::{Disk, Env};
use ottla_protocol::{Offset, TopicPartition};
use ottla_storage::inspect::{
    Directory, Finding, PartitionContext, Problem, RepairPlan, Severity, Step, verify_partition,
};
use serde_json::json;

use super::output::{self, Output};
use super::place::Place;
use super::progress::Reading;
use super::{Target, text};
use crate::failure::Failure;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    target: Target,
    /// Do it; without this, or a yes on a terminal, it is only shown what would be done.
    #[arg(long)]
    yes: bool,
}

/// Whether all is well now.
pub(super) fn run(env: &Env, options: &Options) -> Result<bool> {
    let disk = &*env.disk;
    if options.target.while_running {
        return Err(Failure {
            what: "a directory that a node uses cannot be repaired".to_owned(),
            why: "both would write to the same files".to_owned(),
            next: "stop the node, and leave out --while-running".to_owned(),
        }
        .into());
    }
    let (places, _locks) = Place::all(disk, &options.target)?;
    let reading = Reading::of(disk, &places);
    let mut output = Output::new(options.target.format);
    let mut all_well = true;
    for place in &places {
        let mut repair = Repair::plan(disk, place, &reading)?;
        repair.show(&mut output)?;
        output.flush()?;
        let wanted = repair.is_needed() && (options.yes || confirmed(&options.target)?);
        if wanted {
            repair.apply(env)?;
            let after = Repair::plan(disk, place, &reading)?;
            after.report_remaining(&mut output)?;
            all_well &= !after.is_needed() && after.remaining().next().is_none();
        } else {
            all_well &= !repair.is_needed() && repair.remaining().next().is_none();
            if repair.is_needed() {
                output.text(|| "nothing was changed: add --yes to do it".to_owned())?;
            }
        }
    }
    output.flush()?;
    Ok(all_well)
}

/// A yes from a person; nobody is asked where nobody can answer.
fn confirmed(target: &Target) -> Result<bool> {
    let person = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !person || target.format == super::Format::Json {
        return Ok(false);
    }
    write!(std::io::stderr(), "do this? [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&&*answer.trim().to_lowercase()))
}

/// What is wrong with one place, and what would be done.
struct Repair {
    directory: Option<Directory>,
    plans: Vec<RepairPlan>,
    /// Log ends after the repair.
    ends: BTreeMap<TopicPartition, Offset>,
    checkpoints: Vec<Finding>,
    remaining: Vec<Finding>,
}

impl Repair {
    fn plan(disk: &dyn Disk, place: &Place, reading: &Reading) -> Result<Self> {
        let (directory, partitions) = match place {
            Place::Directory(path) => {
                let directory = Directory::read(disk, path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                let partitions = directory.partitions().to_vec();
                (Some(directory), partitions)
            }
            Place::Partition(partition, path) => {
                let parent = path.parent().filter(|parent| Directory::is_one(disk, parent));
                let directory = parent.map(|it| Directory::read(disk, it)).transpose()?;
                (directory, vec![(partition.clone(), path.clone())])
            }
            Place::File(path) => return Err(one_file(path).into()),
        };
        let mut repair = Self {
            directory,
            plans: Vec::new(),
            ends: BTreeMap::new(),
            checkpoints: Vec::new(),
            remaining: Vec::new(),
        };
        let own = repair.directory.as_ref().map_or(Vec::new(), |it| it.findings().to_vec());
        repair.sort(own);
        for (partition, path) in partitions {
            repair.plan_partition(disk, partition, path, reading)?;
        }
        Ok(repair)
    }

    fn plan_partition(
        &mut self,
        disk: &dyn Disk,
        partition: TopicPartition,
        path: PathBuf,
        reading: &Reading,
    ) -> Result<()> {
        let context = self
            .directory
            .as_ref()
            .map_or(PartitionContext::default(), |directory| directory.context(&partition));
        let unreadable = || format!("cannot read {}", path.display());
        let report = verify_partition(disk, &path, context, &mut |bytes| reading.read(bytes))
            .with_context(unreadable)?;
        let mut findings = report.findings.clone();
        if let Some(directory) = &mut self.directory {
            let (own, of_files): (Vec<_>, Vec<_>) = directory
                .compare(&partition, &path, &report)
                .into_iter()
                .partition(|finding| finding.problem == Problem::CheckpointBounds);
            findings.extend(of_files);
            self.checkpoints.extend(own);
        }
        let plan = RepairPlan::of(disk, (&partition, &path), context, &report, &findings)
            .with_context(unreadable)?;
        self.remaining.extend(plan.remaining.iter().filter(|it| is_wrong(it)).cloned());
        self.ends.insert(partition, report.log_end);
        self.plans.push(plan);
        Ok(())
    }

    /// Findings about the directory's own files.
    fn sort(&mut self, findings: Vec<Finding>) {
        for finding in findings.into_iter().filter(is_wrong) {
            match finding.problem == Problem::UnreadableCheckpoint {
                true => self.checkpoints.push(finding),
                false => self.remaining.push(finding),
            }
        }
    }

    fn is_needed(&self) -> bool {
        !self.checkpoints.is_empty() || self.plans.iter().any(|plan| !plan.is_empty())
    }

    fn remaining(&self) -> impl Iterator<Item = &Finding> {
        self.remaining.iter()
    }

    fn show(&self, output: &mut Output) -> Result<()> {
        for plan in &self.plans {
            for step in &plan.steps {
                output.text(|| describe(step))?;
                output.json(|| as_json(step))?;
            }
            let Some(end) = plan.new_end else { continue };
            let behind = Some(plan.seen_end.0 - 1).filter(|last| *last >= end.0);
            output.text(|| {
                let lost =
                    behind.map_or(String::new(), |last| format!("offsets {end} to {last} go; "));
                format!(
                    "  the log will end at offset {end}; {lost}what can be read of the rest stays \
                     in the .corrupt files"
                )
            })?;
            output.json(|| json!({ "step": "end", "logEnd": end.0, "lastLost": behind }))?;
        }
        for finding in &self.checkpoints {
            let path = &finding.path;
            output.text(|| {
                let (file, reason) = (path.display(), &finding.reason);
                format!("write anew  {file}\n  because {reason}; a copy stays as {file}.corrupt")
            })?;
            output.json(|| {
                json!({
                    "step": "checkpoint", "file": output::path(path), "reason": finding.reason,
                })
            })?;
        }
        self.report_remaining(output)?;
        if !self.is_needed() && self.remaining.is_empty() {
            output.text(|| "nothing is to be repaired".to_owned())?;
        }
        Ok(())
    }

    fn report_remaining(&self, output: &mut Output) -> Result<()> {
        for finding in &self.remaining {
            let advice = finding.problem.advice();
            output.text(|| format!("cannot repair  {finding}\n  next: {advice}"))?;
            output.json(|| {
                json!({
                    "step": "none", "file": output::path(&finding.path),
                    "reason": finding.reason, "advice": advice,
                })
            })?;
        }
        Ok(())
    }

    fn apply(&mut self, env: &Env) -> Result<()> {
        for plan in self.plans.iter().filter(|plan| !plan.is_empty()) {
            plan.apply(env).context("the repair stopped half way; run it again")?;
        }
        let lost = self.plans.iter().any(|plan| plan.new_end.is_some());
        if let Some(directory) = &mut self.directory {
            directory
                .repair(&*env.disk, &self.ends, lost)
                .context("the checkpoints are not repaired yet; run it again")?;
        }
        Ok(())
    }
}

fn is_wrong(finding: &Finding) -> bool {
    finding.severity() > Severity::Note
}

fn one_file(path: &Path) -> Failure {
    Failure {
        what: format!("{} alone cannot be repaired", path.display()),
        why: "what is right in a file depends on those beside it".to_owned(),
        next: format!(
            "name the directory of its partition: ottla log repair {}",
            path.parent().unwrap_or(path).display()
        ),
    }
}

fn describe(step: &Step) -> String {
    match step {
        Step::Cut { file, position, bytes, saved_as } => format!(
            "cut  {} at byte {position}\n  its last {} go to {}",
            file.display(),
            text::size(*bytes),
            saved_as.display()
        ),
        Step::SetAside { file, saved_as } => {
            format!("rename  {}\n  to {}", file.display(), saved_as.display())
        }
        Step::Rebuild { path } => {
            format!("make indexes, epochs and the last snapshot anew  {}", path.display())
        }
    }
}

fn as_json(step: &Step) -> serde_json::Value {
    match step {
        Step::Cut { file, position, bytes, saved_as } => json!({
            "step": "cut", "file": output::path(file), "position": position, "bytes": bytes,
            "savedAs": output::path(saved_as),
        }),
        Step::SetAside { file, saved_as } => json!({
            "step": "set-aside", "file": output::path(file), "savedAs": output::path(saved_as),
        }),
        Step::Rebuild { path } => json!({ "step": "rebuild", "path": output::path(path) }),
    }
}
