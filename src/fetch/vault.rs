//! What this stage asks of whoever keeps credentials that the API replaces.
//!
//! Many vendors give a new refresh token with each access token and void the old one. Whoever loses the
//! new one is locked out until a human signs in again. So it is written down, where all replicas find
//! it, before it is used; and only one refreshes at a time. Where that is, this stage does not know.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use tokio_util::task::TaskTracker;

use crate::{config::Secret, fault::Fault};

/// Keeps the tokens of one source.
pub trait Vault: Send + Sync {
    /// Waits until nobody else refreshes them, and says what is kept. `seed`: the token of the
    /// configuration, which wins over the kept one when it was never seen before.
    fn open<'a>(&'a self, seed: Option<&'a Secret>) -> BoxFuture<'a, Result<Opened, Box<Fault>>>;
}

/// What was kept, and the right to replace it. Dropping it changes nothing.
pub struct Opened {
    pub tokens: KeptTokens,
    pub drawer: Box<dyn Drawer>,
}

/// The right to replace what is kept; nobody else has it meanwhile.
pub trait Drawer: Send {
    /// Returns when the tokens are safe.
    fn replace(self: Box<Self>, tokens: KeptTokens) -> BoxFuture<'static, Result<(), Box<Fault>>>;
}

/// A refresh token and the access token that came with it.
#[derive(Debug, Clone, Default)]
pub struct KeptTokens {
    /// `None`: nobody has put one in.
    pub refresh: Option<Secret>,
    /// With the moment from which it should be renewed.
    pub access: Option<(Secret, DateTime<Utc>)>,
}

/// A vault, and where refreshing runs: in tasks that end by themselves, because a walk that is
/// stopped must not take an answer with it that nobody has written down.
#[derive(Clone)]
pub struct Keeper {
    pub vault: Arc<dyn Vault>,
    pub tasks: TaskTracker,
}
