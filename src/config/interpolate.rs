//! `${VAR}`, `${VAR:-default}`, `${file:/path}`, `${credential:name}`; `$${` stands for `${`.
//!
//! Filled in after the file is parsed, in string values only: a password with `: ` or `#` in it
//! cannot change the file's structure, and `"Bearer ${TOKEN}"` works inside quotes.

use std::{fs::File, io::Read, path::Path};

use super::{
    Environment,
    problem::{Place, Problems},
    tree::{Content, Filled, Kind, Node, Scalar},
};

/// Largest file that a value is read from. A key or certificate has a few KiB.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Fills every scalar of the tree. What cannot be filled is noted and marked as broken.
pub(super) fn fill(node: &mut Node, environment: &Environment, problems: &mut Problems) {
    match &mut node.content {
        Content::List(list) => {
            for item in list {
                fill(item, environment, problems);
            }
        }
        Content::Map(map) => {
            for entry in map.values_mut() {
                fill(&mut entry.node, environment, problems);
            }
        }
        // An override is taken as it is: a secret in it may hold these signs.
        Content::Scalar(_) if matches!(node.place, Place::Environment(_)) => {}
        Content::Scalar(scalar) if scalar.text.contains("${") => {
            match expand(&scalar.text, environment) {
                Ok((text, filled)) => {
                    node.content = Content::Scalar(Scalar {
                        text,
                        kind: Kind::Text,
                        filled,
                    });
                }
                Err(message) => {
                    node.wrong(problems, message);
                    node.content = Content::Broken;
                }
            }
        }
        Content::Scalar(_) | Content::Null | Content::Broken => {}
    }
}

/// Fills one text. The error is a message without values: names of variables and files stand in the file itself.
fn expand(text: &str, environment: &Environment) -> Result<(String, Filled), String> {
    let mut out = String::new();
    let mut filled = Filled::No;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let (reference, after) = after
            .split_once('}')
            .ok_or("`${` without its `}`; write `$${` for the two signs themselves")?;
        let (value, origin) = resolve(reference, environment)?;
        out.push_str(&value);
        filled = filled.max(origin);
        rest = after;
    }
    out.push_str(rest);
    Ok((out, filled))
}

fn resolve(reference: &str, environment: &Environment) -> Result<(String, Filled), String> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let found = if let Some(path) = name.strip_prefix("file:") {
        if !Path::new(path).is_absolute() {
            return Err("`${file:...}` takes an absolute path".into());
        }
        Source::File(read_secret(Path::new(path)), format!("file {path}"))
    } else if let Some(credential) = name.strip_prefix("credential:") {
        // systemd allows no separators in the names of credentials; neither may they lead out of the folder.
        if credential.is_empty() || credential.contains(['/', '\\']) || credential.starts_with('.')
        {
            return Err("`${credential:...}` takes the plain name of a credential".into());
        }
        match environment.get("CREDENTIALS_DIRECTORY") {
            Some(folder) => Source::File(
                read_secret(&Path::new(folder).join(credential)),
                format!("credential {credential}"),
            ),
            None if default.is_some() => Source::Variable(None),
            None => {
                return Err(format!(
                    "credential {credential} cannot be read: CREDENTIALS_DIRECTORY is not set (not started by systemd?)"
                ));
            }
        }
    } else if is_variable(name) {
        Source::Variable(environment.get(name).map(str::to_owned))
    } else {
        return Err(
            "`${...}` takes VAR, VAR:-default, file:/path or credential:name; write `$${` for the two signs themselves"
                .into(),
        );
    };
    match (found, default) {
        (Source::File(Ok(text), _), _) => Ok((text, Filled::Secret)),
        (Source::File(Err(Unread::Missing), _) | Source::Variable(None), Some(default)) => {
            Ok((default.to_owned(), Filled::No))
        }
        // As in shells, `:-` stands for a variable that is empty, too.
        (Source::Variable(Some(text)), Some(default)) if text.is_empty() => {
            Ok((default.to_owned(), Filled::No))
        }
        (Source::Variable(Some(text)), _) => Ok((text, Filled::Variable)),
        (Source::Variable(None), None) => Err(format!("environment variable {name} is not set")),
        (Source::File(Err(why), what), _) => Err(format!("{what} cannot be read: {}", why.text())),
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

enum Source {
    Variable(Option<String>),
    File(Result<String, Unread>, String),
}

enum Unread {
    Missing,
    Refused,
    TooLarge,
    NotText,
    Other,
}

impl Unread {
    fn text(&self) -> &'static str {
        match self {
            Self::Missing => "it is not there",
            Self::Refused => "permission denied",
            Self::TooLarge => "larger than 64 KiB",
            Self::NotText => "not UTF-8 text",
            Self::Other => "input/output error",
        }
    }
}

/// Reads a secret; the line break that editors leave at the end is not part of it.
fn read_secret(path: &Path) -> Result<String, Unread> {
    use std::io::ErrorKind;
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Unread::Missing,
        ErrorKind::PermissionDenied => Unread::Refused,
        ErrorKind::InvalidData => Unread::NotText,
        _ => Unread::Other,
    };
    // A pipe or a device could hold up the start for ever.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Unread::Other);
    }
    let mut text = String::new();
    File::open(path)
        .map_err(failed)?
        .take(MAX_SECRET_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > MAX_SECRET_BYTES {
        return Err(Unread::TooLarge);
    }
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_filled_from_variables_files_and_credentials() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "s3cr: et#\r\n").unwrap();
        let file = folder.path().join("key").display().to_string();
        let environment = Environment::from_pairs([
            ("A", "alpha"),
            ("EMPTY", ""),
            (
                "CREDENTIALS_DIRECTORY",
                &folder.path().display().to_string(),
            ),
        ]);
        for (text, expected) in [
            ("${A}", "alpha"),
            ("x-${A}-${A}", "x-alpha-alpha"),
            ("${B:-beta}", "beta"),
            ("${EMPTY:-beta}", "beta"),
            ("${EMPTY}", ""),
            ("${B:-}", ""),
            ("$${A}", "${A}"),
            ("$A and $", "$A and $"),
            ("${credential:key}", "s3cr: et#"),
            ("${credential:none:-x}", "x"),
            (&format!("${{file:{file}}}"), "s3cr: et#"),
            ("${file:/none/such:-x}", "x"),
        ] {
            let (value, _) = expand(text, &environment).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(value, expected, "{text}");
        }
        for (text, message) in [
            ("${B}", "environment variable B is not set"),
            ("${A", "without its `}`"),
            ("${file:key}", "absolute path"),
            ("${file:/none/such}", "not there"),
            ("${credential:../key}", "plain name"),
            ("${credential:none}", "not there"),
            ("${a b}", "takes VAR"),
        ] {
            let error = expand(text, &environment).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
