//! Who may name whom. The tables below are the architecture; the rest of the file reads `src/`.
//!
//! Reads the source as text, with comments and strings taken out, and looks at every path in it,
//! not only at `use` lines: `crate::load::x()` in the middle of a function is an import too.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// Module of ours -> the modules of ours that it may name. `fault`, `failpoint`, `clock` and
/// `config` are named by many and name nothing themselves.
const MAY_NAME: &[(&str, &[&str])] = &[
    // The command line and what it starts.
    ("main", &["cli"]),
    (
        "cli",
        &[
            "daemon",
            "schedule",
            "sync",
            "fetch",
            "shape",
            "load",
            "record",
            "serve",
            "postgres",
            "demo",
            "config",
            "clock",
            "fault",
            "failpoint",
            "telemetry",
        ],
    ),
    (
        "daemon",
        &[
            "schedule",
            "sync",
            "fetch",
            "load",
            "record",
            "serve",
            "postgres",
            "config",
            "clock",
            "fault",
            "failpoint",
            "telemetry",
        ],
    ),
    (
        "schedule",
        &[
            "sync",
            "record",
            "postgres",
            "config",
            "clock",
            "fault",
            "failpoint",
            "telemetry",
        ],
    ),
    // The only one that knows all stages.
    (
        "sync",
        &[
            "fetch",
            "shape",
            "load",
            "record",
            "postgres",
            "config",
            "clock",
            "fault",
            "failpoint",
            "telemetry",
        ],
    ),
    // The stages: a later one may name an earlier one's types.
    (
        "fetch",
        &["config", "clock", "fault", "failpoint", "telemetry"],
    ),
    ("shape", &["fetch", "config", "clock", "fault", "failpoint"]),
    (
        "load",
        &[
            "fetch",
            "shape",
            "postgres",
            "config",
            "clock",
            "fault",
            "failpoint",
        ],
    ),
    (
        "record",
        &[
            "fetch",
            "shape",
            "load",
            "postgres",
            "config",
            "clock",
            "fault",
            "failpoint",
        ],
    ),
    // Beside the way of the data.
    (
        "serve",
        &[
            "record",
            "postgres",
            "config",
            "clock",
            "fault",
            "telemetry",
        ],
    ),
    ("postgres", &["config", "clock", "fault", "failpoint"]),
    ("demo", &["config", "clock", "fault"]),
    // The ground.
    ("config", &[]),
    ("clock", &[]),
    ("fault", &[]),
    ("failpoint", &[]),
    ("telemetry", &[]),
];

/// Outside crate -> where it lives. `dir` is a module with all its files.
const HOMES: &[(&str, &[&str])] = &[
    ("reqwest", &["fetch"]),
    ("governor", &["fetch"]),
    ("tokio_cron_scheduler", &["schedule"]),
    ("config", &["config"]),
    ("serde_saphyr", &["config"]),
    ("croner", &["config"]),
    ("jaq_core", &["config"]),
    ("jaq_std", &["config"]),
    ("jaq_json", &["config"]),
    ("secrecy", &["config"]),
    ("schemars", &["config"]),
    ("sqlx", &["load", "record", "postgres", "sync"]),
    ("axum", &["serve", "demo"]),
    ("prometheus_client", &["serve"]),
    ("maud", &["serve"]),
    ("clap", &["cli", "main"]),
    ("clap_complete", &["cli"]),
    ("comfy_table", &["cli"]),
    ("indicatif", &["cli"]),
    ("anyhow", &["main", "cli", "daemon"]),
    ("fail", &["failpoint"]),
    ("tracing_subscriber", &["telemetry"]),
];

/// Text -> the files that may hold it (a folder ends in `/`), and why nobody else does.
const WORDS: &[(&str, &[&str], &str)] = &[
    (
        "AssertSqlSafe",
        &["load/sql.rs"],
        "SQL made of names is built in one place, which quotes them",
    ),
    (
        "process::exit",
        &["main.rs"],
        "a process that exits elsewhere skips its goodbyes",
    ),
];

