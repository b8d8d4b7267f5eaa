//! `ottla install-scripts`: links by which this program is called as Kafka's scripts are.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use ottla_env::{Env, process};

use super::SCRIPTS;
use crate::failure::Failure;

#[derive(Args)]
pub(crate) struct Options {
    /// The directory to write them into, for example one in front of Kafka's on the PATH.
    dir: PathBuf,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let _inside = runtime.enter();
    Env::os().disk.create_dir_all(&options.dir)?;
    for script in SCRIPTS {
        let path = options.dir.join(format!("{}.sh", script.name));
        process::link_program(&path).map_err(|error| explained(&path, error))?;
        writeln!(io::stdout(), "{}", path.display())?;
    }
    Ok(())
}

fn explained(path: &Path, error: io::Error) -> anyhow::Error {
    if error.kind() != io::ErrorKind::AlreadyExists {
        return error.into();
    }
    Failure {
        what: format!("{} is not written", path.display()),
        why: "a file that is no link is there, perhaps Kafka's own script".to_owned(),
        next: "name another directory, or move the file away".to_owned(),
    }
    .into()
}
