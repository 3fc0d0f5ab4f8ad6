//! Tokens that must be asked for: one per credential, shared by all walks, renewed before they expire.
//!
//! The token is asked for through a client of its own, whose only origin is the token's URL; the
//! API never sees the client's secret, and the token's server never sees another request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};
use tracing::Instrument as _;
use url::{Url, form_urlencoded};

use super::{
    Address, Error,
    address::host_of,
    auth::{Signer, header_name, secret_value},
    client::{Answer, Client},
    jwt,
    request::{Draft, encoded, method},
    vault::{Keeper, KeptTokens, Opened},
};
use crate::{
    clock,
    config::{
        self, Secret,
        endpoint::{DottedPath, Step},
        token::{BaseRule, Grant, TokenAuth, TokenBody, TokenRequest},
    },
};

/// A token this close to its end is renewed first: the request that carries it takes time too.
const MARGIN: Duration = Duration::from_secs(60);

/// Largest answer of a token's server.
const MAX_BODY: u64 = 1 << 20;

/// Numbers from here on are no life in seconds but a moment: nobody gives a token for thirty years.
const EPOCH_SECONDS: f64 = 1e9;

/// Numbers from here on count milliseconds.
const EPOCH_MILLISECONDS: f64 = 1e11;

/// Keeps one credential's token.
pub(super) struct Tokens {
    client: Client,
    auth: TokenAuth,
    /// Who we are to the token's server.
    signer: Option<Signer>,
    keeper: Option<Keeper>,
    /// Whoever holds it asks for the token; the others wait for the answer instead of asking too.
    held: Arc<Mutex<Option<Held>>>,
    /// Counts the tokens that were given out, so that only the refused one is thrown away.
    generation: AtomicU64,
}

struct Held {
    token: Secret,
    renew_at: Instant,
    /// The API said so.
    refused: bool,
    /// The API's address, where the login names it.
    base: Option<Url>,
}

/// What a token's server gives.
struct Given {
    token: Secret,
    life: Duration,
    /// Voids the one that it was asked with.
    refresh: Option<Secret>,
    base: Option<Url>,
}

impl Tokens {
    /// `signer`: who we are to the token's server.
    pub(super) fn new(
        auth: &TokenAuth,
        signer: Option<Signer>,
        keeper: Option<Keeper>,
        api: &config::source::Client,
    ) -> Result<Self, Error> {
        let own = config::source::Client {
            base_url: auth.request.url.clone(),
            headers: indexmap::IndexMap::new(),
            auth: None,
            max_body: MAX_BODY,
            ..api.clone()
        };
        draft(&auth.request, None)?;
        Ok(Self {
            client: Client::new(&own)?,
            auth: auth.clone(),
            signer,
            keeper,
            held: Arc::default(),
            generation: AtomicU64::new(0),
        })
    }

