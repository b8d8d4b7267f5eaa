//! Whether what a replica fetches counts for the rates of replication, and whether it may be held back (KIP-73).

use ottla_config::LogConfig;
use ottla_protocol::BrokerId;

use super::Partition;
use crate::quotas::Throttled;

/// What topic and reassignment say of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Throttling {
    /// `leader.replication.throttled.replicas` names the replica here.
    as_leader: bool,
    /// `follower.replication.throttled.replicas` does.
    as_follower: bool,
    /// The replicas that a reassignment adds.
    adding: Vec<BrokerId>,
}

impl Throttling {
    pub(super) fn of(config: &LogConfig, partition: i32, local: BrokerId) -> Self {
        Self {
            as_leader: config.leader_throttled_replicas.contains(partition, local),
            as_follower: config.follower_throttled_replicas.contains(partition, local),
            adding: Vec::new(),
        }
    }

    fn of_replica(&self, is_listed: bool, replica: BrokerId) -> Option<Throttled> {
        match is_listed {
            true => Some(Throttled::Listed),
            false => self.adding.contains(&replica).then_some(Throttled::Reassigned),
        }
    }
}

impl Partition {
    /// Takes over which replicas a reassignment adds.
    pub(in crate::replica) fn reassignment_changed(&self, adding: &[BrokerId]) {
        self.throttling_changed(|now| Throttling { adding: adding.to_vec(), ..now.clone() });
    }

    pub(super) fn throttling_configured(&self, config: &LogConfig) {
        let configured = Throttling::of(config, self.name.partition, self.context.local());
        self.throttling_changed(|now| Throttling {
            adding: now.adding.clone(),
            ..configured.clone()
        });
    }

    fn throttling_changed(&self, change: impl Fn(&Throttling) -> Throttling) {
        let now = self.throttling.load();
        let next = change(&now);
        if **now != next {
            self.throttling.store(next.into());
        }
    }

    /// Why what `follower` fetches from here counts, if it does.
    pub(crate) fn throttled_to(&self, follower: BrokerId) -> Option<Throttled> {
        let throttling = self.throttling.load();
        throttling.of_replica(throttling.as_leader, follower)
    }

    /// Why what is fetched for the replica here counts, if it does.
    pub(crate) fn throttled_here(&self) -> Option<Throttled> {
        let throttling = self.throttling.load();
        throttling.of_replica(throttling.as_follower, self.context.local())
    }

    /// Whether the replica on `broker` is in the ISR, as far as is known here: such a one is never held back, else it might
    /// leave the ISR for it.
    pub(crate) fn is_in_sync(&self, broker: BrokerId) -> bool {
        self.replica.lock().replicas().in_sync.contains(&broker)
    }

    /// Whether the replica here is in the ISR, or has all that its leader has committed.
    pub(crate) fn is_in_sync_here(&self) -> bool {
        let replica = self.replica.lock();
        let has_all = |committed| committed <= replica.log_end();
        replica.replicas().in_sync.contains(&self.context.local())
            || replica.leader_high_watermark().is_some_and(has_all)
    }
}
