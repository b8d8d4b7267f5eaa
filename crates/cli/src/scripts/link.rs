//! `ottla install-scripts`: links by which this program is called as Kafka's scripts are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use ottla_env::Env;

use super::{SCRIPTS, say};
use crate::failure::Failure;

#[derive(Args)]
pub(crate) struct Options {
    /// The directory to write them into, for example one in front of Kafka's on the PATH.
    dir: PathBuf,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let _inside = runtime.enter();
    let env = Env::os();
    let program = std::env::current_exe().context("where this program lies is not known")?;
    env.disk.create_dir_all(&options.dir)?;
    for script in SCRIPTS {
        let path = options.dir.join(format!("{}.sh", script.name));
        make(&env, &program, &path)?;
        say(path.display().to_string()).map_err(|stop| anyhow::anyhow!(stop.said))?;
    }
    Ok(())
}

/// Puts a link in the place of an older one, but of nothing else: that may be Kafka's own script.
fn make(env: &Env, program: &Path, path: &Path) -> Result<()> {
    if path.is_symlink() {
        env.disk.remove_file(path)?;
    } else if env.disk.exists(path) {
        return Err(Failure {
            what: format!("{} is not written", path.display()),
            why: "a file that is no link is there, perhaps Kafka's own script".to_owned(),
            next: "name another directory, or move the file away".to_owned(),
        }
        .into());
    }
    std::os::unix::fs::symlink(program, path).with_context(|| path.display().to_string())
}
