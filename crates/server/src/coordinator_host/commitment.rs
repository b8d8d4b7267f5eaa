//! When what a coordinator tells of is committed: nobody hears of it before.

use std::sync::Arc;
use std::time::Duration;

use ottla_coordinator::group::append_error;
use ottla_env::{BoxFuture, Env};
use ottla_protocol::{ErrorCode, LeaderEpoch, Offset};
use tokio::sync::watch;

use crate::replica::Partition;

/// Completes when what an answer tells of is committed, or with what its client is told instead.
pub(crate) type Committing = BoxFuture<'static, Result<(), ErrorCode>>;

/// What it takes to wait: the same for everything that one shard decides.
pub(super) struct Commitments {
    env: Env,
    /// `offsets.commit.timeout.ms`.
    timeout: Duration,
    partition: Arc<Partition>,
    /// In which this broker was elected: what is committed in another may be the work of another coordinator.
    epoch: LeaderEpoch,
    resigned: watch::Sender<bool>,
}

impl Commitments {
    pub(super) fn new(env: Env, timeout: Duration, partition: Arc<Partition>) -> Self {
        let epoch = partition.leader_epoch();
        Self { env, timeout, partition, epoch, resigned: watch::Sender::new(false) }
    }

    pub(super) fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Whether this broker still leads in the epoch of the shard.
    pub(super) fn leads(&self) -> bool {
        self.partition.leads_in(self.epoch)
    }

    /// Whoever waits is told to look for the coordinator elsewhere.
    pub(super) fn give_up(&self) {
        self.resigned.send_replace(true);
    }

    /// Waits until everything before `end` is committed; `None` if it is.
    ///
    /// `NOT_COORDINATOR` once the leadership is lost, `COORDINATOR_NOT_AVAILABLE` when `offsets.commit.timeout.ms` is over.
    pub(super) fn wait(&self, end: Offset) -> Option<Committing> {
        if self.partition.high_watermark() >= end && self.leads() {
            return None;
        }
        let (env, timeout) = (self.env.clone(), self.timeout);
        let (partition, epoch) = (Arc::clone(&self.partition), self.epoch);
        let mut resigned = self.resigned.subscribe();
        Some(Box::pin(async move {
            let lost = async {
                // An error means that the shard itself is gone.
                let _told_or_gone = resigned.wait_for(|resigned| *resigned).await;
            };
            let waiting = async {
                tokio::select! {
                    biased;
                    () = lost => Err(ErrorCode::NotLeaderOrFollower),
                    committed = partition.wait_high_watermark(epoch, end) => committed,
                }
            };
            let waited = env.timeout(timeout, waiting).await;
            waited.unwrap_or(Err(ErrorCode::RequestTimedOut)).map_err(append_error)
        }))
    }
}
