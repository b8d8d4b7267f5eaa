//! `ottla log` as a person or a script meets it: what it prints and what it ends with.
#![allow(clippy::disallowed_methods, reason = "tests look at files and run the program")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ottla_env::Env;
use ottla_protocol::Timestamp;
use ottla_protocol::record_batch::{NewRecord, RecordBatchBuilder};
use serde_json::Value;

const CHECKPOINTS: [&str; 3] = [
    "recovery-point-offset-checkpoint",
    "log-start-offset-checkpoint",
    "replication-offset-checkpoint",
];

/// A log directory with one partition of four records, as after a clean stop.
fn directory() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let partition = root.path().join("orders-0");
    std::fs::create_dir(&partition).unwrap();
    let mut log = Vec::new();
    for number in 0..4 {
        let mut batch = RecordBatchBuilder::new()
            .base_offset(ottla_protocol::Offset(number))
            .leader_epoch(ottla_protocol::LeaderEpoch(0));
        batch.append(&NewRecord {
            timestamp: Timestamp(1_795_202_400_000 + number),
            key: Some(format!("key {number}").as_bytes()),
            value: Some(b"a value"),
            headers: &[("trace", Some(b"7"))],
        });
        log.extend_from_slice(&batch.build());
    }
    std::fs::write(partition.join("00000000000000000000.log"), log).unwrap();
    std::fs::write(partition.join("leader-epoch-checkpoint"), "0\n1\n0 0\n").unwrap();
    for name in CHECKPOINTS {
        let offset = if name.starts_with("log-start") { 0 } else { 4 };
        std::fs::write(root.path().join(name), format!("0\n1\norders 0 {offset}\n")).unwrap();
    }
    let meta = "version=1\ncluster.id=c\nnode.id=1\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAQ\n";
    std::fs::write(root.path().join("meta.properties"), meta).unwrap();
    std::fs::write(root.path().join(".lock"), "").unwrap();
    root
}

fn log_file(root: &Path) -> PathBuf {
    root.join("orders-0/00000000000000000000.log")
}

