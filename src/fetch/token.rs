//! Tokens that must be asked for: one per credential, shared by all walks, renewed before they expire.
//!
//! The token is asked for through a client of its own, whose only origin is the token's URL; the
//! API never sees the client's secret, and the token's server never sees another request.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};
use url::form_urlencoded;

use super::{
    Address, Error,
    auth::{Signer, header_name, secret_value},
    client::{Answer, Client},
    request::{Draft, encoded, method},
};
use crate::{
    clock,
    config::{
        self, Secret,
        endpoint::{DottedPath, Step},
        token::{TokenAuth, TokenBody, TokenRequest},
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
    draft: Draft,
    /// Who we are to the token's server.
    signer: Option<Signer>,
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
    /// `signer`: who we are to the token's server.
    pub(super) fn new(
        auth: &TokenAuth,
        signer: Option<Signer>,
        api: &config::source::Client,
    ) -> Result<Self, Error> {
        let own = config::source::Client {
            base_url: auth.request.url.clone(),
            headers: indexmap::IndexMap::new(),
            auth: None,
            max_body: MAX_BODY,
            ..api.clone()
        };
        Ok(Self {
            client: Client::new(&own)?,
            draft: draft(&auth.request)?,
            signer,
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
        let answer = self.exchange().await?;
        let at = Address::of(&self.draft.url);
        let missing = || Error::TokenMissing { at: at.clone() };
        let answer: Value = serde_json::from_slice(&answer.body).map_err(|_| missing())?;
        let token = match find(&answer, &self.token_path) {
            Some(Value::String(token)) if !token.is_empty() => Secret::new(token.clone()),
            Some(Value::Number(token)) => Secret::new(token.to_string()),
            _ => return Err(missing()),
        };
        let life = find(&answer, &self.expires_path).and_then(|value| life(value, clock::now()));
        Ok((token, life.unwrap_or(self.lifetime)))
    }

    /// One request for a token. Where that needs a token itself which was refused, one more.
    async fn exchange(&self) -> Result<Answer, Error> {
        let inner = self.signer.as_ref().and_then(Signer::tokens);
        let generation = inner.map_or(0, |inner| inner.generation());
        let mut head = self.client.send(&self.draft, self.signer.as_ref()).await;
        if let (Err(Error::Status { status: 401, .. }), Some(inner)) = (&head, inner) {
            Box::pin(inner.forget(generation.max(1))).await;
            head = self.client.send(&self.draft, self.signer.as_ref()).await;
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

/// The request without what is added to it each time.
fn draft(request: &TokenRequest) -> Result<Draft, Error> {
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
    let body = body_of(&request.body).map(|(kind, body)| {
        headers.entry(CONTENT_TYPE).or_insert(kind);
        body
    });
    Ok(Draft {
        method: method(request.method),
        url,
        headers,
        body,
    })
}

/// Content type and text of the request.
fn body_of(body: &TokenBody) -> Option<(HeaderValue, Bytes)> {
    match body {
        TokenBody::Empty => None,
        TokenBody::Form(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| (name.as_str(), value.expose()));
            let text = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(fields)
                .finish();
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            Some((kind, text.into()))
        }
        TokenBody::Json(json) => {
            let text = json.expose().to_string();
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
fn life(value: &Value, now: DateTime<Utc>) -> Option<Duration> {
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
            let life = life(&value, now).map(|life| life.as_secs());
            assert_eq!(life, seconds, "{value}");
        }
    }
}
