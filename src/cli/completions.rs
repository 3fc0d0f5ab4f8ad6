//! `rosterd completions`: a script for the shell.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Exit, output};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    shell: Shell,
}

pub(super) fn execute(own: &Arguments) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(
        own.shell,
        &mut super::Arguments::command(),
        "rosterd",
        &mut script,
    );
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Success)
}
