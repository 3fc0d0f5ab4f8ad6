//! `rosterd init`: a configuration to begin with.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::Args;

use super::{Exit, output};

/// The example that is shipped, as it stands in the repository.
#[must_use]
pub fn template() -> &'static str {
    include_str!("../../daemon.example.yaml")
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where to write it; a file that is there is left alone. `-` prints it.
    #[arg(default_value = "daemon.yaml")]
    path: PathBuf,
}

pub(super) fn execute(own: &Arguments) -> anyhow::Result<Exit> {
    if own.path.as_os_str() == "-" {
        output::print(template())?;
        return Ok(Exit::Success);
    }
    let created = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&own.path);
    if matches!(&created, Err(error) if error.kind() == ErrorKind::AlreadyExists) {
        anyhow::bail!(
            "{} is there already and stays as it is; name another file, or `-` to print",
            own.path.display()
        );
    }
    let mut file = created.with_context(|| format!("cannot create {}", own.path.display()))?;
    file.write_all(template().as_bytes())?;
    output::say(&format!(
        "wrote {}; set its variables, then run `rosterd check`",
        own.path.display()
    ));
    Ok(Exit::Success)
}
