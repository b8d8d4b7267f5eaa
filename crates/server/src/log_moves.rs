//! Logs on their way from one directory of `log.dirs` to another while they are written (KIP-113). Kafka's
//! `ReplicaAlterLogDirsManager`.

use std::sync::{Arc, Weak};
use std::time::Duration;

use ottla_env::Env;
use ottla_storage::{LogDir, LogDirFailure, LogMove, MoveError};
use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::broker::Broker;
use crate::log_dirs::tell_placements;
use crate::replica::{Partition, Placement};

/// Bytes copied in one job, if nothing slows the copy down.
const STEP_BYTES: u64 = 32 << 20;
/// A copy that is so few bytes behind takes the log's place: nothing is appended while it catches up.
const NEARLY_THERE: u64 = 1 << 20;
/// As often it is brought to the disk in the hope that little is written meanwhile; then it takes the log's place anyway.
const MAX_ROUNDS: usize = 10;

/// How many logs move at once.
pub(crate) struct LogMoves {
    turns: Arc<Semaphore>,
}

impl LogMoves {
    /// As many as `num.replica.alter.log.dirs.threads`.
    pub(crate) fn new(at_once: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(at_once.clamp(1, Semaphore::MAX_PERMITS))) }
    }
}

/// Has the log of a partition move into `dir`; what was asked for before is given up. Returns when the move has begun.
/// Blocks on the disk.
pub(crate) fn begin(
    broker: &Arc<Broker>,
    partition: &Arc<Partition>,
    dir: &Arc<LogDir>,
) -> Result<(), LogDirFailure> {
    let logs = broker.logs();
    if let Some(other) = logs.move_of(partition.name()) {
        if Arc::ptr_eq(other.future().log_dir(), dir) {
            return Ok(());
        }
        logs.cancel_move(&other);
    }
    let log = Arc::clone(&partition.log());
    if Arc::ptr_eq(log.log_dir(), dir) {
        return Ok(());
    }
    let begun = logs.begin_move(&log, dir)?;
    let moving = Moving { broker: Arc::downgrade(broker), partition: Arc::clone(partition), begun };
    broker.env().spawn("log move", moving.run(Arc::clone(&broker.log_moves().turns)));
    Ok(())
}

/// One move.
struct Moving {
    broker: Weak<Broker>,
    partition: Arc<Partition>,
    begun: Arc<LogMove>,
}

impl Moving {
    async fn run(self, turns: Arc<Semaphore>) {
        let Ok(_turn) = turns.acquire_owned().await else { return };
        let moved = self.copy_and_finish().await;
        let (partition, dir) = (self.partition.name(), self.begun.future().log_dir().path());
        match moved {
            Ok(()) => info!(%partition, dir = %dir.display(), "the log has moved"),
            Err(error) => {
                let Some(broker) = self.broker.upgrade() else { return };
                let begun = Arc::clone(&self.begun);
                let given_up = move |logs: Arc<ottla_storage::LogManager>| logs.cancel_move(&begun);
                let logs = Arc::clone(broker.logs());
                broker.env().run_blocking(move || given_up(logs)).await;
                warn!(%partition, dir = %dir.display(), %error, "the log did not move");
            }
        }
    }

    async fn copy_and_finish(&self) -> Result<(), MoveError> {
        for _ in 0..MAX_ROUNDS {
            while self.copy_step().await? > NEARLY_THERE {}
            // What is on the disk by now need not get there while nothing can be appended.
            let begun = Arc::clone(&self.begun);
            self.env()?.run_blocking(move || begun.flush()).await?;
            if self.copy_step().await? <= NEARLY_THERE {
                break;
            }
        }
        let broker = self.broker.upgrade().ok_or(MoveError::Cancelled)?;
        let (partition, begun) = (Arc::clone(&self.partition), Arc::clone(&self.begun));
        let logs = Arc::clone(broker.logs());
        let finish = move || partition.move_log(|| logs.finish_move(&begun));
        let log = broker.env().run_blocking(finish).await?;
        if let (Some(topic), Some(dir)) = (log.topic_id(), log.log_dir().id()) {
            let placed = Placement { topic, partition: log.partition().partition, dir };
            let told = tell_placements(self.broker.clone(), vec![placed]);
            broker.env().spawn("directory assignment", told);
        }
        Ok(())
    }

    /// Copies some, and waits as long as `replica.alter.log.dirs.io.max.bytes.per.second` asks for.
    async fn copy_step(&self) -> Result<u64, MoveError> {
        let broker = self.broker.upgrade().ok_or(MoveError::Cancelled)?;
        let rate =
            broker.dynamic_config().current().replica_manager.move_max_bytes_per_second.max(1);
        let env = broker.env().clone();
        drop(broker);
        let (started, begun) = (env.clock.now(), Arc::clone(&self.begun));
        let copied = env.run_blocking(move || begun.copy(STEP_BYTES.min(rate))).await?;
        let due = Duration::from_secs_f64(copied as f64 / rate as f64);
        let took = env.clock.now().since(started);
        if due > took {
            env.clock.sleep(due - took).await;
        }
        Ok(copied)
    }

    fn env(&self) -> Result<Env, MoveError> {
        let broker = self.broker.upgrade();
        broker.map(|broker| broker.env().clone()).ok_or(MoveError::Cancelled)
    }
}
