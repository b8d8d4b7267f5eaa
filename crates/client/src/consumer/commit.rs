//! Commits: by the application, by time, and before partitions are given up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ottla_env::TaskHandle;
use ottla_protocol::{ApiKey, ErrorCode, Monotonic, TopicPartition};
use tokio::sync::oneshot;

use super::membership::Identity;
use super::offsets::Committer;
use super::{Consumer, ConsumerError, Event, OffsetAndMetadata, Work};
use crate::ClientError;

/// What is called when a commit is done.
type Callback = Box<dyn FnOnce(Result<(), ConsumerError>) + Send>;

/// A consumer's place in its group, for a transactional producer that commits its offsets
/// (KIP-447).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    /// `group.id`.
    pub group_id: String,
    /// The generation, or -1.
    pub generation: i32,
    /// The id in it, or empty.
    pub member_id: String,
    /// `group.instance.id`.
    pub group_instance_id: Option<String>,
}

/// Commits that are under way, one after the other: no try of an earlier one may come after a later one was carried out. They
/// go on beside the application, as long as there is a consumer.
pub(super) struct Commits {
    next_id: u64,
    /// Ends with the last in line.
    last: Option<oneshot::Receiver<()>>,
    tasks: BTreeMap<u64, TaskHandle>,
    under_way: BTreeMap<u64, Option<Callback>>,
    /// Of which somebody waits for the result, if it is there.
    awaited: BTreeMap<u64, Option<Result<(), ConsumerError>>>,
    next_auto: Monotonic,
    /// The last commit that was begun because it was time to.
    last_auto: Option<u64>,
}

/// A place in the line of what is sent to a group, one after the other. Whoever drops it lets the next one go on.
pub(super) struct InLine {
    before: Option<oneshot::Receiver<()>>,
    _ended: oneshot::Sender<()>,
}

impl InLine {
    /// Waits until everything before it has ended.
    pub(super) async fn reach_the_front(&mut self) {
        if let Some(before) = self.before.take() {
            let _it_ended = before.await;
        }
    }
}

/// A commit that came back.
pub(super) struct Done {
    id: u64,
    identity: Identity,
    offsets: BTreeMap<TopicPartition, OffsetAndMetadata>,
    result: Result<(), ClientError>,
}

