//! The limits of a credential as all replicas share them, for the requests of this one.

use std::time::Duration;

use sqlx::PgPool;

use crate::{
    fetch::budget::{Answer, Ask, Budget, Grant},
    record::{self, ShareAsked, WindowAsked, Worker},
};

/// No share lasts longer, so that what a dead process held is free again soon.
const LONGEST: Duration = Duration::from_secs(10);

/// The share of one client of this process.
#[derive(Debug)]
pub(super) struct Shared {
    pool: PgPool,
    credential_key: String,
    holder: String,
    lasts: Duration,
}

impl Shared {
    pub(super) fn new(pool: &PgPool, worker: &Worker, credential_key: String) -> Self {
        Self {
            pool: pool.clone(),
            credential_key,
            // A client that a reload replaced still has requests under way.
            holder: format!("{}:{:04x}", worker.name, fastrand::u16(..)),
            lasts: (worker.lease / 2).min(LONGEST),
        }
    }

    async fn renew(&self, ask: Ask) -> Result<Grant, String> {
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let asked = ShareAsked {
            credential_key: &self.credential_key,
            holder: &self.holder,
            lasts: self.lasts,
            windows: ask
                .windows
                .iter()
                .map(|window| WindowAsked {
                    whole: count(window.whole),
                    per: window.per,
                    used: count(window.used),
                    wanted: count(window.wanted),
                })
                .collect(),
            pause: ask.pause,
            left: ask.left,
        };
        match record::share(&self.pool, &asked).await {
            Ok(held) => Ok(Grant {
                windows: held
                    .windows
                    .into_iter()
                    .map(|count| u64::try_from(count).unwrap_or(0))
                    .collect(),
                pause: held.pause,
            }),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Budget for Shared {
    fn lasts(&self) -> Duration {
        self.lasts
    }

    fn share(&self, ask: Ask) -> Answer<'_> {
        Box::pin(self.renew(ask))
    }
}
