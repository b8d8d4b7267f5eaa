//! The quorum as a whole, on the real disk; and openraft's own tests of its storage.
#![allow(
    clippy::disallowed_methods,
    reason = "tests look at and damage files behind the quorum's back"
)]

mod bootstrap;
mod chaos;
mod cluster;
mod crashes;
mod followers;
mod foreign_bytes;
mod older_files;
mod retention;
mod several_voters;
mod voter_changes;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use ottla_env::Env;
use ottla_protocol::Uuid;
use parking_lot::Mutex;
use tempfile::TempDir;

use super::log_storage::LogStorage;
use super::quorum_state::Owner;
use super::raft_config::{MetadataRaft, Runtime};
use super::state_machine::{Progress, SnapshotDue, StateMachine};
use super::*;

/// Keeps what it is given, in order.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Recorded>>);

#[derive(Default)]
struct Recorded {
    records: Vec<Bytes>,
    batches: Vec<CommittedBatch>,
    /// How often something was shown.
    publications: usize,
    installs: usize,
}

impl Recorder {
    fn records(&self) -> Vec<Bytes> {
        self.0.lock().records.clone()
    }
}

/// A record that no recorder can apply.
const UNKNOWN: &str = "of a later release";

impl MetadataApplier for Recorder {
    fn apply(&mut self, batch: CommittedBatch) -> Result<(), CannotApply> {
        if batch.records.contains(&record(UNKNOWN)) {
            return Err(CannotApply(UNKNOWN.to_owned()));
        }
        let mut recorded = self.0.lock();
        recorded.records.extend(batch.records.iter().cloned());
        recorded.batches.push(batch);
        Ok(())
    }
    fn publish(&mut self) {
        self.0.lock().publications += 1;
    }
    fn snapshot(&self) -> Vec<Bytes> {
        self.records()
    }
    fn install(
        &mut self,
        records: Vec<Bytes>,
        _end_offset: i64,
        _epoch: i32,
    ) -> Result<(), CannotApply> {
        let mut recorded = self.0.lock();
        recorded.records = records;
        recorded.installs += 1;
        Ok(())
    }
}

/// The transport of a quorum of one, which has nobody to talk to.
struct NoTransport;

impl VoterTransport for NoTransport {
    fn call(&self, _: &Voter, _: Bytes, _: Duration) -> BoxFuture<'static, io::Result<Bytes>> {
        async { Err(io::Error::from(io::ErrorKind::NotConnected)) }.boxed()
    }
}

const CLUSTER: Uuid = Uuid::from_bytes([7; 16]);

fn options(dir: &Path) -> QuorumOptions {
    QuorumOptions::new(1, CLUSTER, dir.to_owned())
}

fn voters(ids: &[i32]) -> Vec<Voter> {
    ids.iter().map(|id| Voter { node_id: *id, host: format!("node-{id}"), port: 9093 }).collect()
}

async fn start(dir: &Path) -> (MetadataQuorum, Recorder) {
    start_with(options(dir)).await
}

async fn start_with(options: QuorumOptions) -> (MetadataQuorum, Recorder) {
    let applier = Recorder::default();
    let quorum = MetadataQuorum::start(Env::os(), options, applier.clone(), Arc::new(NoTransport))
        .await
        .unwrap();
    (quorum, applier)
}

async fn refusal(options: QuorumOptions) -> String {
    match MetadataQuorum::start(Env::os(), options, Recorder::default(), Arc::new(NoTransport))
        .await
    {
        Ok(_) => panic!("it started"),
        Err(error) => error.to_string(),
    }
}

fn record(text: impl Into<String>) -> Bytes {
    Bytes::from(text.into())
}

/// The directory as a power loss at this moment would leave it, had everything been synced.
fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    let log = to.path().join(METADATA_LOG_DIR);
    std::fs::create_dir_all(&log).unwrap();
    for entry in std::fs::read_dir(from.join(METADATA_LOG_DIR)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), log.join(entry.file_name())).unwrap();
    }
    to
}

fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir.join(METADATA_LOG_DIR))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(suffix))
        .collect();
    files.sort();
    files
}

fn base_offset(segment: &Path) -> i64 {
    segment.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_was_proposed_is_applied_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (quorum, applied) = start(dir.path()).await;
    assert_eq!(*quorum.leader().borrow(), LeaderAndEpoch { leader: Some(1), epoch: 1 });
    let first = quorum.propose(vec![record("a"), record("b")]).await.unwrap();
    let second = quorum.propose(vec![record("c")]).await.unwrap();
    // Offset 0 says who votes, offset 1 who leads.
    assert_eq!(first, Committed { base_offset: 2, last_offset: 3, epoch: 1 });
    assert_eq!(second, Committed { base_offset: 4, last_offset: 4, epoch: 1 });
    let expected = vec![record("a"), record("b"), record("c")];
    assert_eq!(applied.records(), expected);
    quorum.shutdown().await.unwrap();

    let (quorum, applied) = start(dir.path()).await;
    assert_eq!(applied.records(), expected);
    assert_eq!(*quorum.leader().borrow(), LeaderAndEpoch { leader: Some(1), epoch: 2 });
    let third = quorum.propose(vec![record("d")]).await.unwrap();
    assert_eq!(third, Committed { base_offset: 6, last_offset: 6, epoch: 2 });
    let described = quorum.describe();
    assert_eq!((described.high_watermark, described.log_end_offset), (7, 7));
    quorum.read_barrier().await.unwrap();
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_in_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let (quorum, _) = start(dir.path()).await;
    for number in 0..20 {
        quorum.propose(vec![record(format!("{number}"))]).await.unwrap();
        let crashed = copy(dir.path());
        let (_after, applied) = start(crashed.path()).await;
        let expected: Vec<_> = (0..=number).map(|n| record(format!("{n}"))).collect();
        assert_eq!(applied.records(), expected);
    }
    drop(quorum);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_proposals_are_applied_in_offset_order() {
    let dir = tempfile::tempdir().unwrap();
    let (quorum, applied) = start(dir.path()).await;
    let quorum = Arc::new(quorum);
    let proposals = (0..200).map(|number| {
        let quorum = Arc::clone(&quorum);
        async move { (number, quorum.propose(vec![record(format!("{number}")); 3]).await.unwrap()) }
    });
    let mut committed = futures_util::future::join_all(proposals).await;
    committed.sort_by_key(|(_, at)| at.base_offset);
    let batches = &applied.0.lock().batches;
    assert_eq!(batches.len(), 200);
    for ((number, at), batch) in committed.iter().zip(batches) {
        assert_eq!((at.base_offset, at.last_offset), (batch.base_offset, batch.base_offset + 2));
        assert_eq!(batch.records, vec![record(format!("{number}")); 3]);
    }
}

#[tokio::test]
async fn a_snapshot_replaces_the_log_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let small = QuorumOptions {
        max_bytes_between_snapshots: 10_000,
        max_retention_bytes: Some(0),
        segment_bytes: 4_000,
        ..options(dir.path())
    };
    let (quorum, _) = start_with(small.clone()).await;
    let big = "x".repeat(1000);
    for number in 0..35 {
        quorum.propose(vec![record(format!("{number}{big}"))]).await.unwrap();
    }
    wait_until(|| quorum.describe().log_start_offset > 30).await;
    let (start, end) = (quorum.describe().log_start_offset, quorum.describe().log_end_offset);
    // The log goes first.
    wait_until(|| files(dir.path(), ".checkpoint").len() == 1).await;
    let segments = files(dir.path(), ".log");
    // The first may begin before what is left.
    assert!(segments.iter().skip(1).all(|it| base_offset(it) > start), "{start}: {segments:?}");
    quorum.shutdown().await.unwrap();

    let expected: Vec<_> = (0..35).map(|number| record(format!("{number}{big}"))).collect();
    for _ in 0..2 {
        let (quorum, applied) = start_with(small.clone()).await;
        assert_eq!(applied.records(), expected);
        assert_eq!(applied.0.lock().installs, 1);
        assert!(quorum.describe().log_end_offset > end);
        quorum.shutdown().await.unwrap();
    }
    // Even with the log gone, the snapshot alone carries the state and the offsets.
    for file in files(dir.path(), ".log") {
        std::fs::remove_file(file).unwrap();
    }
    let why = refusal(small).await;
    assert!(why.contains("had been written to disk and cannot be read"), "{why}");
}

