//! `moved-from`: the directories that a log came from and in which an older one may still have its name.
//!
//! A line for each, with the directory's id. Of a directory that failed before the older log had
//! another name it says `lost`: the log has served alone since, so whatever is found there is older.

use std::collections::BTreeMap;
use std::io;

use ottla_protocol::{Uuid, format_uuid};

use crate::file_name::MOVED_FROM;
use crate::log::Log;
use crate::log_dir::LogDir;

const LOST: &str = "lost";

/// What became of an older log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// A crash may have left both: they were alike when the newer one got its name.
    Unsettled,
    /// Its directory failed.
    Lost,
}

/// The older logs of a log, by their directories.
pub(super) struct Origins(BTreeMap<String, Fate>);

impl Origins {
    pub(super) fn read(log: &Log) -> Self {
        let bytes = log.log_dir().disk().read(&log.path().join(MOVED_FROM)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().map(|line| match line.split_once(' ') {
            Some((id, LOST)) => (id.to_owned(), Fate::Lost),
            Some(_) | None => (line.to_owned(), Fate::Unsettled),
        });
        Self(lines.collect())
    }

    /// For a copy of the log: those that are out of reach, which whoever comes from it outlives, too.
    pub(super) fn lost(mut self) -> Self {
        self.0.retain(|_, fate| *fate == Fate::Lost);
        self
    }

    pub(super) fn of(&self, dir: &LogDir) -> Option<Fate> {
        self.0.get(&key(dir.id())).copied()
    }

    pub(super) fn with(mut self, dir: &LogDir, fate: Fate) -> Self {
        self.0.insert(key(dir.id()), fate);
        self
    }

    /// Writes the file of `log`.
    pub(super) fn write(&self, log: &Log) -> io::Result<()> {
        let line = |(id, fate): (&String, &Fate)| match fate {
            Fate::Unsettled => id.clone(),
            Fate::Lost => format!("{id} {LOST}"),
        };
        let lines: Vec<String> = self.0.iter().map(line).collect();
        let path = log.path().join(MOVED_FROM);
        log.log_dir().disk().write_atomic(&path, lines.join("\n").as_bytes())
    }

    /// Takes the directories where nothing is left out of the file of `log`. If it stays as it is, the
    /// next start does that.
    pub(super) fn forget<'a>(mut self, log: &Log, empty: impl Iterator<Item = &'a LogDir>) {
        // Nearly always: then nobody has to look into a directory.
        if self.0.is_empty() {
            return;
        }
        let ids: Vec<String> = empty.map(|dir| key(dir.id())).collect();
        let before = self.0.len();
        self.0.retain(|id, _| !ids.contains(id));
        let _stays = match self.0.len() {
            same if same == before => Ok(()),
            0 => log.log_dir().disk().remove_file(&log.path().join(MOVED_FROM)),
            _ => self.write(log),
        };
    }
}

fn key(dir: Option<Uuid>) -> String {
    dir.map(format_uuid).unwrap_or_default()
}