/// Words that a module must not hold at all, and why.
const WITHOUT: &[(&str, &[&str], &str)] = &[
    (
        "shape",
        &[
            "async",
            "await",
            "std::fs",
            "std::net",
            "tokio",
            "std::time::Instant",
        ],
        "shape is a pure function of the page",
    ),
    (
        "sync",
        &["sqlx::query", "sqlx::raw_sql", "query_as", "query_scalar"],
        "sync begins and commits; the statements are load's and record's",
    ),
];

#[test]
fn imports_run_one_way_and_every_crate_has_its_home() {
    let mut violations = String::new();
    for file in Source::all() {
        for problem in check(&file) {
            writeln!(violations, "{problem}").unwrap();
        }
    }
    assert!(violations.is_empty(), "\n{violations}");
}

#[test]
fn the_tables_name_every_module_once() {
    let mut modules: Vec<_> = Source::all().into_iter().map(|file| file.module).collect();
    modules.sort_unstable();
    modules.dedup();
    for module in modules.iter().filter(|module| *module != "lib") {
        let rows = MAY_NAME.iter().filter(|(name, _)| name == module).count();
        assert_eq!(rows, 1, "module {module} in MAY_NAME");
    }
}

#[test]
fn each_kind_of_violation_is_found_with_its_line() {
    let cases = [
        (
            "fetch/mod.rs",
            "use crate::load::Ident;",
            Some("src/fetch/mod.rs:1"),
        ),
        (
            "fetch/mod.rs",
            "\n\nfn f() { crate::record::g() }",
            Some("src/fetch/mod.rs:3"),
        ),
        (
            "fetch/mod.rs",
            "use crate::{config::Auth, fault::Fault,\n    load::Ident};",
            Some(":2"),
        ),
        ("fetch/retry.rs", "use super::super::sync;", Some(":1")),
        ("load/mod.rs", "use crate::shape::Batch;", None),
        ("load/mod.rs", "use super::shape::Batch;", None),
        ("config/mod.rs", "use super::fault::Fault;", Some(":1")),
        ("fetch/mod.rs", "mod tests { use super::*; }", None),
        (
            "fetch/mod.rs",
            "mod tests { use super::super::sync; }",
            Some(":1"),
        ),
        ("load/mod.rs", "use reqwest::Client;", Some(":1")),
        ("load/mod.rs", "fn f() -> ::reqwest::Error {}", Some(":1")),
        ("fetch/mod.rs", "use reqwest::Client;", None),
        (
            "load/mod.rs",
            "// use reqwest::Client;\n/* reqwest:: */ \"reqwest::x\"",
            None,
        ),
        ("fetch/mod.rs", "use crate::config::Source;", None),
        ("daemon/mod.rs", "use ::config::File;", Some(":1")),
        ("config/load.rs", "use ::config::File;", None),
        ("load/mod.rs", "use sqlx::AssertSqlSafe;", Some(":1")),
        ("load/sql.rs", "use sqlx::AssertSqlSafe;", None),
        ("shape/mod.rs", "async fn f() {}", Some(":1")),
        ("sync/mod.rs", "let t = pool.begin().await;", None),
        ("cli/mod.rs", "std::process::exit(1)", Some(":1")),
        ("main.rs", "use rosterd::cli;", None),
        ("main.rs", "use rosterd::sync::run;", Some(":1")),
    ];
    for (path, text, expected) in cases {
        let problems = check(&Source::new(Path::new(path), text));
        match expected {
            None => assert!(problems.is_empty(), "{path}: {text}: {problems:?}"),
            Some(place) => {
                assert!(
                    problems.iter().any(|problem| problem.contains(place)),
                    "{path}: {text}: {problems:?}"
                );
            }
        }
    }
}

