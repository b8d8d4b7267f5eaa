//! A cluster of nodes, each in a runtime of its own, so that it can stop in order, or vanish like a killed process.

use std::net::SocketAddr;
use std::time::Duration;

use ottla_client::{Admin, Client, ConnectionOptions};
use ottla_config::BrokerConfig;
use ottla_env::Env;
use ottla_protocol::BrokerId;
use ottla_server::Server;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// Longest that anything may take which should be quick; only a test that fails waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something that is to become true.
const LOOK: Duration = Duration::from_millis(10);

/// Awaits `future`, which must not take long.
pub(crate) async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    let answer = Env::os().timeout(PATIENCE, future).await;
    answer.unwrap_or_else(|_| panic!("{what}: nothing for {PATIENCE:?}"))
}

/// Looks until `look` finds something.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    in_time(what, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            Env::os().clock.sleep(LOOK).await;
        }
    })
    .await
}

/// Nodes 1 to n, the first of them voters. All of them are brokers, but voters that have that role alone.
pub(crate) struct Cluster {
    voters: usize,
    voters_alone: bool,
    /// With `controller.quorum.bootstrap.servers` in place of `controller.quorum.voters`: the nodes that all ask.
    servers: Vec<usize>,
    dirs: Vec<TempDir>,
    ports: Vec<[u16; 2]>,
    properties: String,
    racks: Vec<String>,
    nodes: Vec<Option<Running>>,
}

struct Running {
    runtime: Runtime,
    server: Server,
}

impl Cluster {
    /// Starts `count` nodes with more `properties`; all of them vote.
    pub(crate) async fn start(count: usize, properties: &str) -> Self {
        Self::start_with((count, count), Vec::new(), properties).await
    }

    /// Starts `count` nodes, of which only the first `voters` are controllers too.
    pub(crate) async fn start_with_voters(voters: usize, count: usize) -> Self {
        Self::start_with((voters, count), Vec::new(), "").await
    }

    /// Starts `voters` nodes that are controllers alone, and as many more that are brokers alone, whose listener has a name
    /// that controllers are not told.
    pub(crate) async fn start_apart(voters: usize, properties: &str) -> Self {
        let mut cluster = Self::of((voters, 2 * voters), Vec::new(), properties).await;
        cluster.voters_alone = true;
        cluster.start_all().await;
        cluster
    }

    /// Nodes that find the quorum by asking the nodes `servers`. None runs yet.
    pub(crate) async fn found_by_servers(
        servers: &[usize],
        (voters, count): (usize, usize),
        properties: &str,
    ) -> Self {
        let mut cluster = Self::of((voters, count), Vec::new(), properties).await;
        cluster.servers = servers.to_vec();
        cluster
    }

    /// Starts a node in each of `racks`.
    pub(crate) async fn start_in_racks(racks: &[&str], properties: &str) -> Self {
        let named = racks.iter().map(|rack| (*rack).to_owned()).collect();
        Self::start_with((racks.len(), racks.len()), named, properties).await
    }

    async fn start_with(nodes: (usize, usize), racks: Vec<String>, properties: &str) -> Self {
        let mut cluster = Self::of(nodes, racks, properties).await;
        cluster.start_all().await;
        cluster
    }

    /// A cluster of which no node runs yet.
    async fn of((voters, count): (usize, usize), racks: Vec<String>, properties: &str) -> Self {
        Self {
            voters,
            voters_alone: false,
            servers: Vec::new(),
            racks,
            dirs: (0..count).map(|_| tempfile::tempdir().unwrap()).collect(),
            ports: free_ports(count).await,
            properties: properties.to_owned(),
            nodes: (0..count).map(|_| None).collect(),
        }
    }

    /// Starts all nodes that do not run.
    pub(crate) async fn start_all(&mut self) {
        let down: Vec<_> =
            (1..=self.nodes.len()).filter(|id| self.nodes[id - 1].is_none()).collect();
        let starting: Vec<_> = down.iter().map(|id| (*id, self.begin(*id))).collect();
        for (id, (runtime, started)) in starting {
            let server = in_time("the start of a node", started).await.unwrap();
            self.nodes[id - 1] = Some(Running { runtime, server });
        }
    }

