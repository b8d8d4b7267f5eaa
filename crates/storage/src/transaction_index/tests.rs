use super::*;
use ottla_env::Env;
use proptest::prelude::*;

use crate::faulty_disk::{Faults, faulty_env};
use crate::log_dir::LogDir;

const BASE: i64 = 100;

/// An index in a directory of its own.
struct Fixture {
    root: tempfile::TempDir,
    dir: Arc<LogDir>,
}

impl Fixture {
    fn new() -> Self {
        Self::on(&Arc::default())
    }

    /// On a disk with faults.
    fn on(faults: &Arc<Faults>) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _inside = runtime.enter();
        let root = tempfile::tempdir().unwrap();
        let dir = LogDir::new(&faulty_env(Env::os(), faults), root.path().to_owned(), 10);
        Self { root, dir }
    }

    fn path(&self) -> std::path::PathBuf {
        self.root.path().join("00000000000000000100.txnindex")
    }

    fn empty(&self) -> TransactionIndex {
        TransactionIndex::empty(Offset(BASE), self.dir.cached_file(self.path()))
    }

    fn reopened(&self) -> io::Result<TransactionIndex> {
        let index = self.empty();
        let bytes = self.dir.disk().read(&self.path()).map_or(0, |bytes| bytes.len() as u64);
        index.load(bytes).map(|()| index)
    }

    fn holding(&self, bytes: &[u8]) -> io::Result<TransactionIndex> {
        let file = self.dir.disk().open(&self.path(), ottla_env::OpenMode::Truncate)?;
        file.write_all_at(&mut [io::IoSlice::new(bytes)], 0)?;
        self.reopened()
    }
}

fn aborted(producer: i64, first: i64, last: i64, stable: i64) -> AbortedTxn {
    AbortedTxn {
        producer_id: ProducerId(producer),
        first_offset: Offset(first),
        last_offset: Offset(last),
        last_stable_offset: Offset(stable),
    }
}

fn all(index: &TransactionIndex) -> Vec<AbortedTxn> {
    index.entries().map(Result::unwrap).collect()
}

#[test]
fn the_file_is_kafkas_byte_for_byte_and_made_with_the_first_entry() {
    let fixture = Fixture::new();
    let index = fixture.empty();
    assert!(!fixture.dir.disk().exists(&fixture.path()));
    index.append(&aborted(7, 90, 101, 102)).unwrap();
    index.append(&aborted(8, 95, 111, 96)).unwrap();
    let entry = |fields: [i64; 4]| {
        [&0i16.to_be_bytes()[..], &fields.map(i64::to_be_bytes).concat()].concat()
    };
    let expected = [entry([7, 90, 101, 102]), entry([8, 95, 111, 96])].concat();
    assert_eq!(fixture.dir.disk().read(&fixture.path()).unwrap(), expected);
}

#[test]
fn a_file_that_makes_no_sense_is_refused() {
    let fixture = Fixture::new();
    let good = [aborted(7, 90, 101, 102).encode(), aborted(8, 95, 111, 96).encode()];
    assert!(fixture.holding(good.as_flattened()).is_ok());
    let swapped = [good[1], good[0]];
    let twice = [good[0], good[0]];
    let mut negative_version = good;
    negative_version[0][0] = 0xff;
    let of_an_earlier_segment = [aborted(7, 90, 99, 102).encode()];
    let ends_before_it_begins = [aborted(7, 105, 104, 102).encode()];
    let no_producer = [aborted(-1, 90, 101, 102).encode()];
    for (what, bytes) in [
        ("cut short", &good.as_flattened()[..67]),
        ("markers go back", swapped.as_flattened()),
        ("a marker twice", twice.as_flattened()),
        ("version", negative_version.as_flattened()),
        ("another segment's", of_an_earlier_segment.as_flattened()),
        ("ends before it begins", ends_before_it_begins.as_flattened()),
        ("no producer", no_producer.as_flattened()),
    ] {
        let error = fixture.holding(bytes).err().unwrap_or_else(|| panic!("{what} was taken"));
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{what}");
    }
}

#[test]
fn what_is_made_anew_takes_the_place_of_what_was_there() {
    let fixture = Fixture::new();
    let disk = fixture.dir.disk();
    let [first, second, third] =
        [aborted(7, 90, 101, 102), aborted(8, 95, 111, 96), aborted(9, 120, 130, 131)];
    let index = fixture.holding([first.encode(), second.encode()].as_flattened()).unwrap();
    index.keep_before(Offset(111)).unwrap();
    index.make_anew(disk, &[third]).unwrap();
    for index in [&index, &fixture.reopened().unwrap()] {
        assert_eq!(all(index), [first, third]);
    }
    index.keep_before(Offset(0)).unwrap();
    index.make_anew(disk, &[]).unwrap();
    assert!(index.len() == 0 && !disk.exists(&fixture.path()));
    index.doubt(disk).unwrap();
    assert_eq!(fixture.reopened().err().unwrap().kind(), io::ErrorKind::InvalidData);
    index.make_anew(disk, &[second]).unwrap();
    index.append(&third).unwrap();
    assert_eq!(all(&fixture.reopened().unwrap()), [second, third]);
}

