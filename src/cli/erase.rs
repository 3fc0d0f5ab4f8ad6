//! `rosterd erase`: takes one person out of a resource for good, and keeps them out.

use std::{io::Read as _, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Arguments as Global, Exit, Loaded, output, reset::operator, select};
use crate::{
    daemon::Base,
    record::Registered,
    sync::erase::{self, Erased, Request},
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The resource.
    #[arg(value_name = "SOURCE/RESOURCE")]
    resource: String,
    /// Primary key of the person's record, as the API writes it; again for each part of a key of
    /// several, or the parts with commas between them. `-` reads it from stdin, one part per line,
    /// where no process list shows it.
    #[arg(long, required = true, value_name = "KEY")]
    key: Vec<String>,
    /// Why, without personal data: the number of the request, say. Stands in `rosterd.events`.
    #[arg(long)]
    reason: Option<String>,
    /// Longest wait, in seconds, for a sync of the resource that is going on.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    wait: u64,
}

/// How often a busy resource is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

pub(super) async fn execute(global: &Global, own: &Arguments) -> anyhow::Result<Exit> {
    let Loaded { config, log: _log } = global.load()?;
    select::check(&config, std::slice::from_ref(&own.resource))?;
    let typed = typed(&own.key)?;
    let base = Base::start(&config).await?;
    let result = async {
        let registered = base
            .prepare(&config, &CancellationToken::new(), || {})
            .await?;
        let registered: &Registered = select::one(&registered, &own.resource)?;
        let resource = config
            .sources
            .iter()
            .find(|source| source.name == registered.source && source.account == registered.account)
            .and_then(|source| {
                source
                    .resources
                    .iter()
                    .find(|resource| resource.name == registered.resource)
            })
            .context("the resource is not in the configuration")?;
        let key = parts(&typed, resource.primary_key.len());
        let by = operator();
        let request = Request {
            key: &key,
            by: &by,
            reason: own.reason.as_deref(),
        };
        let deadline = Instant::now() + Duration::from_secs(own.wait);
        let mut told = false;
        let Erased { rows, rejects } = loop {
            let lock_timeout = config.database.lock_timeout;
            let done = erase::erase(&base.pool, lock_timeout, registered, resource, request).await;
            match done {
                Ok(Some(erased)) => break erased,
                Ok(None) if Instant::now() < deadline => {
                    if !told {
                        output::say("waiting for the sync that is going on");
                        told = true;
                    }
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                Ok(None) => bail!("the resource is still being synced; nothing was erased"),
                Err(error) => {
                    output::say(&format!("hint: {}", error.fault().hint));
                    return Err(error.into());
                }
            }
        };
        output::say(&format!(
            "{}: erased {rows} rows and {rejects} rejects; the person will not be loaded again",
            select::full_name(registered)
        ));
        if rows == 0 {
            output::say("no row had this key: check that it is written as in the table");
        }
        Ok(Exit::Success)
    };
    let result = Box::pin(result).await;
    base.close().await;
    result
}

/// The key as it was given, from the command line or from stdin.
fn typed(given: &[String]) -> anyhow::Result<Vec<String>> {
    if !matches!(given, [only] if only == "-") {
        return Ok(given.to_vec());
    }
    let mut text = String::new();
    std::io::stdin()
        .take(64 * 1024)
        .read_to_string(&mut text)
        .context("reading the key from stdin")?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Splits `a,b` where the key has several parts and one text was given.
fn parts(typed: &[String], width: usize) -> Vec<String> {
    match typed {
        [one] if width > 1 => one.split(',').map(|part| part.trim().to_owned()).collect(),
        several => several.to_vec(),
    }
}
