//! What is to be read, and what has to be known of it.

use std::collections::BTreeSet;

use ottla_protocol::{ErrorCode, Monotonic, TopicPartition};
use regex::Regex;

use super::listener::RebalanceListener;
use super::{Consumer, ConsumerError, Event};
use crate::ClientError;

/// What is to be read.
#[derive(Debug)]
pub(super) enum Subscription {
    None,
    /// What the application says.
    Assigned,
    /// What the group gives of these topics.
    Topics(BTreeSet<String>),
    /// What the group gives of topics with such names; `None` until it is known which there are.
    Pattern(Regex, Option<BTreeSet<String>>),
}

impl Subscription {
    pub(super) fn is_of_group(&self) -> bool {
        matches!(self, Self::Topics(_) | Self::Pattern(..))
    }

    /// Whether it is known which topics a group is to be told of.
    pub(super) fn is_known(&self) -> bool {
        !matches!(self, Self::Pattern(_, None))
    }
}

/// When metadata is to be asked for.
#[derive(Debug)]
pub(super) struct MetadataNeed {
    /// Something is not known, or not right any more.
    pub(super) wanted: bool,
    asked: bool,
    not_before: Monotonic,
    due: Monotonic,
}

impl MetadataNeed {
    pub(super) fn new(now: Monotonic) -> Self {
        Self { wanted: false, asked: false, not_before: now, due: now }
    }
}

