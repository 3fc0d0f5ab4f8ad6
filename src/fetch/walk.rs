//! Walks through the pages of one endpoint, a few requests ahead of whoever takes the pages.
//!
//! One task asks the pager after each page, in order; requests for places that can be foreseen run
//! beside it. When a page turns out other than foreseen, the requests made on that guess are thrown
//! away: they cost a request each, never a row.

use std::{collections::VecDeque, sync::Arc};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tracing::Instrument;
use url::Url;

use super::{
    Api, Error, Page, Position, Tally, WalkPlan,
    buffer::Buffers,
    client::Answer,
    credential::Credential,
    decode::{Decoded, Decoder},
    paginate::{Doubt, Ending, Onward, Pager, Seen, detect},
    request::Template,
    retry::Job,
    rules::Rules,
    stream::Streamed,
    tally::{Counters, Waits},
};
use crate::config::{export::Export, paginator::Paginator};

/// Most requests that one walk has in flight, however much the API allows.
const MOST_AHEAD: usize = 16;

/// Pages ahead may hold about this many bytes together.
const BYTES_AHEAD: usize = 16 << 20;

/// Wrong guesses after which a walk stops guessing.
const MOST_MISSES: u32 = 2;

/// A walk under way. Dropping it ends its tasks.
pub struct Walk {
    steps: mpsc::Receiver<Result<Step, Error>>,
    tally: Arc<Counters>,
    ending: Option<Ending>,
    _driver: AbortOnDropHandle<()>,
}

enum Step {
    Page(Page),
    End(Ending),
}

impl Walk {
    pub(super) fn start(api: Arc<Api>, plan: WalkPlan, cancel: CancellationToken) -> Self {
        // Holds one page besides those that are being fetched and the one that is being loaded.
        let (sender, steps) = mpsc::channel(1);
        let tally = Arc::new(Counters::default());
        let counters = Arc::clone(&tally);
        let tracker = TaskTracker::new();
        let driver = async move {
            let result = match Driver::new(api, plan, cancel, counters).await {
                Ok(driver) if driver.is_one_answer() => driver.one_answer(&sender).await,
                Ok(driver) => driver.drive(&sender).await,
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                sender.send(Err(error)).await.ok();
            }
        };
        Self {
            steps,
            tally,
            ending: None,
            _driver: AbortOnDropHandle::new(tracker.spawn(driver.in_current_span())),
        }
    }

    /// The next page, in order; `None` when the walk has ended, see [`Walk::ending`].
    ///
    /// # Errors
    ///
    /// What ended the walk before its time. The pages before it remain good.
    pub async fn next(&mut self) -> Result<Option<Page>, Error> {
        if self.ending.is_some() {
            return Ok(None);
        }
        match self.steps.recv().await {
            Some(Ok(Step::Page(page))) => Ok(Some(page)),
            Some(Ok(Step::End(ending))) => {
                self.ending = Some(ending);
                Ok(None)
            }
            Some(Err(error)) => Err(error),
            None => Err(Error::Lost),
        }
    }

    /// What the walk cost so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally.read()
    }

    /// Why the ended walk is not proven to be all.
    #[must_use]
    pub fn doubt(&self) -> Option<Doubt> {
        match &self.ending {
            Some(ending) if ending.proven.is_some() => None,
            Some(Ending {
                doubt: Some(doubt), ..
            }) => Some(doubt.clone()),
            _ => Some(Doubt::Drift("the walk ended without a signal".to_owned())),
        }
    }

    /// How the walk ended; `None` before [`Walk::next`] has said that it did.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        self.ending.clone()
    }
}

/// The walk's own task.
struct Driver {
    api: Arc<Api>,
    credential: Arc<Credential>,
    template: Template,
    export: Option<Export>,
    decoder: Arc<Decoder>,
    rules: Arc<Rules>,
    ends: Arc<[u16]>,
    buffers: Buffers,
    pager: Pager,
    resume: Option<Position>,
    first_page: u64,
    max_pages: u64,
    cancel: CancellationToken,
    tally: Arc<Counters>,
    tracker: TaskTracker,
    misses: u32,
    /// Whether the paginator is only to be found out.
    suggests: bool,
}

