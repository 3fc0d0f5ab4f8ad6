//! Sends a request until it succeeds or must not be sent again. Judges nothing itself: what may be
//! tried again stands in [`Error::retry`].

use std::{borrow::Cow, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Api, Decision, Error,
    auth::Signer,
    buffer::Buffers,
    circuit::Pass,
    client::{Answer, Client, Head, MOST_REDIRECTS},
    credential::Credential,
    decode::{Decoded, Decoder},
    limiter::Permit,
    request::Draft,
    rules::{Rules, Verdict},
    tally::{Counters, For, Waits},
};
use crate::{
    clock,
    config::{rules::Action, source::Retry},
    failpoint,
};

/// Larger bodies are decoded on a thread of their own, so that they hold up nobody.
const INLINE: usize = 2 << 20;

/// Longest time that a stream may take. The run's own limit is shorter as a rule; silence ends it sooner.
const LONGEST_STREAM: Duration = Duration::from_secs(24 * 60 * 60);

/// One page to fetch, on behalf of one walk.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) draft: Draft,
    /// Whom to ask when it is not the API, without any credential.
    pub(super) elsewhere: Option<Arc<Client>>,
    pub(super) credential: Arc<Credential>,
    /// Ordinal of the page, for errors.
    pub(super) page: u64,
    pub(super) decoder: Arc<Decoder>,
    pub(super) rules: Arc<Rules>,
    /// Statuses that say that the walk is over.
    pub(super) ends: Arc<[u16]>,
    pub(super) buffers: Buffers,
    pub(super) tally: Arc<Counters>,
    /// When the request waited, and for what.
    pub(super) waits: Arc<Waits>,
    pub(super) cancel: CancellationToken,
}

impl Api {
    /// Fetches one page, with retries, each under the limits.
    pub(super) async fn fetch(&self, job: &Job) -> Result<(Answer, Decoded), Error> {
        self.retried(job, || self.page(job)).await
    }

    /// Asks for an answer whose body is still to come, with the same retries.
    pub(super) async fn open(&self, job: &Job) -> Result<(Judged, Permit), Error> {
        self.retried(job, || self.attempt(job)).await
    }

    async fn retried<'a, T, F: Future<Output = Result<T, Failed<'a>>>>(
        &self,
        job: &'a Job,
        attempt: impl Fn() -> F,
    ) -> Result<T, Error> {
        let policy = &self.config.retry;
        let mut tries: u32 = 0;
        let mut renewed = false;
        loop {
            let tokens = job.credential.signer.as_ref().and_then(Signer::tokens);
            let generation = tokens.map_or(0, |tokens| tokens.generation());
            let Failed { error, pass } = match attempt().await {
                Ok(fetched) => return Ok(fetched),
                Err(failed) => failed,
            };
            // A token may be revoked before its time: one fresh one, then the refusal is final.
            let is_refused = matches!(
                error,
                Error::Status { status: 401, .. }
                    | Error::Ruled {
                        action: Action::Refresh,
                        ..
                    }
            );
            if let (true, Some(tokens), false) = (is_refused, tokens, renewed) {
                renewed = true;
                tokens.forget(generation.max(1)).await;
                job.tally.retry();
                continue;
            }
            // Elsewhere no credential was sent.
            if let Some(pass) = pass.filter(|_| job.elsewhere.is_none()) {
                self.note_refusal(&error, pass);
            }
            tries += 1;
            let (most, hint) = match error.retry() {
                Decision::Retry { after } => (policy.max_retries, after),
                Decision::RetryOnce => (policy.max_retries.min(1), None),
                Decision::Stop => return Err(error),
            };
            let wait = wait(policy, tries, hint, fastrand::f64());
            self.hold_others_back(&error, wait);
            if let Some(after) = hint.filter(|after| *after > policy.max_wait) {
                return Err(Error::RateLimited { after });
            }
            if tries > most {
                return Err(error);
            }
            tracing::debug!(
                %error, page = job.page, request.tries = tries, wait_ms = wait.as_millis(),
                "request failed, trying again"
            );
            job.tally.retry();
            let waiting = job.waits.begin(For::Retry);
            tokio::select! {
                biased;
                () = job.cancel.cancelled() => return Err(Error::Cancelled),
                () = tokio::time::sleep(wait) => {}
            }
            drop(waiting);
        }
    }

