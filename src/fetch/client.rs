//! The one place that builds an HTTP client and sends requests.
//!
//! reqwest's defaults are made for browsers: it follows redirects anywhere, tells the last URL (with the key
//! in it) as `Referer`, retries on its own behind the limiter's back, waits for ever, and prints
//! whole URLs in its errors. All of that is switched off here, and its errors do not leave this file.

use std::{
    error::Error as StdError,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use reqwest::{
    Method, Response,
    header::{
        ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, LINK, LOCATION,
        RETRY_AFTER,
    },
    redirect, retry,
};
use tokio::time::Instant;
use url::{Host, Url};

use super::{
    Address, Error, Trouble,
    address::{host_of, same_origin},
    auth::{Signed, Signer, header_name, secret_value},
    buffer::Buffers,
    link,
    quota::{self, Quota},
    request::Draft,
    retry::retry_after,
};
use crate::{
    clock,
    config::{
        self,
        hosts::Hosts,
        source::{ProxyRule, QuotaHeaders},
    },
};

/// Most bytes reserved because the API announced them, before any has come.
const RESERVE: u64 = 4 << 20;

/// Addresses of past logins that are remembered.
const MOST_ADMITTED: usize = 4;

const USER_AGENT: &str = concat!("rosterd/", env!("CARGO_PKG_VERSION"));

/// Most redirects that one request follows.
pub(super) const MOST_REDIRECTS: u32 = 5;

/// Most bytes of an error's body that rules look at.
const REFUSAL: u64 = 256 << 10;

/// A configured connection pool for one origin.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    /// Addresses that logins named and the configuration admits, the newest last.
    admitted: Mutex<Vec<Url>>,
    /// `client.headers`, and what we say of ourselves.
    headers: HeaderMap,
    max_body: u64,
    statuses: Vec<u16>,
    quota: Option<QuotaHeaders>,
    redirect_hosts: Hosts,
}

/// A successful answer with its whole body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The content type names JSON, or there is none.
    pub(super) json_type: bool,
    pub(super) headers: HeaderMap,
    pub(super) date: Option<DateTime<Utc>>,
    pub(super) received_at: DateTime<Utc>,
    pub(super) asked: Asked,
    pub(super) body: Bytes,
    pub(super) at: Address,
}

impl Answer {
    /// Values of the `Link` headers.
    pub(super) fn links(&self) -> impl Iterator<Item = &str> {
        let values = self.headers.get_all(LINK).iter();
        values.filter_map(|value| value.to_str().ok())
    }

    /// The value of a header, when it is there and readable.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Between these two moments the API made its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) sent: Instant,
    /// The answer's headers were there.
    pub(super) answered: Instant,
}

/// An answer whose status was good and whose body is still to come.
pub(super) struct Head {
    response: Response,
    at: Address,
    asked: Asked,
}

