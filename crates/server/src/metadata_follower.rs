//! Follows the metadata log on a node without a vote: pulls what the voters commit and applies it.
//!
//! Kafka calls such a node an observer (KIP-595). It keeps nothing on disk: when it starts it pulls the
//! newest snapshot and what follows, and has no log that could be damaged, foreign or in the way.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_env::{Env, TaskHandle};
use ottla_protocol::{Monotonic, Uuid};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use crate::quorum::{LeaderAndEpoch, MetadataApplier, News, Pulled, Puller, Voter, VoterTransport};

/// Whom to follow, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct FollowerOptions {
    /// `node.id` of this node.
    pub(crate) node_id: i32,
    /// `directory.id` of `metadata.log.dir`, for `DescribeQuorum` to tell; may be zero.
    pub(crate) directory_id: Uuid,
    /// The cluster that the log has to belong to.
    pub(crate) cluster_id: Uuid,
    /// `controller.quorum.voters`, or with ids that are not known `controller.quorum.bootstrap.servers`: whom to ask
    /// first.
    pub(crate) voters: Vec<Voter>,
    /// `controller.quorum.request.timeout.ms`.
    pub(crate) request_timeout: Duration,
    /// `controller.quorum.retry.backoff.ms`: the wait before asking again where nobody leads.
    pub(crate) retry_backoff: Duration,
}

/// How far a follower is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FollowerProgress {
    /// Offset of the first record that is not applied here.
    pub(crate) next_offset: i64,
    /// Offset of the first record that the leader did not know to be committed when it was last asked;
    /// 0 before it was.
    pub(crate) high_watermark: i64,
}

impl FollowerProgress {
    #[cfg(test)]
    /// Whether all is applied that was committed when the leader was last asked.
    pub(crate) fn is_caught_up(self) -> bool {
        self.high_watermark > 0 && self.next_offset >= self.high_watermark
    }
}

/// Follows until it is dropped.
pub(crate) struct MetadataFollower {
    leader: watch::Receiver<LeaderAndEpoch>,
    voters: watch::Receiver<Arc<[Voter]>>,
    progress: watch::Receiver<FollowerProgress>,
    failure: Arc<Mutex<Option<String>>>,
    vanished: Arc<Notify>,
    task: TaskHandle,
}

impl MetadataFollower {
    /// Begins to pull into `applier`.
    pub(crate) fn start(
        env: &Env,
        options: FollowerOptions,
        applier: impl MetadataApplier,
        transport: Arc<dyn VoterTransport>,
    ) -> Self {
        let (told, leader) = watch::channel(LeaderAndEpoch::default());
        let (reached, progress) = watch::channel(FollowerProgress::default());
        let known = Voters::new(options.voters);
        let (places, voters) = watch::channel(known.by_id());
        let (failure, vanished) = (Arc::default(), Arc::new(Notify::new()));
        let me = (options.node_id, options.directory_id);
        let pulling = Pulling {
            env: env.clone(),
            puller: Puller::new(me, options.cluster_id, options.request_timeout, transport),
            applier: Box::new(applier),
            voters: known,
            places,
            request_timeout: options.request_timeout,
            retry_backoff: options.retry_backoff.max(Duration::from_millis(1)),
            told,
            reached,
            vanished: Arc::clone(&vanished),
            failure: Arc::clone(&failure),
        };
        let task = env.spawn("metadata follower", pulling.run());
        Self { leader, voters, progress, failure, vanished, task }
    }

    /// Where controllers are, by id: as configured, or as one of them told.
    pub(crate) fn voters(&self) -> watch::Receiver<Arc<[Voter]>> {
        self.voters.clone()
    }

    /// Who leads, as far as the voters told. Closes when the follower has failed.
    pub(crate) fn leader(&self) -> watch::Receiver<LeaderAndEpoch> {
        self.leader.clone()
    }

    #[cfg(test)]
    /// How far it is. Closes when the follower has failed.
    pub(crate) fn progress(&self) -> watch::Receiver<FollowerProgress> {
        self.progress.clone()
    }

    /// To be called when the process of the leader is known to be dead: the others are asked at once.
    pub(crate) fn vanished(&self) -> impl Fn(i32) + Send + Sync + use<> {
        let vanished = Arc::clone(&self.vanished);
        move |_leader| vanished.notify_one()
    }

    /// Completes when it has failed, and says why. It cannot go on: the node has to start again.
    pub(crate) fn stopped(&self) -> impl Future<Output = String> + Send + 'static {
        let (mut progress, failure) = (self.progress.clone(), Arc::clone(&self.failure));
        async move {
            while progress.changed().await.is_ok() {}
            failure.lock().clone().unwrap_or_else(|| "it was stopped".to_owned())
        }
    }
}

