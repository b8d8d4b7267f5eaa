//! The administrator: makes topics and removes them, moves replicas, has leaders elected, changes
//! configurations; and looks whether the cluster is well.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use ottla_client::{
    Admin, ClientError, ConfigChange, ConfigResource, ConfigResourceType, ElectionType,
    NewPartitions, NewTopic,
};
use ottla_env::Env;
use ottla_protocol::{BrokerId, ErrorCode, Monotonic, TopicPartition};

use super::voters::Voters;
use super::{Health, Plan};
use crate::node::Node;
use crate::rng::SimRng;
use crate::scenario::workload::{BACKOFF, Shared, TOPIC, connect};

/// Topics that come and go.
const TOPICS: u64 = 4;
/// Whatever takes less was not tried twice: there is a backoff before the second try.
const ONE_TRY: Duration = Duration::from_millis(50);

/// Whether a topic is there, as far as the administrator was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    There,
    Gone,
    /// No answer came, or not to the first try: it may be carried out late.
    Unknown,
}

/// What an administrator has to do with.
pub(super) struct Task {
    pub(super) health: Rc<Health>,
    /// By id, from 1.
    pub(super) machines: Vec<Node>,
    pub(super) plan: Plan,
}

struct Administrator {
    env: Env,
    node: Node,
    admin: Admin,
    shared: Rc<Shared>,
    health: Rc<Health>,
    plan: Plan,
    rng: SimRng,
    topics: BTreeMap<String, Known>,
    voters: Voters,
}

/// Works until nothing goes wrong any more; then everything must be as it was told, and well.
pub(super) async fn run(env: Env, node: Node, shared: Rc<Shared>, task: Task) -> Result<()> {
    let Task { health, machines, plan } = task;
    let rng = SimRng::new(env.rng.next_u64(), "administrator");
    let admin = Admin::new(connect(&env, &shared).await, Duration::from_secs(3));
    let (topics, voters) = (BTreeMap::new(), Voters::new(machines));
    let mut it = Administrator { env, node, admin, shared, health, plan, rng, topics, voters };
    while it.shared.producing.get() > 0 {
        if it.plan.churn && it.shared.topic_made.get() && it.rng.chance(0.5) {
            it.change().await;
        }
        it.look().await;
        it.env.clock.sleep(Duration::from_millis(200 + it.rng.below(1000))).await;
    }
    it.voters.all_shall_vote();
    while !it.look().await {
        it.env.clock.sleep(BACKOFF).await;
    }
    it.count_elections().await;
    Ok(())
}

impl Administrator {
    /// Looks whether all partitions are led and all their replicas in sync, and whether the topics
    /// are there that should be.
    async fn look(&mut self) -> bool {
        let began = turmoil::sim_elapsed().unwrap_or_default();
        let described = match self.admin.describe_all_topics().await {
            Ok(described) => described,
            Err(error) => {
                self.tell(format!("{error}"));
                return false;
            }
        };
        let mut ill = Vec::new();
        for (name, topic) in &described {
            for (index, partition) in &topic.partitions {
                let all_in_sync = partition.isr.len() == partition.replicas.len();
                if partition.leader.is_none() || !all_in_sync || partition.replicas.len() < 3 {
                    ill.push(format!("{name}-{index} {partition:?}"));
                }
            }
        }
        for (name, known) in &self.topics {
            match (known, described.contains_key(name)) {
                (Known::There, false) => ill.push(format!("{name} is missing")),
                (Known::Gone, true) => ill.push(format!("{name} is there again")),
                (Known::There, true) | (Known::Gone, false) | (Known::Unknown, _) => {}
            }
        }
        let mut leaders: Vec<_> = described
            .values()
            .flat_map(|topic| topic.partitions.values())
            .filter_map(|partition| Some(partition.leader?.0))
            .collect();
        match self.voters.mend(&self.admin).await {
            Ok(look) => {
                leaders.push(look.leader);
                ill.extend(look.ill);
                look.changed.into_iter().for_each(|what| self.shared.count(what, 1));
            }
            Err(error) => ill.push(format!("voters: {error}")),
        }
        self.health.leaders.replace(leaders);
        if ill.is_empty() && described.contains_key(TOPIC) {
            self.health.whole_at.set(Some(began));
            self.tell("well".to_owned());
            return true;
        }
        self.tell(ill.join("; "));
        false
    }

    fn tell(&self, seen: String) {
        self.node.fold(format_args!("sees {seen}"), &[]);
        self.health.seen.replace(seen);
    }

