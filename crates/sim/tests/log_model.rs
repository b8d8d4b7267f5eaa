//! Ten thousand random histories of a log against the model. A million: `cargo run --profile quick -p
//! ottla-sim -- --scenario log-model --seeds 1000000 --jobs 2`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::sync::atomic::{AtomicU64, Ordering};

use ottla_sim::log_model::run_seed;

const HISTORIES: u64 = 10_000;

#[test]
fn a_log_is_what_the_model_says() {
    // A panic is shown with the history that led to it.
    std::panic::set_hook(Box::new(|_| {}));
    let next = AtomicU64::new(0);
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= HISTORIES {
            return Ok(());
        }
        if let Err(broken) = run_seed(seed, false) {
            next.store(HISTORIES, Ordering::Relaxed);
            return Err(broken);
        }
    };
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let broken = std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        jobs.into_iter().find_map(|job| job.join().unwrap().err())
    });
    let _default = std::panic::take_hook();
    assert!(broken.is_none(), "{:#}", broken.unwrap());
}

/// Found by millions of histories, each with what it showed.
#[test]
fn histories_that_once_failed() {
    for (seed, what) in [
        (
            531_005_729_253,
            "one index made anew beside an old one, and a checkpoint vouched for both",
        ),
        (5_781_345_052, "a snapshot told of a transaction whose end a crash had taken"),
        (494_207_813_788, "a truncation that a crash interrupted was undone after new records"),
        (619_283_680_700, "a producer's last batch that the power left was cleaned away"),
        (1_049_828_905_387, "the mark of a clean stop came back with the power"),
        (186_838_776_664, "a gap was taken for a loss where a crash interrupted a truncation"),
        (602_547_035_554, "a segment sealed at the recovery point had lost its largest timestamp"),
    ] {
        let broken = run_seed(seed, false).err();
        assert!(broken.is_none(), "{what}: {:#}", broken.unwrap());
    }
}
