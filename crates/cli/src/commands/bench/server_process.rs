//! What the server process has used: found by its port, read from `/proc`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ottla_env::Env;
use ottla_env::process::ProcessStats;
use ottla_protocol::Monotonic;

use super::Target;

/// Watches this process, and the server's if it runs on this machine.
pub(super) struct Usage {
    env: Env,
    server: Option<u32>,
}

/// A point from which usage is counted.
pub(super) struct Mark {
    at: Monotonic,
    client: ProcessStats,
    server: Option<ProcessStats>,
}

/// What was used between two points.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    pub(super) elapsed: Duration,
    pub(super) client_cpu: Duration,
    pub(super) server: Option<ServerUsed>,
}

/// What the server's process used.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerUsed {
    pub(super) pid: u32,
    pub(super) cpu: Duration,
    pub(super) resident_bytes: u64,
}

impl Usage {
    pub(super) fn watch(env: &Env, target: &Target) -> Self {
        let found = || {
            let (host, port) = target.bootstrap_server.rsplit_once(':')?;
            let here = ["127.0.0.1", "localhost", "[::1]", "::1"].contains(&host);
            if here { listening_process(env, port.parse().ok()?) } else { None }
        };
        Self { env: env.clone(), server: target.server_pid.or_else(found) }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            at: self.env.clock.now(),
            client: ProcessStats::own().unwrap_or_default(),
            server: self.server.and_then(|pid| ProcessStats::of(pid).ok()),
        }
    }

    /// What was used since `mark`.
    pub(super) fn since(&self, mark: &Mark) -> Used {
        let now = self.mark();
        let server = self.server.zip(mark.server).zip(now.server).map(|((pid, before), after)| {
            let cpu = after.cpu_time().saturating_sub(before.cpu_time());
            ServerUsed { pid, cpu, resident_bytes: after.resident_bytes }
        });
        Used {
            elapsed: now.at.since(mark.at),
            client_cpu: now.client.cpu_time().saturating_sub(mark.client.cpu_time()),
            server,
        }
    }
}

/// The process that listens on a TCP port of this machine, as far as this user may see.
fn listening_process(env: &Env, port: u16) -> Option<u32> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| env.disk.read(Path::new(table)).ok())
        .flat_map(|table| listening_inodes(&String::from_utf8_lossy(&table), port))
        .collect();
    let sockets: Vec<PathBuf> =
        inodes.iter().map(|inode| PathBuf::from(format!("socket:[{inode}]"))).collect();
    let processes = env.disk.read_dir(Path::new("/proc")).ok()?;
    processes.into_iter().find_map(|process| {
        let pid: u32 = process.name.parse().ok()?;
        let descriptors = env.disk.read_dir(&process.path.join("fd")).ok()?;
        let holds_it = descriptors.iter().any(|descriptor| {
            std::fs::read_link(&descriptor.path).is_ok_and(|target| sockets.contains(&target))
        });
        holds_it.then_some(pid)
    })
}

/// The inodes of the listening sockets with this port in a table as proc_net_tcp(5) describes it.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let wanted = format!(":{port:04X}");
    let rows = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        (*state == LISTEN && local.ends_with(&wanted)).then(|| (*inode).to_owned())
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_found_by_its_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:2384 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 4711 1 0 100 0 0 10 0\n\
            1: 0100007F:2384 0100007F:9999 01 00000000:00000000 00:00000000 00000000  0 0 4712 1 0 100 0 0 10 0\n";
        assert_eq!(listening_inodes(table, 9092), ["4711"]);
        assert!(listening_inodes(table, 9093).is_empty());
    }

    #[tokio::test]
    async fn this_process_is_found() {
        let env = Env::os();
        let listener = env.net.listen("127.0.0.1:0", 1).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(listening_process(&env, port), Some(std::process::id()));
    }
}