    /// All walks of the credential wait when the API says that it had enough of it.
    fn hold_others_back(&self, error: &Error, wait: Duration) {
        if let Error::Status { status, after, .. } | Error::Ruled { status, after, .. } = error
            && (*status == 429 || after.is_some())
        {
            self.limiter.pause(wait);
        }
    }

    /// Takes what an answer says of the API's limit, also where it is a good one.
    fn heed(&self, head: &Head) {
        if let Some(after) = self.client.wait_of(head).filter(|_| head.status() < 300) {
            self.limiter.pause(after.min(self.config.retry.max_wait));
        }
        let Some(rule) = &self.config.quota else {
            return;
        };
        if let Some(quota) = self.client.quota(head)
            && let Some(left) = quota.left
        {
            self.limiter
                .left(left.saturating_sub(rule.reserve), quota.reset);
        }
    }

    /// Tells the credential's circuit that it was refused.
    fn note_refusal(&self, error: &Error, pass: Pass<'_>) {
        let first_401 = self.config.circuit.is_some_and(|rule| rule.first_401);
        match error {
            Error::Status { status: 401, .. } => pass.refused(401, first_401),
            Error::Ruled {
                action: Action::Refresh,
                status,
                ..
            } => pass.refused(*status, first_401),
            // Vendors count these whatever we take them for.
            Error::Status {
                status: status @ 403,
                ..
            }
            | Error::Ruled {
                status: status @ (401 | 403),
                ..
            } => pass.refused(*status, false),
            // Servers of tokens count wrong passwords, whatever status they say it with.
            Error::TokenRefused { status, .. } => pass.refused(*status, true),
            _ => {}
        }
    }

    async fn page<'a>(&self, job: &'a Job) -> Result<(Answer, Decoded), Failed<'a>> {
        let (judged, permit) = self.attempt(job).await?;
        drop(permit);
        let answer = match judged {
            Judged::Page(answer) => answer,
            Judged::Empty(answer) => return Ok((answer, Decoded::nothing())),
            // Only streams are opened without being read.
            Judged::Open(head) => {
                self.client
                    .read_page(*head, job.decoder.cap(), &job.buffers)
                    .await?
            }
        };
        job.tally.bytes(answer.body.len());
        let fetched = if answer.body.len() > INLINE {
            let (decoder, page) = (Arc::clone(&job.decoder), job.page);
            let decoding = tokio::task::spawn_blocking(move || decode(&decoder, answer, page));
            decoding.await.map_err(|_| Error::Lost)?
        } else {
            decode(&job.decoder, answer, job.page)
        };
        failpoint::reach("fetch.after_page");
        Ok(fetched?)
    }

    /// One try: the request, and those that its redirects ask for.
    async fn attempt<'a>(&self, job: &'a Job) -> Result<(Judged, Permit), Failed<'a>> {
        let mut draft = Cow::Borrowed(&job.draft);
        for _ in 0..=MOST_REDIRECTS {
            match self.hop(job, &draft).await? {
                (Hop::Moved(next), _) => draft = Cow::Owned(next),
                (Hop::Judged(judged), permit) => return Ok((judged, permit)),
            }
        }
        Err(Error::Redirects.into())
    }

    async fn hop<'a>(&self, job: &'a Job, draft: &Draft) -> Result<(Hop, Permit), Failed<'a>> {
        let waiting = job.waits.begin(For::Limit);
        let mut permit = self
            .limiter
            .permit(self.config.retry.max_wait, &job.cancel)
            .await?;
        drop(waiting);
        let mut pass = job.credential.circuit.pass()?;
        failpoint::reach("fetch.before_request");
        job.tally.request();
        let begun = Instant::now();
        let exchange = async {
            let total = job.decoder.is_stream().then_some(LONGEST_STREAM);
            let (client, signer) = self.asked_by(job);
            let head = client.ask(draft, signer, total).await;
            if !matches!(head, Err(Error::Transport { .. })) {
                permit.answered();
            }
            let head = head?;
            self.heed(&head);
            failpoint::reach("fetch.after_headers");
            // A rule for the status, and a status that is the end, say what it means.
            let is_plain = job.rules.open(head.status(), head.headers()).is_empty()
                && !job.ends.contains(&head.status());
            if let (true, Some(next)) = (is_plain, client.redirected(&head, draft, signer)) {
                return Ok(Hop::Moved(next));
            }
            let judged = self.judge(head, job).await?;
            pass.accepted();
            Ok(Hop::Judged(judged))
        };
        let judged = tokio::select! {
            biased;
            () = job.cancel.cancelled() => Err(Error::Cancelled),
            judged = exchange => judged,
        };
        job.tally.fetched(begun.elapsed());
        if let Err(Error::Status { status: 429, .. } | Error::Ruled { status: 429, .. }) = &judged {
            job.tally.too_many_requests();
        }
        match judged {
            Ok(judged) => Ok((judged, permit)),
            Err(error) => Err(Failed {
                error,
                pass: Some(pass),
            }),
        }
    }
}

