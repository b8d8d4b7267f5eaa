//! `ottla completions` and `ottla man`: made from the commands themselves.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Command};
use clap_complete::Shell;
use ottla_env::Env;

#[derive(Args)]
pub(crate) struct Completions {
    /// The shell. Bash, for example: ottla completions bash > ~/.local/share/bash-completion/completions/ottla
    shell: Shell,
}

#[derive(Args)]
pub(crate) struct Man {
    /// Write one page for each command into this directory; without it the page of `ottla` is
    /// printed.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn completions(options: &Completions, mut command: Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command, "ottla", &mut script);
    Ok(io::stdout().lock().write_all(&script)?)
}

pub(crate) fn man(options: &Man, command: Command) -> Result<()> {
    let Some(dir) = &options.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        return Ok(io::stdout().lock().write_all(&page)?);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let _inside = runtime.enter();
    let env = Env::os();
    env.disk.create_dir_all(dir)?;
    let mut command = command;
    command.build();
    write_pages(&env, dir, &command, "ottla")
}

fn write_pages(env: &Env, dir: &std::path::Path, command: &Command, name: &str) -> Result<()> {
    for child in command.get_subcommands().filter(|it| !it.is_hide_set() && it.get_name() != "help")
    {
        write_pages(env, dir, child, &format!("{name}-{}", child.get_name()))?;
    }
    let mut page = Vec::new();
    let title: &'static str = name.to_owned().leak();
    clap_mangen::Man::new(command.clone().name(title)).render(&mut page)?;
    Ok(env.disk.write_atomic(&dir.join(format!("{name}.1")), &page)?)
}
