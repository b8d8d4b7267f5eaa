//! Which process is at the other end of a connection on this machine, from `/proc`: relays have to know who connects, and
//! all nodes connect from the same address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// The connections of this machine at one moment. Reading them takes long, in the system above all.
pub(crate) struct Connections {
    /// The inode of the socket at the first end of a connection, by both ends as the system writes them.
    sockets: BTreeMap<(String, String), String>,
}

impl Connections {
    pub(crate) fn read() -> Self {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        let row = |line: &str| {
            // Fields 1 and 2 are the two ends, field 9 is the inode.
            let mut fields = line.split_ascii_whitespace().skip(1);
            let ends = (fields.next()?.to_owned(), fields.next()?.to_owned());
            Some((ends, fields.nth(6)?.to_owned()))
        };
        Self { sockets: table.lines().skip(1).filter_map(row).collect() }
    }

    /// The name of the peer's socket (`socket:[4711]`) of the connection between `peer` and `own`.
    pub(crate) fn socket_between(&self, peer: SocketAddr, own: SocketAddr) -> Option<String> {
        let inode = self.sockets.get(&(written(peer)?, written(own)?))?;
        Some(format!("socket:[{inode}]"))
    }
}

/// The names of the sockets that a process has open.
pub(crate) fn sockets_of(pid: u32) -> BTreeSet<String> {
    let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return BTreeSet::new() };
    open.filter_map(Result::ok)
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|target| target.into_os_string().into_string().ok())
        .filter(|name| name.starts_with("socket:"))
        .collect()
}

/// An address as the table has it: the bytes of a word as this machine keeps it, and the port.
fn written(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_of_this_process_is_its_own() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        let connections = Connections::read();
        let socket = connections.socket_between(peer, accepted.local_addr().unwrap()).unwrap();
        assert!(sockets_of(std::process::id()).contains(&socket));
        assert!(!sockets_of(1).contains(&socket));
        drop(client);
    }
}