impl Client {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub(super) fn new(config: &config::source::Client) -> Result<Self, Error> {
        let base = config.base_url.clone();
        let loopback = is_loopback(&base);
        let plain = base.scheme() == "http";
        if plain && !loopback && !config.allow_http {
            return Err(Error::InsecureUrl {
                host: host_of(&base),
            });
        }
        let mut headers = HeaderMap::from_iter([(
            ACCEPT,
            // Anything else only where there is no JSON: a CSV export, a feed.
            HeaderValue::from_static("application/json, */*;q=0.1"),
        )]);
        for (name, value) in &config.headers {
            headers.insert(header_name(name)?, secret_value(name, value.expose())?);
        }
        // Fails when there is a provider already, which is then as good.
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let network = &config.network;
        let mut builder = reqwest::Client::builder()
            .user_agent(network.user_agent.as_deref().unwrap_or(USER_AGENT))
            .https_only(!plain)
            .connect_timeout(config.timeouts.connect)
            .read_timeout(config.timeouts.read)
            .timeout(config.timeouts.total)
            .redirect(redirect::Policy::none())
            .referer(false)
            .retry(retry::never())
            .pool_max_idle_per_host(config.max_in_flight);
        builder = match &network.proxy {
            ProxyRule::Through(proxy) => {
                let proxy = reqwest::Proxy::all(proxy.expose()).map_err(|_| Error::Client)?;
                builder.proxy(proxy)
            }
            // A proxy from the environment would look for a loopback API on its own machine.
            ProxyRule::Environment if !loopback => builder,
            ProxyRule::Environment | ProxyRule::None => builder.no_proxy(),
        };
        let trusted = match &network.ca {
            Some(ca) => reqwest::Certificate::from_pem_bundle(ca.expose().as_bytes())
                .map_err(|_| Error::Client)?,
            None => Vec::new(),
        };
        builder = match plain {
            // Loads no CA certificates: a machine without any may still ask its own loopback.
            true => builder.tls_certs_only(trusted),
            false => builder.tls_certs_merge(trusted),
        };
        if let Some((certificate, key)) = &network.identity {
            let pem = format!("{}\n{}", certificate.expose(), key.expose());
            let identity =
                reqwest::Identity::from_pem(pem.as_bytes()).map_err(|_| Error::Client)?;
            builder = builder.identity(identity);
        }
        Ok(Self {
            http: builder.build().map_err(|_| Error::Client)?,
            base,
            admitted: Mutex::default(),
            headers,
            max_body: config.max_body,
            statuses: config.retry.statuses.clone(),
            quota: config.quota.clone(),
            redirect_hosts: config.redirect_hosts.clone(),
        })
    }

    /// The configured origin.
    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// Lets requests go to an address besides the configured one.
    pub(super) fn admit(&self, base: &Url) {
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        if !admitted.contains(base) {
            // Walks of a session that ended may still be at the one before.
            if admitted.len() >= MOST_ADMITTED {
                admitted.remove(0);
            }
            admitted.push(base.clone());
        }
    }

    fn may_ask(&self, url: &Url) -> bool {
        let admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        same_origin(&self.base, url)
            || admitted.iter().any(|base| same_origin(base, url))
            || self.redirect_hosts.admits(url)
    }

    /// Signs and sends a request, follows redirects, and waits for the headers of an answer whose
    /// status is good.
    pub(super) async fn send(&self, draft: &Draft, signer: Option<&Signer>) -> Result<Head, Error> {
        let mut moved = None;
        for _ in 0..=MOST_REDIRECTS {
            let draft = moved.as_ref().unwrap_or(draft);
            let head = self.ask(draft, signer, None).await?;
            let Some(refusal) = self.refusal(&head) else {
                return Ok(head);
            };
            moved = Some(self.redirected(&head, draft, signer).ok_or(refusal)?);
        }
        Err(Error::Redirects)
    }

    /// The request that a redirect asks for. `None`: the answer is no redirect, or must not be followed.
    ///
    /// 307 and 308 keep method and body, 303 asks with GET. What 301 and 302 make of a method other
    /// than GET, clients do not agree on.
    pub(super) fn redirected(
        &self,
        head: &Head,
        draft: &Draft,
        signer: Option<&Signer>,
    ) -> Option<Draft> {
        let keeps = match head.status() {
            301 | 302 if draft.method == Method::GET => true,
            307 | 308 => true,
            303 => false,
            _ => return None,
        };
        let mut url = location(head, &draft.url)?;
        if !self.may_ask(&url) {
            return None;
        }
        url.set_fragment(None);
        if let Some(signer) = signer {
            // Servers repeat the query that they were asked with.
            signer.cut(&mut url);
        }
        let mut next = Draft {
            url,
            // A place that an answer names may tell anything; what was asked for is known.
            shown: Some(draft.shown.as_ref().unwrap_or(&draft.url).clone()),
            ..draft.clone()
        };
        if !keeps {
            next.method = Method::GET;
            next.body = None;
            next.headers.remove(CONTENT_TYPE);
        }
        Some(next)
    }