/// Why a try came to nothing, with its leave to try the credential.
struct Failed<'j> {
    error: Error,
    pass: Option<Pass<'j>>,
}

impl From<Error> for Failed<'_> {
    fn from(error: Error) -> Self {
        Self { error, pass: None }
    }
}

/// An answer that is not to be tried again.
pub(super) enum Judged {
    /// Its body is to be decoded.
    Page(Answer),
    /// A rule says that it means no records.
    Empty(Answer),
    /// Its body is a stream, and still to come.
    Open(Box<Head>),
}

/// What one request came to.
enum Hop {
    Judged(Judged),
    /// Its answer asks for this one instead.
    Moved(Draft),
}

impl Api {
    /// Who sends a job's requests, and signs them.
    fn asked_by<'j>(&'j self, job: &'j Job) -> (&'j Client, Option<&'j Signer>) {
        match &job.elsewhere {
            Some(client) => (client, None),
            None => (&self.client, job.credential.signer.as_ref()),
        }
    }

    /// Takes an answer for what the rules, and else its status, say.
    async fn judge(&self, head: Head, job: &Job) -> Result<Judged, Error> {
        let open = job.rules.open(head.status(), head.headers());
        let refusal = self.client.refusal(&head);
        // Behind the last page nothing is. Where the first should be, only no content is no failure.
        let ends = job.ends.contains(&head.status()) && (job.page > 0 || head.status() < 400);
        let early = open.before_the_body();
        // What a rule would look for in a stream's body has not come yet.
        let is_decided = open.is_empty() || (job.decoder.is_stream() && early.is_none());
        if let (true, None, true) = (is_decided, &refusal, job.decoder.is_stream()) {
            return Ok(Judged::Open(Box::new(head)));
        }
        if open.is_empty() {
            return match refusal {
                Some(_) if ends => Ok(Judged::Empty(head.without_body())),
                Some(refusal) => Err(refusal),
                None => {
                    let read = self.client.read_page(head, job.decoder.cap(), &job.buffers);
                    read.await.map(Judged::Page)
                }
            };
        }
        let (status, after, at) = (head.status(), self.client.wait_of(&head), head.at().clone());
        let (verdict, answer) = match early {
            Some(verdict) => (Some(verdict), head.without_body()),
            None => {
                let answer = match &refusal {
                    Some(_) => self.client.read_refusal(head).await?,
                    None => {
                        self.client
                            .read_page(head, job.decoder.cap(), &job.buffers)
                            .await?
                    }
                };
                (open.decide(&answer.body), answer)
            }
        };
        match (verdict, refusal) {
            (None, Some(_)) if ends => Ok(Judged::Empty(answer)),
            (None, Some(refusal)) => Err(refusal),
            (None, None) => Ok(Judged::Page(answer)),
            (Some(verdict), _) if verdict.action == Action::Empty => Ok(Judged::Empty(answer)),
            (Some(Verdict { action, message }), _) => Err(Error::Ruled {
                action,
                status,
                message,
                after,
                at,
            }),
        }
    }
}

