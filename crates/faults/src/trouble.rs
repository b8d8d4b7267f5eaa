//! Does to a cluster what the seed says, one thing after the other, and notes what clients saw of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ottla_client::{Admin, BrokerId, Client, ConnectionOptions, ElectionType, Env};
use ottla_env::process::ProcessSignal;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::board::Seen;
use crate::cluster::Cluster;
use crate::fault::Fault;
use crate::load::group::GROUP;
use crate::load::{STREAMS, Shared, Stream};
use crate::relay::{Place, Way};

/// Between two looks at the cluster.
const LOOK: Duration = Duration::from_millis(20);
/// A node that stood still answers at first as if nothing had been. So the cluster is well if it is after this time, too.
const SETTLED: Duration = Duration::from_millis(250);
/// How long anything may take that becomes well of itself.
pub(crate) const RECOVERY: Duration = Duration::from_secs(120);
/// An answer about the state of the cluster is waited for so long.
const ANSWER: Duration = Duration::from_secs(5);

/// A fault, and what clients saw of it.
pub(crate) struct Record {
    pub(crate) fault: Fault,
    pub(crate) seen: Seen,
}

/// What the cluster is waited for to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    InService,
    Whole,
}

pub(crate) struct Trouble {
    pub(crate) cluster: Cluster,
    shared: Arc<Shared>,
    rng: ChaCha8Rng,
    /// What may come.
    faults: Vec<Fault>,
    /// Faults that are still to come before any comes again.
    deck: Vec<Fault>,
}

