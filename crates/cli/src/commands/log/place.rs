//! What a path on the command line means, and whether a node uses it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ottla_env::{DirLock, Disk};
use ottla_protocol::TopicPartition;
use ottla_storage::inspect::{Directory, partition_of};

use super::Target;
use crate::failure::Failure;

const LOCK: &str = ".lock";

/// Something to look at.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// A log directory.
    Directory(PathBuf),
    /// The directory of a partition.
    Partition(TopicPartition, PathBuf),
    /// A single file.
    File(PathBuf),
}

impl Place {
    /// What each path is; with the locks of all log directories, which are held meanwhile.
    pub(super) fn all(disk: &dyn Disk, target: &Target) -> Result<(Vec<Self>, Vec<DirLock>)> {
        let mut places = Vec::new();
        let mut locked: Vec<PathBuf> = Vec::new();
        let mut locks = Vec::new();
        for path in &target.paths {
            let place = Self::of(disk, path)?;
            let directory = place.log_directory(disk).filter(|dir| !locked.contains(dir));
            if let Some(directory) = directory.filter(|_| !target.while_running) {
                locks.extend(lock(disk, &directory)?);
                locked.push(directory);
            }
            places.push(place);
        }
        Ok((places, locks))
    }

    fn of(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let path = std::path::absolute(path)?;
        if !disk.exists(&path) {
            return Err(Failure {
                what: format!("{} does not exist", path.display()),
                why: "no such file or directory".to_owned(),
                next: "name a log directory (log.dirs), the directory of a partition such as \
                       DIR/topic-0, or one of its files"
                    .to_owned(),
            }
            .into());
        }
        if disk
            .read_dir(&path)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::NotADirectory)
        {
            return Ok(Self::File(path));
        }
        Ok(match partition_of(&path).filter(|_| !Directory::is_one(disk, &path)) {
            Some(partition) => Self::Partition(partition, path),
            None => Self::Directory(path),
        })
    }

    /// The log directory that it is, or lies in.
    fn log_directory(&self, disk: &dyn Disk) -> Option<PathBuf> {
        let (Self::Directory(path) | Self::Partition(_, path) | Self::File(path)) = self;
        path.ancestors().take(3).find(|dir| Directory::is_one(disk, dir)).map(Path::to_owned)
    }
}

/// Takes the lock of a directory, if a node ever made one.
fn lock(disk: &dyn Disk, directory: &Path) -> Result<Option<DirLock>> {
    let path = directory.join(LOCK);
    if !disk.exists(&path) {
        return Ok(None);
    }
    let refused = |why: String, next: &str| Failure {
        what: format!("{} cannot be looked at now", directory.display()),
        why,
        next: next.to_owned(),
    };
    match disk.lock(&path) {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err(refused(
            "a node uses the directory: its files change while they are read".to_owned(),
            "stop the node first; dump, verify and stats go on all the same with --while-running",
        )
        .into()),
        Err(error) => Err(refused(
            format!("its lock cannot be taken: {error}"),
            "if no node uses it, as a copy that must not be written, add --while-running",
        )
        .into()),
    }
}
