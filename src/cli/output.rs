//! Writing to stdout and stderr without minding a closed pipe.

use std::io::{self, Write as _};

use chrono::{DateTime, Utc};
use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};
use serde::Serialize;

use super::{Exit, Format};

/// Writes data to stdout. A reader that went away (`| head`) is no error.
///
/// # Errors
///
/// Any other trouble with stdout.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Says to stderr what is wrong.
pub(super) fn complain(text: &str) {
    writeln!(io::stderr(), "rosterd: {text}").ok();
}

/// Says something to stderr that is not data.
pub(super) fn say(text: &str) {
    writeln!(io::stderr(), "{text}").ok();
}

/// Prints rows as one table or as one JSON array.
///
/// # Errors
///
/// Trouble with stdout.
pub(super) fn rows<T: Serialize>(
    format: Format,
    rows: &[T],
    header: &[&str],
    cells: impl Fn(&T) -> Vec<String>,
) -> anyhow::Result<Exit> {
    match format {
        Format::Json => print(&(serde_json::to_string_pretty(rows)? + "\n"))?,
        Format::Table => {
            let mut table = table(header);
            for row in rows {
                table.add_row(cells(row));
            }
            print(&format!("{table}\n"))?;
        }
    }
    Ok(Exit::Success)
}

/// A table of short lines: one rule, under the header.
fn table(header: &[&str]) -> Table {
    let rule = LineStyle::none().fill('─').junction('─');
    let mut table = Table::new();
    table
        .load_style(TableStyle::new().header_separator(rule))
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.iter().copied());
    table
}

/// A time as people read it in a table.
pub(super) fn time(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(
        || "-".to_owned(),
        |at| at.format("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// A span as people read it in a table: `4.2 s`, `3 min`, `5 h`, `2 d`.
pub(super) fn seconds(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(s) if s < 120.0 => format!("{s:.1} s"),
        Some(s) if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        Some(s) if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        Some(s) => format!("{:.0} d", s / 86_400.0),
    }
}

/// A number as people read it: `1,234,567`.
pub(super) fn count(number: i64) -> String {
    indicatif::HumanCount(number.unsigned_abs()).to_string()
}

/// Code and message of an error, as far as there are any.
pub(super) fn error(code: Option<&str>, message: Option<&str>) -> String {
    match (code, message) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (code, message) => code.or(message).unwrap_or_default().to_owned(),
    }
}
