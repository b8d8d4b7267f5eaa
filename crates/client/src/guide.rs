//! The guide: how to send, read and look after records, chapter by chapter. Every example here runs
//! against a node when this crate is tested; `servers` stands for its `host:port`.
//!
//! 1. [Producing](producing): deliveries, batches, partitions, code of your own, what can fail.
//! 2. [Consuming](consuming): alone and in groups; positions, commits, rebalances, lag.
//! 3. [Administration](administration): topics, configurations, groups, offsets.
//! 4. [Configuration](configuration): keys under Kafka's names, and what is wrong with a wrong one.
//! 5. [Errors](errors): which pass, which may have had their effect all the same.
//! 6. [Cancel safety](cancel_safety): what is lost when a future is dropped. Nothing.

pub mod administration;
pub mod cancel_safety;
pub mod configuration;
pub mod consuming;
pub mod errors;
pub mod producing;
