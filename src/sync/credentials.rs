//! Keeps refresh tokens in the database, for `fetch`: the one place where the two meet.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use sqlx::{PgPool, Postgres, Transaction};
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::{
    config::{Config, Secret, Source},
    failpoint,
    fault::Fault,
    fetch::{self, Drawer, Keeper, KeptTokens, Opened, Vault},
    record::{self, Seal, StoredCredential},
};

const REFRESH: &str = "refresh";
const ACCESS: &str = "access";

/// How often a token that the API gave is tried to be written down: it is the only copy.
const TRIES: u32 = 10;

/// Between these tries.
const PAUSE: Duration = Duration::from_secs(3);

/// The client of a source, with a place for its credential if the API replaces that.
///
/// # Errors
///
/// As [`fetch::Api::new`].
pub fn api(
    source: &Source,
    config: &Config,
    pool: &PgPool,
    tasks: &TaskTracker,
) -> Result<fetch::Api, fetch::Error> {
    let keeper = Store::new(source, config, pool).map(|store| Keeper {
        vault: Arc::new(store),
        tasks: tasks.clone(),
    });
    fetch::Api::kept_by(source, keeper)
}

/// The credential of one source in the database.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
    source: String,
    account: String,
    seal: Arc<Seal>,
    /// How long a refresh may take, ours or that of another replica.
    patience: Duration,
}

impl Store {
    /// `None`: the source has no credential that must be kept, or there is no key to keep it under.
    #[must_use]
    pub fn new(source: &Source, config: &Config, pool: &PgPool) -> Option<Self> {
        source.client.auth.as_ref()?.refresh()?;
        let owner = format!("{}/{}", source.name, source.account);
        Some(Self {
            pool: pool.clone(),
            source: source.name.clone(),
            account: source.account.clone(),
            seal: Arc::new(Seal::new(&config.credential_keys, owner)?),
            patience: source.client.timeouts.total * 2 + Duration::from_secs(60),
        })
    }

    /// Puts a first token in by command. The configured one, if there is one, will not replace it.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub async fn put(&self, token: Secret, seed: Option<&Secret>) -> Result<(), Box<Fault>> {
        let (mut transaction, mut before) = self.lock().await?;
        self.take_note(&mut before, seed);
        let next = self.sealed(
            &before,
            &KeptTokens {
                refresh: Some(token),
                access: None,
            },
        )?;
        let (source, account) = (&self.source, &self.account);
        record::replace_credential(&mut transaction, source, account, &next)
            .await
            .map_err(told)?;
        transaction.commit().await.map_err(|e| told(e.into()))
    }

    async fn lock(&self) -> Result<(Transaction<'static, Postgres>, StoredCredential), Box<Fault>> {
        let mut transaction = self.pool.begin().await.map_err(|e| told(e.into()))?;
        let (source, account) = (&self.source, &self.account);
        let stored = record::lock_credential(&mut transaction, source, account, self.patience)
            .await
            .map_err(told)?;
        Ok((transaction, stored))
    }

    /// Whether the configured token was never seen before, so that it wins. It is seen from now on.
    fn take_note(&self, stored: &mut StoredCredential, seed: Option<&Secret>) -> bool {
        let Some(seed) = seed else { return false };
        let marks = self.seal.marks(seed);
        let is_known = marks.iter().any(|mark| stored.seed_marks.contains(mark));
        // Under the present key too, so that a former one can go.
        if let Some(mark) = marks.into_iter().next()
            && !stored.seed_marks.contains(&mark)
        {
            stored.seed_marks.push(mark);
        }
        !is_known
    }

    fn opened(&self, stored: &StoredCredential) -> Result<KeptTokens, Box<Fault>> {
        let open = |what: &str, sealed: &Option<Vec<u8>>| match (&stored.key_id, sealed) {
            (Some(key), Some(sealed)) => self.seal.open(key, what, sealed).map(Some),
            _ => Ok(None),
        };
        let access = open(ACCESS, &stored.sealed_access)?;
        Ok(KeptTokens {
            refresh: open(REFRESH, &stored.sealed_refresh)?,
            access: access.zip(stored.renew_at),
        })
    }

    fn sealed(
        &self,
        before: &StoredCredential,
        tokens: &KeptTokens,
    ) -> Result<StoredCredential, Box<Fault>> {
        let refresh = tokens.refresh.as_ref();
        let access = tokens.access.as_ref();
        Ok(StoredCredential {
            key_id: self.seal.key_id().map(str::to_owned),
            sealed_refresh: refresh
                .map(|token| self.seal.seal(REFRESH, token))
                .transpose()?,
            sealed_access: access
                .map(|(token, _)| self.seal.seal(ACCESS, token))
                .transpose()?,
            renew_at: access.map(|(_, at)| *at),
            seed_marks: before.seed_marks.clone(),
            generation: before.generation + 1,
        })
    }
}

impl Vault for Store {
    fn open<'a>(&'a self, seed: Option<&'a Secret>) -> BoxFuture<'a, Result<Opened, Box<Fault>>> {
        Box::pin(async move {
            let (transaction, mut before) = self.lock().await?;
            let tokens = match (self.take_note(&mut before, seed), seed) {
                (true, Some(seed)) => KeptTokens {
                    refresh: Some(seed.clone()),
                    access: None,
                },
                _ => self.opened(&before)?,
            };
            let drawer = Box::new(Locked {
                store: self.clone(),
                transaction,
                before,
            });
            Ok(Opened { tokens, drawer })
        })
    }
}

/// The row, locked.
struct Locked {
    store: Store,
    transaction: Transaction<'static, Postgres>,
    before: StoredCredential,
}

impl Drawer for Locked {
    fn replace(self: Box<Self>, tokens: KeptTokens) -> BoxFuture<'static, Result<(), Box<Fault>>> {
        Box::pin(async move {
            let Self {
                store,
                mut transaction,
                before,
            } = *self;
            failpoint::reach(failpoint::NEW_CREDENTIAL);
            let next = store.sealed(&before, &tokens)?;
            let (source, account) = (&store.source, &store.account);
            let written = async {
                record::replace_credential(&mut transaction, source, account, &next).await?;
                Ok(transaction.commit().await?)
            };
            let mut error: record::Error = match written.await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // The lock is lost with the connection, and nobody else has the new token.
            for _ in 1..TRIES {
                warn!(%error, "could not write the new refresh token down; trying again");
                tokio::time::sleep(PAUSE).await;
                let again = async {
                    let mut connection = store.pool.acquire().await?;
                    record::replace_credential(&mut connection, source, account, &next).await
                };
                match again.await {
                    // False: the first try had gone through, or another replica refreshed since.
                    Ok(_) => return Ok(()),
                    Err(more) => error = more,
                }
            }
            Err(told(error))
        })
    }
}

fn told(error: record::Error) -> Box<Fault> {
    Box::new(error.fault())
}