fn flip(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

fn ottla(arguments: &[&str], path: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ottla"))
        .arg("log")
        .args(arguments)
        .arg(path)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn objects(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn verify_ends_with_zero_one_or_two() {
    let root = directory();
    let clean = ottla(&["verify"], root.path());
    assert_eq!(code(&clean), 0, "{}", text(&clean.stdout));
    assert!(text(&clean.stdout).contains("1 partition, 1 segment, 4 batches, 4 records"));
    flip(&log_file(root.path()), 2 * 91);
    let found = ottla(&["verify"], root.path());
    assert_eq!(code(&found), 1);
    let said = text(&found.stdout);
    assert!(said.contains("00000000000000000000.log at byte"), "{said}");
    assert!(said.contains("next: "), "{said}");
    let missing = ottla(&["verify"], &root.path().join("nowhere"));
    assert_eq!(code(&missing), 2);
    let said = text(&missing.stderr);
    assert!(said.contains("does not exist") && said.contains("next: "), "{said}");
    assert_eq!(code(&ottla(&["verify", "--no-such-option"], root.path())), 2);
}

#[test]
fn verify_answers_programs_in_json() {
    let root = directory();
    std::fs::write(root.path().join("meta.properties"), "version=1\n").unwrap();
    let found = objects(&ottla(&["verify", "--format", "json"], root.path()));
    assert_eq!(found[0]["problem"], "meta-properties");
    assert_eq!(found[0]["severity"], "error");
    assert!(found[0]["file"].as_str().unwrap().ends_with("meta.properties"));
    let summary = found.last().unwrap();
    assert_eq!((&summary["clean"], &summary["records"]), (&Value::Bool(false), &Value::from(4)));
}

#[test]
fn a_directory_whose_node_runs_is_refused() {
    let root = directory();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    let held = Env::os().disk.lock(&root.path().join(".lock")).unwrap().unwrap();
    for task in ["dump", "verify", "repair", "stats"] {
        for path in [root.path().to_owned(), root.path().join("orders-0")] {
            let refused = ottla(&[task], &path);
            assert_eq!(code(&refused), 2, "{task}");
            let said = text(&refused.stderr);
            assert!(said.contains("a node uses the directory"), "{task}: {said}");
            assert!(said.contains("stop the node"), "{task}: {said}");
        }
    }
    assert_eq!(code(&ottla(&["verify", "--while-running"], root.path())), 0);
    assert_eq!(code(&ottla(&["repair", "--while-running"], root.path())), 2);
    drop(held);
    assert_eq!(code(&ottla(&["verify"], root.path())), 0);
}

#[test]
fn dump_prints_batches_records_and_every_small_file() {
    let root = directory();
    let all = text(&ottla(&["dump", "--records"], root.path()).stdout);
    for part in [
        "cluster c  node 1",
        "orders-0  offset 4",
        "epoch 0 from offset 0",
        "offsets 3..=3  1 records",
        "2  2026-11-20T19:20:00.002Z  key \"key 2\"  value \"a value\"  trace: \"7\"",
    ] {
        assert!(all.contains(part), "{part} is not in\n{all}");
    }
    let some = ottla(
        &["dump", "--records", "--offsets", "1..3", "--format", "json"],
        &log_file(root.path()),
    );
    let offsets: Vec<_> = objects(&some)
        .into_iter()
        .filter(|object| object["kind"] == "record")
        .map(|object| (object["offset"].as_i64().unwrap(), object["key"].clone()))
        .collect();
    assert_eq!(offsets, [(1, Value::from("key 1")), (2, Value::from("key 2"))]);
}

#[test]
fn dump_goes_on_behind_damage_and_says_where_it_is() {
    let root = directory();
    let file = log_file(root.path());
    let size = std::fs::metadata(&file).unwrap().len() as usize / 4;
    flip(&file, size + 70);
    let dumped = ottla(&["dump"], &file);
    assert_eq!(code(&dumped), 1);
    let said = text(&dumped.stdout);
    assert!(said.contains(&format!("byte {size}  DAMAGED: the checksum")), "{said}");
    assert!(said.contains("offsets 3..=3"), "{said}");
}

#[test]
fn repair_shows_first_and_acts_only_when_told() {
    let root = directory();
    let file = log_file(root.path());
    let whole = std::fs::read(&file).unwrap();
    let size = whole.len() / 4;
    flip(&file, 2 * size + 70);
    let damaged = std::fs::read(&file).unwrap();
    let shown = ottla(&["repair"], root.path());
    assert_eq!(code(&shown), 1);
    let said = text(&shown.stdout);
    assert!(said.contains("the log will end at offset 2; offsets 2 to 3 go"), "{said}");
    assert!(said.contains("add --yes"), "{said}");
    assert_eq!(std::fs::read(&file).unwrap(), damaged, "nothing is changed");

    let done = ottla(&["repair", "--yes"], root.path());
    assert_eq!(code(&done), 0, "{}{}", text(&done.stdout), text(&done.stderr));
    assert_eq!(std::fs::read(&file).unwrap(), whole[..2 * size]);
    let kept = root.path().join(format!("orders-0/00000000000000000000.log.{}.corrupt", 2 * size));
    assert_eq!(std::fs::read(&kept).unwrap(), damaged[2 * size..]);
    let checkpoint = std::fs::read_to_string(root.path().join(CHECKPOINTS[0])).unwrap();
    assert_eq!(checkpoint, "0\n1\norders 0 2\n", "the recovery point lies within the log");
    assert_eq!(code(&ottla(&["verify"], root.path())), 0);
    // What was set aside can still be looked at.
    let said = text(&ottla(&["dump", "--records"], &kept).stdout);
    assert!(said.contains("key \"key 3\""), "{said}");
    assert!(text(&ottla(&["repair"], root.path()).stdout).contains("nothing is to be repaired"));
}

#[test]
fn stats_are_a_table_or_objects() {
    let root = directory();
    let table = text(&ottla(&["stats"], root.path()).stdout);
    assert!(table.contains("compactable") && table.contains("orders-0"), "{table}");
    let line = &objects(&ottla(&["stats", "--by", "topic", "--format", "json"], root.path()))[0];
    assert_eq!((&line["name"], &line["records"]), (&Value::from("orders"), &Value::from(4)));
}

/// `kafka-dump-log` on the log of [`directory`].
fn kafka_dump_log(root: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
    command.args(["kafka-dump-log", "--files"]).arg(log_file(root)).args(options);
    command.output().unwrap()
}

#[test]
fn a_batch_that_was_changed_is_shown_by_kafkas_name_with_what_is_wrong() {
    let root = directory();
    let sound = text(&kafka_dump_log(root.path(), &["--print-data-log"]).stdout);
    let lines: Vec<&str> = sound.lines().collect();
    assert_eq!(lines[1], "Log starting offset: 0");
    assert!(lines[2].starts_with("baseOffset: 0 lastOffset: 0 count: 1 "), "{sound}");
    assert!(lines[2].ends_with(" isvalid: true"), "{sound}");
    assert_eq!(
        lines[3],
        "| offset: 0 CreateTime: 1795202400000 keySize: 5 valueSize: 7 sequence: -1 headerKeys: [trace] key: key 0 payload: a value"
    );
    let end = std::fs::metadata(log_file(root.path())).unwrap().len() as usize;
    flip(&log_file(root.path()), end - 1);
    let changed = kafka_dump_log(root.path(), &[]);
    assert_eq!(code(&changed), 0);
    let said = text(&changed.stdout);
    let valid: Vec<bool> = said.lines().skip(2).map(|line| line.ends_with(": true")).collect();
    assert_eq!(valid, [true, true, true, false], "{said}");
}

#[test]
fn bytes_behind_the_last_batch_are_counted_by_kafkas_name() {
    let root = directory();
    let mut bytes = std::fs::read(log_file(root.path())).unwrap();
    let cut = bytes.len() - 3;
    bytes.truncate(cut);
    std::fs::write(log_file(root.path()), bytes).unwrap();
    let said = text(&kafka_dump_log(root.path(), &[]).stdout);
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("Found ") && last.contains(" invalid bytes at the end of "), "{said}");
}

#[test]
fn what_kafkas_dump_can_decode_and_this_one_cannot_is_refused() {
    let root = directory();
    for (option, word) in
        [("--share-group-state-decoder", "KIP-932"), ("--remote-log-metadata-decoder", "KIP-405")]
    {
        let refused = kafka_dump_log(root.path(), &[option]);
        assert_eq!(code(&refused), 1);
        assert!(text(&refused.stderr).contains(word), "{}", text(&refused.stderr));
    }
}
