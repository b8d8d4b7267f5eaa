//! Which process is at the other end of a connection on this machine, from `/proc`: relays have to know who connects, and
//! all nodes connect from the same address.

use std::net::{IpAddr, SocketAddr};

/// The name of the peer's socket (`socket:[4711]`) of the connection between `peer` and `own`.
pub(crate) fn socket_between(peer: SocketAddr, own: SocketAddr) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let ends = (written(peer)?, written(own)?);
    table.lines().skip(1).find_map(|line| {
        // Fields 1 and 2 are the two ends, field 9 is the inode.
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_it = fields.get(1) == Some(&&*ends.0) && fields.get(2) == Some(&&*ends.1);
        is_it.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
    })
}

/// Whether a process has that socket open.
pub(crate) fn holds(pid: u32, socket: &str) -> bool {
    let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open.filter_map(Result::ok)
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .any(|target| target.as_os_str() == socket)
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
        let socket = socket_between(peer, accepted.local_addr().unwrap()).unwrap();
        assert!(holds(std::process::id(), &socket));
        assert!(!holds(1, &socket));
        drop(client);
    }
}