#[tokio::test]
async fn a_snapshot_can_be_taken_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let nothing_else = QuorumOptions { max_retention_bytes: Some(0), ..options(dir.path()) };
    let (quorum, _) = start_with(nothing_else).await;
    quorum.propose(vec![record("a")]).await.unwrap();
    quorum.take_snapshot().await.unwrap();
    wait_until(|| quorum.describe().log_start_offset == 3).await;
    assert!(
        files(dir.path(), ".checkpoint")[0].ends_with("00000000000000000003-0000000001.checkpoint")
    );
    quorum.shutdown().await.unwrap();
    let (_quorum, applied) = start(dir.path()).await;
    assert_eq!(applied.records(), [record("a")]);
}

async fn wait_until(condition: impl Fn() -> bool) {
    let clock = Env::os().clock;
    for _ in 0..2000 {
        if condition() {
            return;
        }
        clock.sleep(Duration::from_millis(2)).await;
    }
    panic!("it never came true");
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_damage_before_it_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (quorum, _) = start(dir.path()).await;
    for number in 0..10 {
        quorum.propose(vec![record(format!("{number}"))]).await.unwrap();
    }
    quorum.shutdown().await.unwrap();
    let log = files(dir.path(), ".log").remove(0);
    let whole = std::fs::read(&log).unwrap();

    // A batch that never was flushed: its beginning only.
    let mut torn = whole.clone();
    torn.extend_from_slice(&whole[..80]);
    std::fs::write(&log, &torn).unwrap();
    let (quorum, applied) = start(dir.path()).await;
    assert_eq!(applied.records().len(), 10);
    quorum.shutdown().await.unwrap();

    let whole = std::fs::read(&log).unwrap();
    for flipped in [70, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[flipped] ^= 1;
        std::fs::write(&log, &damaged).unwrap();
        let why = refusal(options(dir.path())).await;
        assert!(why.contains("the metadata log is damaged"), "{why}");
        assert_eq!(std::fs::read(&log).unwrap(), damaged, "evidence is left alone");
    }
    std::fs::write(&log, &whole[..whole.len() - 1]).unwrap();
    let why = refusal(options(dir.path())).await;
    assert!(why.contains("the metadata log is damaged"), "{why}");
}

#[tokio::test]
async fn a_damaged_vote_is_refused_and_a_torn_one_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (quorum, _) = start(dir.path()).await;
    quorum.shutdown().await.unwrap();
    let path = files(dir.path(), "quorum-state").remove(0);
    let whole = std::fs::read(&path).unwrap();
    let zeros = vec![0; whole.len()];
    std::fs::write(&path, &zeros).unwrap();
    let why = refusal(options(dir.path())).await;
    assert!(why.contains("holds no valid vote"), "{why}");

    // Both slots lost their vote of epoch 1, yet the log has a batch of it.
    std::fs::remove_file(&path).unwrap();
    let why = refusal(options(dir.path())).await;
    assert!(why.contains("epoch 1"), "{why}");
}

