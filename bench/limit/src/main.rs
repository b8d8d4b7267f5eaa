//! The least that a broker can do: the yardstick of the benchmarks.
//!
//! It receives a Produce frame, checks the batch's CRC, gives it its offset, appends it to one file
//! with one `writev`, and answers. It answers a Fetch with a range of that file, by `sendfile` or by
//! reading and writing. One thread per connection, blocking calls, no index, no recovery, no limits
//! but the protocol's: what is faster than this is faster than the machine.
//!
//! `ottla bench produce` and `consume` drive it as they drive a node, so both are measured by the
//! same frames and the same client:
//!
//! ```text
//! ottla-limit --listen 127.0.0.1:9900 --file /tmp/limit.log [--fetch sendfile|copy]
//! ottla bench --bootstrap-server 127.0.0.1:9900 produce
//! ```
#![allow(
    clippy::disallowed_methods,
    reason = "a measuring program calls the system directly: the Env door is part of what is measured"
)]

mod connection;
mod log;

use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use crate::connection::Connection;
use crate::log::Log;

/// The least that a broker can do.
#[derive(Parser)]
struct Options {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9900")]
    listen: String,
    /// The log; emptied at the start.
    #[arg(long)]
    file: PathBuf,
    /// How a range of the log reaches the socket.
    #[arg(long, value_enum, default_value = "sendfile")]
    fetch: FetchBy,
}

/// How a range of the log reaches the socket.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FetchBy {
    /// Without passing through this process.
    Sendfile,
    /// Read into a buffer, written from there.
    Copy,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let listener = TcpListener::bind(&options.listen)
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    let address = listener.local_addr()?;
    let log = Log::create(&options.file)
        .with_context(|| format!("cannot write {}", options.file.display()))?;
    let log = Arc::new(log);
    writeln!(std::io::stdout(), "ottla-limit is ready on {address}")?;
    for stream in listener.incoming() {
        let connection = Connection::new(stream?, address, log.clone(), options.fetch)?;
        std::thread::spawn(move || {
            if let Err(error) = connection.serve() {
                // Stderr may be gone; then nobody wants to know.
                let _ = writeln!(std::io::stderr(), "connection: {error:#}");
            }
        });
    }
    Ok(())
}