#[test]
fn what_found_no_room_is_to_be_synced_once_it_is_in_the_file() {
    let faults = Arc::<Faults>::default();
    let fixture = Fixture::on(&faults);
    let index = fixture.empty();
    let entries = [aborted(7, 90, 101, 102), aborted(8, 95, 111, 96)];
    for entry in &entries {
        faults.leave_free(fixture.root.path(), Some(0));
        assert!(is_out_of_space(&index.append(entry).unwrap_err()));
        assert!(!index.take_unsynced(), "there is nothing to sync");
        faults.leave_free(fixture.root.path(), None);
        index.save().unwrap();
        assert!(index.take_unsynced());
    }
    assert_eq!(all(&fixture.reopened().unwrap()), entries);
}

#[test]
fn a_file_that_was_cut_while_it_was_open_is_an_error_and_no_answer() {
    let fixture = Fixture::new();
    let index = fixture.holding(&aborted(7, 90, 101, 102).encode()).unwrap();
    index.file.get().unwrap().set_len(10).unwrap();
    let error = index
        .collect_aborted_txns(Offset(0), Offset(200), &mut Vec::new(), Wait::ForDisk)
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

/// A history of transactions: who writes or ends one at each offset.
#[derive(Clone, Copy, Debug)]
enum Step {
    Write(i64),
    Commit(i64),
    Abort(i64),
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    let producer = 1i64..5;
    let step = prop_oneof![
        3 => producer.clone().prop_map(Step::Write),
        1 => producer.clone().prop_map(Step::Commit),
        2 => producer.prop_map(Step::Abort),
    ];
    prop::collection::vec(step, 0..400)
}

/// The entries of a history, which begins at the segment's base offset.
fn entries_of(history: &[Step]) -> Vec<AbortedTxn> {
    let mut open = std::collections::BTreeMap::new();
    let mut entries = Vec::new();
    for (offset, step) in (BASE..).zip(history) {
        match step {
            Step::Write(producer) => {
                open.entry(*producer).or_insert(offset);
            }
            Step::Commit(producer) => {
                open.remove(producer);
            }
            Step::Abort(producer) => {
                let Some(first) = open.remove(producer) else { continue };
                let stable = open.values().min().copied().unwrap_or(offset + 1);
                entries.push(aborted(*producer, first, offset, stable));
            }
        }
    }
    entries
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A reader learns of every aborted transaction that it may see a record of, and of none that
    /// ended before it or began after it.
    #[test]
    fn a_reader_learns_of_what_it_reads(
        history in history(), reads in prop::collection::vec((0i64..450, 1i64..450), 8), cut in 0i64..450,
    ) {
        let fixture = Fixture::new();
        let index = fixture.empty();
        let expected = entries_of(&history);
        for entry in &expected {
            index.append(entry).unwrap();
        }
        prop_assert_eq!(all(&index), &expected[..]);
        let reopened = fixture.reopened().unwrap();
        for (from, len) in reads {
            let (from, up_to) = (Offset(BASE + from), Offset(BASE + from + len));
            let wanted = expected.iter().copied();
            let wanted: Vec<_> =
                wanted.filter(|txn| txn.last_offset >= from && txn.first_offset < up_to).collect();
            for index in [&index, &reopened] {
                let mut found = Vec::new();
                let complete = index.collect_aborted_txns(from, up_to, &mut found, Wait::ForDisk).unwrap();
                prop_assert_eq!(&found, &wanted);
                // Whoever says that later segments have nothing must be right about this one.
                let open = expected.iter().any(|txn| txn.last_stable_offset >= up_to);
                prop_assert_eq!(complete, open);
            }
        }
        let cut = Offset(BASE + cut);
        reopened.truncate_to(cut).unwrap();
        let kept: Vec<_> = expected.into_iter().filter(|txn| txn.last_offset < cut).collect();
        prop_assert_eq!(all(&fixture.reopened().unwrap()), kept);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..140)) {
        let fixture = Fixture::new();
        if let Ok(index) = fixture.holding(&bytes) {
            prop_assert_eq!(all(&index).len() as u64 * ENTRY_LEN, bytes.len() as u64);
        }
    }
}
