//! The walk of one run: pages in, batches out, until the API says that it is over.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Context, Error, Gauge,
    commit::{self, Conclusion, Store},
    cursor::{self, Moves},
    deletes::{self, Held, Snapshot},
    fanout::{Event, Over},
    feed,
    hashes::TableHashes,
    intake::Intake,
    outbox::Outbox,
    page::{self, InHand},
    patience::patiently,
    plan::{Checkpoint, Plan, Start},
    privacy,
    span::Piece,
    stream::Stream,
    trail::Trail,
    waiting::Waiting,
};
use crate::{
    clock,
    config::{
        Resource,
        contract::Contract,
        endpoint::{DottedPath, Endpoint},
        incremental::{Incremental, Watermark},
        source::{KeyHash, WriteDisposition},
    },
    failpoint,
    fault::Fault,
    fetch::{Course, Doubt, Tally},
    load::{
        deletes::Census,
        sql::{Ident, TableName},
    },
    record::{Claim, Counters, Ending, Mode},
    shape::{Bounds, CursorRule, CursorValue, Kind, Layout, MapSpec, Mapper, identifier},
};

/// How often a walk that did not prove itself is repeated within one run.
const WALKS: u32 = 3;

/// How far our own clock may be off where the API's is not known.
pub(super) const LEEWAY: TimeDelta = TimeDelta::days(1);

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
    let opened_at = opened.cursor.clone();
    let mut plan = Plan::new(&context.resource, opened_at.as_ref(), start, claim.mode)?;
    if opened.has_cursors_of_units {
        plan = plan.with_cursors_of_units();
    }
    if context.resource.gathers() {
        // Its rows gather in a table that no other run can trust.
        plan = plan.from_the_start();
    }
    let screen = privacy::prepare(&opened).await?;
    failpoint::reach("run.before_first_request");

    let store = Arc::clone(&opened.store);
    if plan.resume.is_none() {
        store.begin_generation();
    }
    let flaw = Box::pin(feed::apply(context, &store, gauge, &plan, halt.clone())).await?;
    let intake = Intake::new(&context.resource, screen, &context.binary);
    let mut walker = Walker::new(context, gauge, opened, intake, halt);
    walker.stored.clone_from(&plan.stored);
    walker.feed_flaw = flaw;
    if let Some(conflict) = walker.mapper.conflict() {
        return Err(crate::load::Error::HintedType {
            table: TableName::new(store.table.schema.name(), &conflict.table).to_string(),
            column: conflict.column.clone(),
            found: conflict.found.sql(),
            wanted: conflict.wanted.sql(),
        }
        .into());
    }
    if plan.resume.is_none() && store.has_predecessors() {
        info!("the interrupted run is not gone on with; what it appended is taken back");
        walker.restart().await?;
    }
    let (mut doubts, mut repetitions, mut restarts, mut resynced) = (0, 0, 0, false);
    loop {
        let why = match walker.walk(&plan).await {
            Ok(End::Proven(last)) => {
                if let Some(next) = walker.piece_after(&plan) {
                    walker.close_piece(&plan).await?;
                    (plan, doubts) = (next, 0);
                    continue;
                }
                match walker.weigh(&plan, repetitions).await? {
                    Weighed::Ready(verdict) => {
                        // On the heap, for its size.
                        return Box::pin(walker.conclude(&plan, last, verdict)).await;
                    }
                    Weighed::Again => {
                        info!(
                            "rows were not seen; reading everything again before they are deleted"
                        );
                        repetitions += 1;
                        plan = walker.begin_again(&plan);
                        continue;
                    }
                }
            }
            Ok(End::Doubtful(why)) => why,
            // A stored token or link may have run out. The beginning never does.
            Err(Error::Fetch(error)) if error.course() == Course::Restart && restarts < WALKS => {
                restarts += 1;
                info!(%error, "the walk begins anew");
                walker.restart().await?;
                plan = walker.begin_again(&plan);
                continue;
            }
            Err(Error::Fetch(error)) if error.course() == Course::Resync && !resynced => {
                resynced = true;
                info!(%error, "the stored cursor is void; everything is read");
                walker.restart().await?;
                walker.begin_again(&plan);
                plan = Plan::new(
                    &context.resource,
                    opened_at.as_ref(),
                    Start::Anew,
                    Mode::Full,
                )?;
                store.begin_generation();
                continue;
            }
            Err(Error::Fetch(error)) if walker.anchor.is_some() && !error.fault().retryable => {
                info!(%error, "the interrupted walk cannot be gone on with");
                walker.restart().await?;
                plan = walker.begin_again(&plan);
                continue;
            }
            Err(error) => {
                let is_final = match &error {
                    Error::Fetch(error) => error.course() == Course::End,
                    error => matches!(error, Error::Children(_) | Error::Unproven(_)),
                };
                if is_final {
                    walker.forget_place();
                }
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
            return Err(Error::Unproven(Doubt::Drift(why)));
        }
        // What a repetition takes back, it must read again: under `append` that is all of the run.
        let appends = context.resource.write_disposition == WriteDisposition::Append;
        plan = match appends || plan.resume.is_some() {
            true => walker.begin_again(&plan),
            false => plan.from_its_start(),
        };
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
    Proven(Option<String>),
    Doubtful(String),
}

/// What a walk has read so far, across the runs that it took.
#[derive(Debug, Clone, Default)]
pub(super) struct Read {
    pub(super) records: u64,
    /// Records that became rows.
    pub(super) rows: u64,
    pub(super) rejects: u64,
    pub(super) cursor: Option<CursorValue>,
    /// Time of the API's clock when it began, or a leeway past our own.
    pub(super) cap: Option<DateTime<Utc>>,
    pub(super) has_clock: bool,
    /// Whether a record had a cursor value.
    pub(super) has_values: bool,
    /// Whether the records are not in the order that was promised.
    pub(super) is_unsorted: bool,
}

/// What goes on from one piece of a run's span to the next.
#[derive(Debug, Clone, Default)]
struct Carried {
    read: Read,
    checkpoint: Option<Checkpoint>,
    snapshot: Option<Snapshot>,
    pieces: u64,
}

/// A run's walk: where it is and what it has seen. What becomes of a page is in `page.rs`.
pub(super) struct Walker {
    pub(super) store: Arc<Store>,
    pub(super) gauge: Arc<Gauge>,
    pub(super) halt: CancellationToken,
    pub(super) intake: Intake,
    pub(super) mapper: Mapper,
    pub(super) contract: Contract,
    /// The mapper's layout, shared by the rows encoded under it.
    pub(super) layout: Arc<Layout>,
    pub(super) outbox: Outbox,
    pub(super) hashes: TableHashes,
    /// The page that is not in the batch yet.
    pub(super) in_hand: Option<InHand>,
    /// Whether a page may be looked at before the one before it is in the batch.
    pub(super) overlaps: bool,
    has_rows: bool,
    /// Whether a record that loads may have been rejected before.
    pub(super) has_rejects: bool,
    pub(super) read: Read,
    /// What the walk asks for.
    pub(super) piece: Piece,
    /// The cursor as it is stored, and as commits under way will store it.
    pub(super) stored: Option<CursorValue>,
    /// Last cursor value of the page before, where an order was promised.
    pub(super) before: Option<CursorValue>,
    pub(super) moves: Moves,
    pub(super) waiting: Waiting,
    carried: Carried,
    /// Why what was listed as deleted is not, where that is so.
    feed_flaw: Option<Fault>,
    /// Why a parent's own cursor did not move, where that is so.
    pub(super) unit_flaw: Option<Fault>,
    /// There while rows that the walk does not see are to go.
    pub(super) snapshot: Option<Snapshot>,
    /// Different keys that were seen before the walk that is a repetition.
    seen_before: Option<u64>,
    /// Pages of the walk, those of a run that it goes on with counted too.
    pub(super) pages: u64,
    /// What the first page of a resumed walk must be; taken when it was.
    anchor: Option<String>,
    /// Where to resume after the last page; `None`: nowhere but at the beginning.
    pub(super) checkpoint: Option<Checkpoint>,
    tally: Tally,
    /// Where the page in hand is among the parents.
    pub(super) trail: Option<Box<Trail>>,
}

impl Read {
    /// The API's time when the walk began, as far as a cursor may rely on it.
    fn begun(&self, incremental: &Incremental, like: Option<CursorValue>) -> Option<DateTime<Utc>> {
        let cap = self.cap.filter(|_| self.has_clock)?;
        let like = like.or_else(|| CursorValue::at(cap, &incremental.notation))?;
        Some(cap - like.clock_margin(&incremental.notation))
    }

    /// The end of a proven piece, where nothing can be added before it any more.
    fn proven_end(&self, incremental: &Incremental, end: CursorValue) -> Option<CursorValue> {
        let margin = end.clock_margin(&incremental.notation);
        // Without the API's clock the cap is ahead of ours; as much behind is as safe.
        let doubt = match self.has_clock {
            true => TimeDelta::zero(),
            false => LEEWAY * 2,
        };
        let instant = end.instant()?;
        (instant <= self.cap? - margin - doubt).then_some(end)
    }
}

impl Walker {
    fn new(
        context: &Context,
        gauge: &Arc<Gauge>,
        opened: commit::Opened,
        intake: Intake,
        halt: CancellationToken,
    ) -> Self {
        let resource = &context.resource;
        let known = Layout {
            columns: opened.columns,
            children: opened.families,
            ..Layout::default()
        };
        let contract = opened.contract;
        let spec = MapSpec {
            contract,
            ..map_spec(resource)
        };
        let mapper = Mapper::new(spec, known);
        let layout = Arc::new(mapper.layout().clone());
        let is_probing = opened.store.is_merging() && opened.has_rows;
        // What follows a page of a promised order depends on it, and so does what a parent's last page closes.
        let incremental = resource.endpoint.incremental.as_ref();
        let overlaps =
            resource.parent.is_none() && incremental.is_none_or(|i| i.row_order.is_none());
        let outbox = Outbox::new(&opened.store, gauge, layout.revision, is_probing);
        Self {
            store: opened.store,
            gauge: Arc::clone(gauge),
            halt,
            intake,
            mapper,
            contract,
            layout,
            outbox,
            hashes: TableHashes::new(resource, opened.blocks),
            in_hand: None,
            overlaps,
            has_rows: opened.has_rows,
            has_rejects: opened.has_rejects,
            read: Read::default(),
            piece: Piece::default(),
            stored: None,
            before: None,
            moves: Moves::of(resource),
            waiting: Waiting::new(&opened.superseded),
            carried: Carried::default(),
            feed_flaw: None,
            unit_flaw: None,
            snapshot: None,
            seen_before: None,
            pages: 0,
            anchor: None,
            checkpoint: None,
            tally: Tally::default(),
            trail: None,
        }
    }

    /// Whether the resource is walked for each record of a parent.
    pub(super) fn is_fanout(&self) -> bool {
        self.store.context.resource.parent.is_some()
    }

    /// One walk, from the plan's position to the API's end signal.
    async fn walk(&mut self, plan: &Plan) -> Result<End, Error> {
        let resource = Arc::clone(&self.store.context.resource);
        let incremental = resource.endpoint.incremental.as_ref();
        self.piece.clone_from(&plan.piece);
        // The piece is one of the parents' walk.
        self.mapper.bound(match self.is_fanout() {
            true => Bounds::default(),
            false => plan.bounds(&resource),
        });
        self.before = None;
        self.moves.begin();
        self.tally = Tally::default();
        self.pages = plan
            .resume
            .as_ref()
            .map_or(0, |checkpoint| checkpoint.page + 1);
        // Behind a parent whose records are all there no page is met again.
        self.anchor = plan
            .resume
            .as_ref()
            .map(|checkpoint| checkpoint.anchor.clone())
            .filter(|anchor| !anchor.is_empty());
        if let Some(checkpoint) = &plan.resume {
            let seen = checkpoint.seen.as_ref().zip(incremental);
            let seen = seen.and_then(|(seen, i)| CursorValue::from_json(seen, &i.notation));
            self.carried = Carried {
                read: Read {
                    records: checkpoint.records,
                    has_values: seen.is_some(),
                    cursor: seen,
                    cap: checkpoint.cap,
                    has_clock: checkpoint.has_clock,
                    is_unsorted: checkpoint.is_unsorted,
                    // Only walks that gather ask for rows, and those are never gone on with.
                    rows: 0,
                    rejects: 0,
                },
                checkpoint: Some(checkpoint.clone()),
                snapshot: checkpoint.snapshot.clone(),
                ..Carried::default()
            };
        }
        let carried = self.carried.clone();
        (self.read, self.checkpoint) = (carried.read, carried.checkpoint);
        self.snapshot = plan
            .is_snapshot
            .then(|| carried.snapshot.unwrap_or_default());
        let mut stream = Stream::start(&self.store, plan, self.halt.clone());
        let result = self.pages(&mut stream, plan).await;
        // What was read counts, whatever ended the reading.
        let mut loaded = self.load_in_hand().await;
        if loaded.is_ok() && matches!(result, Ok(Pages::Over | Pages::Left)) {
            loaded = self.load_waiting().await;
        }
        self.count(&stream);
        let moved = self.moves.doubt().filter(|_| !self.is_fanout());
        match result {
            Ok(Pages::Over | Pages::Left) if let Some(why) = moved => {
                return Ok(End::Doubtful(why));
            }
            Ok(Pages::Over) => {}
            Ok(Pages::Left) => return loaded.map(|()| End::Proven(None)),
            Ok(Pages::Moved) | Err(Error::Moved) => {
                return Ok(End::Doubtful(Error::Moved.to_string()));
            }
            Err(error) => return Err(error),
        }
        loaded?;
        let end = stream.end();
        if let Some(parents) = end.parents {
            parents.report.tell(&self.store).await?;
            if let Some(fault) = parents.report.fault() {
                return Err(Error::Children(fault));
            }
            // What the run says of its cursor, it says of the parents' walk.
            self.read.cursor = parents.cursor;
            self.read.has_values = true;
            if let Some((cap, has_clock)) = parents.clock {
                (self.read.cap, self.read.has_clock) = (Some(cap), has_clock);
            }
        }
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
        Ok(match end.doubt {
            None => End::Proven(end.token),
            Some(Doubt::Drift(why)) => End::Doubtful(why),
            // Another walk would end there as well.
            Some(why @ Doubt::Maximum(_)) => return Err(Error::Unproven(why)),
        })
    }

    async fn pages(&mut self, stream: &mut Stream, plan: &Plan) -> Result<Pages, Error> {
        let bounds = self.store.context.resource.batch.clone();
        loop {
            let deadline = self.outbox.deadline(&bounds);
            // `next` only waits on a channel, so it may be dropped when something else comes first.
            let event = tokio::select! {
                event = stream.next() => event,
                () = page::answered(&mut self.in_hand) => {
                    self.load_in_hand().await?;
                    self.hand_over_if_due().await?;
                    continue;
                }
                () = sleep_until(deadline) => {
                    self.count(stream);
                    self.outbox.hand_over(None).await?;
                    continue;
                }
            };
            if self.halt.is_cancelled() {
                return Err(Error::Halted);
            }
            let sheet = match event? {
                Some(Event::Page(sheet)) => sheet,
                Some(Event::Over(over)) => {
                    if over.partition.is_some() {
                        // Its cursor moves past them.
                        self.load_waiting().await?;
                    }
                    self.close_unit(over);
                    self.count(stream);
                    self.hand_over_if_due().await?;
                    continue;
                }
                None => return Ok(Pages::Over),
            };
            let page = sheet.page;
            if let Some(bounds) = &sheet.bounds {
                self.mapper.bound((**bounds).clone());
            }
            if let Some(anchor) = self.anchor.take() {
                if anchor != self.anchor_of(&page).await? {
                    return Ok(Pages::Moved);
                }
                // Its rows were committed with the checkpoint.
                continue;
            }
            if sheet.is_first {
                self.read.cursor = None;
                self.read.cap = None;
                self.before = None;
                self.moves.begin();
            }
            self.trail = sheet.trail;
            let (has_next, is_part, doubtful) = (page.next.is_some(), page.is_part, page.doubtful);
            self.absorb(page).await?;
            self.count(stream);
            let is_fanout = self.is_fanout();
            if has_next && !doubtful && !is_fanout && self.leaves_span(plan) {
                return Ok(Pages::Left);
            }
            // The last batch goes with the run's end; which it is, is not known among parents.
            if has_next || is_part || is_fanout {
                self.hand_over_if_due().await?;
            }
        }
    }

    /// The next piece of the run's span, now that this one is proven.
    fn piece_after(&self, plan: &Plan) -> Option<Plan> {
        let now = match (self.read.has_clock, self.read.cap) {
            (true, Some(cap)) => cap,
            _ => clock::now(),
        };
        plan.next(now)
    }

    /// Hands on the rows of a proven piece, and the cursor's move with them.
    async fn close_piece(&mut self, plan: &Plan) -> Result<(), Error> {
        let batch = &mut self.outbox.batch;
        let ends = plan
            .endpoint
            .incremental
            .as_ref()
            .zip(plan.piece.end.clone());
        let cursor = ends
            .filter(|_| plan.moves_in_pieces(&self.store.context.resource))
            .and_then(|(incremental, end)| self.read.proven_end(incremental, end))
            .filter(|end| self.stored.as_ref().is_none_or(|stored| end > stored));
        if let Some(cursor) = cursor {
            if let Some(checkpoint) = &mut self.checkpoint {
                checkpoint.cursor = Some(cursor.to_json());
            }
            batch.cursor = Some(cursor.clone());
            self.stored = Some(cursor);
        }
        batch.checkpoint.clone_from(&self.checkpoint);
        batch.note_page(0);
        self.outbox.hand_over(None).await?;
        self.carried = Carried {
            read: self.read.clone(),
            checkpoint: self.checkpoint.clone(),
            snapshot: self.snapshot.clone(),
            pieces: self.carried.pieces + 1,
        };
        Ok(())
    }

    /// The run's first piece, as if nothing had been read.
    fn begin_again(&mut self, plan: &Plan) -> Plan {
        self.carried = Carried::default();
        plan.from_the_start()
    }

    /// The further one of two cursors.
    pub(super) fn further(
        &self,
        a: Option<CursorValue>,
        b: Option<CursorValue>,
    ) -> Option<CursorValue> {
        further(&self.store.context.resource.endpoint, a, b)
    }

    /// Commits what is in hand and gets ready for the walk's repetition.
    async fn restart(&mut self) -> Result<(), Error> {
        self.waiting.begin_again();
        let outbox = &mut self.outbox;
        outbox.batch.checkpoint = None;
        if self.store.context.resource.write_disposition == WriteDisposition::Append {
            // What comes now appends all of it once more.
            outbox.settle().await?;
            outbox.batch.take_back();
        }
        outbox.flush().await?;
        outbox.is_probing |= self.store.is_merging() && self.read.records > 0;
        self.store.restart_walk().await;
        Ok(())
    }

    /// Lets the next run begin at the beginning: going on would only meet the same answer again.
    fn forget_place(&mut self) {
        self.checkpoint = None;
        self.waiting.forget_place();
        self.outbox.batch.checkpoint = None;
        self.outbox.batch.note_page(0);
    }

    /// Keeps the rows that were read before an error, with the place to resume at.
    async fn save_what_is_read(&mut self, error: &Error) {
        if matches!(
            error,
            Error::Lost | Error::Load(_) | Error::Record(_) | Error::Crashed
        ) {
            // The commit itself is in trouble. What is in flight must still end before the run does.
            self.outbox.settle().await.ok();
            return;
        }
        let loaded = self.load_waiting().await;
        if let Err(error) = loaded.and(self.outbox.flush().await.map(drop)) {
            debug!(%error, "the rows in hand could not be saved; the next run reads them again");
        }
    }

    /// Name and kind of the key's columns.
    pub(super) fn key(&self) -> Vec<(Ident, Kind)> {
        let layout = self.mapper.layout();
        let columns = layout.key.iter().filter_map(|at| layout.columns.get(*at));
        columns
            .map(|column| (Ident::new(&column.name), column.kind))
            .collect()
    }

    /// Decides about the rows that a proven walk did not see.
    async fn weigh(&mut self, plan: &Plan, repetitions: u32) -> Result<Weighed, Error> {
        let nothing = || Ok(Weighed::Ready(Verdict::default()));
        let Some(nameless) = self.snapshot.as_ref().map(|snapshot| snapshot.nameless) else {
            return nothing();
        };
        self.outbox.flush().await?;
        let key = self.key();
        if key.is_empty() {
            return nothing();
        }
        let ask = || self.store.census(&key);
        let Some(census) = patiently(&self.store.context, &self.gauge, ask).await? else {
            return nothing();
        };
        let resource = &self.store.context.resource;
        let mut judged = deletes::judge(&resource.deletes, &census, nameless, plan.allow_deletes);
        if let (Some(history), Err(Held::TooMany { .. } | Held::Empty)) =
            (&resource.history, &judged)
        {
            // Versions of records that are told by all they hold: each new one ends an old one.
            let added = u64::try_from(self.gauge.counters().rows_inserted).unwrap_or_default();
            let net = Census {
                unseen: census.unseen.saturating_sub(added),
                ..census
            };
            let is_whole = resource.key_hash == Some(KeyHash::Whole);
            if !history.within.is_empty() {
                // Sets that were seen are whole, however few of their rows are left.
                judged = Ok(());
            } else if is_whole {
                judged = deletes::judge(&resource.deletes, &net, nameless, plan.allow_deletes);
            }
        }
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
        let is_one_answer = self.pages <= 1 && self.carried.pieces == 0;
        let is_settled = is_one_answer || self.seen_before == Some(census.seen);
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
        token: Option<String>,
        verdict: Verdict,
    ) -> Result<Ending, Error> {
        let resource = Arc::clone(&self.store.context.resource);
        let read = self.read.clone();
        if let Some(error) = self.cannot_replace(&resource) {
            // With the rejects, which say why.
            self.save_what_is_read(&error).await;
            self.store.abandon_walk().await;
            return Err(error);
        }
        self.intake.left_out().tell(&self.store).await?;
        self.tell_regression(plan).await?;
        let (cursor, flaw) = match resource.watched() {
            Some(incremental) => self.watermark(incremental, plan, token),
            None => (None, None),
        };
        // Before the transaction, so that the run's rejects are all counted by then.
        self.outbox.settle().await?;
        let conclusion = Conclusion {
            cursor,
            cursor_from: plan.cursor.as_ref().map(|cursor| cursor.raw.clone()),
            watermark_at: read.cap,
            sweep: verdict.sweep,
            held: (verdict.held.or(flaw))
                .or(self.unit_flaw.take())
                .or(self.feed_flaw.take()),
            read_everything: plan.reads_everything,
        };
        self.outbox.hand_over(Some(conclusion)).await?;
        match self.outbox.settle().await? {
            Some(ending) => Ok(ending),
            None => Err(Error::Crashed),
        }
    }

    /// Why the rows that are there must not give way to those that the walk gathered.
    fn cannot_replace(&self, resource: &Resource) -> Option<Error> {
        let Read { rows, rejects, .. } = self.read;
        if resource.write_disposition == WriteDisposition::Replace {
            // Records that were all rejected say nothing of the rows that are there.
            let may_empty = resource.allow_empty && rejects == 0;
            return (rows == 0 && self.has_rows && !may_empty).then_some(Error::Empty);
        }
        let has_nameless_sets = !resource.replace_by.is_empty() && resource.primary_key.is_empty();
        (has_nameless_sets && rejects > 0).then_some(Error::SetsNotWhole)
    }

    /// The cursor that is the time when the walk began; never before the one that is `stored`.
    fn run_start(
        &self,
        incremental: &Incremental,
        like: Option<CursorValue>,
        stored: Option<CursorValue>,
    ) -> (Option<CursorValue>, Option<Fault>) {
        match self.read.begun(incremental, like) {
            Some(begun) => match CursorValue::at(begun, &incremental.notation) {
                Some(begun) if stored.as_ref().is_some_and(|stored| *stored > begun) => {
                    (stored, None)
                }
                begun => (begun, None),
            },
            None => (None, Some(cursor::no_clock())),
        }
    }

    /// Where a unit's cursor is after its proven walks, and what is wrong with it.
    pub(super) fn watermark_of(
        &self,
        over: &Over,
        seen: Option<CursorValue>,
    ) -> (Option<CursorValue>, Option<Fault>) {
        let resource = &self.store.context.resource;
        let Some(incremental) = &resource.endpoint.incremental else {
            return (None, None);
        };
        let stored = over.cursor.clone();
        match incremental.watermark {
            // The parent is gone, or there was no answer at all.
            _ if !over.has_pages => (stored, None),
            _ if let Some(why) = self.moves.doubt() => {
                (stored, Some(Error::Unproven(Doubt::Drift(why)).fault()))
            }
            Watermark::Token => match &over.token {
                Some(token) => (Some(CursorValue::token(token)), None),
                None => (None, Some(cursor::no_token())),
            },
            Watermark::RunStart => self.run_start(incremental, over.start.clone(), stored),
            Watermark::Max => {
                let start = over.start.clone().filter(|_| over.has_pieces);
                let proven = start.and_then(|start| self.read.proven_end(incremental, start));
                (self.further(self.further(stored, proven), seen), None)
            }
        }
    }

    /// Where the cursor is after a proven run, and what is wrong with it.
    fn watermark(
        &self,
        incremental: &Incremental,
        plan: &Plan,
        token: Option<String>,
    ) -> (Option<CursorValue>, Option<Fault>) {
        let stored = plan.stored.clone();
        if incremental.end_value.is_some() {
            return (None, None);
        }
        match incremental.watermark {
            Watermark::Token => match token {
                Some(token) => (Some(CursorValue::token(&token)), None),
                None => (None, Some(cursor::no_token())),
            },
            Watermark::RunStart => self.run_start(incremental, plan.piece.start.clone(), stored),
            Watermark::Max => {
                let flaw = (self.read.records > 0 && !self.read.has_values)
                    .then(|| cursor::unreadable(incremental, self.read.records));
                let seen = further(
                    &plan.endpoint,
                    self.stored.clone(),
                    self.read.cursor.clone(),
                );
                (further(&plan.endpoint, stored, seen), flaw)
            }
        }
    }

    /// Adds what the walk has done on the wire since it was last asked.
    fn count(&mut self, stream: &Stream) {
        let now = stream.tally();
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
        self.outbox.add(&delta);
    }
}

/// The further one of two cursors of an endpoint.
pub(super) fn further(
    endpoint: &Endpoint,
    a: Option<CursorValue>,
    b: Option<CursorValue>,
) -> Option<CursorValue> {
    let incremental = endpoint.incremental.as_ref();
    let toward = incremental.map(|i| i.toward).unwrap_or_default();
    match (a, b) {
        (Some(a), Some(b)) if b.is_beyond(&a, toward) => Some(b),
        (a, b) => a.or(b),
    }
}

/// How the pages of a walk came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pages {
    Over,
    /// By the order of the records, nothing that follows is of interest.
    Left,
    /// The page to resume at is not what it was.
    Moved,
}

