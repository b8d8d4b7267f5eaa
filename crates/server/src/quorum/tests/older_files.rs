//! Files that earlier releases wrote.

use bytes::BufMut as _;
use crc_fast::crc32_iscsi as crc32c;

use super::*;

const DIRECTORY: Uuid = Uuid::from_bytes([9; 16]);

/// A slot of `quorum-state` as it was before voters had directories.
fn slot(sequence: u64, term: u64, flushed_end_offset: i64) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_slice(b"OTTLAQS1");
    out.put_u64(sequence);
    out.put_slice(CLUSTER.as_bytes());
    out.put_i32(1);
    out.put_u8(1 | 2); // voted, and that vote won
    out.put_u64(term);
    out.put_u64(1);
    out.put_u64(0); // nothing purged
    out.put_u64(0);
    out.put_i64(0);
    out.put_i64(flushed_end_offset);
    let crc = crc32c(&out);
    out.put_u32(crc);
    out.resize(512, 0);
    out
}

#[tokio::test]
async fn a_log_beside_a_quorum_state_without_a_directory_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (quorum, _) = start(dir.path()).await;
    quorum.propose(vec![record("kept")]).await.unwrap();
    let told = quorum.describe();
    quorum.shutdown().await.unwrap();
    let epoch = u64::from(told.leader.epoch.unsigned_abs());
    let path = dir.path().join(METADATA_LOG_DIR).join("quorum-state");
    // The newer slot counts.
    let slots = [slot(7, epoch, told.log_end_offset), slot(6, epoch - 1, 0)].concat();
    std::fs::write(&path, slots).unwrap();
    let contents = read_quorum_state(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!((contents.directory_id, contents.vote), (Uuid::ZERO, Some((epoch, 1, true))));

    let with_directory = || QuorumOptions { directory_id: DIRECTORY, ..options(dir.path()) };
    let (quorum, applied) = start_with(with_directory()).await;
    assert_eq!(applied.records(), [record("kept")]);
    let next = quorum.describe().leader.epoch;
    assert!(next > told.leader.epoch, "the vote of the older file counts: {next}");
    quorum.propose(vec![record("more")]).await.unwrap();
    quorum.shutdown().await.unwrap();
    drop(quorum);
    // From now on it knows its directory, and refuses another.
    let contents = read_quorum_state(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(contents.directory_id, DIRECTORY);
    let other = QuorumOptions { directory_id: Uuid::from_bytes([8; 16]), ..options(dir.path()) };
    assert!(refusal(other).await.contains("was written as directory"));
}

#[tokio::test]
async fn an_older_quorum_state_of_another_cluster_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (quorum, _) = start(dir.path()).await;
    quorum.shutdown().await.unwrap();
    drop(quorum);
    let path = dir.path().join(METADATA_LOG_DIR).join("quorum-state");
    std::fs::write(&path, [slot(1, 1, 0), vec![0; 512]].concat()).unwrap();
    let foreign = QuorumOptions { cluster_id: Uuid::from_bytes([5; 16]), ..options(dir.path()) };
    assert!(refusal(foreign).await.contains("belongs to node 1 of cluster"));
}
