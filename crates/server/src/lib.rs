//! A node: network, handlers, replica manager, coordinator hosts, metadata quorum.
#![allow(dead_code)]
mod network;
mod replica;

mod quorum;
