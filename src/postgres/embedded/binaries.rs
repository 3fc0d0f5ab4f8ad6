//! Finds the machine's own `initdb` and `postgres`. Nothing is downloaded.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use super::{super::probe::OLDEST, Error};

/// A folder with the server's programs, and their version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    pub(super) folder: PathBuf,
    pub(super) major: u32,
    /// As the server prints it: `15.18`.
    pub(super) version: String,
}

impl Binaries {
    /// Takes `configured`, or the first of the usual places; only those of `major` where one is given.
    pub(super) async fn find(configured: Option<&Path>, major: Option<u32>) -> Result<Self, Error> {
        let folders = configured.map_or_else(usual_places, |folder| vec![folder.to_owned()]);
        let mut others = Vec::new();
        for folder in folders {
            let Some(found) = Self::inspect(&folder).await else {
                continue;
            };
            match major {
                Some(major) if found.major != major => others.push(found.version),
                None if found.major < OLDEST => others.push(found.version),
                _ => return Ok(found),
            }
        }
        Err(match (configured, major) {
            (Some(folder), _) if others.is_empty() => Error::NotABinDir {
                folder: folder.to_owned(),
            },
            (_, Some(major)) => Error::OtherMajor {
                needed: major,
                found: others,
            },
            (_, None) => Error::NoBinaries { found: others },
        })
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    async fn inspect(folder: &Path) -> Option<Self> {
        if !folder.join("initdb").is_file() {
            return None;
        }
        // The server looks for its own files beside its real place, not beside a link to it.
        let folder = fs::canonicalize(folder.join("postgres")).ok()?;
        let folder = folder.parent()?.to_owned();
        if !folder.join("initdb").is_file() {
            return None;
        }
        let output = Command::new(folder.join("postgres"))
            .arg("--version")
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .await
            .ok()?;
        let (major, version) = parse_version(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self {
            folder,
            major,
            version,
        })
    }
}

/// The folder of a program that the user's shell would find.
pub(super) fn on_path(program: &str) -> Option<PathBuf> {
    path().into_iter().find(|dir| dir.join(program).is_file())
}

#[expect(
    clippy::disallowed_methods,
    reason = "PATH is no setting of ours; it says where this machine keeps its programs"
)]
fn path() -> Vec<PathBuf> {
    std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default()
}

/// `PATH` first, then where packages put servers, the newest first.
fn usual_places() -> Vec<PathBuf> {
    let mut places = path();
    // (folder, what stands before the major version in a name there, what follows the name)
    let versioned = [
        ("/usr/lib/postgresql", "", "bin"), // Debian, Ubuntu
        ("/usr", "pgsql-", "bin"),          // PGDG on Red Hat
        ("/usr/libexec", "postgresql", ""), // Alpine
        ("/usr/lib", "postgresql", "bin"),  // SUSE
        ("/usr/local", "pgsql-", "bin"),    // built by hand
        ("/opt/homebrew/opt", "postgresql@", "bin"),
        ("/usr/local/opt", "postgresql@", "bin"),
        ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
    ];
    for (parent, prefix, rest) in versioned {
        let mut found: Vec<(u32, PathBuf)> = fs::read_dir(parent)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                let major = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
                Some((major, entry.path().join(rest)))
            })
            .collect();
        found.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
        places.extend(found.into_iter().map(|(_, folder)| folder));
    }
    places.push(PathBuf::from("/usr/local/pgsql/bin"));
    places
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_version(text: &str) -> Option<(u32, String)> {
    let version = text
        .split_once("(PostgreSQL) ")?
        .1
        .split_whitespace()
        .next()?;
    let digits = version
        .find(|c: char| !c.is_ascii_digit())
        .map_or(version, |end| version.split_at(end).0);
    Some((digits.parse().ok()?, version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_versions_that_servers_print() {
        let cases = [
            (
                "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n",
                Some((15, "15.18")),
            ),
            ("postgres (PostgreSQL) 18beta1\n", Some((18, "18beta1"))),
            ("postgres (PostgreSQL) 17.2\n", Some((17, "17.2"))),
            ("postgres (EnterpriseDB) 17.2\n", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let expected =
                expected.map(|(major, version): (u32, &str)| (major, version.to_owned()));
            assert_eq!(parse_version(text), expected, "{text:?}");
        }
    }
}