impl Drop for MetadataFollower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Who can be asked, and who is.
struct Voters {
    known: Vec<Voter>,
    /// Addresses that the voters told, by id: they know who was added later, or moved.
    told: BTreeMap<i32, Voter>,
    asked: usize,
    /// Who said nothing when it was asked, and until when others are asked instead: they may go on to name it for a while.
    silent: Option<(Voter, Monotonic)>,
}

impl Voters {
    fn new(known: Vec<Voter>) -> Self {
        Self { known, told: BTreeMap::new(), asked: 0, silent: None }
    }

    fn current(&self) -> Option<&Voter> {
        let count = self.known.len() + self.told.len();
        let position = self.asked.checked_rem(count)?;
        self.known.iter().chain(self.told.values()).nth(position)
    }

    /// Turns to another; to one that was silent a moment ago only if there is no other.
    fn next(&mut self, now: Monotonic) {
        for _ in 0..(self.known.len() + self.told.len()).max(1) {
            self.asked = self.asked.wrapping_add(1);
            if !self.current().is_some_and(|it| self.was_silent(it, now)) {
                return;
            }
        }
    }

    /// Who is asked now says nothing: it may stand still, or be cut off.
    fn leave_silent(&mut self, until: Monotonic) {
        self.silent = self.current().cloned().map(|voter| (voter, until));
    }

    fn was_silent(&self, voter: &Voter, now: Monotonic) -> bool {
        let silent = self.silent.as_ref().filter(|(_, until)| now < *until);
        silent.is_some_and(|(silent, _)| silent.address() == voter.address())
    }

    /// Takes over where controllers are; whether that is news.
    fn learn(&mut self, voters: Vec<Voter>) -> bool {
        let told: BTreeMap<_, _> = voters.into_iter().map(|it| (it.node_id, it)).collect();
        if told.is_empty() || told == self.told {
            return false;
        }
        // Who is asked now goes on to be asked.
        let current = self.current().cloned();
        self.told = told;
        let mut all = self.known.iter().chain(self.told.values());
        let position = all.position(|voter| Some(voter) == current.as_ref());
        self.asked = position.unwrap_or(self.asked);
        true
    }

    /// Turns to the leader, if it is known where it is, and was not silent a moment ago.
    fn turn_to(&mut self, leader: i32, now: Monotonic) -> bool {
        let mut all = self.known.iter().chain(self.told.values());
        let is_it = |voter: &Voter| voter.node_id == leader && !self.was_silent(voter, now);
        let found = all.position(is_it);
        self.asked = found.unwrap_or(self.asked);
        found.is_some()
    }

    /// All whose ids are known; what is configured goes first.
    fn by_id(&self) -> Arc<[Voter]> {
        let all = self.known.iter().chain(self.told.values());
        all.filter(|voter| voter.node_id >= 0).cloned().collect()
    }
}

