//! The simulated world itself, by small programs that run in it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::cell::RefCell;
use std::io::IoSlice;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use ottla_env::{Disk, OpenMode};
use ottla_sim::{Crash, DiskFaults, EPOCH, EventLog, Scenario, Setup, Simulation};

const MINUTE: Duration = Duration::from_secs(60);

fn write(disk: &dyn Disk, path: &str, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
    disk.open(Path::new(path), OpenMode::Create)?.write_all_at(&mut [IoSlice::new(bytes)], offset)
}

#[test]
fn the_same_seed_gives_the_same_events_and_another_gives_others() {
    let talk = |seed| Scenario::Echo.run(Setup { seed, trace: false }).unwrap().hash;
    let hashes: Vec<u64> = (0..5).map(talk).collect();
    assert_eq!(hashes, (0..5).map(talk).collect::<Vec<_>>());
    let mut distinct = hashes.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), hashes.len(), "seeds change nothing: {hashes:x?}");
}

#[test]
fn time_is_virtual_and_the_wall_clock_starts_at_the_epoch() {
    let began = std::time::Instant::now();
    let mut world = Simulation::new(1, 10 * MINUTE, EventLog::new(false));
    world.client("late", |env, _| async move {
        let before = env.clock.now();
        env.clock.sleep(5 * MINUTE).await;
        ensure!(env.clock.now().since(before) >= 5 * MINUTE, "woke early");
        ensure!(env.clock.wall().0 >= EPOCH.0 + 300_000, "the wall clock stood still");
        ensure!(env.clock.wall().0 < EPOCH.0 + 301_000, "the wall clock ran away");
        Ok(())
    });
    world.run().unwrap();
    assert!(began.elapsed() < MINUTE, "five virtual minutes took {:?}", began.elapsed());
}

/// Runs `first` in the first life of a machine, crashes it, and gives what `second` answers in the
/// second life.
fn two_lives<R: 'static>(
    seed: u64,
    crash: Crash,
    first: impl Fn(&dyn Disk) -> std::io::Result<()> + 'static,
    second: impl Fn(&dyn Disk) -> R + 'static,
) -> R {
    let mut world = Simulation::new(seed, MINUTE, EventLog::new(false));
    let answer = Rc::new(RefCell::new(None));
    let (told, lives) = (answer.clone(), Rc::new(RefCell::new(0)));
    world
        .host(
            "store",
            |node| Ok(node.install_dir(Path::new("/data"))?),
            move |env| {
                *lives.borrow_mut() += 1;
                if *lives.borrow() == 1 {
                    first(&*env.disk).unwrap();
                } else {
                    told.replace(Some(second(&*env.disk)));
                }
                std::future::pending()
            },
        )
        .unwrap();
    world.client("waits", |env, _| async move {
        env.clock.sleep(Duration::from_secs(1)).await;
        Ok(())
    });
    world.run_for(Duration::from_millis(10)).unwrap();
    world.crash("store", crash).unwrap();
    world.restart("store").unwrap();
    world.run_for(Duration::from_millis(10)).unwrap();
    answer.take().unwrap()
}

#[test]
fn a_killed_process_loses_nothing_that_it_wrote() {
    for seed in 0..10 {
        let read = two_lives(
            seed,
            Crash::Process,
            |disk| {
                write(disk, "/data/log", 0, b"one")?;
                write(disk, "/data/log", 3, b"two")
            },
            |disk| disk.read(Path::new("/data/log")).unwrap(),
        );
        assert_eq!(read, b"onetwo");
    }
}

#[test]
fn a_power_loss_keeps_what_was_synced_and_plays_with_the_rest() {
    let synced = vec![b's'; 3000];
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let before = synced.clone();
        let read = two_lives(
            seed,
            Crash::PowerLoss,
            move |disk| {
                write(disk, "/data/log", 0, &before)?;
                disk.open(Path::new("/data/log"), OpenMode::ReadWrite)?.sync_data()?;
                disk.sync_dir(Path::new("/data"))?;
                write(disk, "/data/log", 3000, &[b'x'; 2000])?;
                write(disk, "/data/log", 5000, &[b'y'; 10])
            },
            |disk| disk.read(Path::new("/data/log")).unwrap(),
        );
        assert_eq!(read[..3000], synced, "seed {seed}");
        let xs = read.iter().filter(|byte| **byte == b'x').count();
        assert!(xs.is_multiple_of(512) || xs == 2000, "torn inside a sector: {xs}");
        outcomes.insert((read.len(), xs));
    }
    assert!(outcomes.contains(&(3000, 0)), "it never lost all: {outcomes:?}");
    assert!(outcomes.contains(&(5010, 2000)), "it never kept all: {outcomes:?}");
    assert!(outcomes.contains(&(5010, 0)), "it never reordered: {outcomes:?}");
    assert!(outcomes.iter().any(|(_, xs)| (1..2000).contains(xs)), "it never tore: {outcomes:?}");
}