/// A page that was asked for.
struct Flight {
    position: Option<Position>,
    url: Url,
    waits: Arc<Waits>,
    task: AbortOnDropHandle<Result<(Answer, Decoded), Error>>,
}

impl Driver {
    async fn new(
        api: Arc<Api>,
        plan: WalkPlan,
        cancel: CancellationToken,
        tally: Arc<Counters>,
    ) -> Result<Self, Error> {
        let credential = api.credentials.of(&plan.endpoint)?;
        let base = &tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::Cancelled),
            base = api.base_for(&credential) => base?,
        };
        Ok(Self {
            credential,
            template: Template::new(base, &plan)?,
            export: plan.endpoint.export.clone(),
            decoder: Arc::new(Decoder::new(&plan.endpoint, api.config.max_body)),
            rules: Arc::new(Rules::new(&plan.endpoint.rules)),
            ends: plan
                .endpoint
                .paginator
                .stop()
                .map_or_else(Arc::default, |stop| stop.statuses.as_slice().into()),
            buffers: Buffers::default(),
            pager: Pager::new(&plan, base)?,
            resume: plan.resume,
            first_page: plan.first_page,
            max_pages: plan.max_pages,
            cancel,
            tally,
            tracker: TaskTracker::new(),
            misses: 0,
            suggests: matches!(plan.endpoint.paginator, Paginator::Auto),
            api,
        })
    }

    async fn drive(mut self, sender: &mpsc::Sender<Result<Step, Error>>) -> Result<(), Error> {
        let mut number = self.first_page;
        if number >= self.max_pages {
            return Err(Error::TooManyPages {
                limit: self.max_pages,
            });
        }
        let first = self.resume.take().or_else(|| self.pager.first());
        let mut flights = VecDeque::from([self.launch(first, number)?]);
        while let Some(flight) = flights.pop_front() {
            let Flight {
                position,
                url,
                waits,
                task,
            } = flight;
            let from = Instant::now();
            let fetched = task.await;
            self.tally.stood_still(&waits, from, Instant::now());
            let (answer, mut decoded) = fetched.map_err(|_| Error::Lost)??;
            let seen = Seen {
                number,
                position: position.as_ref(),
                url: &url,
                answer: &answer,
                decoded: &decoded,
            };
            if self.suggests {
                let suggestion = detect::suggest(&answer).into();
                return Err(Error::PaginatorUnknown { suggestion });
            }
            let (onward, repeated) = self.pager.after(&seen, self.credential.signer.as_ref())?;
            decoded.records.drain(..repeated.min(decoded.records.len()));
            let (next, ending) = match onward {
                Onward::Next(next) => (Some(self.template.without_secrets(next)), None),
                Onward::End(ending) => (None, Some(ending)),
            };
            let exhausted = next.is_some() && number + 1 >= self.max_pages;
            if let Some(next) = next.clone().filter(|_| !exhausted) {
                self.keep_ahead(&mut flights, next, number + 1, decoded.body.len())?;
            } else {
                flights.clear();
            }
            let page = Page {
                number,
                at: position,
                body: decoded.body,
                records: decoded.records,
                next,
                total: self.pager.total(),
                is_part: false,
                doubtful: self.pager.is_doubtful(),
                received_at: answer.received_at,
                server_date: answer.date,
            };
            // Fails when the walk was dropped, which ends this task anyhow.
            sender.send(Ok(Step::Page(page))).await.ok();
            if exhausted {
                return Err(Error::TooManyPages {
                    limit: self.max_pages,
                });
            }
            if let Some(ending) = ending {
                sender.send(Ok(Step::End(ending))).await.ok();
            }
            number += 1;
        }
        Ok(())
    }

    /// Makes the flights those for `next`, which is page `number`, and the places foreseen behind it.
    fn keep_ahead(
        &mut self,
        flights: &mut VecDeque<Flight>,
        next: Position,
        number: u64,
        page_bytes: usize,
    ) -> Result<(), Error> {
        let depth = if self.misses >= MOST_MISSES {
            1
        } else {
            let most = self.api.config.max_in_flight.clamp(1, MOST_AHEAD);
            (BYTES_AHEAD / page_bytes.max(1)).clamp(1, most)
        };
        let pages_left = usize::try_from(self.max_pages - number).unwrap_or(usize::MAX);
        let foreseen = self
            .pager
            .foresee(&next, depth.min(pages_left).saturating_sub(1));
        let places: Vec<Position> = std::iter::once(next).chain(foreseen).collect();
        let right = flights
            .iter()
            .zip(&places)
            .take_while(|(flight, place)| flight.position.as_ref() == Some(place))
            .count();
        // Flights beyond a shorter list of places are no miss when all places agree.
        if right < flights.len() && right < places.len() {
            self.misses += 1;
        }
        flights.truncate(right);
        for (place, page) in places.into_iter().zip(number..).skip(right) {
            flights.push_back(self.launch(Some(place), page)?);
        }
        Ok(())
    }

    /// Whether there are no pages, and no place to resume at.
    fn is_one_answer(&self) -> bool {
        self.export.is_some() || self.decoder.is_stream()
    }

    /// The one answer of a stream or an export, in parts. Their records stand on one page.
    async fn one_answer(mut self, sender: &mpsc::Sender<Result<Step, Error>>) -> Result<(), Error> {
        let from = Instant::now();
        let mut job = self.job(None, self.first_page)?;
        if let Some(export) = &self.export {
            let made = self.api.export(export, &self.template, &job).await?;
            (job.draft, job.elsewhere) = made;
        }
        let (parts, mut incoming) = mpsc::channel::<Streamed>(1);
        let api = Arc::clone(&self.api);
        let mut ending = None;
        let forward = async {
            while let Some((answer, decoded)) = incoming.recv().await {
                let seen = Seen {
                    number: job.page,
                    position: None,
                    url: &job.draft.url,
                    answer: &answer,
                    decoded: &decoded,
                };
                let signer = self.credential.signer.as_ref();
                if let (Onward::End(end), _) = self.pager.after(&seen, signer)? {
                    ending = Some(end);
                }
                let page = Page {
                    number: job.page,
                    at: None,
                    body: decoded.body,
                    records: decoded.records,
                    next: None,
                    total: None,
                    is_part: true,
                    doubtful: self.pager.is_doubtful(),
                    received_at: answer.received_at,
                    server_date: answer.date,
                };
                sender.send(Ok(Step::Page(page))).await.ok();
            }
            Ok::<(), Error>(())
        };
        let fetch = async {
            if job.decoder.is_stream() {
                return api.stream(&job, parts).await;
            }
            let (answer, decoded) = api.fetch(&job).await?;
            parts.send((Arc::new(answer), decoded)).await.ok();
            drop(parts);
            Ok(())
        };
        tokio::try_join!(fetch, forward)?;
        self.tally.stood_still(&job.waits, from, Instant::now());
        let ending = ending.ok_or(Error::Lost)?;
        sender.send(Ok(Step::End(ending))).await.ok();
        Ok(())
    }

    fn job(&self, position: Option<&Position>, page: u64) -> Result<Job, Error> {
        Ok(Job {
            draft: self.template.draft(position)?,
            elsewhere: None,
            credential: Arc::clone(&self.credential),
            page,
            decoder: Arc::clone(&self.decoder),
            rules: Arc::clone(&self.rules),
            ends: Arc::clone(&self.ends),
            buffers: self.buffers.clone(),
            tally: Arc::clone(&self.tally),
            waits: Arc::default(),
            cancel: self.cancel.clone(),
        })
    }

    fn launch(&self, position: Option<Position>, page: u64) -> Result<Flight, Error> {
        let job = self.job(position.as_ref(), page)?;
        let url = job.draft.url.clone();
        let waits = Arc::clone(&job.waits);
        let api = Arc::clone(&self.api);
        let fetch = async move { api.fetch(&job).await };
        Ok(Flight {
            position,
            url,
            waits,
            task: AbortOnDropHandle::new(self.tracker.spawn(fetch.in_current_span())),
        })
    }
}