    /// Signs and sends a request, and waits for the answer's headers, whatever they say.
    ///
    /// `total`: how long it may take to the last byte of the body, where that is not as usual.
    pub(super) async fn ask(
        &self,
        draft: &Draft,
        signer: Option<&Signer>,
        total: Option<Duration>,
    ) -> Result<Head, Error> {
        if !self.may_ask(&draft.url) {
            return Err(Error::ForeignLink {
                host: host_of(&draft.url),
            });
        }
        let at = Address::of(draft.shown.as_ref().unwrap_or(&draft.url));
        let mut url = draft.url.clone();
        let mut headers = self.headers.clone();
        headers.extend(draft.headers.clone());
        let mut body = draft.body.clone();
        if let Some(signer) = signer {
            let request = Signed {
                url: &mut url,
                headers: &mut headers,
                body: &mut body,
            };
            signer.sign(request).await?;
        }
        let mut request = reqwest::Request::new(draft.method.clone(), url);
        *request.headers_mut() = headers;
        if total.is_some() {
            *request.timeout_mut() = total;
        }
        *request.body_mut() = body.map(Into::into);
        let sent = Instant::now();
        let answer = self.http.execute(request).await;
        let response = answer.map_err(|e| transport(&e, at.clone()))?;
        let asked = Asked {
            sent,
            answered: Instant::now(),
        };
        Ok(Head {
            response,
            at,
            asked,
        })
    }

    /// What is wrong with an answer by its status alone.
    pub(super) fn refusal(&self, head: &Head) -> Option<Error> {
        let Head { response, at, .. } = head;
        let status = response.status();
        if status.is_redirection() {
            let host = location(head, &self.base)
                .map_or_else(|| "an unreadable place".into(), |url| host_of(&url));
            return Some(Error::Redirect { host });
        }
        (!status.is_success()).then(|| Error::Status {
            status: status.as_u16(),
            listed: self.statuses.contains(&status.as_u16()),
            after: self.wait_of(head),
            at: at.clone(),
        })
    }

    /// What the answer says of the API's limit.
    pub(super) fn quota(&self, head: &Head) -> Option<Quota> {
        let headers = head.headers();
        quota::read(self.quota.as_ref()?, headers, date_of(headers))
    }

    /// How long the API wants us to wait: `Retry-After`, or the end of its window where nothing is left of it.
    pub(super) fn wait_of(&self, head: &Head) -> Option<Duration> {
        let until_reset = || {
            let quota = self.quota(head)?;
            let is_over = head.status() == 429 || quota.left == Some(0);
            is_over.then_some(quota.reset)
        };
        head.retry_after().or_else(until_reset)
    }

    /// Reads the body, up to the cap on its decoded bytes.
    pub(super) async fn read(&self, head: Head) -> Result<Answer, Error> {
        self.read_page(head, self.max_body, &Buffers::default())
            .await
    }

    /// The same under another cap, into a buffer of one before it.
    pub(super) async fn read_page(
        &self,
        head: Head,
        cap: u64,
        buffers: &Buffers,
    ) -> Result<Answer, Error> {
        // Places in a body are 32 bit numbers.
        let cap = cap.min(u64::from(u32::MAX));
        self.read_up_to(head, cap, Beyond::Refused, buffers).await
    }

    /// Reads the body of an answer that is no page: its beginning is enough.
    pub(super) async fn read_refusal(&self, head: Head) -> Result<Answer, Error> {
        let cap = self.max_body.min(REFUSAL);
        self.read_up_to(head, cap, Beyond::Dropped, &Buffers::default())
            .await
    }