#[test]
fn names_survive_a_power_loss_only_once_their_directory_was_synced() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let names = two_lives(
            seed,
            Crash::PowerLoss,
            |disk| {
                write(disk, "/data/kept", 0, b"k")?;
                disk.sync_dir(Path::new("/data"))?;
                write(disk, "/data/new", 0, b"n")?;
                disk.rename(Path::new("/data/kept"), Path::new("/data/renamed"))
            },
            |disk| {
                let listed = disk.read_dir(Path::new("/data")).unwrap();
                listed.into_iter().map(|entry| entry.name).collect::<Vec<_>>().join(" ")
            },
        );
        seen.insert(names);
    }
    let seen: Vec<_> = seen.iter().map(String::as_str).collect();
    assert_eq!(seen, ["kept", "kept new", "new renamed"]);
}

#[test]
fn an_atomic_write_is_old_or_new_wherever_the_node_dies() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let mut world = Simulation::new(seed, MINUTE, EventLog::new(false));
        let read = Rc::new(RefCell::new(Vec::new()));
        let told = read.clone();
        let path = Path::new("/data/checkpoint");
        let node = world
            .host(
                "store",
                |node| Ok(node.install_dir(Path::new("/data"))?),
                move |env| {
                    let told = told.clone();
                    async move {
                        if env.disk.exists(path) {
                            told.replace(env.disk.read(path)?);
                        } else {
                            env.disk.write_atomic(path, b"old")?;
                            env.clock.sleep(Duration::from_millis(20)).await;
                            // Fails in the middle: the node dies here.
                            env.disk.write_atomic(path, b"new and longer")?;
                        }
                        std::future::pending().await
                    }
                },
            )
            .unwrap();
        world.client("waits", |env, _| async move {
            env.clock.sleep(Duration::from_secs(1)).await;
            Ok(())
        });
        world.run_for(Duration::from_millis(10)).unwrap();
        let crash = if seed % 2 == 0 { Crash::PowerLoss } else { Crash::Process };
        node.die_after(seed % 5, crash);
        world.run_until(|world| !world.is_running("store")).unwrap();
        assert_eq!(node.died(), Some(crash));
        world.restart("store").unwrap();
        world.run_for(Duration::from_millis(10)).unwrap();
        seen.insert(String::from_utf8(read.take()).unwrap());
    }
    let seen: Vec<_> = seen.iter().map(String::as_str).collect();
    assert_eq!(seen, ["new and longer", "old"]);
}

#[test]
fn a_lock_dies_with_its_holder_and_the_dead_cannot_write() {
    let mut world = Simulation::new(3, MINUTE, EventLog::new(false));
    let ghosts = Rc::new(RefCell::new(Vec::new()));
    let kept = ghosts.clone();
    world
        .host(
            "store",
            |_| Ok(()),
            move |env| {
                let kept = kept.clone();
                async move {
                    let lock = env.disk.lock(Path::new("/.lock"))?;
                    ensure!(lock.is_some(), "still locked");
                    ensure!(env.disk.lock(Path::new("/.lock"))?.is_none(), "locked twice");
                    // Both outlive the crash, as a leak would.
                    kept.borrow_mut()
                        .push((env.disk.open(Path::new("/f"), OpenMode::Create)?, lock));
                    std::future::pending().await
                }
            },
        )
        .unwrap();
    world.client("waits", |env, _| async move {
        env.clock.sleep(Duration::from_secs(1)).await;
        Ok(())
    });
    world.run_for(Duration::from_millis(5)).unwrap();
    world.crash("store", Crash::Process).unwrap();
    world.restart("store").unwrap();
    world.run_for(Duration::from_millis(5)).unwrap();
    assert_eq!(ghosts.borrow().len(), 2, "the second life did not get the lock");
    let (dead, alive) = (ghosts.borrow()[0].0.clone(), ghosts.borrow()[1].0.clone());
    assert!(dead.write_all_at(&mut [IoSlice::new(b"ghost")], 0).is_err());
    assert_eq!(alive.len().unwrap(), 0);
}

#[test]
fn a_full_disk_takes_what_fits_and_a_failing_sync_says_so() {
    let mut world = Simulation::new(4, MINUTE, EventLog::new(false));
    let faults = DiskFaults { capacity: Some(10), sync_error: 1.0, ..DiskFaults::default() };
    world
        .host(
            "full",
            |node| {
                node.set_disk_faults(faults);
                Ok(())
            },
            |env| async move {
                write(&*env.disk, "/f", 0, b"12345678")?;
                let full = write(&*env.disk, "/f", 8, b"9abcdef").unwrap_err();
                ensure!(full.kind() == std::io::ErrorKind::StorageFull, "{full}");
                ensure!(env.disk.read(Path::new("/f"))? == b"123456789a", "not filled up");
                ensure!(env.disk.available_space(Path::new("/"))? == 0, "room in a full disk");
                let file = env.disk.open(Path::new("/f"), OpenMode::ReadWrite)?;
                ensure!(file.sync_data().is_err(), "a failing sync succeeded");
                Ok(())
            },
        )
        .unwrap();
    world.client("waits", |env, _| async move {
        env.clock.sleep(Duration::from_millis(10)).await;
        Ok(())
    });
    world.run().unwrap();
}
