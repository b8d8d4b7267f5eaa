//! Files and directories, as the page cache has them and as the platter does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::rng::SimRng;

/// The unit that a disk writes whole.
const SECTOR: u64 = 512;

/// A file or a directory. Directories and open handles share it, so that a removed file lives as
/// long as a handle on it.
#[derive(Clone)]
pub(super) enum Inode {
    /// A file.
    File(Arc<Mutex<FileNode>>),
    /// A directory.
    Dir(Arc<Mutex<DirNode>>),
}

/// What a loss of power does to what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerCut {
    /// Each change by itself: kept, lost, torn or turned into zeros; of new names the first few stay.
    AtRandom,
    /// All of it is lost.
    LosesAll,
    /// New names stay, and every file is as it was last synced.
    KeepsNames,
    /// New names are lost, what was written stays.
    KeepsBytes,
    /// New names stay, every write is torn at a sector, or misses its last byte.
    Tears,
    /// New names and lengths stay, what was written is zeros.
    Zeroes,
}

impl PowerCut {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::AtRandom,
        Self::LosesAll,
        Self::KeepsNames,
        Self::KeepsBytes,
        Self::Tears,
        Self::Zeroes,
    ];

    fn fate(self, rng: &SimRng) -> Fate {
        match self {
            Self::AtRandom => match rng.below(7) {
                0 | 1 => Fate::Lost,
                2 | 3 => Fate::Torn,
                4 => Fate::Zeroed,
                _ => Fate::Kept,
            },
            Self::LosesAll | Self::KeepsNames => Fate::Lost,
            Self::KeepsBytes => Fate::Kept,
            Self::Tears => Fate::Torn,
            Self::Zeroes => Fate::Zeroed,
        }
    }
}

/// What becomes of an unsynced change.
enum Fate {
    Kept,
    Lost,
    Torn,
    Zeroed,
}

/// A change to a file that has not been synced.
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
}

/// A file.
#[derive(Default)]
pub(super) struct FileNode {
    /// What a reader sees: the page cache.
    content: Vec<u8>,
    /// What survives a power loss for sure.
    durable: Vec<u8>,
    /// What leads from `durable` to `content`, in order.
    unsynced: Vec<Change>,
    /// When it was last written, in virtual time.
    pub(super) modified: Duration,
    /// The life that holds its lock.
    pub(super) locked_by: Option<u64>,
}

impl FileNode {
    pub(super) fn content(&self) -> &[u8] {
        &self.content
    }

    pub(super) fn len(&self) -> u64 {
        self.content.len() as u64
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.content.len());
        let count = buffer.len().min(self.content.len() - from);
        buffer[..count].copy_from_slice(&self.content[from..from + count]);
        count
    }

    pub(super) fn write(&mut self, offset: u64, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.change(Change::Write { offset, bytes });
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len != self.len() {
            self.change(Change::SetLen(len));
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.content);
        self.unsynced.push(change);
        self.modified = turmoil::sim_elapsed().unwrap_or_default();
    }

    /// All changes so far survive.
    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// What Linux does when a sync fails: it forgets that the pages were dirty, so that no later
    /// sync writes them either. The journal has the lengths.
    pub(super) fn fail_sync(&mut self) {
        self.unsynced.retain(|change| matches!(change, Change::SetLen(_)));
    }

    fn unwritten(&self) -> u64 {
        self.unsynced
            .iter()
            .map(|change| match change {
                Change::Write { bytes, .. } => bytes.len() as u64,
                Change::SetLen(_) => 0,
            })
            .sum()
    }

    /// Flips one bit of what is stored, in the cache and below it.
    pub(super) fn flip_bit(&mut self, position: u64) {
        let (Ok(index), bit) = (usize::try_from(position / 8), 1 << (position % 8)) else { return };
        for image in [&mut self.content, &mut self.durable] {
            if let Some(byte) = image.get_mut(index) {
                *byte ^= bit;
            }
        }
    }

    /// The power goes: every unsynced write survives, is torn, is zeros or is lost, each for itself.
    fn lose_power(&mut self, rng: &SimRng, cut: PowerCut) {
        for change in self.unsynced.drain(..) {
            match (change, cut.fate(rng)) {
                // The journal keeps changes of length in order: without this one none after it.
                (Change::SetLen(_), Fate::Lost) => break,
                (Change::Write { .. }, Fate::Lost) => {}
                (Change::Write { offset, mut bytes }, Fate::Torn) => {
                    // A sector is written whole or not at all. Of what fits into one, the length came
                    // through in part.
                    let sectors = (bytes.len() as u64).div_ceil(SECTOR);
                    let kept = match sectors {
                        1 => bytes.len() - 1,
                        several => ((1 + rng.below(several - 1)) * SECTOR) as usize,
                    };
                    bytes.truncate(kept);
                    Change::Write { offset, bytes }.apply(&mut self.durable);
                }
                // The length reached the journal, the bytes did not reach the platter; what was there before stays.
                (Change::Write { offset, mut bytes }, Fate::Zeroed) => {
                    let end = offset + bytes.len() as u64;
                    let grown = end.saturating_sub((self.durable.len() as u64).max(offset));
                    if grown > 0 {
                        bytes.truncate(grown as usize);
                        bytes.fill(0);
                        Change::Write { offset: end - grown, bytes }.apply(&mut self.durable);
                    }
                }
                (change, _) => change.apply(&mut self.durable),
            }
        }
        self.content.clone_from(&self.durable);
    }
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let from = *offset as usize;
                let to = from + bytes.len();
                if image.len() < to {
                    image.resize(to, 0);
                }
                image[from..to].copy_from_slice(bytes);
            }
            Self::SetLen(len) => image.resize(*len as usize, 0),
        }
    }
}