fn decode(decoder: &Decoder, answer: Answer, page: u64) -> Result<(Answer, Decoded), Error> {
    let decoded = decoder.decode(&answer, page)?;
    Ok((answer, decoded))
}

/// How long to wait before the next try, after `tries` failed ones. `chance` is between 0 and 1.
///
/// Half of the backoff is fixed and half by chance: clients that failed together spread, and none
/// comes back at once. The API's hint is a floor, also when it is longer than `max_wait`.
fn wait(policy: &Retry, tries: u32, hint: Option<Duration>, chance: f64) -> Duration {
    let exponent = i32::try_from(tries.saturating_sub(1)).unwrap_or(i32::MAX);
    let factor = policy.factor.max(1.0).powi(exponent);
    let seconds = (policy.backoff.as_secs_f64() * factor).min(policy.max_wait.as_secs_f64());
    let backoff =
        Duration::try_from_secs_f64(seconds * (0.5 + chance / 2.0)).unwrap_or(policy.max_wait);
    backoff.max(hint.unwrap_or_default()).max(policy.min_wait)
}

/// Reads `Retry-After`: seconds or an HTTP date. A date is measured from the answer's own `Date`, so
/// that it holds when our clock is off.
pub(super) fn retry_after(value: &str, date: Option<DateTime<Utc>>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        let valid = seconds.is_finite() && seconds >= 0.0;
        return valid.then(|| Duration::try_from_secs_f64(seconds.ceil()).unwrap_or(Duration::MAX));
    }
    let until: DateTime<Utc> = httpdate::parse_http_date(value).ok()?.into();
    let time = until - date.unwrap_or_else(clock::now);
    Some(time.to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Retry {
        Retry {
            max_retries: 3,
            backoff: Duration::from_secs(1),
            factor: 2.0,
            min_wait: Duration::ZERO,
            max_wait: Duration::from_secs(60),
            statuses: vec![429, 500, 502, 503, 504],
        }
    }

    #[test]
    fn waits_grow_by_the_factor_and_never_undercut_the_hint() {
        let seconds = Duration::from_secs;
        for (tries, hint, least, most) in [
            (1, None, 0.5, 1.0),
            (2, None, 1.0, 2.0),
            (3, None, 2.0, 4.0),
            (10, None, 30.0, 60.0),
            (5000, None, 30.0, 60.0),
            (1, Some(seconds(0)), 0.5, 1.0),
            (1, Some(seconds(7)), 7.0, 7.0),
            (1, Some(seconds(90)), 90.0, 90.0),
        ] {
            let shortest = wait(&policy(), tries, hint, 0.0).as_secs_f64();
            let longest = wait(&policy(), tries, hint, 1.0).as_secs_f64();
            assert_eq!(
                (shortest, longest),
                (least, most),
                "try {tries}, hint {hint:?}"
            );
        }
    }

    #[test]
    fn the_shortest_wait_holds_whatever_the_api_says() {
        let policy = Retry {
            min_wait: Duration::from_secs(5),
            ..policy()
        };
        for hint in [None, Some(Duration::ZERO), Some(Duration::from_secs(3))] {
            assert_eq!(wait(&policy, 1, hint, 0.5), Duration::from_secs(5));
        }
    }

    #[test]
    fn retry_after_in_all_its_forms() {
        let date = Some("2026-11-23T10:00:00Z".parse().unwrap());
        for (value, expected) in [
            ("0", Some(0)),
            ("7", Some(7)),
            (" 120 ", Some(120)),
            ("1.2", Some(2)),
            ("1000000000", Some(1_000_000_000)),
            ("99999999999999999999999999", Some(u64::MAX)),
            ("Mon, 23 Nov 2026 10:00:30 GMT", Some(30)),
            ("Monday, 23-Nov-26 10:00:30 GMT", Some(30)),
            ("Mon Nov 23 10:01:00 2026", Some(60)),
            ("Mon, 23 Nov 2026 09:59:00 GMT", Some(0)),
            ("-5", None),
            ("soon", None),
            ("", None),
            ("NaN", None),
        ] {
            let read = retry_after(value, date).map(|time| time.as_secs());
            assert_eq!(read, expected, "{value:?}");
        }
    }
}
