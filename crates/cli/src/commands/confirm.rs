//! Asks before something is lost.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::Result;
use clap::Args;

use crate::failure::Failure;

#[derive(Args, Clone, Copy)]
pub(crate) struct Confirmation {
    /// Do it without asking.
    #[arg(long, short = 'y')]
    yes: bool,
}

impl Confirmation {
    /// Asks on the terminal, unless that was answered already. Without a terminal nothing is done.
    pub(crate) fn ask(self, what: &str) -> Result<()> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Failure {
                what: format!("not done: {what}"),
                why: "this cannot be undone, and there is no terminal to ask on".to_owned(),
                next: "add --yes to the same command".to_owned(),
            }
            .into());
        }
        let mut stderr = io::stderr().lock();
        write!(stderr, "{what}? [y/N] ")?;
        stderr.flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
            return Ok(());
        }
        Err(Failure {
            what: "nothing was changed".to_owned(),
            why: "the answer was not yes".to_owned(),
            next: "run the command again, or add --yes".to_owned(),
        }
        .into())
    }
}