    async fn change(&mut self) {
        let (what, outcome) = match self.rng.below(9) {
            0 | 1 => ("topics-created", self.create().await),
            2 => ("topics-deleted", self.delete().await),
            3 => ("partitions-added", self.add_partitions().await),
            4 => ("configs-changed", self.configure().await),
            5 | 6 => ("reassignments", self.reassign().await),
            7 if self.plan.retires_voters => {
                ("votes-taken", self.voters.retire(&self.admin, &self.rng).await)
            }
            _ => ("elections-asked-for", self.elect().await),
        };
        if outcome.is_ok() {
            self.shared.count(what, 1);
        }
        let outcome = outcome.map_err(|error| error.to_string());
        self.node.fold(format_args!("changed {outcome:?}"), &[]);
    }

    /// How often leaders changed, as the epochs at the end say.
    async fn count_elections(&self) {
        if let Ok(described) = self.admin.describe_all_topics().await {
            let partitions = described.values().flat_map(|topic| topic.partitions.values());
            let epochs: i32 = partitions.map(|partition| partition.leader_epoch.0).sum();
            self.shared.count("leader-elections", u64::try_from(epochs).unwrap_or(0));
        }
        if let Ok(quorum) = self.admin.describe_quorum().await {
            let epoch = u64::try_from(quorum.leader_epoch.0).unwrap_or(0);
            self.shared.count("controller-elections", epoch);
        }
    }

    fn some_topic(&self) -> String {
        format!("churn-{}", self.rng.below(TOPICS))
    }

    async fn create(&mut self) -> Result<String, ClientError> {
        let name = self.some_topic();
        let topic = NewTopic {
            partitions: Some(1 + self.rng.below(3) as i32),
            replication_factor: Some(3),
            ..NewTopic::new(name.clone())
        };
        let began = self.env.clock.now();
        let created = self.admin.create_topic(topic).await;
        let known = match &created {
            Ok(()) => Known::There,
            Err(ClientError::Refused { code: ErrorCode::TopicAlreadyExists, .. }) => Known::There,
            Err(_) => Known::Unknown,
        };
        self.note(&name, known, began);
        created.map(|()| format!("created {name}"))
    }

    async fn delete(&mut self) -> Result<String, ClientError> {
        let name = self.some_topic();
        let began = self.env.clock.now();
        let deleted = self.admin.delete_topic(&name).await;
        let known = match &deleted {
            Ok(()) => Known::Gone,
            Err(_) => Known::Unknown,
        };
        self.note(&name, known, began);
        deleted.map(|()| format!("deleted {name}"))
    }

    /// What was unknown once stays unknown: a request that was not answered may be carried out late, and so may the first
    /// try of one that was answered at the second.
    fn note(&mut self, name: &str, known: Known, began: Monotonic) {
        let is_sure = self.env.clock.now().since(began) < ONE_TRY;
        let known = if is_sure { known } else { Known::Unknown };
        let before = self.topics.entry(name.to_owned()).or_insert(known);
        if *before != Known::Unknown {
            *before = known;
        }
    }

    async fn add_partitions(&mut self) -> Result<String, ClientError> {
        let name = self.some_topic();
        let total = 2 + self.rng.below(4) as i32;
        let new = NewPartitions { total, assignments: None };
        let answers =
            self.admin.create_partitions(&BTreeMap::from([(name.clone(), new)]), false).await?;
        answers.into_values().try_for_each(|answer| answer)?;
        Ok(format!("{name} has {total} partitions"))
    }

    async fn configure(&mut self) -> Result<String, ClientError> {
        let name = self.some_topic();
        let resource = ConfigResource::new(ConfigResourceType::Topic, name.clone());
        let hours = 1 + self.rng.below(1000);
        let change = ConfigChange::Set((hours * 3_600_000).to_string());
        let changes = BTreeMap::from([(resource, vec![("retention.ms".to_owned(), change)])]);
        let answers = self.admin.incremental_alter_configs(&changes, false).await?;
        answers.into_values().try_for_each(|answer| answer)?;
        Ok(format!("{name} keeps for {hours} hours"))
    }

    /// Moves a partition of the topic that is used to three nodes, in any order.
    async fn reassign(&mut self) -> Result<String, ClientError> {
        let partition =
            TopicPartition::new(TOPIC, self.rng.below(self.shared.load.partitions) as i32);
        let mut ids: Vec<_> = (1..=self.plan.nodes as i32).map(BrokerId).collect();
        for at in (1..ids.len()).rev() {
            ids.swap(at, self.rng.below(at as u64 + 1) as usize);
        }
        ids.truncate(3);
        let told = format!("{partition} goes to {ids:?}");
        let target = BTreeMap::from([(partition, Some(ids))]);
        let answers = self.admin.alter_reassignments(&target).await?;
        answers.into_values().try_for_each(|answer| answer)?;
        Ok(told)
    }

    async fn elect(&mut self) -> Result<String, ClientError> {
        let partitions: Vec<_> = self.shared.partitions().collect();
        let elected = self.admin.elect_leaders(ElectionType::Preferred, Some(&partitions)).await?;
        Ok(format!("elected {}", elected.len()))
    }
}