impl Commits {
    pub(super) fn new(next_auto: Monotonic) -> Self {
        Self {
            next_id: 0,
            last: None,
            tasks: BTreeMap::new(),
            under_way: BTreeMap::new(),
            awaited: BTreeMap::new(),
            next_auto,
            last_auto: None,
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// A place behind all that was begun.
    pub(super) fn line_up(&mut self) -> InLine {
        let (ended, end) = oneshot::channel();
        InLine { before: self.last.replace(end), _ended: ended }
    }

    /// Has what was begun go on, whatever becomes of the consumer.
    pub(super) fn let_go(&mut self) {
        self.tasks.clear();
    }
}

impl Drop for Commits {
    fn drop(&mut self) {
        self.tasks.values().for_each(TaskHandle::abort);
    }
}

impl Committer {
    /// Commits `what` when it is its turn, or not at all: what nobody looks at any more would be sent late.
    async fn commit_in_line(
        self,
        mut in_line: InLine,
        (identity, offsets): (Identity, BTreeMap<TopicPartition, OffsetAndMetadata>),
        deadline: Monotonic,
    ) -> Result<(), ClientError> {
        let (clock, limit) = (Arc::clone(&self.client.env().clock), self.limit);
        let committing = async {
            in_line.reach_the_front().await;
            self.commit(identity, offsets).await
        };
        let (address, api) = ("the coordinator".into(), ApiKey::OffsetCommit);
        tokio::select! {
            biased;
            () = clock.sleep(deadline.since(clock.now())) => {
                Err(ClientError::TimedOut { address, api, limit })
            }
            result = committing => result,
        }
    }
}

impl Consumer {
    /// Commits everything that was handed out, and waits until that is certain. It takes part in no
    /// rebalance: no partition comes or goes meanwhile. While the group goes over to another
    /// generation it is refused with [`ConsumerError::RebalanceInProgress`].
    pub async fn commit(&mut self) -> Result<(), ConsumerError> {
        self.commit_offsets(self.partitions.consumed()).await
    }

    /// Commits `offsets`, each the next offset to read, and waits until that is certain.
    pub async fn commit_offsets(
        &mut self,
        offsets: BTreeMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<(), ConsumerError> {
        self.commit_within(offsets, self.options.default_api_timeout).await
    }

    /// Begins to commit `offsets`, or without any, everything that was handed out. `done` is called
    /// from within a later call that waits, a poll for example.
    pub fn commit_async(
        &mut self,
        offsets: Option<BTreeMap<TopicPartition, OffsetAndMetadata>>,
        done: impl FnOnce(Result<(), ConsumerError>) + Send + 'static,
    ) -> Result<(), ConsumerError> {
        if self.group.is_none() {
            return Err(ConsumerError::no_group());
        }
        let offsets = offsets.unwrap_or_else(|| self.partitions.consumed());
        self.start_commit(offsets, Some(Box::new(done)));
        Ok(())
    }

    /// What the group has committed for `partitions`; those for which nothing is are left out.
    pub fn committed<I: IntoIterator<Item = TopicPartition>>(
        &self,
        partitions: I,
    ) -> impl Future<Output = Result<BTreeMap<TopicPartition, OffsetAndMetadata>, ConsumerError>>
    + Send
    + use<I> {
        let committer = self.committer(self.options.default_api_timeout);
        let partitions = partitions.into_iter().collect();
        async move {
            let committer = committer.ok_or_else(ConsumerError::no_group)?;
            Ok(committer.committed(partitions).await?)
        }
    }

    /// Its place in the group; `None` without `group.id`.
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        let place = &self.group.as_ref()?.place;
        let Identity { member_id, generation } = place.membership.lock().identity().clone();
        let (group_id, group_instance_id) = (place.group.clone(), place.instance_id.clone());
        Some(GroupMetadata { group_id, generation, member_id, group_instance_id })
    }

    pub(super) async fn commit_within(
        &mut self,
        offsets: BTreeMap<TopicPartition, OffsetAndMetadata>,
        limit: Duration,
    ) -> Result<(), ConsumerError> {
        if self.group.is_none() {
            return Err(ConsumerError::no_group());
        }
        // Results that nobody came back for.
        self.commits.awaited.retain(|_, result| result.is_none());
        let id = self.start_commit(offsets, None);
        self.commits.awaited.insert(id, None);
        let come = |this: &mut Self| Ok(this.commits.awaited.get_mut(&id).and_then(Option::take));
        let result = self.run_until(limit, Work::InHand, come).await?;
        self.commits.awaited.remove(&id);
        result.unwrap_or(Err(ConsumerError::TimedOut("the commit may or may not be carried out")))
    }

    /// Commits everything that was handed out, if there is anything and it may: also what is committed already, since offsets
    /// that nobody commits again expire where the group has no members or the broker knows no KIP-211.
    pub(super) fn commit_consumed(&mut self) -> Option<u64> {
        let offsets = self.partitions.consumed();
        let may = self.group.is_some() && self.commit_refusal().is_none();
        (may && !offsets.is_empty()).then(|| self.start_commit(offsets, None))
    }

    /// Why its place in the group lets it commit nothing now; who reads what it was assigned by hand has none, and needs none.
    fn commit_refusal(&self) -> Option<ErrorCode> {
        let group = self.group.as_ref().filter(|_| self.subscription.is_of_group())?;
        group.place.membership.lock().refuses_commits()
    }

    pub(super) fn start_commit(
        &mut self,
        offsets: BTreeMap<TopicPartition, OffsetAndMetadata>,
        callback: Option<Callback>,
    ) -> u64 {
        let id = self.commits.next_id;
        self.commits.next_id += 1;
        self.commits.under_way.insert(id, callback);
        let Some(group) = &self.group else { return id };
        let identity = group.place.membership.lock().identity().clone();
        if let Some(code) = self.commit_refusal() {
            let (result, identity) = (Err(ClientError::refused(code)), Identity::NOBODY);
            self.start(async move { Event::CommitDone(Done { id, identity, offsets, result }) });
            self.changed = true;
            return id;
        }
        if let Some(committer) = self.committer(self.options.default_api_timeout) {
            let env = self.client.env().clone();
            let deadline = env.clock.now() + committer.limit;
            let in_line = self.commits.line_up();
            let (done, end) = oneshot::channel();
            let task = env.spawn("commit", async move {
                let what = (identity.clone(), offsets.clone());
                let result = committer.commit_in_line(in_line, what, deadline).await;
                let _nobody_waits = done.send(Done { id, identity, offsets, result });
            });
            self.commits.tasks.insert(id, task);
            self.start(end.then(|done| async {
                match done {
                    Ok(done) => Event::CommitDone(done),
                    // The runtime is going away.
                    Err(_) => std::future::pending().await,
                }
            }));
        }
        self.changed = true;
        id
    }

    pub(super) fn commit_done(&mut self, done: Done) {
        let Done { id, identity, offsets, result } = done;
        self.commits.tasks.remove(&id);
        let result = match result {
            Ok(()) => {
                self.metrics.commits += 1;
                self.interceptors.iter_mut().for_each(|it| it.on_commit(&offsets));
                Ok(())
            }
            Err(error) => Err(self.commit_failed(&identity, error)),
        };
        match (self.commits.under_way.remove(&id).flatten(), self.commits.awaited.get_mut(&id)) {
            (Some(callback), _) => callback(result),
            (None, Some(awaited)) => *awaited = Some(result),
            (None, None) => {
                if let Err(error) = result {
                    tracing::warn!(%error, "offsets were not committed");
                }
            }
        }
    }

    fn commit_failed(&mut self, identity: &Identity, error: ClientError) -> ConsumerError {
        let ClientError::Refused { code, .. } = error else { return error.into() };
        let Some(group) = &self.group else { return error.into() };
        group.place.membership.lock().refused(code, identity);
        if matches!(code, ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) {
            ConsumerError::CommitFailed(code)
        } else if code == ErrorCode::RebalanceInProgress {
            ConsumerError::RebalanceInProgress
        } else if code == ErrorCode::FencedInstanceId {
            ConsumerError::rejected(&group.place.group, code)
        } else {
            error.into()
        }
    }

    /// Commits by itself when it is time to.
    pub(super) fn step_auto_commit(&mut self, now: Monotonic) {
        if !self.options.auto_commit || self.group.is_none() {
            return;
        }
        if now >= self.commits.next_auto {
            // With 0 whenever it looks, but once each time.
            let interval = self.options.auto_commit_interval.max(Duration::from_millis(1));
            self.commits.next_auto = now + interval;
            // Those of a coordinator that does not answer would pile up.
            let last = self.commits.last_auto;
            if !last.is_some_and(|last| self.commits.under_way.contains_key(&last)) {
                self.commits.last_auto = self.commit_consumed();
            }
        }
        self.wake_at(self.commits.next_auto);
    }

    /// Who asks the coordinator, for at most `limit`.
    pub(super) fn committer(&self, limit: Duration) -> Option<Committer> {
        let place = &self.group.as_ref()?.place;
        Some(Committer {
            client: self.client.clone(),
            key: place.key.clone(),
            group: place.group.clone(),
            instance_id: place.instance_id.clone(),
            limit,
        })
    }
}
