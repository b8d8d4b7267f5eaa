//! How far long work has come, on a terminal.

use std::io::IsTerminal;
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ottla_env::Disk;

use super::place::Place;

/// Less is read before anybody looks up.
const WORTH_SHOWING: u64 = 256 << 20;

/// A bar over the bytes of all logs, if there are many and somebody watches.
pub(super) struct Reading(Option<ProgressBar>);

impl Reading {
    pub(super) fn of(disk: &dyn Disk, places: &[Place]) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let total: u64 = places.iter().map(|place| bytes_of(disk, place)).sum();
        if total < WORTH_SHOWING {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let style = "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        // Without the style the bar looks plain, and that is all.
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Self(Some(bar))
    }

    /// So many bytes more.
    pub(super) fn read(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes);
        }
    }

    /// Makes room for a line of output; the next [`read`](Self::read) shows it again.
    pub(super) fn hide(&self) {
        if let Some(bar) = &self.0 {
            bar.suspend(|| {});
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Bytes of `.log` files; what cannot be listed counts nothing, and is said later.
fn bytes_of(disk: &dyn Disk, place: &Place) -> u64 {
    let of_partition = |path: &Path| -> u64 {
        let entries = disk.read_dir(path).unwrap_or_default();
        entries.iter().filter(|entry| entry.name.ends_with(".log")).map(|entry| entry.len).sum()
    };
    match place {
        Place::Directory(path) => {
            let entries = disk.read_dir(path).unwrap_or_default();
            let dirs = entries.iter().filter(|entry| entry.is_dir);
            dirs.map(|entry| of_partition(&entry.path)).sum()
        }
        Place::Partition(_, path) => of_partition(path),
        Place::File(_) => 0,
    }
}