/// How a resource's records become rows.
pub(super) fn map_spec(resource: &Resource) -> MapSpec {
    let history = resource.history.as_ref();
    MapSpec {
        primary_key: resource.primary_key.clone(),
        cursor_path: resource
            .endpoint
            .incremental
            .as_ref()
            .and_then(|i| i.cursor_path.clone()),
        cursor: cursor_rule(resource),
        version: resource.version.clone(),
        flag: resource.deletes.flag.clone(),
        required: required(resource),
        reserved: match history {
            Some(history) => vec![
                identifier(&history.valid_from),
                identifier(&history.valid_to),
            ],
            None => Vec::new(),
        },
        partial: resource.partial_records,
        row_version: history.and_then(|history| history.row_version.clone()),
        max_table_nesting: resource.max_table_nesting,
        table: identifier(&resource.table),
        // Versions of a row have each their own lists.
        numbered: resource.write_disposition == WriteDisposition::Append || history.is_some(),
        mapping_version: mapping_version(resource),
        columns: resource.columns.clone(),
        nested_hints: resource.nested_hints.clone(),
        null_values: resource.null_values.clone(),
        detect: resource.detect,
        nul: resource.nul,
        contract: Contract::default(),
    }
}

/// Fields without which a record's place among the others is not known.
fn required(resource: &Resource) -> Vec<DottedPath> {
    let history = resource.history.iter();
    let of_history = history.flat_map(|history| history.within.iter().chain(&history.row_version));
    resource
        .replace_by
        .iter()
        .chain(of_history)
        .cloned()
        .collect()
}

/// A hash of everything that decides what a record's values become.
///
/// The row hash is of the record after the privacy rules, so what is excluded leaves no trace in it.
fn mapping_version(resource: &Resource) -> u64 {
    let mut meaning = format!(
        "{MAPPING_VERSION} {:?} {:?} {:?} {:?} {:?} {}",
        resource.max_table_nesting,
        resource.columns,
        resource.null_values,
        resource.detect,
        resource.nul,
        resource.privacy.fingerprint()
    );
    if !resource.nested_hints.is_empty() {
        meaning += &format!(" {:?}", resource.nested_hints);
    }
    if resource.partial_records {
        // What a record leaves out means something else.
        meaning += " partial";
    }
    if !resource.schema_contract.is_open() {
        // What was left out comes when the contract changes.
        meaning += &format!(" {:?}", resource.schema_contract);
    }
    xxh3_64(meaning.as_bytes())
}

fn cursor_rule(resource: &Resource) -> CursorRule {
    match &resource.endpoint.incremental {
        Some(incremental) => CursorRule {
            notation: incremental.notation.clone(),
            toward: incremental.toward,
            order: incremental.row_order,
        },
        None => CursorRule::default(),
    }
}

pub(super) fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn signed_u64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
