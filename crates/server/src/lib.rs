//! A node: network, handlers, replica manager, coordinator hosts, quorum.
