//! No broker: an echo over files, to try the world itself.

use std::io::IoSlice;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ottla_env::{Env, OpenMode, send_file};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Outcome, world_of};
use crate::node::Node;
use crate::power::Crash;
use crate::scenario::Setup;

const DATA: &str = "/data";

/// Two clients talk to an echo that loses power and comes back.
pub(super) fn run(setup: Setup) -> Result<Outcome> {
    let mut world = world_of(setup, Duration::from_secs(60));
    world.host("echo", |node| Ok(node.install_dir(Path::new(DATA))?), echo)?;
    for name in ["ann", "bob"] {
        world.client(name, talk);
    }
    let life = Duration::from_millis(30 + world.rng.below(100));
    ensure!(!world.run_for(life)?, "it ended before the crash");
    world.crash("echo", Crash::PowerLoss)?;
    world.run_for(Duration::from_millis(500))?;
    world.restart("echo")?;
    world.run()?;
    Ok(Outcome { hash: world.hash(), summary: "echoed".to_owned() })
}

/// Answers every connection with what it sends, from a file it was put into.
async fn echo(env: Env) -> Result<()> {
    let mut listener = env.net.listen("0.0.0.0:7", 16).await?;
    loop {
        let (mut stream, peer) = listener.accept().await?;
        let path = Path::new(DATA).join(peer.port().to_string());
        let file = env.disk.open(&path, OpenMode::Create)?;
        env.spawn("echo", async move {
            let mut at = 0;
            let mut buffer = vec![0; 1000];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                let kept = file.write_all_at(&mut [IoSlice::new(&buffer[..count])], at);
                if kept.is_err() || send_file(&mut *stream, &*file, at, count).await.is_err() {
                    return;
                }
                at += count as u64;
            }
        });
    }
}

/// Says the same until the echo lives long enough to answer all of it.
async fn talk(env: Env, node: Node) -> Result<()> {
    loop {
        let outcome = say(&env).await;
        let error = outcome.as_ref().err().map(ToString::to_string);
        node.fold(format_args!("said {error:?}"), &[]);
        match outcome {
            Ok(()) => return Ok(()),
            Err(_) => env.clock.sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Sends random bytes and expects them back.
async fn say(env: &Env) -> Result<()> {
    let mut stream = env.net.connect("echo:7").await?;
    for _ in 0..20 {
        let said: Vec<u8> = (0..env.rng.next_u64() % 3000).map(|i| i as u8).collect();
        let mut heard = vec![0; said.len()];
        stream.write_all(&said).await?;
        let read = env.timeout(Duration::from_secs(2), stream.read_exact(&mut heard)).await;
        read.ok().with_context(|| format!("no echo of {} bytes", said.len()))??;
        ensure!(heard == said, "a different echo");
    }
    stream.shutdown().await?;
    ensure!(stream.read(&mut [0; 1]).await? == 0, "more than was said");
    Ok(())
}
