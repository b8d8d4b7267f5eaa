//! What only a process has: signals, its own statistics, its limits.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// Completes when the process is asked to end, by `SIGTERM` or `SIGINT` (Ctrl-C).
///
/// From this call on these signals no longer kill the process, so that it can close its logs.
/// Call it inside a tokio runtime, before serving.
pub fn shutdown_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessStats {
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Processor time in user mode.
    pub user_time: Duration,
    /// Processor time in the kernel on its behalf.
    pub system_time: Duration,
    /// Threads.
    pub threads: u64,
}

impl ProcessStats {
    /// Of the process `pid`, from `/proc`.
    pub fn of(pid: u32) -> io::Result<Self> {
        Self::read(&format!("/proc/{pid}/stat"))
    }

    /// Of this process.
    pub fn own() -> io::Result<Self> {
        Self::read("/proc/self/stat")
    }

    /// Processor time altogether.
    pub fn cpu_time(&self) -> Duration {
        self.user_time + self.system_time
    }

    fn read(path: &str) -> io::Result<Self> {
        let stat = fs::read_to_string(path)?;
        Self::parse(&stat).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{path} has an unknown format"))
        })
    }

    /// Parses proc_pid_stat(5). Its second field, the name, may itself hold blanks and brackets.
    fn parse(stat: &str) -> Option<Self> {
        let (_, after_name) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
        // The manual counts from 1, and `after_name` begins with field 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = |ticks: u64| {
            Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
        };
        Some(Self {
            resident_bytes: field(24)?.saturating_mul(rustix::param::page_size() as u64),
            user_time: ticks(field(14)?),
            system_time: ticks(field(15)?),
            threads: field(20)?,
        })
    }
}

/// Raises the limit of open files to what the system allows this process, and answers it.
///
/// A broker holds descriptors for every connection and active segment; the usual soft limit of
/// 1024 is for programs that use `select`.
pub fn raise_open_file_limit() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(limit.maximum.unwrap_or(u64::MAX))
}
