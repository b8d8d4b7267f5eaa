use ottla_protocol::messages::assign_replicas_to_dirs_response::{
    DirectoryData, PartitionData, TopicData,
};
use ottla_protocol::messages::{AssignReplicasToDirsRequest, AssignReplicasToDirsResponse};
use ottla_protocol::{BrokerId, ErrorCode, TopicId, Uuid, message};

use super::super::{Controller, Outcome};
use crate::BrokerEpoch;
use crate::image::is_reserved_directory;
use crate::record::{MetadataRecord, PartitionChangeRecord};

impl Controller {
    /// Notes in which log directory a broker keeps its replicas (KIP-858), so that all know which
    /// of them a failed disk takes along.
    pub fn assign_replicas_to_dirs(
        &self,
        request: &AssignReplicasToDirsRequest,
    ) -> Outcome<AssignReplicasToDirsResponse> {
        let broker = BrokerId(request.broker_id);
        if let Err(error) = self.check_broker_epoch(broker, BrokerEpoch(request.broker_epoch)) {
            let error_code = error.error_code().code();
            return Outcome::only(message!(AssignReplicasToDirsResponse {
                error_code: error_code
            }));
        }
        let mut outcome = Outcome::only(AssignReplicasToDirsResponse::default());
        for directory in &request.directories {
            let mut answer = message!(DirectoryData { id: directory.id });
            for topic in &directory.topics {
                let partitions = topic.partitions.iter().map(|partition| {
                    let number = partition.partition_index;
                    let assigned = self.assign_dir(broker, topic.topic_id, number, directory.id);
                    let error = match assigned {
                        Ok(change) => {
                            outcome.records.extend(change.map(MetadataRecord::PartitionChange));
                            ErrorCode::None
                        }
                        Err(error) => error,
                    };
                    message!(PartitionData { partition_index: number, error_code: error.code() })
                });
                answer.topics.push(message!(TopicData {
                    topic_id: topic.topic_id,
                    partitions: partitions.collect(),
                }));
            }
            outcome.answer.directories.push(answer);
        }
        outcome
    }

    /// The change, if it is one. A replica that lies where the broker has no working disk is gone.
    fn assign_dir(
        &self,
        broker: BrokerId,
        topic: TopicId,
        number: i32,
        dir: Uuid,
    ) -> Result<Option<PartitionChangeRecord>, ErrorCode> {
        let topic = self.image.topic_by_id(topic).ok_or(ErrorCode::UnknownTopicId)?;
        let partition = topic.partition(number).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let place = partition.replicas.iter().position(|replica| *replica == broker);
        let place = place.ok_or(ErrorCode::NotLeaderOrFollower)?;
        let mut directories = partition.directories.clone();
        let before = match directories.get_mut(place) {
            Some(known) if *known != dir => std::mem::replace(known, dir),
            Some(_) | None => return Ok(None),
        };
        let mut change = PartitionChangeRecord::new(topic.id, number);
        let has =
            |dir: &Uuid| self.image.broker(broker).is_some_and(|it| it.log_dirs.contains(dir));
        let has_disk = has(&dir);
        if !is_reserved_directory(&before) && !has(&before) && partition.last_known_elr == [broker]
        {
            // The directory was replaced and the log is a new one: whoever led last does not have most any more.
            change.last_known_elr = Some(Vec::new());
        }
        if !has_disk && !is_reserved_directory(&dir) {
            let mut target = self.target(topic, number, partition);
            target.isr.retain(|member| *member != broker);
            target.election = self.election_of(topic);
            let may_lead = |id: BrokerId| {
                id != broker && self.is_active(id) && self.has_disk(id, partition, &[])
            };
            let moved = target.change(may_lead, |id| self.default_directory(id));
            change = moved.unwrap_or(change);
        }
        change.directories = Some(directories);
        Ok(Some(change))
    }
}
