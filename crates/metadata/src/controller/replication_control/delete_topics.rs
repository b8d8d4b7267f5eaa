use std::collections::BTreeMap;

use ottla_protocol::messages::delete_topics_response::DeletableTopicResult;
use ottla_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use ottla_protocol::{ErrorCode, StrBytes, TopicId, message};

use super::super::{Controller, MutationQuota, Outcome};
use crate::record::RemoveTopicRecord;

/// Why a topic was not deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DeleteTopicError {
    /// The cluster is configured so.
    #[error("Topic deletion is disabled.")]
    Disabled,
    /// Neither a name nor an id.
    #[error("Neither topic name nor id were specified.")]
    Unnamed,
    /// Both.
    #[error("You may not specify both topic name and topic id.")]
    NameAndId,
    /// The request names it more than once, by name or by id.
    #[error("The request names the topic more than once.")]
    Duplicate,
    /// No topic has the name.
    #[error("This server does not host this topic-partition.")]
    UnknownName,
    /// No topic has the id.
    #[error("This server does not host this topic ID.")]
    UnknownId,
    /// The client creates and deletes too much (KIP-599).
    #[error("The throttling quota has been exceeded.")]
    QuotaExceeded,
}

impl DeleteTopicError {
    /// The code to answer with.
    pub(crate) fn error_code(&self) -> ErrorCode {
        match self {
            Self::Disabled => ErrorCode::TopicDeletionDisabled,
            Self::Unnamed | Self::NameAndId | Self::Duplicate => ErrorCode::InvalidRequest,
            Self::UnknownName => ErrorCode::UnknownTopicOrPartition,
            Self::UnknownId => ErrorCode::UnknownTopicId,
            Self::QuotaExceeded => ErrorCode::ThrottlingQuotaExceeded,
        }
    }
}

/// One topic as a request names it.
struct Named<'a> {
    name: Option<&'a StrBytes>,
    id: TopicId,
}

impl Controller {
    /// Deletes topics, named by name (up to version 5) or by name or id (version 6).
    pub fn delete_topics(
        &self,
        request: &DeleteTopicsRequest,
        quota: &mut MutationQuota<'_>,
    ) -> Outcome<DeleteTopicsResponse> {
        let old =
            request.topic_names.iter().map(|name| Named { name: Some(name), id: TopicId::ZERO });
        let new = request
            .topics
            .iter()
            .map(|topic| Named { name: topic.name.as_ref(), id: topic.topic_id });
        let named: Vec<Named<'_>> = old.chain(new).collect();
        let found: Vec<_> = named.iter().map(|topic| self.find_topic(topic)).collect();
        let mut times: BTreeMap<TopicId, usize> = BTreeMap::new();
        for id in found.iter().flatten() {
            *times.entry(*id).or_default() += 1;
        }
        let mut outcome = Outcome::only(DeleteTopicsResponse::default());
        for (named, found) in named.iter().zip(found) {
            let once = |id: TopicId| match times.get(&id) {
                Some(1) => Ok(id),
                Some(_) | None => Err(DeleteTopicError::Duplicate),
            };
            let mut result =
                message!(DeletableTopicResult { name: named.name.cloned(), topic_id: named.id });
            let mut within_quota = |id: TopicId| {
                let partitions = self.image.topic_by_id(id).map_or(0, |it| it.partitions.len());
                if quota(partitions) { Ok(id) } else { Err(DeleteTopicError::QuotaExceeded) }
            };
            match found.and_then(once).and_then(&mut within_quota) {
                Ok(id) => {
                    let name = self.image.topic_by_id(id).map(|topic| StrBytes::from(&*topic.name));
                    result.name = name.or(result.name);
                    result.topic_id = id;
                    outcome.records.push(RemoveTopicRecord { topic_id: id }.into());
                }
                Err(error) => {
                    result.error_code = error.error_code().code();
                    result.error_message = Some(StrBytes::from(error.to_string()));
                }
            }
            outcome.answer.responses.push(result);
        }
        outcome
    }

    fn find_topic(&self, named: &Named<'_>) -> Result<TopicId, DeleteTopicError> {
        if !self.config.broker.topic_defaults.delete_enable {
            return Err(DeleteTopicError::Disabled);
        }
        match (named.name, named.id.is_zero()) {
            (None, true) => Err(DeleteTopicError::Unnamed),
            (Some(_), false) => Err(DeleteTopicError::NameAndId),
            (Some(name), true) => {
                self.image.topic(name).map(|topic| topic.id).ok_or(DeleteTopicError::UnknownName)
            }
            (None, false) => {
                let topic = self.image.topic_by_id(named.id);
                topic.map(|topic| topic.id).ok_or(DeleteTopicError::UnknownId)
            }
        }
    }
}