impl Consumer {
    /// Reads, together with the other members of the group, all partitions of `topics`; instead
    /// of what was subscribed to before. Needs `group.id`.
    pub fn subscribe<T: Into<String>>(
        &mut self,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<(), ConsumerError> {
        let topics: BTreeSet<String> = topics.into_iter().map(Into::into).collect();
        if topics.is_empty() {
            return self.unsubscribe();
        }
        self.enter_group(Subscription::Topics(topics))
    }

    /// As [`Consumer::subscribe`], for all topics, also those to come, of whose names `pattern`, a
    /// regular expression of the crate `regex`, matches the whole. New ones are noticed within
    /// `metadata.max.age.ms`.
    pub fn subscribe_pattern(&mut self, pattern: &str) -> Result<(), ConsumerError> {
        let whole = Regex::new(&format!("^(?:{pattern})$"))
            .map_err(|error| ConsumerError::Usage(format!("not a regular expression: {error}")))?;
        self.enter_group(Subscription::Pattern(whole, None))
    }

    /// Has `listener` told of rebalances, instead of whoever was.
    pub fn set_rebalance_listener(&mut self, listener: impl RebalanceListener + 'static) {
        self.listener = Some(Box::new(listener));
    }

    /// What is subscribed to: topics, with a pattern those that match it now.
    pub fn subscription(&self) -> BTreeSet<String> {
        self.subscribed_topics()
    }

    /// Reads exactly `partitions`, without a group; where they were read already, from where they
    /// were. Begins where `group.id` has committed, if it is set.
    pub fn assign(
        &mut self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<(), ConsumerError> {
        if self.subscription.is_of_group() {
            let text = "the consumer has subscribed: unsubscribe before you assign";
            return Err(ConsumerError::Usage(text.to_owned()));
        }
        let partitions: BTreeSet<_> = partitions.into_iter().collect();
        let now = self.client.env().clock.now();
        self.partitions.assign(&partitions, now);
        self.fetcher.discard(|it| !partitions.contains(it));
        self.subscription = match partitions.is_empty() {
            true => Subscription::None,
            false => Subscription::Assigned,
        };
        self.metadata.wanted = true;
        self.changed = true;
        Ok(())
    }

    /// What is read now.
    pub fn assignment(&self) -> BTreeSet<TopicPartition> {
        self.partitions.names()
    }

    /// Reads nothing any more and leaves the group, once what was begun to be committed is, which
    /// includes what the listener commits. The group hears of it when it can.
    pub fn unsubscribe(&mut self) -> Result<(), ConsumerError> {
        let owned: Vec<_> = self.partitions.names().into_iter().collect();
        if self.subscription.is_of_group() {
            self.give_up(&owned, false);
            self.commits.let_go();
            if let Some(group) = &self.group
                && let Some(identity) = group.place.membership.lock().leave()
                && group.place.instance_id.is_none()
            {
                let place = std::sync::Arc::clone(&group.place);
                // Of somebody who has left nothing more is taken.
                let mut in_line = self.commits.line_up();
                let _told_or_not = self.client.env().spawn("leave group", async move {
                    in_line.reach_the_front().await;
                    let _thrown_out_later = place.leave(&identity, "unsubscribed").await;
                });
            }
        }
        self.partitions.map.clear();
        self.fetcher.discard(|_| true);
        self.subscription = Subscription::None;
        self.changed = true;
        Ok(())
    }

    /// Joins the group again at the next poll, as if partitions had come (KIP-568).
    pub fn enforce_rebalance(&mut self) {
        if let Some(group) = &self.group {
            group.place.membership.lock().want_rejoin();
            self.changed = true;
        }
    }

    /// Leaves the group for good; a static member keeps its place.
    pub(super) async fn leave_group(&mut self, reason: &str) {
        let Some(group) = &self.group else { return };
        let identity = group.place.membership.lock().leave();
        if let Some(identity) = identity
            && group.place.instance_id.is_none()
            && let Err(error) = group.place.leave(&identity, reason).await
        {
            tracing::debug!(%error, "the group was not told");
        }
    }

    fn enter_group(&mut self, subscription: Subscription) -> Result<(), ConsumerError> {
        if matches!(self.subscription, Subscription::Assigned) {
            let text = "the consumer has partitions assigned: unsubscribe before you subscribe";
            return Err(ConsumerError::Usage(text.to_owned()));
        }
        let Some(group) = &self.group else { return Err(ConsumerError::no_group()) };
        group.place.membership.lock().enter();
        self.subscription = subscription;
        self.metadata.wanted = true;
        self.changed = true;
        Ok(())
    }

    pub(super) fn subscribed_topics(&self) -> BTreeSet<String> {
        match &self.subscription {
            Subscription::None | Subscription::Assigned | Subscription::Pattern(_, None) => {
                BTreeSet::new()
            }
            Subscription::Topics(topics) | Subscription::Pattern(_, Some(topics)) => topics.clone(),
        }
    }

    /// Asks for metadata if something is missing, or it is old.
    pub(super) fn step_metadata(&mut self, now: Monotonic) {
        let need = &mut self.metadata;
        if need.asked || matches!(self.subscription, Subscription::None) {
            return;
        }
        let at = if need.wanted { need.not_before } else { need.due };
        if now < at {
            return self.wake_at(at);
        }
        need.asked = true;
        need.wanted = false;
        let mut topics = self.subscribed_topics();
        topics.extend(self.partitions.map.keys().map(|it| it.topic.to_string()));
        topics.extend(self.group.iter().flat_map(|group| group.led_topics().cloned()));
        let all = matches!(self.subscription, Subscription::Pattern(..));
        let may_create = self.options.allow_auto_create_topics;
        let client = self.client.clone();
        self.start(async move {
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            let asked = (!all).then_some(&topics[..]);
            Event::Metadata(client.query_metadata(asked, may_create && !all).await.map(drop))
        });
    }

    pub(super) fn metadata_came(&mut self, result: Result<(), ClientError>, now: Monotonic) {
        self.metadata.asked = false;
        self.metadata.not_before = now + self.client.options().retry_backoff;
        self.metadata.due = now + self.options.metadata_max_age;
        match result {
            Ok(()) => {
                self.match_pattern();
                self.report_refused_topics();
                self.check_subscription();
            }
            Err(error) => {
                self.metadata.wanted = true;
                if !error.is_retriable() && !matches!(error, ClientError::Refused { .. }) {
                    self.errors.push_back(error.into());
                }
            }
        }
    }

    fn match_pattern(&mut self) {
        let metadata = self.client.metadata();
        if let Subscription::Pattern(pattern, matching) = &mut self.subscription {
            let exclude = self.options.exclude_internal_topics;
            let all = metadata.topics.iter();
            let matches = all.filter(|(name, topic)| {
                topic.error_code.is_none()
                    && !(exclude && topic.is_internal)
                    && pattern.is_match(name)
            });
            *matching = Some(matches.map(|(name, _)| name.clone()).collect());
        }
    }

    /// Reports what no waiting helps against.
    fn report_refused_topics(&mut self) {
        for (name, topic) in &self.client.metadata().topics {
            let code = topic.error_code;
            if matches!(
                code,
                ErrorCode::TopicAuthorizationFailed | ErrorCode::InvalidTopicException
            ) {
                let message = Some(format!("the topic {name}: {}", code.message()));
                self.errors.push_back(ClientError::Refused { code, message }.into());
                self.client.forget_topic(name);
            }
        }
    }
}
