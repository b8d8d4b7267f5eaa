//! What the node tells of itself to Prometheus: `GET /metrics` on `metrics.listener`, over plain HTTP.
//!
//! Everything is looked up when somebody asks: a node that nobody watches pays nothing, and no record is counted on its
//! way. Names are those that Kafka's gauges have when its JMX beans are exported, `kafka_<group>_<type>_<name>`; what
//! Kafka does not tell begins with `ottla_`.

mod clients;
mod http;
mod quotas;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use ottla_env::{Env, Listener, TaskHandle};
use ottla_storage::LogDir;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::broker::Broker;

/// A bound `metrics.listener`.
pub(crate) struct MetricsListener {
    listener: Box<dyn Listener>,
    address: SocketAddr,
}

impl MetricsListener {
    /// Binds `host:port`; port 0 is one of the system's choice.
    pub(crate) async fn bind(env: &Env, address: &str) -> io::Result<Self> {
        const BACKLOG: u32 = 16;
        let listener = env.net.listen(address, BACKLOG).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers from now on.
    pub(crate) fn serve(self, env: &Env, broker: &Arc<Broker>) -> TaskHandle {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(LogMetrics(Arc::downgrade(broker))));
        registry.register_collector(Box::new(quotas::QuotaMetrics(Arc::downgrade(broker))));
        registry.register_collector(Box::new(clients::ClientMetrics(Arc::downgrade(broker))));
        env.spawn("metrics", http::serve(env.clone(), self.listener, Arc::new(registry)))
    }
}

/// The log directories and what lies in them.
#[derive(Debug)]
struct LogMetrics(Weak<Broker>);

impl Collector for LogMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(broker) = self.0.upgrade() else { return Ok(()) };
        let (logs, replicas) = (broker.logs(), broker.replicas().counts());
        let dirs: Vec<&Arc<LogDir>> = logs.dirs().collect();
        let mut out = Gauges(&mut encoder);
        let offline = dirs.iter().filter(|dir| dir.failure().is_some()).count();
        out.one(
            "kafka_log_LogManager_OfflineLogDirectoryCount",
            "Log directories that failed",
            offline,
        )?;
        out.per_dir(
            "kafka_log_LogManager_LogDirectoryOffline",
            "Whether a log directory failed",
            dirs.iter().map(|dir| (*dir, u64::from(dir.failure().is_some()))),
        )?;
        out.one(
            "kafka_server_ReplicaManager_PartitionCount",
            "Partitions on this node",
            replicas.here,
        )?;
        out.one(
            "kafka_server_ReplicaManager_LeaderCount",
            "Partitions that this node leads",
            replicas.leading,
        )?;
        out.one(
            "kafka_server_ReplicaManager_OfflineReplicaCount",
            "Partitions whose log is not online",
            replicas.offline,
        )?;
        let held = logs.logs();
        let size = |dir: &Arc<LogDir>| {
            held.iter().filter(|log| Arc::ptr_eq(log.log_dir(), dir)).map(|log| log.size()).sum()
        };
        out.per_dir(
            "ottla_log_dir_size_bytes",
            "Bytes of all logs in a log directory",
            dirs.iter().map(|dir| (*dir, size(dir))),
        )?;
        let online = dirs.iter().filter(|dir| dir.failure().is_none());
        let space: Vec<_> = online.filter_map(|dir| Some((*dir, dir.space().ok()?))).collect();
        out.per_dir(
            "ottla_log_dir_free_bytes",
            "Bytes free on the file system of a log directory",
            space.iter().map(|(dir, (free, _))| (*dir, *free)),
        )?;
        out.per_dir(
            "ottla_log_dir_total_bytes",
            "Bytes of the file system of a log directory",
            space.iter().map(|(dir, (_, total))| (*dir, *total)),
        )?;
        out.per_dir(
            "ottla_log_dir_full",
            "Whether producers are refused for want of room (log.dir.reserved.bytes)",
            dirs.iter().map(|dir| (*dir, u64::from(dir.is_full()))),
        )
    }
}

/// Writes gauges.
struct Gauges<'a, 'e>(&'a mut DescriptorEncoder<'e>);

impl Gauges<'_, '_> {
    fn one(&mut self, name: &str, help: &str, value: usize) -> Result<(), fmt::Error> {
        let gauge = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(signed(value as u64)).encode(gauge)
    }

    fn per_dir<'d>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (&'d Arc<LogDir>, u64)>,
    ) -> Result<(), fmt::Error> {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (dir, value) in values {
            let labels = [("logDirectory", dir.path().display().to_string())];
            ConstGauge::new(signed(value)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
