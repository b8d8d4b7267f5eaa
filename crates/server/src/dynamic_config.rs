//! Configuration that changes while the node runs (KIP-226). Kafka's `DynamicBrokerConfig`.
//!
//! ```text
//! metadata image ─► DynamicConfig::apply ─► BrokerConfig as of now ─► each follower takes its plain struct
//! ```
//!
//! Whoever acts on a key that may change [follows](DynamicConfig::follow); keys that never change are read from what the
//! node was started with.

use std::sync::Arc;

use arc_swap::ArcSwap;
use ottla_config::BrokerConfig;
use ottla_metadata::{ConfigResource, MetadataDelta, MetadataImage};
use parking_lot::Mutex;
use tracing::{info, warn};

/// Told of each configuration, in order. Must not block.
type Follower = Box<dyn Fn(&BrokerConfig) + Send + Sync>;

/// The configuration of this node as of now.
pub(crate) struct DynamicConfig {
    started: Arc<BrokerConfig>,
    current: ArcSwap<BrokerConfig>,
    followers: Mutex<Vec<Follower>>,
}

impl DynamicConfig {
    /// Of a node that was started with `started`.
    pub(crate) fn new(started: Arc<BrokerConfig>) -> Self {
        let current = ArcSwap::new(Arc::clone(&started));
        Self { started, current, followers: Mutex::default() }
    }

    /// The configuration as of now.
    pub(crate) fn current(&self) -> Arc<BrokerConfig> {
        self.current.load_full()
    }

    /// Calls `follower` with the configuration as of now, then with every other one.
    pub(crate) fn follow(&self, follower: impl Fn(&BrokerConfig) + Send + Sync + 'static) {
        let mut followers = self.followers.lock();
        follower(&self.current());
        followers.push(Box::new(follower));
    }

    /// Goes on with what `image` sets for this broker and for all of them; answers the configuration if that changed.
    pub(crate) fn apply(
        &self,
        delta: &MetadataDelta,
        image: &MetadataImage,
    ) -> Option<Arc<BrokerConfig>> {
        let own = Some(self.started.node.node_id);
        let of_this = |id| delta.configs.contains(&ConfigResource::Broker(id));
        if !of_this(None) && !of_this(own) {
            return None;
        }
        let (config, passed_over) = image.broker_config(&self.started);
        for problem in passed_over {
            warn!(%problem, "a dynamic configuration of this broker is passed over");
        }
        let config = Arc::new(config);
        let followers = self.followers.lock();
        self.current.store(Arc::clone(&config));
        followers.iter().for_each(|follower| follower(&config));
        info!("the configuration of this broker has changed");
        Some(config)
    }
}