/// What a name meant before and means after a change; several names change as one.
struct NameChange(Vec<(String, Option<Inode>, Option<Inode>)>);

/// A directory.
#[derive(Default)]
pub(super) struct DirNode {
    names: BTreeMap<String, Inode>,
    unsynced: Vec<NameChange>,
}

impl DirNode {
    pub(super) fn get(&self, name: &str) -> Option<Inode> {
        self.names.get(name).cloned()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Inode)> {
        self.names.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Gives several names new meanings as one change: all or none survive a power loss.
    pub(super) fn set(&mut self, changes: Vec<(String, Option<Inode>)>) {
        let recorded = changes.into_iter().map(|(name, after)| {
            let before = match &after {
                Some(inode) => self.names.insert(name.clone(), inode.clone()),
                None => self.names.remove(&name),
            };
            (name, before, after)
        });
        let change = NameChange(recorded.collect());
        self.unsynced.push(change);
    }

    /// All names so far survive.
    pub(super) fn sync(&mut self) {
        self.unsynced.clear();
    }

    /// All names and all files below survive.
    pub(super) fn sync_all(&mut self) {
        self.sync();
        for inode in self.names.values() {
            match inode {
                Inode::File(file) => file.lock().sync(),
                Inode::Dir(dir) => dir.lock().sync_all(),
            }
        }
    }

    /// [`FileNode::fail_sync`] for all files below.
    pub(super) fn fail_sync_all(&mut self) {
        for inode in self.names.values() {
            match inode {
                Inode::File(file) => file.lock().fail_sync(),
                Inode::Dir(dir) => dir.lock().fail_sync_all(),
            }
        }
    }

    /// Bytes written to files below and not synced.
    pub(super) fn unwritten(&self) -> u64 {
        self.names
            .values()
            .map(|inode| match inode {
                Inode::File(file) => file.lock().unwritten(),
                Inode::Dir(dir) => dir.lock().unwritten(),
            })
            .sum()
    }

    /// The power goes: of the unsynced changes the first few survive, as a journal keeps them.
    pub(super) fn lose_power(&mut self, rng: &SimRng, cut: PowerCut) {
        let mut changes = std::mem::take(&mut self.unsynced);
        let survivors = match (cut, rng.below(3)) {
            (PowerCut::LosesAll | PowerCut::KeepsBytes, _) | (PowerCut::AtRandom, 0) => 0,
            (PowerCut::AtRandom, 2) => rng.below(changes.len() as u64 + 1) as usize,
            (_, _) => changes.len(),
        };
        for NameChange(names) in changes.drain(survivors..).rev() {
            for (name, before, _) in names.into_iter().rev() {
                match before {
                    Some(inode) => self.names.insert(name, inode),
                    None => self.names.remove(&name),
                };
            }
        }
        for inode in self.names.values() {
            match inode {
                Inode::File(file) => file.lock().lose_power(rng, cut),
                Inode::Dir(dir) => dir.lock().lose_power(rng, cut),
            }
        }
    }

    /// Bytes of all files below.
    pub(super) fn used(&self) -> u64 {
        self.names
            .values()
            .map(|inode| match inode {
                Inode::File(file) => file.lock().len(),
                Inode::Dir(dir) => dir.lock().used(),
            })
            .sum()
    }
}
