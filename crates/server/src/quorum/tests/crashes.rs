//! One voter in the simulator, killed again and again in the middle of a write.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use ottla_env::Env;
use ottla_sim::{Crash, DiskFaults, EventLog, Node, Simulation};
use parking_lot::Mutex;

use super::{CLUSTER, NoTransport, Recorder, record};
use crate::quorum::{MetadataQuorum, QuorumOptions};

/// What clients were told is committed, with its offset.
type Acknowledged = Arc<Mutex<Vec<(i64, Bytes)>>>;

fn either(env: &Env) -> Crash {
    if env.rng.next_u64().is_multiple_of(4) { Crash::Process } else { Crash::PowerLoss }
}

/// A life: checks what the log brought back, then proposes until it dies.
async fn live(env: Env, node: Node, told: Acknowledged) -> anyhow::Result<Infallible> {
    node.die_after(env.rng.next_u64() % 120, either(&env));
    let failing = if env.rng.next_u64().is_multiple_of(4) { 0.02 } else { 0.0 };
    node.set_disk_faults(DiskFaults {
        write_error: failing,
        sync_error: failing,
        ..DiskFaults::default()
    });
    let options = QuorumOptions {
        max_bytes_between_snapshots: 400,
        segment_bytes: 300,
        max_retention_bytes: Some(1000),
        ..QuorumOptions::new(1, CLUSTER, PathBuf::from("/data"))
    };
    let applied = Recorder::default();
    let quorum =
        MetadataQuorum::start(env.clone(), options, applied.clone(), Arc::new(NoTransport)).await?;
    check(&applied.records(), &told);
    loop {
        env.clock.sleep(Duration::from_millis(1)).await;
        let proposals = (0..1 + env.rng.next_u64() % 4).map(|_| {
            let value = record(format!("{:x}", env.rng.next_u64()));
            let (quorum, told) = (&quorum, &told);
            async move {
                let committed = quorum.propose(vec![value.clone()]).await?;
                told.lock().push((committed.base_offset, value));
                anyhow::Ok(())
            }
        });
        for proposed in join_all(proposals).await {
            proposed?;
        }
    }
}

/// Everything acknowledged is there, once, in the order of its offsets.
fn check(applied: &[Bytes], told: &Acknowledged) {
    let mut told = told.lock();
    told.sort();
    let mut rest = applied.iter();
    for (offset, value) in told.iter() {
        assert!(rest.any(|applied| applied == value), "{value:?} at {offset} is lost or moved");
    }
    let mut unique = applied.to_vec();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), applied.len(), "something was applied twice");
}

/// Runs `lives` lives; answers the hash of all events and how much was acknowledged.
fn run(seed: u64, lives: u32) -> (u64, usize) {
    let mut world = Simulation::new(seed, Duration::from_secs(3600), EventLog::new(false));
    let told = Acknowledged::default();
    let machine = Arc::new(Mutex::new(None));
    let (this, acknowledged) = (Arc::clone(&machine), Arc::clone(&told));
    let prepare = |node: &Node| {
        node.install_dir(&PathBuf::from("/data"))?;
        *machine.lock() = Some(node.clone());
        Ok(())
    };
    let software = move |env: Env| {
        let (node, told) = (this.lock().clone(), Arc::clone(&acknowledged));
        async move {
            let node = node.unwrap();
            let Err(error) = live(env.clone(), node.clone(), told).await;
            if node.died().is_none() {
                // A fault of the disk, which the quorum does not survive, and a restart must.
                let why = format!("{error:#}");
                assert!(!why.contains("damaged") && !why.contains("lost a vote"), "{why}");
                // What the new process reads of a sync that failed need not be on the disk when the power goes later.
                node.die_after(0, Crash::Process);
                let _last = env.disk.write_atomic(&PathBuf::from("/data/last"), b"words");
            }
            // The simulator turns it off.
            std::future::pending().await
        }
    };
    world.host("controller", prepare, software).unwrap();
    for _ in 0..lives {
        while world.is_running("controller") {
            world.step().unwrap();
        }
        world.restart("controller").unwrap();
    }
    let told = told.lock().len();
    (world.hash(), told)
}

#[test]
fn nothing_acknowledged_is_lost_however_it_dies() {
    const LIVES: u32 = 25;
    let told: Vec<usize> = (0..20).map(|seed| run(seed, LIVES).1).collect();
    // How many a life manages depends on where in its writes it dies; on average it must manage a few (now 2.9).
    let few = 2 * told.len() * LIVES as usize;
    assert!(told.iter().sum::<usize>() > few, "{told:?} proposals are too few to mean anything");
}

#[test]
fn the_same_seed_is_the_same_run() {
    assert_eq!(run(42, 10), run(42, 10));
    assert_ne!(run(42, 10).0, run(43, 10).0);
}
