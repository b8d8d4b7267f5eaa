use std::collections::BTreeSet;

use ottla_protocol::messages::alter_partition_request::PartitionData as Asked;
use ottla_protocol::messages::alter_partition_response::{PartitionData, TopicData};
use ottla_protocol::messages::{AlterPartitionRequest, AlterPartitionResponse};
use ottla_protocol::{BrokerId, ErrorCode, LeaderEpoch, TopicId, message};

use super::super::{Controller, Outcome};
use crate::BrokerEpoch;
use crate::image::{LeaderRecoveryState, PartitionRegistration};
use crate::record::{MetadataRecord, PartitionChangeRecord};

/// Why an ISR is not what its leader wants it to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AlterPartitionError {
    UnknownTopic,
    UnknownPartition,
    /// The leader knows more than this controller: another one is active by now.
    ControllerBehind,
    /// The leader is none any more.
    LeaderFenced,
    /// The leader decided on an older ISR than the current one.
    OldPartitionEpoch,
    /// Not its leader, a member that is no replica, the leader left out, recovered back to
    /// recovering.
    Contradiction,
    /// A new member is fenced, on its way out, or was restarted since the leader saw it (KIP-841,
    /// KIP-903).
    IneligibleReplica,
}

impl AlterPartitionError {
    fn error_code(self) -> ErrorCode {
        match self {
            Self::UnknownTopic => ErrorCode::UnknownTopicId,
            Self::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
            Self::ControllerBehind => ErrorCode::NotController,
            Self::LeaderFenced => ErrorCode::FencedLeaderEpoch,
            Self::OldPartitionEpoch => ErrorCode::InvalidUpdateVersion,
            Self::Contradiction => ErrorCode::InvalidRequest,
            Self::IneligibleReplica => ErrorCode::IneligibleReplica,
        }
    }
}

impl Controller {
    /// Changes ISRs as their leaders ask (KIP-497). The answer is each partition as it is once the
    /// records are committed.
    pub fn alter_partition(
        &self,
        request: &AlterPartitionRequest,
    ) -> Outcome<AlterPartitionResponse> {
        let leader = BrokerId(request.broker_id);
        if let Err(error) = self.check_broker_epoch(leader, BrokerEpoch(request.broker_epoch)) {
            let error_code = error.error_code().code();
            return Outcome::only(message!(AlterPartitionResponse { error_code: error_code }));
        }
        let mut outcome = Outcome::only(AlterPartitionResponse::default());
        let mut altered = BTreeSet::new();
        for topic in &request.topics {
            let mut answer = message!(TopicData { topic_id: topic.topic_id });
            for asked in &topic.partitions {
                let number = asked.partition_index;
                let once = altered.insert((topic.topic_id, number));
                let decided = match once {
                    true => self.decide_isr(leader, topic.topic_id, asked),
                    false => Err(AlterPartitionError::Contradiction),
                };
                answer.partitions.push(match decided {
                    Ok((change, partition)) => {
                        outcome.records.extend(change.map(MetadataRecord::PartitionChange));
                        match partition.leader == Some(leader) {
                            true => altered_partition(number, &partition),
                            // A reassignment is complete by it, and its leader was to go.
                            false => message!(PartitionData {
                                partition_index: number,
                                error_code: ErrorCode::NewLeaderElected.code(),
                            }),
                        }
                    }
                    Err(error) => message!(PartitionData {
                        partition_index: number,
                        error_code: error.error_code().code(),
                    }),
                });
            }
            outcome.answer.topics.push(answer);
        }
        outcome
    }

    /// The change, if any, and the partition after it.
    fn decide_isr(
        &self,
        leader: BrokerId,
        topic_id: TopicId,
        asked: &Asked,
    ) -> Result<(Option<PartitionChangeRecord>, PartitionRegistration), AlterPartitionError> {
        let topic = self.image.topic_by_id(topic_id).ok_or(AlterPartitionError::UnknownTopic)?;
        let partition =
            topic.partition(asked.partition_index).ok_or(AlterPartitionError::UnknownPartition)?;
        check_epochs(leader, partition, asked)?;
        let isr = self.check_isr(leader, partition, asked)?;
        let mut target = self.target(topic, asked.partition_index, partition);
        target.isr = isr;
        target.leader_recovery_state = asked.leader_recovery_state;
        target.election = self.election_of(topic);
        let change = self.change_to(target);
        let mut after = PartitionRegistration::clone(partition);
        if let Some(change) = &change {
            after.change(change);
        }
        Ok((change, after))
    }

    /// The ISR asked for, in the order of the replicas.
    fn check_isr(
        &self,
        leader: BrokerId,
        partition: &PartitionRegistration,
        asked: &Asked,
    ) -> Result<Vec<BrokerId>, AlterPartitionError> {
        // Version 3 names each member's epoch as well; -1 is one that the leader does not know.
        let old = asked.new_isr.iter().map(|id| (BrokerId(*id), BrokerEpoch::NONE));
        let new = asked.new_isr_with_epochs.iter();
        let new = new.map(|member| (BrokerId(member.broker_id), BrokerEpoch(member.broker_epoch)));
        let members: Vec<(BrokerId, BrokerEpoch)> = old.chain(new).collect();
        let ids: BTreeSet<BrokerId> = members.iter().map(|(id, _)| *id).collect();
        let isr: Vec<BrokerId> =
            partition.replicas.iter().copied().filter(|id| ids.contains(id)).collect();
        let recovering = asked.leader_recovery_state == LeaderRecoveryState::Recovering.value();
        let was_recovered = partition.leader_recovery_state == LeaderRecoveryState::Recovered;
        let contradiction = isr.len() != members.len()
            || !isr.contains(&leader)
            || !(0..=1).contains(&asked.leader_recovery_state)
            || recovering && (was_recovered || isr.len() > 1);
        if contradiction {
            return Err(AlterPartitionError::Contradiction);
        }
        let eligible = |(id, epoch): &(BrokerId, BrokerEpoch)| {
            let same = |current| *epoch == BrokerEpoch::NONE || *epoch == current;
            self.image.broker(*id).is_some_and(|broker| broker.is_active() && same(broker.epoch))
        };
        match members.iter().filter(|(id, _)| *id != leader).all(eligible) {
            true => Ok(isr),
            false => Err(AlterPartitionError::IneligibleReplica),
        }
    }
}

fn check_epochs(
    leader: BrokerId,
    partition: &PartitionRegistration,
    asked: &Asked,
) -> Result<(), AlterPartitionError> {
    let leader_epoch = LeaderEpoch(asked.leader_epoch);
    if leader_epoch > partition.leader_epoch || asked.partition_epoch > partition.partition_epoch {
        Err(AlterPartitionError::ControllerBehind)
    } else if leader_epoch < partition.leader_epoch {
        Err(AlterPartitionError::LeaderFenced)
    } else if partition.leader != Some(leader) {
        Err(AlterPartitionError::Contradiction)
    } else if asked.partition_epoch < partition.partition_epoch {
        Err(AlterPartitionError::OldPartitionEpoch)
    } else {
        Ok(())
    }
}

fn altered_partition(number: i32, partition: &PartitionRegistration) -> PartitionData {
    message!(PartitionData {
        partition_index: number,
        leader_id: partition.leader.map_or(-1, |leader| leader.0),
        leader_epoch: partition.leader_epoch.0,
        isr: partition.isr.iter().map(|id| id.0).collect(),
        leader_recovery_state: partition.leader_recovery_state.value(),
        partition_epoch: partition.partition_epoch,
    })
}
