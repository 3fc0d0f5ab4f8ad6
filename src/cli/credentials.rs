//! `rosterd credentials`: the refresh tokens that are kept in the database.

use std::io::{IsTerminal as _, Read as _};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use super::{Arguments as Global, Exit, Format, Loaded, output};
use crate::{
    config::{Config, Secret, Source, auth::Auth},
    daemon::Base,
    postgres, record,
    sync::credentials::Store,
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List what is kept, without what it is.
    List {
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Put a refresh token in, read from standard input. It replaces what is kept.
    Set {
        /// The source.
        source: String,
    },
    /// Forget what is kept for a source: the token of the configuration is taken again.
    Reset {
        /// The source.
        source: String,
    },
}

/// Longest token; a mistaken file is not read whole.
const MAX_BYTES: u64 = 64 << 10;

pub(super) async fn execute(global: &Global, own: &Arguments) -> anyhow::Result<Exit> {
    let Loaded { config, log: _log } = global.load()?;
    let base = Base::start(&config).await?;
    let result = async {
        let options = base.server.connect_options();
        postgres::probe(&options).await?;
        postgres::migrate(&options).await?;
        match &own.action {
            Action::List { format } => list(&base, *format).await,
            Action::Set { source } => set(&config, &base, source).await,
            Action::Reset { source } => reset(&config, &base, source).await,
        }
    };
    let result = Box::pin(result).await;
    base.close().await;
    result
}

async fn list(base: &Base, format: Format) -> anyhow::Result<Exit> {
    let lines = record::credentials(&base.pool).await?;
    output::rows(
        format,
        &lines,
        &[
            "source", "account", "kept", "key", "renewed", "changed", "renew at",
        ],
        |line| {
            vec![
                line.source.clone(),
                line.account.clone(),
                if line.kept { "yes" } else { "no" }.to_owned(),
                line.key_id.clone().unwrap_or_default(),
                line.renewals.to_string(),
                line.changed_at.format("%F %T %Z").to_string(),
                line.renew_at
                    .map(|at| at.format("%F %T %Z").to_string())
                    .unwrap_or_default(),
            ]
        },
    )?;
    Ok(Exit::Success)
}

async fn set(config: &Config, base: &Base, name: &str) -> anyhow::Result<Exit> {
    let (source, store) = find(config, base, name)?;
    let token = read_token()?;
    let seed = source.client.auth.as_ref().and_then(Auth::refresh);
    store
        .put(token, seed.flatten())
        .await
        .map_err(|fault| anyhow::anyhow!("{fault}"))?;
    output::say(&format!("{name}: kept; the next run uses it"));
    Ok(Exit::Success)
}

async fn reset(config: &Config, base: &Base, name: &str) -> anyhow::Result<Exit> {
    let (source, _) = find(config, base, name)?;
    let forgotten = record::forget_credential(&base.pool, &source.name, &source.account).await?;
    output::say(&match forgotten {
        true => format!("{name}: forgotten; the next run takes the token of the configuration"),
        false => format!("{name}: nothing was kept"),
    });
    Ok(Exit::Success)
}

fn find<'a>(config: &'a Config, base: &Base, name: &str) -> anyhow::Result<(&'a Source, Store)> {
    let source = config
        .sources
        .iter()
        .find(|source| source.name == name)
        .with_context(|| format!("there is no source {name}"))?;
    let store = Store::new(source, config, &base.pool).with_context(|| {
        format!("source {name} keeps no credential: its client.auth is not oauth2_refresh_token")
    })?;
    Ok((source, store))
}

/// From standard input, never from an argument: those can be read by every user of the machine.
fn read_token() -> anyhow::Result<Secret> {
    let mut input = std::io::stdin();
    if input.is_terminal() {
        output::say("paste the refresh token, then press Enter and Ctrl-D:");
    }
    let mut text = String::new();
    input
        .by_ref()
        .take(MAX_BYTES)
        .read_to_string(&mut text)
        .context("standard input")?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_control) {
        bail!("expected one line with the refresh token on standard input");
    }
    Ok(Secret::new(token.to_owned()))
}
