//! What the controller does without being asked. Kafka: `PeriodicTaskControlManager`.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_protocol::messages::AlterPartitionReassignmentsRequest;
use ottla_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use ottla_protocol::{Monotonic, StrBytes, message};

use super::{Controller, Outcome};
use crate::rebalance::{Layout, Limits};

/// Something that is looked after from time to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeriodicTask {
    /// Leadership goes back to preferred replicas: `auto.leader.rebalance.enable`, every
    /// `leader.imbalance.check.interval.seconds`.
    LeaderRebalance,
    /// Partitions without a leader are given one where the topic allows it to lose records: every
    /// `unclean.leader.election.interval.ms`.
    UncleanElection,
    /// A new broker gets its share: `cluster.rebalance.enable`, every
    /// `cluster.rebalance.interval.seconds`.
    ReplicaRebalance,
}

const TASKS: [PeriodicTask; 3] =
    [PeriodicTask::LeaderRebalance, PeriodicTask::UncleanElection, PeriodicTask::ReplicaRebalance];

/// What came of a task, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskReport {
    /// Which task.
    pub task: PeriodicTask,
    /// What is done and why, a line each; none if there was nothing to do.
    pub lines: Vec<String>,
    /// Whether it is due again at once, for one batch did not hold all.
    pub has_more: bool,
}

/// When each task was last done. Soft state: a new controller waits for a whole interval.
#[derive(Clone, Debug, Default)]
pub(super) struct TaskTimes(BTreeMap<PeriodicTask, Monotonic>);

impl TaskTimes {
    pub(super) fn starting(now: Monotonic) -> Self {
        Self(TASKS.iter().map(|task| (*task, now)).collect())
    }
}

impl Controller {
    /// When the next task is due: the time to call [`run_due_task`](Self::run_due_task). Ask again when
    /// the configuration of brokers has changed.
    pub fn next_task_due(&self) -> Option<Monotonic> {
        TASKS.iter().filter_map(|task| self.task_due(*task)).min()
    }

    /// Decides on the task that is due, if one is. Call [`task_done`](Self::task_done) when the records
    /// are committed, and this again until there is none.
    pub fn run_due_task(&self, now: Monotonic) -> Outcome<Option<TaskReport>> {
        let is_due = |task: &PeriodicTask| self.task_due(*task).is_some_and(|due| due <= now);
        let Some(task) = TASKS.into_iter().find(is_due) else { return Outcome::only(None) };
        let elected = |Outcome { records, answer }: Outcome<bool>, what: &str| {
            let count = records.len();
            let lines =
                (count > 0).then(|| format!("{what}: {count} partitions have another leader"));
            let lines = lines.into_iter().collect();
            Outcome { records, answer: Some(TaskReport { task, lines, has_more: answer }) }
        };
        match task {
            PeriodicTask::LeaderRebalance => {
                elected(self.rebalance_leaders(), "preferred replicas lead again")
            }
            PeriodicTask::UncleanElection => elected(
                self.elect_unclean_leaders(),
                "nobody in sync was left, records may be lost",
            ),
            PeriodicTask::ReplicaRebalance => {
                let Outcome { records, answer: lines } = self.rebalance_replicas();
                let report = TaskReport { task, lines, has_more: false };
                Outcome { records, answer: Some(report) }
            }
        }
    }

    /// Notes that a task was done, or tried, at `now`.
    pub fn task_done(&mut self, report: &TaskReport, now: Monotonic) {
        if !report.has_more {
            self.tasks.0.insert(report.task, now);
        }
    }

    fn task_due(&self, task: PeriodicTask) -> Option<Monotonic> {
        let config = self.broker_config();
        let (replicas, rebalance) = (&config.replica_manager, &config.rebalance);
        let interval: Option<Duration> = match task {
            PeriodicTask::LeaderRebalance => {
                replicas.auto_leader_rebalance.then_some(replicas.leader_imbalance_check_interval)
            }
            PeriodicTask::UncleanElection => Some(replicas.unclean_leader_election_interval),
            PeriodicTask::ReplicaRebalance => rebalance.enable.then_some(rebalance.interval),
        };
        let last = self.tasks.0.get(&task)?;
        interval.map(|interval| *last + interval)
    }

    /// Moves some replicas to brokers that have less than their share, and says why. Nothing moves while
    /// a broker is away, for it will be back; nor more at once than `cluster.rebalance.max.moves`.
    ///
    /// The controller does not know how many bytes a replica has: it evens numbers, and empties
    /// brokers whose `cluster.rebalance.weight` is 0. `ottla cluster rebalance` evens bytes too.
    pub fn rebalance_replicas(&self) -> Outcome<Vec<String>> {
        let config = &self.broker_config().rebalance;
        let mut partitions = self.image.topics().flat_map(|topic| topic.partitions.values());
        let under_way = partitions.by_ref().filter(|it| it.is_reassigning()).count();
        let moves = config.max_moves.saturating_sub(under_way);
        if moves == 0 || self.image.brokers().any(|broker| !broker.is_active()) {
            return Outcome::only(Vec::new());
        }
        let tolerance_percent = config.tolerance_percent;
        let limits = Limits { moves, tolerance_percent, ..Limits::default() };
        let plan = Layout::of(&self.image, |_, _| 0).plan(limits);
        let asked = plan.iter().map(|it| {
            let partition = message!(ReassignablePartition {
                partition_index: it.partition.partition,
                replicas: Some(it.to.iter().map(|id| id.0).collect()),
            });
            message!(ReassignableTopic {
                name: StrBytes::from(&*it.partition.topic),
                partitions: vec![partition],
            })
        });
        let request = message!(AlterPartitionReassignmentsRequest { topics: asked.collect() });
        let Outcome { records, answer } = self.alter_partition_reassignments(&request);
        // One answer to each, in their order.
        let answers = answer.responses.iter().flat_map(|topic| &topic.partitions);
        let lines = plan.iter().zip(answers).map(|(it, answer)| match &answer.error_message {
            Some(why) => format!("{it}: refused: {why}"),
            None => it.to_string(),
        });
        Outcome { records, answer: lines.collect() }
    }
}
