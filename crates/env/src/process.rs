//! What only a process has: its program, signals, its own statistics, its limits.

mod child;

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

pub use child::{OwnProgram, ProcessSignal, RunningProcess, running_process, send_signal};

use crate::PathError;

/// Makes `path` a symbolic link to the program that runs. A link that is there gives way; anything
/// else stays, and the error is [`io::ErrorKind::AlreadyExists`].
pub fn link_program(path: &Path) -> io::Result<()> {
    let program = std::env::current_exe().map_err(|error| {
        io::Error::new(error.kind(), format!("where this program lies is not known: {error}"))
    })?;
    let gone = if path.is_symlink() { fs::remove_file(path) } else { Ok(()) };
    gone.and_then(|()| symlink(program, path)).map_err(|error| PathError::at(path, error))
}

/// How a process is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownSignal {
    /// `SIGTERM`, as an operator or the system asks.
    Terminate,
    /// `SIGINT`, as Ctrl-C asks.
    Interrupt,
}

impl ShutdownSignal {
    /// What a shell, and a JVM, say a process ended with that the signal ended: 128 and its number.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Terminate => 143,
            Self::Interrupt => 130,
        }
    }
}

/// Completes when the process is asked to end, by `SIGTERM` or `SIGINT` (Ctrl-C).
///
/// From this call on these signals no longer kill the process, so that it can close its logs.
/// Call it inside a tokio runtime, before serving.
pub fn shutdown_signal() -> io::Result<impl Future<Output = ShutdownSignal> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => ShutdownSignal::Terminate,
            _ = interrupt.recv() => ShutdownSignal::Interrupt,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_termination_signal_is_heard_and_does_not_kill() {
        let asked = shutdown_signal().unwrap();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)
            .unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(10), asked).await.unwrap();
        assert_eq!(heard, ShutdownSignal::Terminate);
    }

    #[test]
    fn own_statistics_are_plausible() {
        let own = ProcessStats::own().unwrap();
        assert!(own.resident_bytes > 100_000 && own.threads >= 1, "{own:?}");
        let by_id = ProcessStats::of(std::process::id()).unwrap();
        assert!(by_id.cpu_time() >= own.cpu_time());
        assert!(ProcessStats::of(u32::MAX).is_err());
    }

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 12 0 99 1000 3 184";
        let stats = ProcessStats::parse(stat).unwrap();
        let second = rustix::param::clock_ticks_per_second();
        assert_eq!(stats.user_time, Duration::from_secs_f64(150.0 / second as f64));
        assert_eq!(stats.threads, 12);
        assert_eq!(stats.resident_bytes, 3 * rustix::param::page_size() as u64);
        assert_eq!(ProcessStats::parse("7 (a) S 1"), None);
    }

    #[test]
    fn the_open_file_limit_is_raised_to_the_hard_limit() {
        let raised = raise_open_file_limit().unwrap();
        assert!(raised >= 1024);
        assert_eq!(getrlimit(Resource::Nofile).current, getrlimit(Resource::Nofile).maximum);
    }
}