#[tokio::test]
async fn what_cannot_be_served_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (quorum, _) = start(dir.path()).await;
    assert_eq!(quorum.propose(vec![]).await, Err(ProposeError::Empty));
    let large = Bytes::from(vec![0; MAX_PROPOSAL_BYTES]);
    let bytes = MAX_PROPOSAL_BYTES + 1;
    let too_large = quorum.propose(vec![large, record("x")]).await;
    assert_eq!(too_large, Err(ProposeError::TooLarge { bytes }));
    quorum.shutdown().await.unwrap();

    let other = QuorumOptions { cluster_id: Uuid::from_bytes([8; 16]), ..options(dir.path()) };
    assert!(refusal(other).await.contains("belongs to node 1"));
}

#[tokio::test]
async fn the_leader_watch_closes_when_the_quorum_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (quorum, _) = start(dir.path()).await;
    let mut leader = quorum.leader();
    quorum.shutdown().await.unwrap();
    while leader.changed().await.is_ok() {}
}

#[tokio::test]
async fn a_record_that_cannot_be_applied_stops_it() {
    let dir = tempfile::tempdir().unwrap();
    let (quorum, applied) = start(dir.path()).await;
    let mut leader = quorum.leader();
    quorum.propose(vec![record("a")]).await.unwrap();
    let failed = quorum.propose(vec![record(UNKNOWN)]).await;
    assert!(
        matches!(&failed, Err(ProposeError::Fault(why)) if why.contains(UNKNOWN)),
        "{failed:?}"
    );
    while leader.changed().await.is_ok() {}
    assert!(quorum.why_stopped().contains(UNKNOWN), "{}", quorum.why_stopped());
    assert_eq!(applied.records(), [record("a")]);
    // No snapshot can be without it.
    quorum.take_snapshot().await.unwrap_err();
    assert_eq!(files(dir.path(), ".checkpoint").len(), 0);
    drop(quorum);

    let why = refusal(options(dir.path())).await;
    assert!(why.contains("Start the release that wrote it"), "{why}");
}

/// A fresh directory for each of openraft's tests.
struct Fresh;

impl StoreBuilder<MetadataRaft, LogStorage, StateMachine, TempDir> for Fresh {
    async fn build(
        &self,
    ) -> Result<(TempDir, LogStorage, StateMachine), StorageError<MetadataRaft>> {
        let env = Env::os();
        let dir = tempfile::tempdir().unwrap();
        let owner = Owner { cluster_id: CLUSTER, node_id: 0, directory_id: Uuid::ZERO };
        let storage = LogStorage::open(&env, dir.path(), owner, (1 << 20, Duration::MAX)).unwrap();
        let state_machine = StateMachine::new(
            (env, dir.path().join(METADATA_LOG_DIR)),
            Box::new(Recorder::default()),
            SnapshotDue { bytes: u64::MAX, interval: None },
            Arc::new(Progress::default()),
            storage.clone(),
        );
        Ok((dir, storage, state_machine))
    }
}

#[tokio::test]
async fn openraft_finds_nothing_wrong_with_the_storage() -> io::Result<()> {
    Runtime::scope(1, Suite::test_all(Fresh)).await.map_err(io::Error::other)
}

/// Numbers for docs/adr/0003: `cargo test -p ottla-server quorum -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure() {
    let env = Env::os();
    let dir = tempfile::tempdir_in(".").unwrap();
    for _ in 0..3 {
        let began = env.clock.now();
        let (quorum, _) = start(dir.path()).await;
        println!("start: {:?}", env.clock.now().since(began));
        let began = env.clock.now();
        for _ in 0..1000 {
            quorum.propose(vec![Bytes::from(vec![1; 100])]).await.unwrap();
        }
        println!("propose: {:?}", env.clock.now().since(began) / 1000);
        let before = wakeups();
        env.clock.sleep(Duration::from_secs(5)).await;
        println!("context switches in 5 s idle: {}", wakeups() - before);
        quorum.shutdown().await.unwrap();
    }
}

/// Context switches of all threads of this process so far.
fn wakeups() -> u64 {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).ok())
        .flat_map(|status| status.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| line.split_once("ctxt_switches:").map(|(_, n)| n.trim().to_owned()))
        .filter_map(|count| count.parse::<u64>().ok())
        .sum()
}