fn check(file: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    let allowed = MAY_NAME
        .iter()
        .find(|(name, _)| *name == file.module)
        .map_or(&[][..], |(_, allowed)| *allowed);
    for (line, path) in &file.paths {
        let first = path[0].as_str();
        if let Some(ours) = file.named_module(path) {
            if file.module != "lib" && ours != file.module && !allowed.contains(&ours) {
                problems.push(format!(
                    "{}:{line}: {} must not name {ours}",
                    file.name, file.module
                ));
            }
            continue;
        }
        // `config::` alone is our module; the crate of that name is written `::config`.
        let outside = first.strip_prefix("::").unwrap_or(first);
        if outside == "config" && outside == first {
            continue;
        }
        for (name, homes) in HOMES {
            if *name == outside && path.len() > 1 && !homes.contains(&file.module.as_str()) {
                problems.push(format!(
                    "{}:{line}: {name} lives in {}",
                    file.name,
                    homes.join(", ")
                ));
            }
        }
    }
    for (number, line) in file.code.lines().enumerate() {
        let number = number + 1;
        for (word, homes, reason) in WORDS {
            if holds(line, word) && !homes.iter().any(|home| file.is_in(home)) {
                problems.push(format!("{}:{number}: {word}: {reason}", file.name));
            }
        }
        for (module, words, reason) in WITHOUT {
            for word in words.iter().filter(|_| *module == file.module) {
                if holds(line, word) {
                    problems.push(format!("{}:{number}: {word}: {reason}", file.name));
                }
            }
        }
    }
    problems
}

/// Whether `word` stands in `line` by itself, not as a part of a longer name.
fn holds(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        !line[..start].ends_with(is_name) && !line[start + word.len()..].starts_with(is_name)
    })
}

struct Source {
    /// `src/fetch/retry.rs`
    name: String,
    /// `fetch`
    module: String,
    /// How many `super` lead from the file's own level to the crate's root.
    depth: usize,
    /// The text without comments and strings, lines kept.
    code: String,
    /// Every path with `::` in it, groups spread out, and its line.
    paths: Vec<(usize, Vec<String>)>,
}

impl Source {
    fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        collect(&root, &mut files);
        assert!(files.len() > 10, "src was not found");
        files
            .iter()
            .map(|path| {
                let text = fs::read_to_string(path).unwrap();
                Self::new(path.strip_prefix(&root).unwrap(), &text)
            })
            .collect()
    }

    fn new(path: &Path, text: &str) -> Self {
        let parts: Vec<_> = path
            .iter()
            .map(|part| part.to_str().unwrap().trim_end_matches(".rs"))
            .collect();
        let depth = match parts.as_slice() {
            ["main" | "lib"] => 0,
            [.., "mod"] => parts.len() - 1,
            _ => parts.len(),
        };
        let code = blank_out(text);
        Self {
            name: format!("src/{}", path.display()),
            module: parts[0].to_owned(),
            depth,
            paths: paths(&code),
            code,
        }
    }

    fn is_in(&self, home: &str) -> bool {
        let path = self.name.trim_start_matches("src/");
        path == home || (home.ends_with('/') && path.starts_with(home))
    }

    /// The module of ours at the crate's root that `path` leads to, if it leads there.
    fn named_module<'a>(&self, path: &'a [String]) -> Option<&'a str> {
        let rest = match path[0].as_str() {
            "crate" | "rosterd" => &path[1..],
            "super" => {
                let up = path.iter().take_while(|part| *part == "super").count();
                // `paths` has taken away what inline modules add.
                if up < self.depth {
                    return None;
                }
                &path[up..]
            }
            _ => return None,
        };
        let name = rest.first()?.as_str();
        MAY_NAME
            .iter()
            .any(|(module, _)| *module == name)
            .then_some(name)
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Replaces comments, strings and characters by spaces; line ends stay.
fn blank_out(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest, out.chars().next_back()) {
            length
        } else if rest.starts_with('"') {
            quoted(rest, '"')
        } else if is_character(rest) {
            quoted(rest, '\'')
        } else {
            let next = rest.chars().next().unwrap();
            out.push(next);
            at += next.len_utf8();
            continue;
        };
        out.extend(
            rest[..length]
                .chars()
                .map(|c| if c == '\n' { '\n' } else { ' ' }),
        );
        at += length;
    }
    out
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += text[at..].chars().next().unwrap().len_utf8();
        }
    }
    at
}

