//! Copies of this program in processes of their own, and signals to them.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncRead;
use tokio::process::{Child, Command};

/// What is done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessSignal {
    /// `SIGTERM`: it is asked to end.
    Terminate,
    /// `SIGKILL`: it ends at once, as in a crash.
    Kill,
    /// `SIGSTOP`: it stands still.
    Pause,
    /// `SIGCONT`: it goes on.
    Resume,
}

/// Sends a signal to a process.
pub fn send_signal(pid: u32, signal: ProcessSignal) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let signal = match signal {
        ProcessSignal::Terminate => Signal::TERM,
        ProcessSignal::Kill => Signal::KILL,
        ProcessSignal::Pause => Signal::STOP,
        ProcessSignal::Resume => Signal::CONT,
    };
    Ok(kill_process(pid, signal)?)
}

/// A process as its user sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningProcess {
    /// Its arguments, its program first.
    pub arguments: Vec<String>,
    /// Whether it was paused.
    pub is_paused: bool,
}

/// The process `pid`, from `/proc`; none if there is none, or it has ended.
pub fn running_process(pid: u32) -> Option<RunningProcess> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let state = after_name.split_ascii_whitespace().next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let arguments =
        line.split(|byte| *byte == 0).map(|it| String::from_utf8_lossy(it).into_owned());
    Some(RunningProcess {
        arguments: arguments.filter(|it| !it.is_empty()).collect(),
        is_paused: matches!(state, "T" | "t"),
    })
}

/// A copy of this program that runs in a process of its own.
pub struct OwnProgram {
    child: Child,
    pid: u32,
}

impl OwnProgram {
    /// Starts this program with other arguments. It reads nothing, is in a process group of its own (so
    /// that Ctrl-C does not reach it), and goes on if this process ends.
    pub fn start(arguments: &[&OsStr]) -> io::Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let pid = child.id().ok_or_else(|| io::Error::other("the process has ended already"))?;
        Ok(Self { child, pid })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it prints: to standard output, and to standard error. Each is given away once.
    pub fn output(
        &mut self,
    ) -> Option<(impl AsyncRead + Unpin + Send + use<>, impl AsyncRead + Unpin + Send + use<>)>
    {
        Some((self.child.stdout.take()?, self.child.stderr.take()?))
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_running_and_has_arguments() {
        let own = running_process(std::process::id()).unwrap();
        assert!(!own.is_paused && !own.arguments.is_empty(), "{own:?}");
        assert_eq!(running_process(u32::MAX), None);
        assert!(send_signal(u32::MAX, ProcessSignal::Kill).is_err());
    }
}
