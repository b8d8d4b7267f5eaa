//! What clients measure and push (KIP-714): the machine of `ottla_telemetry`, with a clock and connections.

use std::sync::Arc;
use std::time::Duration;

use ottla_config::{ClientMetricsConfig, TelemetrySettings};
use ottla_env::Env;
use ottla_metadata::{ConfigResource, MetadataDelta, MetadataImage};
use ottla_protocol::Uuid;
use ottla_protocol::compression::Compression;
use ottla_protocol::messages::PushTelemetryRequest;
use ottla_telemetry::{
    Client, ClientInstances, ConnectionId, MetricsData, Subscribed, TelemetryError,
};
use parking_lot::Mutex;

use crate::network::Connection;

/// How often is looked for clients that have been silent for too long.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);
/// Of a client that does not say what it uses. Kafka: `ClientInformation.UNKNOWN_NAME_OR_VERSION`.
const UNKNOWN: &str = "unknown";

/// The client instances of a node.
pub(crate) struct ClientTelemetry {
    instances: Mutex<ClientInstances>,
}

impl ClientTelemetry {
    /// Without any client.
    pub(crate) fn new(settings: TelemetrySettings) -> Arc<Self> {
        Arc::new(Self { instances: Mutex::new(ClientInstances::new(settings)) })
    }

    /// Goes on with the subscriptions that `image` has.
    pub(crate) fn apply(&self, delta: &MetadataDelta, image: &MetadataImage) {
        for resource in &delta.configs {
            let ConfigResource::ClientMetrics(name) = resource else { continue };
            let subscription = image.config(resource).map(|set| ClientMetricsConfig::of(&**set));
            self.instances.lock().configure(name, subscription);
        }
    }

    /// What a client is to push, and which instance it is.
    pub(crate) fn subscriptions(
        self: &Arc<Self>,
        asked: Uuid,
        (connection, client_id): (&Connection, &str),
        env: &Env,
    ) -> Result<(Uuid, Subscribed), TelemetryError> {
        self.follow(connection);
        let client = (ConnectionId(connection.id), &client(connection, client_id));
        let mut instances = self.instances.lock();
        let told = instances.subscriptions(asked, client, env.clock.now(), || env.rng.next_u128());
        told.map(|(id, subscribed)| (id, subscribed.clone()))
    }

    /// Whether a push is to be decoded, and how.
    pub(crate) fn check_push(
        self: &Arc<Self>,
        push: &PushTelemetryRequest,
        (connection, client_id): (&Connection, &str),
        env: &Env,
    ) -> Result<Compression, TelemetryError> {
        self.follow(connection);
        let client = (ConnectionId(connection.id), &client(connection, client_id));
        self.instances.lock().check_push(push, client, env.clock.now())
    }

    /// What came of decoding it.
    pub(crate) fn pushed(
        &self,
        instance: Uuid,
        decoded: Result<Option<MetricsData>, TelemetryError>,
    ) -> Result<(), TelemetryError> {
        self.instances.lock().pushed(instance, decoded)
    }

    /// Looks at what is known.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&ClientInstances) -> T) -> T {
        look(&self.instances.lock())
    }

    /// Forgets who was silent for too long, until the task is aborted.
    pub(crate) async fn run_expiry(self: Arc<Self>, env: Env) {
        loop {
            env.clock.sleep(EXPIRY_INTERVAL).await;
            self.instances.lock().expire(env.clock.now());
        }
    }

    /// Forgets who came by a connection when that ends.
    fn follow(self: &Arc<Self>, connection: &Connection) {
        let (telemetry, id) = (Arc::downgrade(self), ConnectionId(connection.id));
        connection.at_end(move || {
            if let Some(telemetry) = telemetry.upgrade() {
                telemetry.instances.lock().disconnected(id);
            }
        });
    }
}

fn client(connection: &Connection, client_id: &str) -> Client {
    let software = connection.software();
    Client {
        client_id: client_id.to_owned(),
        software_name: software.map_or(UNKNOWN, |software| &software.name).to_owned(),
        software_version: software.map_or(UNKNOWN, |software| &software.version).to_owned(),
        address: connection.peer.ip(),
        port: connection.peer.port(),
    }
}
