//! No broker: what libraries draw behind our back. Replays only in a process of its own.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use ottla_env::Env;

use super::{Outcome, Setup, world_of};
use crate::node::Node;

/// Draws from hashers, from `select!` and from libc's clocks.
pub(super) fn run(setup: Setup) -> Result<Outcome> {
    let mut world = world_of(setup, Duration::from_secs(10));
    world.client("draws", draw);
    world.run()?;
    Ok(Outcome { hash: world.hash(), summary: "drew".to_owned() })
}

async fn draw(env: Env, node: Node) -> Result<()> {
    let mut chosen = Vec::new();
    for _ in 0..64 {
        // Both are ready: tokio chooses.
        chosen.push(tokio::select! {
            () = std::future::ready(()) => b'a',
            () = std::future::ready(()) => b'b',
        });
    }
    ensure!(chosen.contains(&b'a') && chosen.contains(&b'b'), "select! does not choose");
    node.fold(format_args!("select!"), &chosen);
    node.fold(format_args!("hashers {}", RandomState::new().hash_one("key")), &[]);

    let (instant, system) = (Instant::now(), SystemTime::now());
    env.clock.sleep(Duration::from_millis(100)).await;
    node.fold(format_args!("clocks {:?} {:?}", instant.elapsed(), system.elapsed()?), &[]);
    ensure!(instant.elapsed() == Duration::from_millis(100), "Instant tells another time");
    Ok(())
}
