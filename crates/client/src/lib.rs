//! The Rust client: connections, and on them producer, consumer and admin.