impl Trouble {
    /// Only these `faults` come; all if there are none.
    pub(crate) fn new(cluster: Cluster, shared: Arc<Shared>, faults: &[Fault], seed: u64) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let faults = match faults {
            [] => Fault::ALL.to_vec(),
            some => some.to_vec(),
        };
        Self { cluster, shared, rng, faults, deck: Vec::new() }
    }

    /// Draws a fault, commits it, and waits until all is well again.
    pub(crate) async fn next(&mut self) -> Result<Record> {
        self.wait_whole().await.context("before a fault")?;
        self.give_everybody_leaders().await?;
        let fault = self.draw();
        self.shared.board.begin();
        let whole = async {
            self.commit(fault).await?;
            let healed = Instant::now();
            self.wait_whole().await?;
            self.wait_progress(healed).await
        };
        whole.await.with_context(|| format!("{}, {}", fault.title(), self.told()))?;
        Ok(Record { fault, seen: self.shared.board.seen() })
    }

    /// Every fault comes before one comes again.
    fn draw(&mut self) -> Fault {
        if self.deck.is_empty() {
            self.deck.clone_from(&self.faults);
        }
        let at = self.below(self.deck.len() as u64) as usize;
        self.deck.swap_remove(at)
    }

    async fn commit(&mut self, fault: Fault) -> Result<()> {
        let id = self.victim(fault).await?;
        match fault {
            Fault::Nothing => {
                tokio::time::sleep(self.lasting()).await;
                Ok(())
            }
            Fault::KillAny | Fault::KillLeader | Fault::KillController | Fault::KillCoordinator => {
                self.kill(id).await
            }
            Fault::KillAll => {
                for &id in self.cluster.layout.nodes() {
                    self.cluster.kill(id).await?;
                }
                self.cluster.start_all().await
            }
            Fault::PauseLeader | Fault::PauseController => self.pause(id).await,
            Fault::CutLeader | Fault::CutController => self.isolate(id, true).await,
            Fault::CutLeaderFromNodes => self.isolate(id, false).await,
            Fault::CutOneWay => {
                let (one, other) = self.pair(id);
                self.cut(&[(one, other)]).await
            }
            Fault::CutTwoWays => {
                let (one, other) = self.pair(id);
                self.cut(&[(one, other), (other, one)]).await
            }
            Fault::Delay => self.delay(id).await,
            Fault::Restart => self.restart(id).await,
            Fault::RollingRestart => {
                for &id in self.cluster.layout.nodes() {
                    self.restart(id).await?;
                    self.wait_whole().await?;
                }
                Ok(())
            }
        }
    }

    /// The node that a fault happens to, or begins with.
    async fn victim(&mut self, fault: Fault) -> Result<i32> {
        match fault {
            Fault::KillLeader
            | Fault::PauseLeader
            | Fault::CutLeader
            | Fault::CutLeaderFromNodes => self.a_leader().await,
            Fault::KillController | Fault::PauseController | Fault::CutController => {
                self.active_controller().await
            }
            Fault::KillCoordinator => self.coordinator().await,
            Fault::Nothing
            | Fault::KillAny
            | Fault::KillAll
            | Fault::CutOneWay
            | Fault::CutTwoWays
            | Fault::Delay
            | Fault::Restart
            | Fault::RollingRestart => Ok(self.any()),
        }
    }

    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound.max(1)
    }

    /// One of the nodes.
    fn any(&mut self) -> i32 {
        let nodes = self.cluster.layout.nodes();
        nodes[self.below(nodes.len() as u64) as usize]
    }

    /// How long a fault lasts: shorter or longer than the session timeout.
    fn lasting(&mut self) -> Duration {
        let ms = match self.below(2) == 0 {
            true => 500 + self.below(4_000),
            false => 10_000 + self.below(4_000),
        };
        Duration::from_millis(ms)
    }

    async fn kill(&mut self, id: i32) -> Result<()> {
        self.cluster.kill(id).await?;
        let down = Duration::from_millis(self.below(3_000));
        tokio::time::sleep(down).await;
        self.cluster.start(id).await
    }

    async fn restart(&mut self, id: i32) -> Result<()> {
        self.cluster.stop(id).await?;
        self.cluster.start(id).await
    }

    async fn pause(&mut self, id: i32) -> Result<()> {
        self.cluster.signal(id, ProcessSignal::Pause)?;
        tokio::time::sleep(self.lasting()).await;
        self.cluster.signal(id, ProcessSignal::Resume)
    }

    async fn isolate(&mut self, id: i32, from_clients: bool) -> Result<()> {
        let mut others = self.cluster.others(id);
        others.retain(|other| from_clients || *other != Place::Clients);
        let id = Place::Node(id);
        let ways: Vec<_> = others.iter().flat_map(|it| [(id, *it), (*it, id)]).collect();
        self.cut(&ways).await
    }

    async fn cut(&mut self, ways: &[(Place, Place)]) -> Result<()> {
        let cut = Way { cut: true, ..Way::default() };
        self.cluster.links.set(ways.iter().map(|way| (*way, cut)));
        tokio::time::sleep(self.lasting()).await;
        self.cluster.links.heal();
        Ok(())
    }

    async fn delay(&mut self, id: i32) -> Result<()> {
        let delay = Duration::from_millis(10 + self.below(200));
        let id = (Place::Node(id), self.cluster.others(id));
        let ways = id.1.iter().flat_map(|it| [(id.0, *it), (*it, id.0)]);
        self.cluster.links.set(ways.map(|way| (way, Way { cut: false, delay })));
        tokio::time::sleep(self.lasting()).await;
        self.cluster.links.heal();
        Ok(())
    }

    /// A node, and another.
    fn pair(&mut self, id: i32) -> (Place, Place) {
        let mut others = self.cluster.layout.nodes().to_vec();
        others.retain(|other| *other != id);
        let other = others[self.below(others.len() as u64) as usize];
        (Place::Node(id), Place::Node(other))
    }

    async fn a_leader(&mut self) -> Result<i32> {
        let leaders = leaders(&self.admin().await?).await?;
        let numbers: Vec<i32> = leaders.into_values().flatten().map(|id| id.0).collect();
        let at = self.below(numbers.len() as u64) as usize;
        numbers.get(at).copied().context("no partition has a leader")
    }

    async fn active_controller(&self) -> Result<i32> {
        Ok(self.admin().await?.describe_quorum().await?.leader.0)
    }

    async fn coordinator(&self) -> Result<i32> {
        let mut described = self.admin().await?.describe_groups(&[GROUP]).await?;
        let group = described.remove(GROUP).context("the group is not described")??;
        Ok(group.coordinator.0)
    }

    /// An administrator who knows nothing of what was before.
    pub(crate) async fn admin(&self) -> Result<Admin> {
        admin(&self.shared.bootstrap).await
    }

    /// Waits until all nodes are in service: only then can a topic have a replica on each.
    pub(crate) async fn wait_in_service(&mut self) -> Result<()> {
        self.wait_for(Wish::InService).await
    }

    /// Waits until all nodes are in service and all replicas in sync.
    pub(crate) async fn wait_whole(&mut self) -> Result<()> {
        self.wait_for(Wish::Whole).await
    }

    async fn wait_for(&mut self, wish: Wish) -> Result<()> {
        let give_up = Instant::now() + RECOVERY;
        let (mut admin, mut was_well) = (None, false);
        loop {
            self.cluster.check_running()?;
            let problem = match self.problem(&mut admin, wish).await {
                Ok(None) if was_well => return Ok(()),
                Ok(problem) => problem,
                Err(error) => {
                    admin = None;
                    Some(format!("{error:#}"))
                }
            };
            was_well = problem.is_none();
            let now = Instant::now();
            ensure!(now < give_up, "not whole after {RECOVERY:?}: {}", problem.unwrap_or_default());
            tokio::time::sleep(if was_well { SETTLED } else { LOOK }).await;
        }
    }

    /// What is not as it should be.
    async fn problem(&self, admin: &mut Option<Admin>, wish: Wish) -> Result<Option<String>> {
        let admin = match admin {
            Some(admin) => admin,
            None => admin.insert(self.admin().await?),
        };
        let cluster = admin.describe_cluster(true).await?;
        let ready: Vec<_> =
            cluster.brokers.iter().filter(|it| !it.is_fenced).map(|it| it.id.0).collect();
        if ready != self.cluster.layout.brokers() {
            return Ok(Some(format!("in service are {ready:?}")));
        }
        if wish == Wish::InService {
            return Ok(None);
        }
        let topics = admin.describe_all_topics().await?;
        for stream in STREAMS {
            if !topics.contains_key(stream.topic) {
                return Ok(Some(format!("{} is missing", stream.topic)));
            }
        }
        for (topic, described) in topics.iter().filter(|(name, _)| !name.starts_with("churn")) {
            for (number, partition) in &described.partitions {
                if partition.leader.is_none() || partition.isr.len() < 3 {
                    let isr = &partition.isr;
                    return Ok(Some(format!("{topic}-{number}: in sync are {isr:?}")));
                }
            }
        }
        Ok(None)
    }

    /// Waits until everything has happened again since `healed`.
    pub(crate) async fn wait_progress(&mut self, healed: Instant) -> Result<()> {
        let give_up = Instant::now() + RECOVERY;
        while !self.shared.board.all_went_on_since(healed) {
            self.cluster.check_running()?;
            ensure!(Instant::now() < give_up, "clients do not go on after {RECOVERY:?}");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Has preferred replicas lead, so that every node has something to lose.
    async fn give_everybody_leaders(&mut self) -> Result<()> {
        let admin = self.admin().await?;
        let partitions: Vec<_> = STREAMS.iter().flat_map(Stream::partitions).collect();
        // That one leads already is answered as an error of its partition; and faults are as good where one leads too much.
        let _not_needed = admin.elect_leaders(ElectionType::Preferred, Some(&partitions)).await;
        self.wait_whole().await
    }

    /// What clients saw so far.
    fn told(&self) -> String {
        let seen = self.shared.board.seen();
        let gap = seen.gaps.iter().max_by_key(|(_, gap)| **gap);
        format!(
            "longest gap {gap:?}, topic made after {:?}, commits {:?}, {} errors, the last {:?}",
            seen.metadata,
            seen.commits,
            seen.errors.len(),
            seen.errors.last(),
        )
    }
}

/// An administrator who gives up soon.
pub(crate) async fn admin(bootstrap: &[String]) -> Result<Admin> {
    let options = ConnectionOptions {
        connect_timeout: ANSWER,
        request_timeout: ANSWER,
        ..ConnectionOptions::default()
    };
    let client = Client::connect(&Env::os(), bootstrap.to_vec(), options).await?;
    Ok(Admin::new(client, ANSWER))
}

async fn leaders(admin: &Admin) -> Result<BTreeMap<(String, i32), Option<BrokerId>>> {
    let topics = admin.describe_topics(&STREAMS.map(|stream| stream.topic)).await?;
    let mut leaders = BTreeMap::new();
    for (name, topic) in topics {
        for (number, partition) in topic?.partitions {
            leaders.insert((name.clone(), number), partition.leader);
        }
    }
    Ok(leaders)
}