    async fn read_up_to(
        &self,
        head: Head,
        cap: u64,
        beyond: Beyond,
        buffers: &Buffers,
    ) -> Result<Answer, Error> {
        let Head {
            mut response,
            at,
            asked,
        } = head;
        check_encoding(response.headers(), &at)?;
        let headers = response.headers();
        let date = date_of(headers);
        let json_type = headers.get(CONTENT_TYPE).is_none_or(|value| {
            value
                .to_str()
                .is_ok_and(|v| v.to_ascii_lowercase().contains("json"))
        });
        let headers = headers.clone();
        let status = response.status().as_u16();
        let too_large = |at| Error::BodyTooLarge { limit: cap, at };
        let announced = response.content_length().unwrap_or(0);
        if announced > cap && beyond == Beyond::Refused {
            return Err(too_large(at));
        }
        let mut body = buffers.take(announced.min(RESERVE) as usize);
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    if (body.len() + chunk.len()) as u64 > cap {
                        // Dropping the answer closes its connection: nobody reads the rest.
                        match beyond {
                            Beyond::Refused => return Err(too_large(at)),
                            Beyond::Dropped => break,
                        }
                    }
                    make_room(&mut body, chunk.len(), cap as usize);
                    body.extend_from_slice(&chunk);
                }
                Ok(None) => break,
                Err(e) => return Err(transport(&e, at)),
            }
        }
        Ok(Answer {
            status,
            json_type,
            headers,
            date,
            received_at: clock::now(),
            asked,
            body: buffers.lend(body),
            at,
        })
    }
}

impl Head {
    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    pub(super) fn at(&self) -> &Address {
        &self.at
    }

    /// `Retry-After`, when there is a readable one.
    fn retry_after(&self) -> Option<Duration> {
        let headers = self.response.headers();
        let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
        retry_after(value, date_of(headers))
    }

    /// The next piece of the body; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        check_encoding(self.response.headers(), &self.at)?;
        let chunk = self.response.chunk().await;
        chunk.map_err(|e| transport(&e, self.at.clone()))
    }

    /// The answer without its body.
    pub(super) fn without_body(&self) -> Answer {
        Answer {
            status: self.status(),
            json_type: true,
            headers: self.headers().clone(),
            date: date_of(self.headers()),
            received_at: clock::now(),
            asked: self.asked,
            body: Bytes::new(),
            at: self.at.clone(),
        }
    }
}

/// Where a redirect leads.
fn location(head: &Head, asked: &Url) -> Option<Url> {
    let value = head.headers().get(LOCATION)?.to_str().ok()?;
    if value.len() > link::MAX {
        return None;
    }
    asked.join(value).ok()
}

/// reqwest takes the header away when it decodes.
fn check_encoding(headers: &HeaderMap, at: &Address) -> Result<(), Error> {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    match encodings.any(|encoding| encoding != "identity") {
        true => Err(Error::UnknownEncoding { at: at.clone() }),
        false => Ok(()),
    }
}

/// What becomes of a body beyond the cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beyond {
    Refused,
    Dropped,
}

/// Doubles the buffer as it fills, but never beyond the cap.
fn make_room(body: &mut Vec<u8>, more: usize, cap: usize) {
    let needed = body.len() + more;
    if needed > body.capacity() {
        let wanted = (body.capacity() * 2).clamp(needed, cap.max(needed));
        body.reserve_exact(wanted - body.len());
    }
}

fn date_of(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let text = headers.get(DATE)?.to_str().ok()?;
    httpdate::parse_http_date(text).ok().map(Into::into)
}

/// Whether the API is on this machine.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// Takes the kind of a failure and leaves its text, which holds the URL.
fn transport(error: &reqwest::Error, at: Address) -> Error {
    let trouble = if error.is_timeout() {
        Trouble::Timeout
    } else if causes(error).any(is_tls) {
        Trouble::Tls
    } else if error.is_connect() {
        // The resolver's error has no type that could be asked for.
        if causes(error).any(|cause| cause.to_string().contains("dns error")) {
            Trouble::Dns
        } else {
            Trouble::Connect
        }
    } else {
        Trouble::Broken
    };
    Error::Transport { trouble, at }
}

fn causes<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&e| e.source())
}

/// An `io::Error` hides what it wraps from `source()`, also when that is another `io::Error`.
fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    let inner = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>() || inner.is_some_and(|inner| is_tls(inner))
}