struct Pulling {
    env: Env,
    puller: Puller,
    applier: Box<dyn MetadataApplier>,
    voters: Voters,
    places: watch::Sender<Arc<[Voter]>>,
    request_timeout: Duration,
    retry_backoff: Duration,
    told: watch::Sender<LeaderAndEpoch>,
    reached: watch::Sender<FollowerProgress>,
    vanished: Arc<Notify>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Pulling {
    async fn run(mut self) {
        // The first answer says how far there is to go.
        let mut is_first = true;
        let mut failures = 0_u32;
        loop {
            let Some(voter) = self.voters.current().cloned() else {
                return self
                    .fail("there is no controller to follow: controller.quorum.voters and controller.quorum.bootstrap.servers are empty");
            };
            let pulled = tokio::select! {
                biased;
                () = self.vanished.notified() => None,
                pulled = self.puller.pull(&voter, is_first) => Some(pulled),
            };
            match pulled {
                Some(Ok(pulled)) => {
                    failures = 0;
                    is_first = false;
                    match self.take(pulled) {
                        Next::GoOn => {}
                        Next::AskAgain => self.env.clock.sleep(self.retry_backoff).await,
                        Next::Fail(why) => return self.fail(&why),
                    }
                }
                Some(Err(error)) => {
                    if failures == 0 {
                        warn!(%voter, %error, "cannot follow the metadata log there: asking the next controller");
                    }
                    failures += 1;
                    is_first = true;
                    let now = self.env.clock.now();
                    if error.kind() == io::ErrorKind::TimedOut {
                        self.voters.leave_silent(now + self.request_timeout);
                    }
                    self.voters.next(now);
                    let longer = failures.min(8);
                    self.env.clock.sleep(self.retry_backoff * longer).await;
                }
                None => {
                    info!(%voter, "the active controller is gone: asking the next one");
                    self.told.send_if_modified(|told| told.leader.take().is_some());
                    self.voters.next(self.env.clock.now());
                }
            }
        }
    }

    /// Applies what a voter answered.
    fn take(&mut self, pulled: Pulled) -> Next {
        // A voter that is behind may not know that there is another leader. What is committed there is committed all the same.
        let is_behind = pulled.leader.epoch < self.told.borrow().epoch;
        if !is_behind {
            if self.voters.learn(pulled.voters) {
                self.places.send_replace(self.voters.by_id());
            }
            self.told
                .send_if_modified(|told| std::mem::replace(told, pulled.leader) != pulled.leader);
        }
        match pulled.news {
            News::NotLeader => return self.ask_another(),
            // It may lack what this node has from the leader after it.
            News::Diverged if is_behind => return self.ask_another(),
            News::Diverged => {
                return Next::Fail("the metadata that this node follows is not that of the controllers: start this node again, and if it recurs look at which of them lost their disks".to_owned());
            }
            News::Piece => {}
            News::Batches(batches) => {
                if let Err(error) = batches.into_iter().try_for_each(|it| self.applier.apply(it)) {
                    return Next::Fail(error.to_string());
                }
                self.applier.publish();
            }
            News::Snapshot { records, end_offset, epoch } => {
                if let Err(error) = self.applier.install(records, end_offset, epoch) {
                    return Next::Fail(error.to_string());
                }
            }
        }
        let (next_offset, high_watermark) = (self.puller.next_offset(), pulled.high_watermark);
        let now = FollowerProgress { next_offset, high_watermark };
        self.reached.send_if_modified(|reached| std::mem::replace(reached, now) != now);
        if is_behind { self.ask_another() } else { Next::GoOn }
    }

    /// Turns to the leader of the latest epoch, or to whoever is next.
    fn ask_another(&mut self) -> Next {
        let (leader, now) = (self.told.borrow().leader, self.env.clock.now());
        if !leader.is_some_and(|leader| self.voters.turn_to(leader, now)) {
            self.voters.next(now);
        }
        Next::AskAgain
    }

    fn fail(&self, why: &str) {
        tracing::error!("{why}");
        *self.failure.lock() = Some(why.to_owned());
    }
}

/// What follows an answer.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    AskAgain,
    Fail(String),
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::quorum::{CannotApply, CommittedBatch};

    struct Nothing;

    impl VoterTransport for Nothing {
        fn call(
            &self,
            _: &Voter,
            _: bytes::Bytes,
            _: Duration,
        ) -> BoxFuture<'static, io::Result<bytes::Bytes>> {
            async { Err(io::Error::from(io::ErrorKind::NotConnected)) }.boxed()
        }
    }

    impl MetadataApplier for Nothing {
        fn apply(&mut self, _: CommittedBatch) -> Result<(), CannotApply> {
            Ok(())
        }
        fn publish(&mut self) {}
        fn snapshot(&self) -> Vec<bytes::Bytes> {
            Vec::new()
        }
        fn install(&mut self, _: Vec<bytes::Bytes>, _: i64, _: i32) -> Result<(), CannotApply> {
            Ok(())
        }
    }

    fn pulling() -> Pulling {
        let voter = |node_id| Voter { node_id, host: format!("node-{node_id}"), port: 9093 };
        let second = Duration::from_secs(1);
        let known = Voters::new(vec![voter(1), voter(2)]);
        Pulling {
            env: Env::os(),
            puller: Puller::new((100, Uuid::ZERO), Uuid::ZERO, second, Arc::new(Nothing)),
            applier: Box::new(Nothing),
            places: watch::Sender::new(known.by_id()),
            voters: known,
            request_timeout: second,
            retry_backoff: second,
            told: watch::Sender::default(),
            reached: watch::Sender::default(),
            vanished: Arc::default(),
            failure: Arc::default(),
        }
    }

    fn answer(leader: i32, epoch: i32, news: News) -> Pulled {
        let leader = LeaderAndEpoch { leader: Some(leader), epoch };
        Pulled { leader, voters: Vec::new(), high_watermark: 0, news }
    }

    #[tokio::test]
    async fn a_leader_of_the_past_is_not_believed_that_this_node_went_astray() {
        let mut pulling = pulling();
        assert_eq!(pulling.take(answer(2, 5, News::Batches(Vec::new()))), Next::GoOn);
        for news in [News::Diverged, News::Batches(Vec::new()), News::NotLeader] {
            assert_eq!(pulling.take(answer(1, 4, news)), Next::AskAgain);
            assert_eq!(pulling.voters.current().map(|it| it.node_id), Some(2));
        }
        assert!(matches!(pulling.take(answer(2, 5, News::Diverged)), Next::Fail(_)));
    }
}
