//! `rosterd schema`: the JSON Schema of the configuration, for editors.

use super::{Exit, output};
use crate::config;

/// The schema as indented JSON with a line break at its end.
#[must_use]
pub fn render() -> String {
    format!("{:#}\n", config::schema())
}

pub(super) fn execute() -> anyhow::Result<Exit> {
    output::print(&render())?;
    Ok(Exit::Success)
}
