//! `rosterd schema`: the JSON Schema of the configuration, for editors.

use crate::config;

/// The schema as indented JSON with a line break at its end.
#[must_use]
pub fn render() -> String {
    format!("{:#}\n", config::schema())
}
