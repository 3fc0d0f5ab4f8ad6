//! The walk of one run: pages in, batches out, until the API says that it is over.

use std::{ops::Range, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::{
    Context, Error, Gauge,
    batch::Batch,
    commit::{self, Committed, Conclusion, Store},
    deletes::{self, Held, Snapshot},
    patience::Patience,
    plan::{Checkpoint, Plan, Start},
    privacy::{self, LeftOut},
};
use crate::{
    clock,
    config::{Resource, source::WriteDisposition},
    failpoint,
    fault::Fault,
    fetch::{Page, Tally, Walk},
    load::{
        sql::Ident,
        write::{self, Standing, Way},
    },
    record::{Claim, Counters, Ending, NewReject},
    shape::{
        CursorValue, KeySet, Kind, Layout, MapSpec, Mapper, Reject, Scan, Screen, Screened, Stamp,
        identifier,
    },
};

/// How often a walk that did not prove itself is repeated within one run.
const WALKS: u32 = 3;

/// Counts the rules by which records become rows. A new number makes every row be written again at its next reading.
const MAPPING_VERSION: u64 = 1;

/// Walks until the run is proven complete; its row is closed together with the last batch.
pub(super) async fn run(
    context: &Context,
    claim: &Arc<Claim>,
    start: Start,
    gauge: &Arc<Gauge>,
    halt: CancellationToken,
) -> Result<Ending, Error> {
    let opened = commit::open(context, claim, gauge).await?;
    let mut plan = Plan::new(&context.resource, opened.cursor.as_ref(), start, claim.mode)?;
    if context.resource.write_disposition == WriteDisposition::Replace {
        // Its rows gather in a table that no other run can trust.
        plan = plan.from_the_start();
    }
    let screen = privacy::prepare(&opened).await?;
    failpoint::reach("run.before_first_request");

    let store = Arc::clone(&opened.store);
    if plan.resume.is_none() {
        store.begin_generation();
    }
    let mut walker = Walker::new(context, gauge, opened, screen, halt);
    if let Some(conflict) = walker.mapper.conflict() {
        return Err(crate::load::Error::HintedType {
            table: store.table.to_string(),
            column: conflict.column.clone(),
            found: conflict.found.sql(),
            wanted: conflict.wanted.sql(),
        }
        .into());
    }
    let (mut doubts, mut repetitions) = (0, 0);
    loop {
        let why = match walker.walk(&plan).await {
            Ok(End::Proven(last)) => match walker.weigh(&plan, repetitions).await? {
                Weighed::Ready(verdict) => return walker.conclude(&plan, last, verdict).await,
                Weighed::Again => {
                    info!("rows were not seen; reading everything again before they are deleted");
                    repetitions += 1;
                    plan = plan.from_the_start();
                    continue;
                }
            },
            Ok(End::Doubtful(why)) => why,
            // A stored token or link may have run out. The beginning never does.
            Err(Error::Fetch(error)) if walker.anchor.is_some() && !error.fault().retryable => {
                info!(%error, "the interrupted walk cannot be gone on with");
                plan = plan.from_the_start();
                continue;
            }
            Err(error) => {
                walker.save_what_is_read(&error).await;
                store.abandon_walk().await;
                return Err(error);
            }
        };
        doubts += 1;
        info!(
            round = doubts,
            why, "the walk did not prove itself complete"
        );
        walker.restart().await?;
        if doubts == WALKS {
            store.abandon_walk().await;
            return Err(Error::Unproven(why));
        }
        plan = plan.from_the_start();
    }
}

/// What a proven walk says about the rows that it did not see.
enum Weighed {
    /// Not enough: some of them may have moved while they were read.
    Again,
    Ready(Verdict),
}

/// What becomes of the rows that a walk did not see.
#[derive(Default)]
struct Verdict {
    /// The key by which they are found, when they go.
    sweep: Option<Vec<(Ident, Kind)>>,
    /// Why they stay.
    held: Option<Fault>,
}

/// How one walk ended.
enum End {
    Proven(Read),
    Doubtful(String),
}

/// What a walk has read so far, across the runs that it took.
#[derive(Debug, Clone, Default)]
struct Read {
    records: u64,
    cursor: Option<CursorValue>,
    cap: Option<DateTime<Utc>>,
}

struct Walker {
    store: Arc<Store>,
    gauge: Arc<Gauge>,
    halt: CancellationToken,
    /// The privacy rules, where there are any.
    screen: Option<Screen>,
    left_out: LeftOut,
    mapper: Mapper,
    /// The mapper's layout, shared by the rows encoded under it.
    layout: Arc<Layout>,
    /// Revision that the table is known to have.
    applied: u32,
    /// Whether rows are compared with the table before they are encoded. Not so while the table
    /// was empty at the start and no known key was met.
    probing: bool,
    has_rows: bool,
    /// Whether a record that loads may have been rejected before.
    has_rejects: bool,
    batch: Batch,
    in_flight: Option<InFlight>,
    read: Read,
    start_value: Option<String>,
    /// There while rows that the walk does not see are to go.
    snapshot: Option<Snapshot>,
    /// Different keys that were seen before the walk that is a repetition.
    seen_before: Option<u64>,
    /// Pages of the walk, those of a run that it goes on with counted too.
    pages: u64,
    /// What the first page of a resumed walk must be; taken when it was.
    anchor: Option<String>,
    /// Where to resume after the last page; `None`: nowhere but at the beginning.
    checkpoint: Option<Checkpoint>,
    tally: Tally,
}

struct InFlight {
    keys: KeySet,
    revision: Option<u32>,
    task: JoinHandle<Result<Committed, Error>>,
}

impl Walker {
    fn new(
        context: &Context,
        gauge: &Arc<Gauge>,
        opened: commit::Opened,
        screen: Option<Screen>,
        halt: CancellationToken,
    ) -> Self {
        let resource = &context.resource;
        let known = Layout {
            columns: opened.columns,
            children: opened.families,
            ..Layout::default()
        };
        let mapper = Mapper::new(map_spec(resource), known);
        let layout = Arc::new(mapper.layout().clone());
        let merging = opened.store.keyed && resource.write_disposition == WriteDisposition::Merge;
        Self {
            store: opened.store,
            gauge: Arc::clone(gauge),
            halt,
            screen,
            left_out: LeftOut::default(),
            applied: layout.revision,
            mapper,
            layout,
            probing: merging && opened.has_rows,
            has_rows: opened.has_rows,
            has_rejects: opened.has_rejects,
            batch: Batch::default(),
            in_flight: None,
            read: Read::default(),
            start_value: None,
            snapshot: None,
            seen_before: None,
            pages: 0,
            anchor: None,
            checkpoint: None,
            tally: Tally::default(),
        }
    }

    /// One walk, from the plan's position to the API's end signal.
    async fn walk(&mut self, plan: &Plan) -> Result<End, Error> {
        let context = self.store.context.clone();
        self.start_value.clone_from(&plan.start_value);
        self.tally = Tally::default();
        self.pages = plan
            .resume
            .as_ref()
            .map_or(0, |checkpoint| checkpoint.page + 1);
        self.snapshot = plan.is_snapshot.then(|| {
            let resumed = plan.resume.as_ref();
            resumed
                .and_then(|checkpoint| checkpoint.snapshot.clone())
                .unwrap_or_default()
        });
        self.anchor = plan
            .resume
            .as_ref()
            .map(|checkpoint| checkpoint.anchor.clone());
        self.checkpoint.clone_from(&plan.resume);
        self.read = plan
            .resume
            .as_ref()
            .map_or_else(Read::default, |checkpoint| Read {
                records: checkpoint.records,
                cursor: checkpoint.seen.as_ref().and_then(CursorValue::from_json),
                cap: checkpoint.cap,
            });
        let mut walk = context
            .api
            .walk(plan.walk(&context.resource), self.halt.clone());
        let result = self.pages(&mut walk).await;
        self.count(&walk);
        if result? == Pages::Moved {
            let why = "records before the place to resume at have moved";
            return Ok(End::Doubtful(why.to_owned()));
        }
        let Some(ending) = walk.ending() else {
            return Ok(End::Doubtful("the walk ended without a signal".to_owned()));
        };
        if self
            .snapshot
            .as_ref()
            .is_some_and(|snapshot| snapshot.is_mixed)
        {
            self.store.begin_generation();
            return Ok(End::Doubtful(
                "the type of the key changed on the way".to_owned(),
            ));
        }
        Ok(match (ending.proven, ending.doubt) {
            (Some(_), _) => End::Proven(self.read.clone()),
            (None, why) => End::Doubtful(why.unwrap_or_else(|| "no end signal".to_owned())),
        })
    }

    async fn pages(&mut self, walk: &mut Walk) -> Result<Pages, Error> {
        let bounds = self.store.context.resource.batch.clone();
        loop {
            let deadline = self.batch.deadline(&bounds);
            // `Walk::next` only waits on a channel, so it may be dropped when the batch's time is up.
            let page = tokio::select! {
                page = walk.next() => page,
                () = sleep_until(deadline) => {
                    self.count(walk);
                    self.hand_over(None).await?;
                    continue;
                }
            };
            if self.halt.is_cancelled() {
                return Err(Error::Halted);
            }
            let Some(page) = page? else {
                return Ok(Pages::Over);
            };
            if let Some(anchor) = self.anchor.take() {
                if anchor != self.anchor_of(&page) {
                    return Ok(Pages::Moved);
                }
                // Its rows were committed with the checkpoint.
                continue;
            }
            self.absorb(&page).await?;
            self.count(walk);
            let idle = || {
                let flight = self.in_flight.as_ref();
                flight.is_none_or(|flight| flight.task.is_finished())
            };
            let is_due = self.batch.is_full(&bounds) || (self.batch.is_worth_a_commit() && idle());
            if is_due && page.next.is_some() {
                self.hand_over(None).await?;
            }
        }
    }

    /// Turns one page into rows of the batch in hand.
    async fn absorb(&mut self, page: &Page) -> Result<(), Error> {
        self.gauge
            .set_phase(format!("loading page {}", page.number + 1));
        if self.read.cap.is_none() {
            // Without a clock of the API's, a day of leeway still keeps out dates of years to come.
            self.read.cap = Some(
                page.server_date
                    .unwrap_or_else(|| clock::now() + TimeDelta::days(1)),
            );
        }
        let screened = self.screen(page).await?;
        let (body, records): (&[u8], &[Range<u32>]) = match &screened {
            Some(page) => (&page.body, &page.records),
            None => (&page.body, &page.records),
        };
        let mut scan = match &screened {
            Some(screened) => self
                .mapper
                .scan_screened(screened, &page.body, self.read.cap),
            None => self.mapper.scan(body, records, self.read.cap),
        };
        if self.repeats_a_key(&scan) {
            self.hand_over(None).await?;
            if self.probing {
                self.settle().await?;
            }
        }
        let standings = self.standings(&scan).await?;
        failpoint::reach("shape.after_page");

        let stamp = Stamp {
            run_id: self.store.claim.run_id,
            synced_at: clock::now(),
        };
        let mut rejected: Vec<Reject> = std::mem::take(&mut scan.rejects);
        rejected.extend(screened.iter().flat_map(|page| page.rejects.clone()));
        // What the first look rejects has no usable key, so nobody can say which row is its.
        let nameless = rejected.len() as u64;
        for (way, wanted) in [
            (Way::Insert, Standing::New),
            (Way::Merge, Standing::Changed),
        ] {
            let keep: Vec<bool> = standings
                .iter()
                .map(|standing| *standing == wanted)
                .collect();
            if keep.contains(&true) {
                rejected.extend(self.encode(body, records, &scan, &keep, way, stamp).await?);
            }
        }

        self.sight(&scan, nameless);
        self.note_loaded(&scan, &rejected);
        let unchanged = standings
            .iter()
            .filter(|standing| **standing == Standing::Unchanged)
            .count();
        let delta = Counters {
            pages: 1,
            records_read: signed(page.records.len()),
            rows_unchanged: signed(unchanged),
            rows_rejected: signed(rejected.len()),
            cursor_future_rows: signed_u64(scan.cursor_future),
            ..Counters::default()
        };
        self.add(&delta);
        self.batch
            .rejects
            .extend(rejected.into_iter().map(new_reject));
        if self.store.keyed {
            self.batch.keys.extend(scan.rows.iter().map(|row| row.key));
        }
        self.batch.note_page(page.records.len());
        self.pages = page.number + 1;

        self.read.records += page.records.len() as u64;
        self.read.cursor = later(self.read.cursor.take(), scan.cursor.take());
        if page.total.is_some() {
            self.gauge.set_total(page.total);
        }
        self.note_checkpoint(page, &scan);
        Ok(())
    }

    /// Notes the keys of a page's good records, where one of them may have been bad before.
    fn note_loaded(&mut self, scan: &Scan, rejected: &[Reject]) {
        if self.has_rejects {
            let bad: std::collections::HashSet<usize> =
                rejected.iter().map(|reject| reject.record).collect();
            let good = scan.rows.iter().enumerate();
            let good = good.filter(|(_, row)| !bad.contains(&(row.record as usize)));
            self.batch
                .loaded
                .extend(good.filter_map(|(at, _)| scan.key_text(at)));
        }
        self.has_rejects |= !rejected.is_empty();
    }

    /// Remembers the keys of a page, once the table has the types that they need.
    fn sight(&mut self, scan: &Scan, nameless: u64) {
        let Some(snapshot) = &mut self.snapshot else {
            return;
        };
        if scan.rows.is_empty() {
            snapshot.nameless += nameless;
            return;
        }
        let keys = scan
            .probe(self.mapper.layout())
            .map(|probe| probe.key_arrays);
        snapshot.see(keys.as_deref(), nameless);
        self.batch.see(keys.unwrap_or_default());
    }

    /// Moves the place to resume at behind the page that was absorbed.
    fn note_checkpoint(&mut self, page: &Page, scan: &Scan) {
        if page.doubtful {
            // A walk that went on from here would not know of the doubt.
            self.checkpoint = None;
        } else if !scan.rows.is_empty() {
            self.checkpoint = Some(Checkpoint {
                at: page.at.clone(),
                page: page.number,
                anchor: anchor(scan),
                start_value: self.start_value.clone(),
                cap: self.read.cap,
                seen: self.read.cursor.as_ref().map(CursorValue::to_json),
                records: self.read.records,
                snapshot: self.snapshot.clone(),
                stored_at: clock::now(),
            });
        }
        self.batch.checkpoint.clone_from(&self.checkpoint);
    }

    fn anchor_of(&mut self, page: &Page) -> String {
        // Through the same rules as the page that the anchor was taken of.
        let screened = self
            .screen
            .as_mut()
            .map(|screen| screen.page(&page.body, &page.records));
        let scan = match &screened {
            Some(screened) => self
                .mapper
                .scan_screened(screened, &page.body, self.read.cap),
            None => self.mapper.scan(&page.body, &page.records, self.read.cap),
        };
        anchor(&scan)
    }

    /// Applies the privacy rules; `None`: there are none, and the page is taken as it came.
    async fn screen(&mut self, page: &Page) -> Result<Option<Screened>, Error> {
        let Some(screen) = &mut self.screen else {
            return Ok(None);
        };
        let screened = screen.page(&page.body, &page.records);
        self.left_out.count(&screened);
        privacy::tell_blocked(&self.store, &screen.take_blocked()).await?;
        Ok(Some(screened))
    }

    /// Whether a key of the page stands in rows that are not committed yet.
    fn repeats_a_key(&self, scan: &Scan) -> bool {
        let in_flight = self
            .in_flight
            .as_ref()
            .filter(|_| self.probing)
            .map(|flight| &flight.keys);
        self.store.keyed
            && scan.rows.iter().any(|row| {
                self.batch.keys.contains(&row.key)
                    || in_flight.is_some_and(|keys| keys.contains(&row.key))
            })
    }

    /// What the table has of the page's rows.
    async fn standings(&mut self, scan: &Scan) -> Result<Vec<Standing>, Error> {
        if !self.probing {
            return Ok(vec![Standing::New; scan.rows.len()]);
        }
        if self.layout.revision != self.applied {
            // The probe speaks in the layout's types; the table must have them first.
            self.hand_over(None).await?;
            self.settle().await?;
        }
        let Some(probe) = scan.probe(&self.layout) else {
            return Ok(vec![Standing::Changed; scan.rows.len()]);
        };
        let key = self.key();
        let context = &self.store.context;
        let mut patience = Patience::new(context, &self.gauge);
        loop {
            let probed = async {
                let mut connection = context
                    .pool
                    .acquire()
                    .await
                    .map_err(crate::load::Error::database("connecting"))?;
                let target = self.store.target().await;
                write::probe(&mut connection, target, &key, &probe, scan.rows.len()).await
            };
            match probed.await {
                Ok(standings) => return Ok(standings),
                Err(error) => patience.after(error.into()).await?,
            }
        }
    }

    /// Name and kind of the key's columns.
    fn key(&self) -> Vec<(Ident, Kind)> {
        let layout = self.mapper.layout();
        let columns = layout.key.iter().filter_map(|at| layout.columns.get(*at));
        columns
            .map(|column| (Ident::new(&column.name), column.kind))
            .collect()
    }

    async fn encode(
        &mut self,
        body: &[u8],
        records: &[Range<u32>],
        scan: &Scan,
        keep: &[bool],
        way: Way,
        stamp: Stamp,
    ) -> Result<Vec<Reject>, Error> {
        let mut encoded = self.mapper.encode(body, records, scan, keep, stamp);
        if encoded.revision != self.layout.revision {
            self.layout = Arc::new(self.mapper.layout().clone());
        }
        if self
            .batch
            .revision()
            .is_some_and(|revision| revision != encoded.revision)
        {
            // Rows of the older layout must be in before the table changes under them. The page in
            // hand is not whole yet, so the batch keeps the checkpoint of the page before it.
            let checkpoint = self.batch.checkpoint.clone();
            self.hand_over(None).await?;
            self.batch.checkpoint = checkpoint;
        }
        self.add(&Counters {
            text_replaced: signed_u64(encoded.replaced),
            ..Counters::default()
        });
        let rejects = std::mem::take(&mut encoded.rejects);
        self.batch.push(
            encoded,
            scan.row_keys(),
            &self.layout,
            self.store.keyed,
            way,
        );
        Ok(rejects)
    }

    /// Gives the batch in hand to a commit, after the one before it.
    async fn hand_over(&mut self, conclusion: Option<Conclusion>) -> Result<(), Error> {
        self.settle().await?;
        if self.batch.is_empty() && conclusion.is_none() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        let keys = if self.probing {
            batch.keys.clone()
        } else {
            KeySet::default()
        };
        let revision = batch.revision();
        let commit = Arc::clone(&self.store).commit(batch, conclusion);
        let task = self.store.context.tracker.spawn(commit.in_current_span());
        self.in_flight = Some(InFlight {
            keys,
            revision,
            task,
        });
        Ok(())
    }

    /// Waits for the commit in flight.
    async fn settle(&mut self) -> Result<Option<Ending>, Error> {
        let Some(flight) = self.in_flight.take() else {
            return Ok(None);
        };
        let committed = flight.task.await.map_err(|_| Error::Crashed)??;
        if let Some(revision) = flight.revision {
            self.applied = revision;
        }
        if committed.met_known_keys
            && self.store.context.resource.write_disposition == WriteDisposition::Merge
        {
            self.probing = true;
        }
        Ok(committed.ending)
    }

    /// Commits what is in hand and gets ready for the walk's repetition.
    async fn restart(&mut self) -> Result<(), Error> {
        self.batch.checkpoint = None;
        if self.store.context.resource.write_disposition == WriteDisposition::Append {
            // The repetition appends all of it once more.
            self.settle().await?;
            self.batch.take_back();
        }
        self.hand_over(None).await?;
        self.settle().await?;
        if self.store.context.resource.write_disposition == WriteDisposition::Merge
            && self.store.keyed
        {
            self.probing = self.probing || self.read.records > 0;
        }
        self.store.restart_walk().await;
        Ok(())
    }

    /// Keeps the rows that were read before an error, with the place to resume at.
    async fn save_what_is_read(&mut self, error: &Error) {
        if matches!(
            error,
            Error::Lost | Error::Load(_) | Error::Record(_) | Error::Crashed
        ) {
            // The commit itself is in trouble. What is in flight must still end before the run does.
            self.settle().await.ok();
            return;
        }
        let saved = async {
            self.hand_over(None).await?;
            self.settle().await
        };
        if let Err(error) = saved.await {
            debug!(%error, "the rows in hand could not be saved; the next run reads them again");
        }
    }

    /// Decides about the rows that a proven walk did not see.
    async fn weigh(&mut self, plan: &Plan, repetitions: u32) -> Result<Weighed, Error> {
        let nothing = || Ok(Weighed::Ready(Verdict::default()));
        let Some(nameless) = self.snapshot.as_ref().map(|snapshot| snapshot.nameless) else {
            return nothing();
        };
        self.hand_over(None).await?;
        self.settle().await?;
        let key = self.key();
        if key.is_empty() {
            return nothing();
        }
        let mut patience = Patience::new(&self.store.context, &self.gauge);
        let census = loop {
            match self.store.census(&key).await {
                Ok(census) => break census,
                Err(error) => patience.after(error).await?,
            }
        };
        let Some(census) = census else {
            return nothing();
        };
        let resource = &self.store.context.resource;
        let judged = deletes::judge(&resource.deletes, &census, nameless, plan.allow_deletes);
        let held = |held: Held| {
            Ok(Weighed::Ready(Verdict {
                sweep: None,
                held: Some(held.fault(&census, &self.store.claim)),
            }))
        };
        if census.unseen == 0 {
            return nothing();
        }
        if let Err(why) = judged {
            return held(why);
        }
        let is_settled = self.pages <= 1 || self.seen_before == Some(census.seen);
        let is_last = repetitions == deletes::MOST_REPETITIONS;
        if is_settled || (is_last && plan.allow_deletes) {
            return Ok(Weighed::Ready(Verdict {
                sweep: Some(key),
                held: None,
            }));
        }
        if is_last {
            return held(Held::Restless);
        }
        self.seen_before = Some(census.seen);
        Ok(Weighed::Again)
    }

    /// The last batch, the cursor and the run's end, in one transaction.
    async fn conclude(
        mut self,
        plan: &Plan,
        read: Read,
        verdict: Verdict,
    ) -> Result<Ending, Error> {
        let resource = Arc::clone(&self.store.context.resource);
        if resource.write_disposition == WriteDisposition::Replace
            && read.records == 0
            && self.has_rows
            && !resource.allow_empty
        {
            return Err(Error::Empty);
        }
        self.left_out.tell(&self.store).await?;
        // Before the transaction, so that the run's rejects are all counted by then.
        self.settle().await?;
        let conclusion = Conclusion {
            cursor: resource
                .endpoint
                .incremental
                .as_ref()
                .and_then(|_| later(plan.cursor.clone(), read.cursor)),
            cursor_from: plan.cursor.as_ref().map(|cursor| cursor.raw.clone()),
            watermark_at: read.cap,
            sweep: verdict.sweep,
            held: verdict.held,
            read_everything: plan.reads_everything,
        };
        self.hand_over(Some(conclusion)).await?;
        match self.settle().await? {
            Some(ending) => Ok(ending),
            None => Err(Error::Crashed),
        }
    }

    fn add(&mut self, delta: &Counters) {
        self.batch.counters += *delta;
        self.gauge.add(delta);
    }

    /// Adds what the walk has done on the wire since it was last asked.
    fn count(&mut self, walk: &Walk) {
        let now = walk.tally();
        let before = std::mem::replace(&mut self.tally, now);
        let delta = Counters {
            http_requests: signed_u64(now.requests - before.requests),
            http_retries: signed_u64(now.retries - before.retries),
            http_429: signed_u64(now.http_429 - before.http_429),
            bytes_in: signed_u64(now.bytes_in - before.bytes_in),
            wait_rate_ms: signed_u64(now.wait_rate_ms - before.wait_rate_ms),
            wait_retry_ms: signed_u64(now.wait_retry_ms - before.wait_retry_ms),
            fetch_ms: signed_u64(now.fetch_ms - before.fetch_ms),
            ..Counters::default()
        };
        self.add(&delta);
    }
}

/// How the pages of a walk came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pages {
    Over,
    /// The page to resume at is not what it was.
    Moved,
}