fn raw_string(text: &str, before: Option<char>) -> Option<usize> {
    if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let body = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = text.len() - body.len() + hashes + 1;
    Some(
        text[start..]
            .find(&end)
            .map_or(text.len(), |found| start + found + end.len()),
    )
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + c.len_utf8();
        }
    }
    text.len()
}

/// A character, and not a lifetime.
fn is_character(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next() == Some('\'')
        && match chars.next() {
            Some('\\') => true,
            Some(_) => chars.next() == Some('\''),
            None => false,
        }
}

/// Every path of the code. `use a::{b, c::d};` gives `a::b` and `a::c::d`, each with its own line.
/// Inside an inline module one leading `super` per level is taken away.
fn paths(code: &str) -> Vec<(usize, Vec<String>)> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut braces = 0_usize;
    let mut inline: Vec<usize> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let token = tokens[at].1.as_str();
        match token {
            "mod" if tokens.get(at + 2).is_some_and(|(_, next)| next == "{") => {
                braces += 1;
                inline.push(braces);
                at += 3;
                continue;
            }
            "{" => braces += 1,
            "}" => {
                if inline.last() == Some(&braces) {
                    inline.pop();
                }
                braces = braces.saturating_sub(1);
            }
            // A path may follow: `use ::config::File`, `-> ::reqwest::Error`.
            "use" | "as" | "dyn" | "impl" | "mut" | "return" | "in" | "if" | "match" | "else" => {}
            _ if is_name(token) || token == "::" => {
                let mut here = Vec::new();
                at = path(&tokens, at, &[], &mut here);
                for (line, mut path) in here {
                    let levels = path.iter().take_while(|part| *part == "super").count();
                    path.drain(..levels.min(inline.len()));
                    if !path.is_empty() {
                        found.push((line, path));
                    }
                }
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Reads one path, or a tree of them, that begins at `at`; answers where it ends.
fn path(
    tokens: &[(usize, String)],
    mut at: usize,
    before: &[String],
    found: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    let mut parts = before.to_vec();
    let line = tokens.get(at).map_or(0, |(line, _)| *line);
    if tokens.get(at).is_some_and(|(_, token)| token == "::") {
        at += 1;
        if let Some((_, name)) = tokens.get(at).filter(|(_, token)| is_name(token)) {
            parts.push(format!("::{name}"));
            at += 1;
        } else {
            return at;
        }
    } else {
        parts.push(tokens[at].1.clone());
        at += 1;
    }
    while tokens.get(at).is_some_and(|(_, token)| token == "::") {
        match tokens.get(at + 1).map(|(_, token)| token.as_str()) {
            Some("{") => {
                at += 2;
                while let Some((_, token)) = tokens.get(at) {
                    match token.as_str() {
                        "}" => return at + 1,
                        _ if is_name(token) => at = path(tokens, at, &parts, found),
                        _ => at += 1,
                    }
                }
                return at;
            }
            Some(name) if is_name(name) => {
                parts.push(name.to_owned());
                at += 2;
            }
            _ => {
                at += 1;
                break;
            }
        }
    }
    if parts.len() > 1 || parts[0].starts_with("::") {
        found.push((line, parts));
    }
    at
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn tokens(code: &str) -> Vec<(usize, String)> {
    let mut tokens = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if first.is_alphanumeric() || first == '_' {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push((number + 1, rest[..length].to_owned()));
            rest = rest[length..].trim_start();
        }
    }
    tokens
}
