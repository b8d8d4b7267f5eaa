//! What leaders ask of the controller: other ISRs. Kafka's `AlterPartitionManager` (KIP-497).
//!
//! All that is asked by now goes into one request, and one request is under way at a time. What came of each partition is told
//! to it; what nobody answered is asked again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use ottla_env::{BoxFuture, Clock};
use ottla_protocol::messages::alter_partition_request::{
    BrokerState, PartitionData as Asked, TopicData as AskedTopic,
};
use ottla_protocol::messages::alter_partition_response::PartitionData as Answered;
use ottla_protocol::messages::{AlterPartitionRequest, AlterPartitionResponse};
use ottla_protocol::{BrokerId, ErrorCode, LeaderEpoch, TopicId, message};
use ottla_replication::{IsrAnswer, IsrProposal};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::context::ReplicaContext;
use super::partition::Partition;

/// How long to wait before what nobody answered is asked again; Kafka's too.
const PAUSE: Duration = Duration::from_millis(50);

/// `leader_recovery_state`: a leader serves what it has (KIP-704).
const RECOVERED: i8 = 0;

/// One attempt to ask the active controller; the error is only for the log.
pub(crate) type AskController = Box<
    dyn Fn(AlterPartitionRequest) -> BoxFuture<'static, Result<AlterPartitionResponse, String>>
        + Send
        + Sync,
>;

type Key = (TopicId, i32);

/// What is asked for and not answered yet: one proposal of each partition at most, the last one.
#[derive(Default)]
pub(crate) struct IsrChanges {
    waiting: Mutex<BTreeMap<Key, Change>>,
    added: Notify,
}

#[derive(Clone)]
struct Change {
    partition: Arc<Partition>,
    proposal: IsrProposal,
}

impl IsrChanges {
    pub(super) fn submit(&self, partition: &Arc<Partition>, proposal: IsrProposal) {
        let key = (partition.topic_id(), partition.name().partition);
        let change = Change { partition: Arc::clone(partition), proposal };
        self.waiting.lock().insert(key, change);
        self.added.notify_one();
    }

    /// Asks the controller, for as long as the node runs.
    pub(super) async fn run(
        self: Arc<Self>,
        context: Arc<ReplicaContext>,
        clock: Arc<dyn Clock>,
        ask: AskController,
    ) {
        loop {
            let asked = self.waiting.lock().clone();
            if asked.is_empty() {
                self.added.notified().await;
                continue;
            }
            let done = match ask(request(&context, &asked)).await {
                Ok(response) => self.answered(&asked, &response),
                Err(reason) => {
                    debug!(reason, "the controller cannot be asked for other ISRs now");
                    false
                }
            };
            if !done {
                clock.sleep(PAUSE).await;
            }
        }
    }

    /// Tells each partition what came of it; whether nothing is to be asked again.
    fn answered(&self, asked: &BTreeMap<Key, Change>, response: &AlterPartitionResponse) -> bool {
        let error = ErrorCode::from_wire(response.error_code);
        if error != ErrorCode::None {
            warn!(%error, "the controller refuses to look at other ISRs: asking again");
            return false;
        }
        let mut done = true;
        let mut answers: BTreeMap<Key, IsrAnswer> = BTreeMap::new();
        for topic in &response.topics {
            let rows = topic.partitions.iter();
            answers.extend(rows.map(|row| ((topic.topic_id, row.partition_index), answer(row))));
        }
        for (key, change) in asked {
            let Some(answer) = answers.remove(key) else {
                done = false;
                continue;
            };
            {
                // Before the partition hears of it: it may have something new to ask.
                let mut waiting = self.waiting.lock();
                if waiting.get(key).is_some_and(|it| it.proposal == change.proposal) {
                    waiting.remove(key);
                }
            }
            if let Some(retry) = change.partition.isr_answered(&change.proposal, answer) {
                self.submit(&change.partition, retry);
                done = false;
            }
        }
        done
    }
}

fn request(context: &ReplicaContext, asked: &BTreeMap<Key, Change>) -> AlterPartitionRequest {
    let mut topics: IndexMap<TopicId, Vec<Asked>> = IndexMap::new();
    for ((topic, index), Change { proposal, .. }) in asked {
        let member = |member: &ottla_replication::IsrMember| {
            message!(BrokerState { broker_id: member.id.0, broker_epoch: member.broker_epoch.0 })
        };
        topics.entry(*topic).or_default().push(message!(Asked {
            partition_index: *index,
            leader_epoch: proposal.leader_epoch.0,
            new_isr_with_epochs: proposal.isr.iter().map(member).collect(),
            leader_recovery_state: RECOVERED,
            partition_epoch: proposal.partition_epoch,
        }));
    }
    let topics = topics.into_iter().map(|(topic_id, partitions)| {
        message!(AskedTopic { topic_id: topic_id, partitions: partitions })
    });
    message!(AlterPartitionRequest {
        broker_id: context.local().0,
        broker_epoch: context.epoch().0,
        topics: topics.collect(),
    })
}

fn answer(row: &Answered) -> IsrAnswer {
    if let Err(error) = ErrorCode::from_wire(row.error_code).ok() {
        return IsrAnswer::Refused(error);
    }
    IsrAnswer::Changed {
        leader_epoch: LeaderEpoch(row.leader_epoch),
        partition_epoch: row.partition_epoch,
        isr: row.isr.iter().copied().map(BrokerId).collect(),
    }
}