/// Tells whether a page still shows the same records in the same order.
fn anchor(scan: &Scan) -> String {
    let keys: Vec<[u8; 16]> = scan.rows.iter().map(|row| row.key.to_be_bytes()).collect();
    format!("{:032x}", xxh3_128(keys.as_flattened()))
}

/// How a resource's records become rows.
pub(super) fn map_spec(resource: &Resource) -> MapSpec {
    MapSpec {
        primary_key: resource.primary_key.clone(),
        cursor_path: resource
            .endpoint
            .incremental
            .as_ref()
            .map(|i| i.cursor_path.clone()),
        max_table_nesting: resource.max_table_nesting,
        table: identifier(&resource.table),
        numbered: resource.write_disposition == WriteDisposition::Append,
        mapping_version: mapping_version(resource),
        columns: resource.columns.clone(),
        null_values: resource.null_values.clone(),
        detect: resource.detect,
        nul: resource.nul,
    }
}

/// A hash of everything that decides what a record's values become.
///
/// The row hash is of the record after the privacy rules, so what is excluded leaves no trace in it.
fn mapping_version(resource: &Resource) -> u64 {
    let meaning = format!(
        "{MAPPING_VERSION} {:?} {:?} {:?} {:?} {:?} {}",
        resource.max_table_nesting,
        resource.columns,
        resource.null_values,
        resource.detect,
        resource.nul,
        resource.privacy.fingerprint()
    );
    xxh3_64(meaning.as_bytes())
}

fn later(a: Option<CursorValue>, b: Option<CursorValue>) -> Option<CursorValue> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}

fn new_reject(reject: Reject) -> NewReject {
    NewReject {
        key: reject.key,
        stage: "shape",
        column: reject.path,
        reason: reject.reason.to_owned(),
        sqlstate: None,
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn signed_u64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