    /// The token, asked for when there is none or when it is about to expire.
    ///
    /// # Errors
    ///
    /// [`Error::TokenRefused`], [`Error::TokenMissing`], or what befalls any request.
    pub(super) fn token(self: &Arc<Self>) -> BoxFuture<'static, Result<Secret, Error>> {
        // Boxed: a token may be asked for with another one, through a client like the one that asks for this.
        Box::pin(Arc::clone(self).current())
    }

    async fn current(self: Arc<Self>) -> Result<Secret, Error> {
        let mut held = Arc::clone(&self.held).lock_owned().await;
        if let Some(held) = held.as_ref()
            && !held.refused
            && held.renew_at > Instant::now()
        {
            return Ok(held.token.clone());
        }
        let before = held.take();
        let this = Arc::clone(&self);
        let renewing = async move {
            let refused = before.filter(|held| held.refused).map(|held| held.token);
            let (token, left, base) = this.renew(refused.as_ref()).await?;
            this.generation.fetch_add(1, Ordering::SeqCst);
            *held = Some(Held {
                token: token.clone(),
                renew_at: Instant::now() + left,
                refused: false,
                base,
            });
            Ok(token)
        };
        match (&self.auth.grant, &self.keeper) {
            (Grant::Refresh { .. }, Some(keeper)) => keeper
                .tasks
                .spawn(renewing.in_current_span())
                .await
                .map_err(|_| Error::Lost)?,
            (Grant::Refresh { .. } | Grant::Fixed | Grant::Statement(_), _) => renewing.await,
        }
    }

    /// Whether the login says where the API is to be asked.
    pub(super) fn names_base(&self) -> bool {
        self.auth.base_url.is_some()
    }

    /// Where the API is to be asked, if the login says so.
    ///
    /// # Errors
    ///
    /// As [`Tokens::token`]; [`Error::ForeignBase`].
    pub(super) async fn base(self: &Arc<Self>) -> Result<Option<Url>, Error> {
        self.token().await?;
        let held = self.held.lock().await;
        Ok(held.as_ref().and_then(|held| held.base.clone()))
    }

    /// Which token is in use.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Throws the token away that a request of that generation was refused with.
    pub(super) async fn forget(&self, generation: u64) {
        let mut held = self.held.lock().await;
        if self.generation() == generation
            && let Some(held) = &mut *held
        {
            held.refused = true;
        }
    }

    /// A token other than the refused one, how long it is to be used, and where.
    async fn renew(
        &self,
        refused: Option<&Secret>,
    ) -> Result<(Secret, Duration, Option<Url>), Error> {
        match &self.auth.grant {
            Grant::Fixed => {
                let given = self.ask(None).await?;
                Ok((given.token, use_for(given.life), given.base))
            }
            Grant::Statement(statement) => {
                let statement = jwt::signed(statement, clock::now())?;
                let given = self.ask(Some(("assertion", &statement))).await?;
                Ok((given.token, use_for(given.life), given.base))
            }
            Grant::Refresh { seed, .. } => {
                let (token, left) = self.refresh(seed.as_ref(), refused).await?;
                Ok((token, left, None))
            }
        }
    }

    /// Takes the token that another replica got meanwhile, or refreshes and writes down what came of it.
    async fn refresh(
        &self,
        seed: Option<&Secret>,
        refused: Option<&Secret>,
    ) -> Result<(Secret, Duration), Error> {
        let keeper = self.keeper.as_ref().ok_or(Error::NoVault)?;
        let Opened { tokens, drawer } = keeper.vault.open(seed).await.map_err(Error::Vault)?;
        if let Some((token, until)) = tokens.access
            && Some(&token) != refused
            && let Ok(left) = (until - clock::now()).to_std()
            && !left.is_zero()
        {
            return Ok((token, left));
        }
        let before = tokens.refresh.ok_or(Error::NoRefreshToken)?;
        let given = self.ask(Some(("refresh_token", &before))).await?;
        let left = use_for(given.life);
        let until = chrono::TimeDelta::from_std(left)
            .ok()
            .and_then(|left| clock::now().checked_add_signed(left))
            .unwrap_or(DateTime::<Utc>::MAX_UTC);
        let tokens = KeptTokens {
            refresh: Some(given.refresh.unwrap_or(before)),
            access: Some((given.token.clone(), until)),
        };
        drawer.replace(tokens).await.map_err(Error::Vault)?;
        Ok((given.token, left))
    }

    async fn ask(&self, more: Option<(&str, &Secret)>) -> Result<Given, Error> {
        let answer = self.exchange(more).await?;
        let at = Address::of(&self.auth.request.url);
        let missing = || Error::TokenMissing { at: at.clone() };
        let answer: Value = serde_json::from_slice(&answer.body).map_err(|_| missing())?;
        let text = |path: &DottedPath| match find(&answer, path) {
            Some(Value::String(text)) if !text.is_empty() => Some(Secret::new(text.clone())),
            Some(Value::Number(number)) => Some(Secret::new(number.to_string())),
            _ => None,
        };
        let life = find(&answer, &self.auth.expires_path);
        let base = match &self.auth.base_url {
            Some(rule) => Some(base_of(&answer, rule)?),
            None => None,
        };
        Ok(Given {
            token: text(&self.auth.token_path).ok_or_else(missing)?,
            life: life
                .and_then(|value| life_of(value, clock::now()))
                .unwrap_or(self.auth.lifetime),
            refresh: match &self.auth.grant {
                Grant::Refresh { answer, .. } => text(answer),
                Grant::Fixed | Grant::Statement(_) => None,
            },
            base,
        })
    }

    /// One request for a token. Where that needs a token itself which was refused, one more.
    async fn exchange(&self, more: Option<(&str, &Secret)>) -> Result<Answer, Error> {
        let draft = draft(&self.auth.request, more)?;
        let inner = self.signer.as_ref().and_then(Signer::tokens);
        let generation = inner.map_or(0, |inner| inner.generation());
        let mut head = self.client.send(&draft, self.signer.as_ref()).await;
        if let (Err(Error::Status { status: 401, .. }), Some(inner)) = (&head, inner) {
            Box::pin(inner.forget(generation.max(1))).await;
            head = self.client.send(&draft, self.signer.as_ref()).await;
        }
        match head {
            Err(Error::Status {
                status,
                listed: false,
                at,
                ..
            }) => Err(Error::TokenRefused { status, at }),
            other => self.client.read(other?).await,
        }
    }
}