    /// Starts the node `id`.
    pub(crate) async fn start_node(&mut self, id: i32) {
        let (runtime, started) = self.begin(id as usize);
        let server = in_time("the start of a node", started).await.unwrap();
        self.nodes[id as usize - 1] = Some(Running { runtime, server });
    }

    /// Why the node `id` does not start.
    pub(crate) async fn refusal(&self, id: i32) -> String {
        let config = self.config(id as usize);
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let started =
            runtime.spawn(async move { Server::start(Env::os(), config).await.map(drop) });
        let started = in_time("the end of a start", started).await.unwrap();
        end(runtime).await;
        started.expect_err("it started").to_string()
    }

    fn begin(&self, id: usize) -> (Runtime, tokio::task::JoinHandle<Server>) {
        let config = self.config(id);
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let started = runtime.spawn(async move { Server::start(Env::os(), config).await.unwrap() });
        (runtime, started)
    }

    fn config(&self, id: usize) -> BrokerConfig {
        let at = |id: usize| format!("127.0.0.1:{}", self.ports[id - 1][1]);
        let quorum = match self.servers.is_empty() {
            true => {
                let voters: Vec<_> =
                    (1..=self.voters).map(|id| format!("{id}@{}", at(id))).collect();
                format!("voters={}", voters.join(","))
            }
            false => {
                let servers: Vec<_> = self.servers.iter().map(|id| at(*id)).collect();
                format!("bootstrap.servers={}", servers.join(","))
            }
        };
        let [broker, controller] = self.ports[id - 1];
        let (name, named) = match self.voters_alone && id > self.voters {
            true => (
                "OWN",
                "inter.broker.listener.name=OWN\nlistener.security.protocol.map=OWN:PLAINTEXT,CONTROLLER:PLAINTEXT\n",
            ),
            false => ("PLAINTEXT", ""),
        };
        let clients = format!("{name}://127.0.0.1:{broker}");
        let nodes = format!("CONTROLLER://127.0.0.1:{controller}");
        let (roles, listeners) = match (id <= self.voters, self.voters_alone) {
            (true, true) => ("controller", nodes),
            (true, false) => ("broker,controller", format!("{clients},{nodes}")),
            (false, _) => ("broker", clients),
        };
        let base = format!(
            "process.roles={roles}\n\
             node.id={id}\n\
             listeners={listeners}\n\
             controller.listener.names=CONTROLLER\n\
             controller.quorum.{quorum}\n\
             log.dirs={}\n\
             offsets.topic.num.partitions=2\n\
             group.initial.rebalance.delay.ms=0\n",
            self.dirs[id - 1].path().display(),
        );
        let rack = self.racks.get(id - 1).map(|rack| format!("broker.rack={rack}\n"));
        let rack = rack.as_deref().unwrap_or_default();
        let texts = [base.as_str(), named, &self.properties, rack];
        let (config, _) = BrokerConfig::parse(&texts, &[]).unwrap();
        config
    }

