//! `rosterd init`: a configuration to begin with.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;

use super::{Exit, check, output, ready};
use crate::config::from_dlt::from_dlt;

/// The example that is shipped, as it stands in the repository.
#[must_use]
pub fn template() -> &'static str {
    include_str!("../../daemon.example.yaml")
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A ready configuration, see `--list`. Left out: a commented example.
    name: Option<String>,
    /// Where to write it; a file that is there is left alone. `-` prints it.
    #[arg(long, short, default_value = "daemon.yaml", value_name = "PATH")]
    output: PathBuf,
    /// List the ready configurations.
    #[arg(long, conflicts_with_all = ["name", "from_dlt"])]
    list: bool,
    /// Make it from a dictionary of dlt's `rest_api` source, as JSON or YAML, and list what had to
    /// change. In Python: `json.dump(config, file, default=repr)`.
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    from_dlt: Option<PathBuf>,
}

pub(super) fn execute(own: &Arguments) -> anyhow::Result<Exit> {
    if own.list {
        for ready in ready::ALL {
            output::print(&format!("{:<16} {}\n", ready.name, ready.title()))?;
        }
        return Ok(Exit::Success);
    }
    if let Some(file) = &own.from_dlt {
        return convert(file, &own.output);
    }
    let text = match &own.name {
        None => template(),
        Some(name) => match ready::find(name) {
            Some(ready) => ready.text,
            None => {
                output::complain(&format!(
                    "there is no ready configuration {name:?}; `rosterd init --list` lists them"
                ));
                return Ok(Exit::Usage);
            }
        },
    };
    if write(text, &own.output)? {
        output::say(&format!(
            "wrote {}; set its variables, then run `rosterd check`",
            own.output.display()
        ));
    }
    Ok(Exit::Success)
}

/// Converts a dictionary of dlt's. Fails when something is left that only a person can decide.
fn convert(file: &Path, out: &Path) -> anyhow::Result<Exit> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let converted = from_dlt(
        &file.display().to_string(),
        &text,
        &stem,
        &out.display().to_string(),
    )?;
    let written = write(&converted.yaml, out)?;
    for change in &converted.changes {
        output::say(&format!("changed  {}: {}", change.path, change.what));
    }
    for variable in &converted.variables {
        output::say(&format!("set      {variable}"));
    }
    if !converted.problems.is_empty() {
        output::say("left to do by hand:");
        output::say(check::complaint(&converted.problems).trim_end());
        return Ok(Exit::Failure);
    }
    if written {
        output::say(&format!(
            "wrote {}; run `rosterd check --connect`",
            out.display()
        ));
    }
    Ok(Exit::Success)
}

/// Writes a new file, or prints; says whether there is a file now.
fn write(text: &str, path: &Path) -> anyhow::Result<bool> {
    if path.as_os_str() == "-" {
        output::print(text)?;
        return Ok(false);
    }
    let created = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path);
    if matches!(&created, Err(error) if error.kind() == ErrorKind::AlreadyExists) {
        anyhow::bail!(
            "{} is there already and stays as it is; name another file with `--output`, or `-` to print",
            path.display()
        );
    }
    let mut file = created.with_context(|| format!("cannot create {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(true)
}
