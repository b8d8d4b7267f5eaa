//! What clients measure and push: KIP-714. Kafka's `ClientMetricsManager`, and what a plug-in does there.
//!
//! ```text
//! GetTelemetrySubscriptions ─► ClientInstances::subscriptions ─► which metrics, how often
//! PushTelemetry ─► ClientInstances::check_push ─► decode_push (bounded) ─► ClientInstances::pushed ─► Measured
//! ```
//!
//! # Invariants
//! - No I/O, no clock, no randomness of its own: they come in as arguments.
//! - How many clients are known, and how much is kept of each and of all of them, is bounded.
//!
//! # Not here
//! How it is shown (`server::metrics`), where subscriptions are stored (`metadata`).

mod client;
mod error;
mod instances;
mod measured;
mod names;
mod otlp;

pub use client::{Client, ConnectionId};
pub use error::TelemetryError;
pub use instances::{ClientInstances, Subscribed, Totals};
pub use measured::{ClientMeasured, Histogram, Measured, Series, Value};
pub use names::BROKER_LABELS;
pub use otlp::{MetricsData, decode_push};