/// The address that the answer names, if credentials may go there.
fn base_of(answer: &Value, rule: &BaseRule) -> Result<Url, Error> {
    let text = find(answer, &rule.path).and_then(Value::as_str);
    let url = text.and_then(|text| Url::parse(text).ok());
    let host = url
        .as_ref()
        .map_or_else(|| "no readable address".into(), host_of);
    url.filter(|url| rule.admits(url))
        .ok_or(Error::ForeignBase { host })
}

/// How long a token of this life is used.
fn use_for(life: Duration) -> Duration {
    life.saturating_sub(MARGIN.min(life / 10))
}

/// The request, with one more field where the grant needs it.
fn draft(request: &TokenRequest, more: Option<(&str, &Secret)>) -> Result<Draft, Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        headers.insert(header_name(name)?, secret_value(name, value.expose())?);
    }
    let mut url = request.url.clone();
    let added = request
        .params
        .iter()
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value.expose())));
    let pairs: Vec<String> = url
        .query()
        .map(str::to_owned)
        .into_iter()
        .chain(added)
        .collect();
    url.set_query((!pairs.is_empty()).then(|| pairs.join("&")).as_deref());
    let body = body_of(&request.body, more).map(|(kind, body)| {
        headers.entry(CONTENT_TYPE).or_insert(kind);
        body
    });
    Ok(Draft {
        method: method(request.method),
        url,
        shown: None,
        headers,
        body,
    })
}

/// Content type and text of the request.
fn body_of(body: &TokenBody, more: Option<(&str, &Secret)>) -> Option<(HeaderValue, Bytes)> {
    let more = more.map(|(name, value)| (name, value.expose()));
    match body {
        TokenBody::Empty => None,
        TokenBody::Form(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| (name.as_str(), value.expose()));
            let text = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(fields.chain(more))
                .finish();
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            Some((kind, text.into()))
        }
        TokenBody::Json(json) => {
            let mut json = json.expose().clone();
            if let (Value::Object(map), Some((name, value))) = (&mut json, more) {
                map.insert(name.to_owned(), value.into());
            }
            let text = json.to_string();
            Some((HeaderValue::from_static("application/json"), text.into()))
        }
    }
}

fn find<'a>(value: &'a Value, path: &DottedPath) -> Option<&'a Value> {
    path.0.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(at) => value.get(usize::try_from(*at).ok()?),
    })
}

/// How long a token is good for: seconds, which some servers write as text, or a moment.
fn life_of(value: &Value, now: DateTime<Utc>) -> Option<Duration> {
    let number = match value {
        Value::String(text) => match text.trim().parse() {
            Ok(number) => number,
            Err(_) => {
                let end = DateTime::parse_from_rfc3339(text.trim()).ok()?;
                return Some((end.to_utc() - now).to_std().unwrap_or_default());
            }
        },
        other => other.as_f64()?,
    };
    let now = now.timestamp() as f64;
    let seconds = match number {
        EPOCH_MILLISECONDS.. => (number / 1000.0 - now).max(0.0),
        EPOCH_SECONDS.. => (number - now).max(0.0),
        seconds => seconds,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lives_are_read_in_every_spelling() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        for (value, seconds) in [
            (json!(3600), Some(3600)),
            (json!("3600"), Some(3600)),
            (json!(1_700_000_060), Some(60)),
            (json!("1700000060000"), Some(60)),
            (json!(1_600_000_000), Some(0)),
            (json!("2023-11-14T22:14:20Z"), Some(60)),
            (json!("2023-11-14T23:14:20+01:00"), Some(60)),
            (json!("2020-01-01T00:00:00Z"), Some(0)),
            (json!(-5), None),
            (json!("soon"), None),
            (json!(null), None),
        ] {
            let life = life_of(&value, now).map(|life| life.as_secs());
            assert_eq!(life, seconds, "{value}");
        }
    }
}
