//! The Java side: Kafka's classes from Maven's repository, and the programs in `compat/interop`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::program::{Running, within};
use crate::toolchain::compile_java;

const CLIENT_SECONDS: u64 = 120;

pub(crate) struct Jvm {
    class_path: String,
    log: PathBuf,
}

impl Jvm {
    /// Compiles the Java side; what is missing if that cannot be done here.
    pub(crate) fn prepare() -> Result<Result<Self, String>> {
        let project = crate::root().join("compat/interop");
        if let Some(missing) = compile_java(&project, &[])? {
            return Ok(Err(missing));
        }
        let jars = std::fs::read_to_string(project.join("target/classpath"))
            .context("Maven left no class path")?;
        let classes = project.join("target/classes");
        let class_path = format!("{}:{}", classes.display(), jars.trim());
        let folder = crate::root().join("target/xtask");
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let log = folder.join("interop.log");
        std::fs::write(&log, "")?;
        Ok(Ok(Self { class_path, log }))
    }

    /// `java` with a small heap, whose complaints go to the log.
    pub(super) fn command(&self, class: &str) -> Result<Command> {
        let log = std::fs::File::options().append(true).open(&self.log)?;
        let mut command = Command::new("java");
        command
            .args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            .args(["-Dstdout.encoding=UTF-8", "-Dsun.stdout.encoding=UTF-8"])
            .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", &self.class_path])
            .arg(class)
            .stdin(Stdio::null())
            .stderr(log);
        Ok(command)
    }

    /// One of Kafka's scripts, in a virtual machine of its own.
    pub(super) fn script(&self, words: &[String]) -> Result<Command> {
        let mut command = self.command("ottla.interop.Main")?;
        command.args(["script", "-"]).args(words);
        Ok(command)
    }

    /// Runs one of the programs in `compat/interop` to its end, and returns what it printed.
    pub(super) fn client(
        &self,
        task: &str,
        bootstrap: &str,
        arguments: &[&str],
    ) -> Result<Vec<String>> {
        let mut command = self.command("ottla.interop.Main")?;
        command.args([task, bootstrap]).args(arguments);
        self.lines(command).with_context(|| format!("{task} at {bootstrap}"))
    }

    /// Runs a program to its end, which must be a good one.
    pub(super) fn lines(&self, mut command: Command) -> Result<Vec<String>> {
        let mut running = Running::start(&mut command)?;
        let deadline = within(CLIENT_SECONDS);
        let mut lines = Vec::new();
        while let Some(line) = running.line_before(deadline)? {
            lines.push(line);
        }
        let status = running.ended_before(deadline)?;
        ensure!(status.success(), "it ended with {status}; see {}", self.log.display());
        Ok(lines)
    }
}