    /// Where clients reach the node `id`.
    pub(crate) fn address(&self, id: i32) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[id as usize - 1][0]))
    }

    /// Where other nodes reach the controller of the node `id`.
    pub(crate) fn controller_port(&self, id: i32) -> u16 {
        self.ports[id as usize - 1][1]
    }

    /// The ids of nodes that run.
    pub(crate) fn running(&self) -> Vec<i32> {
        (1..=self.nodes.len() as i32).filter(|id| self.nodes[*id as usize - 1].is_some()).collect()
    }

    /// Has all nodes ask others for the quorum when they start next.
    pub(crate) fn set_servers(&mut self, servers: &[usize]) {
        self.servers = servers.to_vec();
    }

    /// Has the controller of a node listen elsewhere when it starts next.
    pub(crate) async fn move_controller(&mut self, id: i32) {
        self.ports[id as usize - 1][1] = free_ports(1).await[0][1];
    }

    /// The cluster that the node `id` belongs to.
    pub(crate) fn cluster_id(&self, id: i32) -> &str {
        self.nodes[id as usize - 1].as_ref().unwrap().server.cluster_id()
    }

    /// The node vanishes as if it was killed.
    pub(crate) async fn kill(&mut self, id: i32) {
        let Running { runtime, server } = self.nodes[id as usize - 1].take().unwrap();
        end(runtime).await;
        drop(server);
    }

    /// The node does nothing, as a stopped process, until what is answered is dropped.
    pub(crate) fn stand_still(&self, id: i32) -> std::sync::mpsc::Sender<()> {
        let (go_on, standing_still) = std::sync::mpsc::channel();
        let runtime = &self.nodes[id as usize - 1].as_ref().unwrap().runtime;
        // It has one thread.
        runtime.spawn(async move { standing_still.recv() });
        go_on
    }

    /// A node that does not run has an empty disk.
    pub(crate) fn replace_disk(&mut self, id: i32) {
        self.dirs[id as usize - 1] = TempDir::new().unwrap();
    }

    /// What a file of the node's log directory says.
    pub(crate) fn read_file(&self, id: i32, name: &str) -> String {
        self.try_read_file(id, name).unwrap()
    }

    /// [`read_file`](Self::read_file), of one that may not be there yet.
    pub(crate) fn try_read_file(&self, id: i32, name: &str) -> Option<String> {
        let path = self.dirs[id as usize - 1].path().join(name);
        String::from_utf8(Env::os().disk.read(&path).ok()?).ok()
    }

    /// What lies in the node's log directory under a name that begins so.
    pub(crate) fn files(&self, id: i32, prefix: &str) -> Vec<String> {
        let entries = Env::os().disk.read_dir(self.dirs[id as usize - 1].path()).unwrap();
        entries.into_iter().map(|entry| entry.name).filter(|it| it.starts_with(prefix)).collect()
    }

    /// The node stops in order.
    pub(crate) async fn stop(&mut self, id: i32) {
        let Running { runtime, server } = self.nodes[id as usize - 1].take().unwrap();
        in_time("the stop of a node", runtime.spawn(server.shutdown())).await.unwrap();
        end(runtime).await;
    }

    /// A client of all nodes that run.
    pub(crate) async fn client(&self) -> Client {
        self.client_of(&self.running()).await
    }

    /// A client that is told of some nodes.
    pub(crate) async fn client_of(&self, ids: &[i32]) -> Client {
        let servers = ids.iter().map(|id| self.address(*id).to_string()).collect();
        Client::connect(&Env::os(), servers, ConnectionOptions::default()).await.unwrap()
    }

    /// An administrator.
    pub(crate) async fn admin(&self) -> Admin {
        Admin::new(self.client().await, PATIENCE)
    }

    /// The active controller, as its quorum says.
    pub(crate) async fn active_controller(&self) -> i32 {
        until("an active controller", async || {
            let described = self.admin().await.describe_quorum().await.ok()?;
            Some(described.leader.0)
        })
        .await
    }

    /// Waits until exactly the brokers `ids` are in service.
    pub(crate) async fn wait_in_service(&self, ids: &[i32]) {
        let admin = self.admin().await;
        until("the brokers in service", async || {
            let cluster = admin.describe_cluster(false).await.ok()?;
            let found: Vec<_> = cluster.brokers.iter().map(|broker| broker.id).collect();
            let wanted: Vec<_> = ids.iter().copied().map(BrokerId).collect();
            (found == wanted).then_some(())
        })
        .await;
    }

    /// Stops all nodes, each in order; controllers that are alone last, for brokers ask them before they go.
    pub(crate) async fn stop_all(mut self) {
        for id in self.running().into_iter().rev() {
            self.stop(id).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for running in self.nodes.drain(..).flatten() {
            running.runtime.shutdown_background();
        }
    }
}

/// Ports that were free a moment ago, two for each node.
async fn free_ports(count: usize) -> Vec<[u16; 2]> {
    let mut held = Vec::new();
    for _ in 0..2 * count {
        held.push(Env::os().net.listen("127.0.0.1:0", 1).await.unwrap());
    }
    let ports: Vec<_> = held.iter().map(|it| it.local_addr().unwrap().port()).collect();
    ports.chunks(2).map(|pair| [pair[0], pair[1]]).collect()
}

/// Ends every task where it stands.
async fn end(runtime: Runtime) {
    in_time("the end", Env::os().run_blocking(move || runtime.shutdown_timeout(PATIENCE))).await;
}
