//! A cluster whose nodes are killed one after the other, each as soon as the one before is back in sync; when all had
//! their turn there is a calm.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::cluster::{Cluster, NODES};

/// A coordinator begins every session anew when it takes over, so a member that died is only missed where one stays for the
/// shortest session that there is, 6 s.
const CALM: Duration = Duration::from_secs(8);

/// The killing goes on until it is told to end.
pub(super) struct Kills {
    bootstrap: String,
    metrics_urls: String,
    ended: Arc<AtomicBool>,
    killing: JoinHandle<Result<(Cluster, usize)>>,
}

impl Kills {
    /// Starts a cluster with its data below the folder, and begins.
    pub(super) fn start(folder: &Path) -> Result<Self> {
        Ok(Self::begin(Cluster::start(folder)?))
    }

    fn begin(mut cluster: Cluster) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (bootstrap, metrics_urls) = (cluster.bootstrap(), cluster.metrics_urls());
        let seen = ended.clone();
        let killing = std::thread::spawn(move || {
            let mut count = 0;
            for id in (1..=NODES).cycle() {
                if seen.load(Ordering::Relaxed) {
                    break;
                }
                cluster.kill(id)?;
                cluster.start_again(id)?;
                cluster.wait_until_well()?;
                count += 1;
                if id == NODES {
                    // An ear for the end all the while.
                    std::thread::park_timeout(CALM);
                }
            }
            Ok((cluster, count))
        });
        Self { bootstrap, metrics_urls, ended, killing }
    }

    /// All nodes.
    pub(super) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Where they tell their metrics, with blanks between.
    pub(super) fn metrics_urls(&self) -> &str {
        &self.metrics_urls
    }

    /// Ends the killing; all nodes run and are in sync then.
    fn end(self) -> Result<Cluster> {
        self.ended.store(true, Ordering::Relaxed);
        self.killing.thread().unpark();
        let (cluster, count) =
            self.killing.join().map_err(|_| anyhow!("whoever kills nodes has panicked"))??;
        println!("  {count} times a node was killed meanwhile");
        Ok(cluster)
    }

    /// Stops all nodes and starts them again on what they have.
    pub(super) fn restart(self) -> Result<Self> {
        let mut cluster = self.end()?;
        cluster.stop_all()?;
        cluster.start_all()?;
        Ok(Self::begin(cluster))
    }

    /// Stops all nodes in good order.
    pub(super) fn stop(self) -> Result<()> {
        self.end()?.stop_all()
    }
}
