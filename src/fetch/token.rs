//! Tokens that must be asked for: one per credential, shared by all walks, renewed before they expire.
//!
//! The token is asked for through a client of its own, whose only origin is the token's URL; the
//! API never sees the client's secret, and the token's server never sees another request.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};
use url::form_urlencoded;

use super::{
    Address, Error,
    auth::{basic, header_name, secret_value},
    client::Client,
    request::Draft,
};
use crate::config::{
    self, Secret,
    endpoint::{DottedPath, Step},
    source::{TokenAuth, TokenFormat},
};

/// A token this close to its end is renewed first: the request that carries it takes time too.
const MARGIN: Duration = Duration::from_secs(60);

/// Largest answer of a token's server.
const MAX_BODY: u64 = 1 << 20;

/// Keeps one credential's token.
pub(super) struct Tokens {
    client: Client,
    draft: Draft,
    token_path: DottedPath,
    expires_path: DottedPath,
    lifetime: Duration,
    /// Whoever holds it asks for the token; the others wait for the answer instead of asking too.
    kept: Mutex<Option<Kept>>,
    /// Counts the tokens that were given out, so that only the refused one is thrown away.
    generation: AtomicU64,
}

struct Kept {
    token: Secret,
    renew_at: Instant,
}

impl Tokens {
    pub(super) fn new(auth: &TokenAuth, api: &config::source::Client) -> Result<Self, Error> {
        let own = config::source::Client {
            base_url: auth.url.clone(),
            headers: indexmap::IndexMap::new(),
            auth: None,
            max_body: MAX_BODY,
            ..api.clone()
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &auth.headers {
            headers.insert(header_name(name)?, secret_value(name, value.expose())?);
        }
        if let Some((user, password)) = &auth.basic {
            headers.insert(AUTHORIZATION, basic(user, password)?);
        }
        let (kind, body) = body_of(auth);
        headers.entry(CONTENT_TYPE).or_insert(kind);
        Ok(Self {
            client: Client::new(&own)?,
            draft: Draft {
                method: reqwest::Method::POST,
                url: auth.url.clone(),
                headers,
                body: Some(body),
            },
            token_path: auth.token_path.clone(),
            expires_path: auth.expires_path.clone(),
            lifetime: auth.lifetime,
            kept: Mutex::new(None),
            generation: AtomicU64::new(0),
        })
    }

    /// The token, asked for when there is none or when it is about to expire.
    ///
    /// # Errors
    ///
    /// [`Error::TokenRefused`], [`Error::TokenMissing`], or what befalls any request.
    pub(super) async fn token(&self) -> Result<Secret, Error> {
        let mut kept = self.kept.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.renew_at > Instant::now()) {
            return Ok(kept.token.clone());
        }
        *kept = None;
        let (token, lifetime) = self.ask().await?;
        self.generation.fetch_add(1, Ordering::SeqCst);
        let renew_after = lifetime.saturating_sub(MARGIN.min(lifetime / 10));
        *kept = Some(Kept {
            token: token.clone(),
            renew_at: Instant::now() + renew_after,
        });
        Ok(token)
    }

    /// Which token is in use.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Throws the token away that a request of that generation was refused with.
    pub(super) async fn forget(&self, generation: u64) {
        let mut kept = self.kept.lock().await;
        if self.generation() == generation {
            *kept = None;
        }
    }

    async fn ask(&self) -> Result<(Secret, Duration), Error> {
        let at = Address::of(&self.draft.url);
        let head = match self.client.send(&self.draft, None).await {
            Err(Error::Status {
                status,
                listed: false,
                ..
            }) => return Err(Error::TokenRefused { status, at }),
            other => other?,
        };
        let answer = self.client.read(head).await?;
        let missing = || Error::TokenMissing { at: at.clone() };
        let answer: Value = serde_json::from_slice(&answer.body).map_err(|_| missing())?;
        let token = find(&answer, &self.token_path)
            .and_then(Value::as_str)
            .filter(|token| !token.is_empty());
        let token = Secret::new(token.ok_or_else(missing)?.to_owned());
        let seconds = find(&answer, &self.expires_path).and_then(seconds);
        Ok((token, seconds.unwrap_or(self.lifetime)))
    }
}

/// Content type and text of the request.
fn body_of(auth: &TokenAuth) -> (HeaderValue, Bytes) {
    let fields = auth
        .fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.expose()));
    match auth.format {
        TokenFormat::Form => {
            let text = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(fields)
                .finish();
            (
                HeaderValue::from_static("application/x-www-form-urlencoded"),
                text.into(),
            )
        }
        TokenFormat::Json => {
            let text = Value::Object(
                fields
                    .map(|(name, value)| (name.to_owned(), value.into()))
                    .collect(),
            );
            (
                HeaderValue::from_static("application/json"),
                text.to_string().into(),
            )
        }
    }
}

fn find<'a>(value: &'a Value, path: &DottedPath) -> Option<&'a Value> {
    path.0.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(at) => value.get(usize::try_from(*at).ok()?),
    })
}

/// A life in seconds, which some servers write as text.
fn seconds(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::String(text) => text.trim().parse().ok()?,
        other => other.as_f64()?,
    };
    Duration::try_from_secs_f64(seconds).ok()
}
