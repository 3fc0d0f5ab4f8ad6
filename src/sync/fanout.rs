//! A resource that is walked once for each record of its parent, told as one walk.
//!
//! ```text
//! parent's pages -> its steps -> units (one parent, or a batch) -> a few walks at once -> pages in order
//! ```
//!
//! The parents are read from the API in the same run, not from their table, through their own steps, and
//! may have parents themselves: [`Pages`] of a child are made of the [`Pages`] of its parent. Walks of the
//! next units begin while the first one's pages are taken; what they read ahead is bounded, so memory does
//! not grow with the number of parents. The pages come in the parents' order, whatever answers first.
//!
//! A unit that fails costs its own records and the proof of the whole; what says something of the
//! credential or the network costs the run.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tracing::{Instrument, debug};
use xxhash_rust::xxh3::Xxh3;

use super::{
    Error, page, plan, privacy,
    sandbox::{Binary, Steps},
    span::Piece,
    trail::{Report, Spot, Stop, Trail},
    walk,
};
use crate::{
    clock,
    config::{
        Resource,
        incremental::Incremental,
        parent::{Missing, Parent},
        source::WriteDisposition,
        template::Field,
    },
    fault::Fault,
    fetch::{self, Bindings, Cost, Course, Doubt, Page, Tally, Walk, WalkPlan},
    record::{self, ResourceId},
    shape::{self, Bounds, CursorValue, KeySet, Layout, Mapper, Screen},
};

/// Units that fail one after the other before the run ends: the API says the same to all of them.
const MOST_FAILURES_IN_A_ROW: u32 = 20;

/// Parents that are remembered so that none is asked for twice. Beyond them one may be, which costs requests only.
const MOST_REMEMBERED: usize = 2_000_000;

/// Records of parents that become units at a time: so many cursors are one question to the database.
const UNITS_AT_ONCE: usize = 500;

/// What a fan-out gives.
pub(super) enum Event {
    Page(Sheet),
    /// A unit is over; its pages came before.
    Over(Over),
}

/// A page of one unit.
pub(super) struct Sheet {
    pub(super) page: Page,
    /// The first one of its unit. A unit that is gone on with in its middle has none.
    pub(super) is_first: bool,
    /// Where this is. `None`: the parents' walk is in doubt, and nothing can be gone on with.
    pub(super) trail: Option<Box<Trail>>,
    /// What its unit asks for.
    pub(super) plan: Option<Arc<WalkPlan>>,
    /// Which of its records become rows, where the unit has ends of its own.
    pub(super) bounds: Option<Arc<Bounds>>,
    /// What children of this page's records may name of its parents.
    context: Context,
}

/// The end of a unit.
pub(super) struct Over {
    /// Where its cursor is kept, if it has one of its own.
    pub(super) partition: Option<String>,
    /// Its cursor before the walk.
    pub(super) cursor: Option<CursorValue>,
    /// Where its last walk began. What lies before was proven by the walks before it, where there were any.
    pub(super) start: Option<CursorValue>,
    pub(super) has_pieces: bool,
    /// The token that its last walk ended with.
    pub(super) token: Option<String>,
    /// Whether there was an answer to tell the time by.
    pub(super) has_pages: bool,
    pub(super) is_proven: bool,
    pub(super) trail: Option<Box<Trail>>,
}

/// How a fan-out ended.
#[derive(Debug, Clone)]
pub(super) struct End {
    /// Why the parents' walk is not proven.
    pub(super) doubt: Option<Doubt>,
    pub(super) report: Report,
    /// Highest cursor value of the outermost parents.
    pub(super) cursor: Option<CursorValue>,
    pub(super) clock: Option<(DateTime<Utc>, bool)>,
    /// The token that their walk ended with.
    pub(super) token: Option<String>,
}

/// What is to be walked, and from where.
pub(super) struct Order {
    pub(super) resource: Arc<Resource>,
    pub(super) api: Arc<fetch::Api>,
    pub(super) binary: Binary,
    /// The plan of the outermost parents' walk, from its beginning.
    pub(super) root: WalkPlan,
    /// Most pages of a unit, where they are fewer than the resource's own.
    pub(super) max_pages: Option<u64>,
    pub(super) resume: Option<Box<Trail>>,
    /// Number of the first page.
    pub(super) first_number: u64,
    /// Where the units' own cursors are; `None`: all begin at the initial value.
    pub(super) cursors: Option<Cursors>,
    pub(super) halt: CancellationToken,
}

/// The stored cursors of the units.
#[derive(Clone)]
pub(super) struct Cursors {
    pub(super) pool: PgPool,
    pub(super) resource_id: ResourceId,
}

/// A fan-out under way in a task of its own. Dropping it ends the task.
pub(super) struct Fanout {
    events: mpsc::Receiver<Result<Message, Error>>,
    tally: Arc<Mutex<Tally>>,
    end: Option<End>,
    _driver: AbortOnDropHandle<()>,
}

enum Message {
    Event(Box<Event>),
    End(Box<End>),
}

impl Fanout {
    pub(super) fn start(order: Order) -> Self {
        let (sender, events) = mpsc::channel(1);
        let tally = Arc::new(Mutex::default());
        let counted = Arc::clone(&tally);
        let driver = async move {
            let result = drive(order, counted, &sender).await;
            if let Err(error) = result {
                sender.send(Err(error)).await.ok();
            }
        };
        Self {
            events,
            tally,
            end: None,
            _driver: AbortOnDropHandle::new(TaskTracker::new().spawn(driver.in_current_span())),
        }
    }

    /// The next page or end of a unit; `None` when all is over, see [`Fanout::end`]. May be dropped.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Error> {
        if self.end.is_some() {
            return Ok(None);
        }
        match self.events.recv().await {
            Some(Ok(Message::Event(event))) => Ok(Some(*event)),
            Some(Ok(Message::End(end))) => {
                self.end = Some(*end);
                Ok(None)
            }
            Some(Err(error)) => Err(error),
            None => Err(Error::Crashed),
        }
    }

    /// What all walks cost so far.
    pub(super) fn tally(&self) -> Tally {
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }
}

async fn drive(
    order: Order,
    tally: Arc<Mutex<Tally>>,
    sender: &mpsc::Sender<Result<Message, Error>>,
) -> Result<(), Error> {
    let resume = order.resume.clone().unwrap_or_default();
    let notation = order
        .root
        .endpoint
        .incremental
        .as_ref()
        .map(|i| &i.notation);
    let seen = resume.seen.as_ref().zip(notation);
    let seen = seen.and_then(|(seen, notation)| CursorValue::from_json(seen, notation));
    let ground = Arc::new(Ground {
        api: order.api,
        binary: order.binary,
        halt: order.halt,
        tally,
        root: order.root,
        max_pages: order.max_pages,
        notes: Mutex::new(Notes {
            report: resume.report.clone(),
            seen,
            clock: resume.clock,
        }),
    });
    let mut pages = Pages::new(
        &ground,
        &order.resource,
        order.cursors,
        &[],
        order.resume.as_ref().map(|trail| Resume {
            stops: &trail.stops,
            page: trail.page.as_ref(),
            ends: trail.ends.as_ref(),
        }),
    );
    if let Kind::Units(units) = &mut pages.kind {
        units.number = order.first_number;
    }
    while let Some(event) = pages.next().await? {
        if sender
            .send(Ok(Message::Event(Box::new(event))))
            .await
            .is_err()
        {
            // Whoever took the pages is gone.
            return Ok(());
        }
    }
    let end = {
        let notes = ground.notes();
        End {
            doubt: pages.doubt(),
            report: notes.report.clone(),
            cursor: notes.seen.clone(),
            clock: notes.clock,
            token: pages.token(),
        }
    };
    sender.send(Ok(Message::End(Box::new(end)))).await.ok();
    Ok(())
}

/// What all levels of a fan-out share.
struct Ground {
    api: Arc<fetch::Api>,
    binary: Binary,
    halt: CancellationToken,
    tally: Arc<Mutex<Tally>>,
    root: WalkPlan,
    max_pages: Option<u64>,
    notes: Mutex<Notes>,
}

struct Notes {
    report: Report,
    seen: Option<CursorValue>,
    clock: Option<(DateTime<Utc>, bool)>,
}

impl Ground {
    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, fault: Fault) {
        let report = &mut self.notes().report;
        report.failed += 1;
        report.fault.get_or_insert(fault);
    }

    fn walk(&self, plan: WalkPlan) -> Counted {
        Counted {
            walk: self.api.walk(plan, self.halt.clone()),
            counted: Tally::default(),
        }
    }
}

/// A walk whose cost is added to that of the fan-out as it grows.
struct Counted {
    walk: Walk,
    counted: Tally,
}

impl Counted {
    async fn next(&mut self, ground: &Ground) -> Result<Option<Page>, fetch::Error> {
        let page = self.walk.next().await;
        let now = self.walk.tally();
        let before = std::mem::replace(&mut self.counted, now);
        let mut sum = ground.tally.lock().unwrap_or_else(PoisonError::into_inner);
        *sum = sum.plus(&now.minus(&before));
        page
    }
}

/// Values of fields of the parents above, which children further down may name.
type Context = Arc<[(Field, Value)]>;

/// Where to go on.
#[derive(Clone, Copy)]
struct Resume<'a> {
    stops: &'a [Stop],
    page: Option<&'a Spot>,
    ends: Option<&'a (Option<String>, Option<String>)>,
}

/// The pages of one resource, in order.
struct Pages {
    ground: Arc<Ground>,
    kind: Kind,
}

enum Kind {
    /// Of one walk.
    Walk(Box<Counted>),
    /// One page that stands in the configuration.
    Values(Option<Box<Page>>),
    /// Of one walk for each unit.
    Units(Box<Units>),
}

impl Pages {
    fn new(
        ground: &Arc<Ground>,
        resource: &Arc<Resource>,
        cursors: Option<Cursors>,
        wanted: &[Field],
        resume: Option<Resume<'_>>,
    ) -> Self {
        let kind = match (&resource.parent, &resource.values) {
            (Some(parent), _) => Kind::Units(Box::new(Units::new(
                ground, resource, parent, cursors, wanted, resume,
            ))),
            (None, Some(values)) => Kind::Values(Some(Box::new(page_of(values)))),
            (None, None) => {
                let spot = resume.and_then(|resume| resume.page);
                Kind::Walk(Box::new(ground.walk(at(ground.root.clone(), spot))))
            }
        };
        Self {
            ground: Arc::clone(ground),
            kind,
        }
    }

    async fn next(&mut self) -> Result<Option<Event>, Error> {
        let page = match &mut self.kind {
            // Boxed, because the parents' pages may be made in the same way.
            Kind::Units(units) => return Box::pin(units.next()).await,
            Kind::Walk(walk) => walk.next(&self.ground).await?,
            Kind::Values(page) => page.take().map(|page| *page),
        };
        Ok(page.map(|page| {
            Event::Page(Sheet {
                is_first: page.number == 0,
                trail: Some(Box::new(Trail {
                    page: Some(spot_of(&page)),
                    ..Trail::default()
                }))
                // Between the parts of one answer there is no place.
                .filter(|_| !page.doubtful && !page.is_part),
                plan: None,
                bounds: None,
                context: Context::default(),
                page,
            })
        }))
    }

    /// The token that the outermost walk ended with.
    fn token(&self) -> Option<String> {
        match &self.kind {
            Kind::Walk(walk) => walk.walk.ending()?.sync_token,
            Kind::Values(_) => None,
            Kind::Units(units) => units.parents.token(),
        }
    }

    /// Why the pages, once they ended, are not proven to be all.
    fn doubt(&self) -> Option<Doubt> {
        match &self.kind {
            Kind::Walk(walk) => walk.walk.doubt(),
            Kind::Values(_) => None,
            Kind::Units(units) => units.parents.doubt(),
        }
    }
}

fn spot_of(page: &Page) -> Spot {
    Spot {
        at: page.at.clone(),
        number: page.number,
    }
}

/// The plan from a place on.
fn at(plan: WalkPlan, spot: Option<&Spot>) -> WalkPlan {
    WalkPlan {
        resume: spot.and_then(|spot| spot.at.clone()),
        first_page: spot.map_or(0, |spot| spot.number),
        ..plan
    }
}

fn page_of(values: &[Value]) -> Page {
    let (mut body, mut records) = (Vec::new(), Vec::new());
    for value in values {
        let start = offset(body.len());
        body.extend_from_slice(value.to_string().as_bytes());
        records.push(start..offset(body.len()));
    }
    made_page(body, records)
}

/// A page that no answer brought.
fn made_page(body: Vec<u8>, records: Vec<Range<u32>>) -> Page {
    Page {
        number: 0,
        at: None,
        body: Bytes::from(body),
        records,
        next: None,
        total: None,
        is_part: false,
        doubtful: false,
        received_at: clock::now(),
        server_date: None,
    }
}

/// All of a record.
fn whole(record: &[u8]) -> Range<u32> {
    0..offset(record.len())
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// One parent, or a batch of them, whose walk is not begun yet.
struct Unit {
    bindings: Bindings,
    /// Members to put into the records: an object, where there are any.
    include: Option<Vec<u8>>,
    /// The parent's record, where the child's goes into it.
    record: Option<Vec<u8>>,
    /// Tells it from all others.
    partition: String,
    cursor: Option<CursorValue>,
    stops: Vec<Stop>,
    is_resumable: bool,
    context: Context,
}

/// A unit whose walk is under way.
struct Child {
    unit: Unit,
    walk: Counted,
    plan: Arc<WalkPlan>,
    /// What the walk is between.
    piece: Piece,
    /// Which records become rows, where the unit has ends.
    bounds: Option<Arc<Bounds>>,
    /// Whether walks of the same unit came before this one.
    has_pieces: bool,
    /// The API's time, or ours, when the unit's first answer came.
    clock: Option<DateTime<Utc>>,
    /// Pages given so far.
    pages: u64,
    /// Whether any of them had a record.
    has_records: bool,
    is_doubtful: bool,
    /// Whether the walk ended, and was proven.
    ended: Option<bool>,
    has_begun_again: bool,
    /// Goes on in the middle.
    is_resumed: bool,
}

/// The pages of a resource that is walked for each of its units.
struct Units {
    ground: Arc<Ground>,
    resource: Arc<Resource>,
    parent: Parent,
    cursors: Option<Cursors>,
    parents: Pages,
    /// The parents' own steps and privacy rules; the latter for what is copied only.
    steps: Option<Steps>,
    screen: Option<Screen>,
    /// Finds the cursor of the outermost parents.
    mapper: Option<Mapper>,
    /// Fields of the parents, and of those above them, that requests name: first those of this resource's own.
    wanted: Vec<Field>,
    seen: KeySet,
    /// The page of parents that is being read.
    taken: Option<Box<Taken>>,
    /// Units of parents that were read, cursors loaded.
    pending: VecDeque<Unit>,
    /// Parents of the batch that is not full yet.
    gathered: Vec<Unit>,
    parents_are_over: bool,
    under_way: VecDeque<Child>,
    failures_in_a_row: u32,
    /// Pages given by all units.
    number: u64,
    seek: Option<Seek>,
}

/// A page of parents. It may be one of a million: units are made of a part of them at a time.
struct Taken {
    sheet: Sheet,
    /// The record that comes next.
    next: usize,
    /// Over what the requests take from the records up to that.
    anchor: Xxh3,
}

/// The place at which an interrupted fan-out goes on.
struct Seek {
    stop: Stop,
    /// `None`: the unit is over.
    page: Option<Spot>,
    ends: Option<(Option<String>, Option<String>)>,
}

impl Units {
    fn new(
        ground: &Arc<Ground>,
        resource: &Arc<Resource>,
        parent: &Parent,
        cursors: Option<Cursors>,
        wanted: &[Field],
        resume: Option<Resume<'_>>,
    ) -> Self {
        let above = &parent.resource;
        let more = wanted.iter().filter(|field| !parent.fields.contains(field));
        let wanted: Vec<Field> = parent.fields.iter().chain(more).cloned().collect();
        let of_those_above: Vec<Field> = wanted
            .iter()
            .filter(|field| field.resource != above.name)
            .cloned()
            .collect();
        let is_root = above.parent.is_none();
        let split = resume.and_then(|resume| resume.stops.split_last());
        let parents = Pages::new(
            ground,
            above,
            None,
            &of_those_above,
            split.map(|(stop, stops)| Resume {
                stops,
                page: Some(&stop.page),
                ends: None,
            }),
        );
        let has_cursor = is_root && parent.only_changed && above.endpoint.incremental.is_some();
        Self {
            steps: Steps::new(
                &ground.binary,
                &above.steps,
                above.nul,
                above.processing_limits,
            ),
            screen: Some(above)
                .filter(|_| !parent.include.is_empty())
                .and_then(|above| privacy::screen_of_parent(above)),
            mapper: has_cursor.then(|| Mapper::new(walk::map_spec(above), Layout::default())),
            wanted,
            seen: KeySet::default(),
            taken: None,
            pending: VecDeque::new(),
            gathered: Vec::new(),
            parents_are_over: false,
            under_way: VecDeque::new(),
            failures_in_a_row: 0,
            number: 0,
            seek: split.map(|(stop, _)| Seek {
                stop: stop.clone(),
                page: resume.and_then(|resume| resume.page).cloned(),
                ends: resume.and_then(|resume| resume.ends).cloned(),
            }),
            ground: Arc::clone(ground),
            resource: Arc::clone(resource),
            parent: parent.clone(),
            cursors,
            parents,
        }
    }

    async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            self.begin_walks().await?;
            let ground = Arc::clone(&self.ground);
            let Some(child) = self.under_way.front_mut() else {
                return Ok(None);
            };
            if let Some(is_proven) = child.ended {
                return Ok(match self.alone() {
                    Some(sheet) => Some(Event::Page(sheet)),
                    None => self.over(is_proven),
                });
            }
            match child.walk.next(&ground).await {
                Ok(Some(page)) => return Ok(Some(Event::Page(self.sheet(page)))),
                Ok(None) => {
                    let doubt = child.walk.walk.doubt();
                    if doubt.is_none()
                        && let Some(next) = child.next_piece(&self.resource)
                    {
                        child.go_on(&ground, &self.resource, next);
                        continue;
                    }
                    child.ended = Some(doubt.is_none());
                    match doubt {
                        Some(why) => self.fail(Error::Unproven(why).fault()),
                        None => {
                            self.failures_in_a_row = 0;
                            ground.notes().report.walked += 1;
                        }
                    }
                }
                Err(error) => self.judge(error)?,
            }
        }
    }

    /// What follows from the failure of the first walk under way.
    fn judge(&mut self, error: fetch::Error) -> Result<(), Error> {
        let appends = self.resource.write_disposition == WriteDisposition::Append;
        let Some(child) = self.under_way.front_mut() else {
            return Err(error.into());
        };
        let is_gone = match &error {
            fetch::Error::Status { status, .. } => {
                self.parent.gone.contains(status) && child.pages == 0 && !child.is_resumed
            }
            _ => false,
        };
        if !is_gone && error.cost() == Cost::Run {
            return Err(error.into());
        }
        let begins_again = matches!(error.course(), Course::Restart | Course::Resync);
        let is_stale = child.is_resumed && child.pages == 0 && !error.fault().retryable;
        let has_given = child.pages > 0 || child.is_resumed;
        if (begins_again || is_stale) && has_given && appends {
            // Rows that were appended are taken back all together.
            return Err(match is_stale {
                true => Error::Moved,
                false => error.into(),
            });
        }
        if (begins_again || is_stale) && !child.has_begun_again && !is_gone {
            debug!(%error, "a walk for one parent begins again");
            child.has_begun_again = true;
            child.is_resumed = false;
            if error.course() == Course::Resync {
                child.unit.cursor = None;
                let first = first_piece(&self.resource, &child.unit);
                child.go_on(&self.ground, &self.resource, first);
                child.has_pieces = false;
            } else {
                child.walk = self.ground.walk(at((*child.plan).clone(), None));
            }
            return Ok(());
        }
        child.ended = Some(is_gone);
        if is_gone {
            self.ground.notes().report.gone += 1;
            self.failures_in_a_row = 0;
        } else {
            debug!(%error, "a walk for one parent failed");
            self.failures_in_a_row += 1;
            if self.failures_in_a_row >= MOST_FAILURES_IN_A_ROW {
                return Err(error.into());
            }
            self.fail(error.fault());
        }
        Ok(())
    }

    fn fail(&self, fault: Fault) {
        self.ground.fail(fault);
    }

    /// Takes the first unit away.
    fn over(&mut self, is_proven: bool) -> Option<Event> {
        let child = self.under_way.pop_front()?;
        Some(Event::Over(Over {
            partition: self.has_cursors().then_some(child.unit.partition),
            cursor: child.unit.cursor,
            start: child.piece.start,
            has_pieces: child.has_pieces,
            token: (child.walk.walk.ending()).and_then(|ending| ending.sync_token),
            has_pages: child.clock.is_some() || child.is_resumed,
            is_proven: is_proven && !child.is_doubtful,
            trail: child
                .unit
                .is_resumable
                .then(|| self.trail(child.unit.stops, None, None)),
        }))
    }

    fn trail(&self, stops: Vec<Stop>, page: Option<Spot>, piece: Option<&Piece>) -> Box<Trail> {
        let notes = self.ground.notes();
        Box::new(Trail {
            stops,
            page,
            ends: piece.map(|piece| (piece.start_value.clone(), piece.end_value.clone())),
            report: notes.report.clone(),
            seen: notes.seen.as_ref().map(CursorValue::to_json),
            clock: notes.clock,
        })
    }

    /// A page of the first unit, with what is copied from its parent.
    fn sheet(&mut self, mut page: Page) -> Sheet {
        let number = self.number;
        self.number += 1;
        let spot = spot_of(&page);
        page.number = number;
        let Some(child) = self.under_way.front_mut() else {
            return Sheet::bare(page);
        };
        child.pages += 1;
        child
            .clock
            .get_or_insert_with(|| page.server_date.unwrap_or_else(clock::now));
        child.is_doubtful |= page.doubtful;
        let is_first = child.pages == 1 && !child.is_resumed;
        child.has_records |= !page.records.is_empty();
        graft(&mut page, &child.unit);
        let is_resumable = child.unit.is_resumable && !child.is_doubtful && !page.is_part;
        let (stops, plan) = (child.unit.stops.clone(), Arc::clone(&child.plan));
        let context = Arc::clone(&child.unit.context);
        let bounds = child.bounds.clone();
        let piece = bounds.is_some().then(|| child.piece.clone());
        Sheet {
            page,
            is_first,
            trail: is_resumable.then(|| self.trail(stops, Some(spot), piece.as_ref())),
            plan: Some(plan),
            bounds,
            context,
        }
    }

    /// A page of nothing but the first unit's parent, where a detail was to go into it and there was none.
    fn alone(&mut self) -> Option<Sheet> {
        let child = self.under_way.front_mut()?;
        if child.has_records || child.is_resumed {
            return None;
        }
        let record = child.unit.record.take()?;
        let records = vec![whole(&record)];
        Some(self.sheet(made_page(record, records)))
    }

    /// Whether the units have cursors. Between fixed ends there are none.
    fn has_cursors(&self) -> bool {
        let endpoint = &self.resource.endpoint;
        let is_open = |i: &Incremental| i.end_value.is_none();
        endpoint.asks_for_changes() && endpoint.incremental.as_ref().is_some_and(is_open)
    }

    /// Keeps as many walks under way as there may be.
    async fn begin_walks(&mut self) -> Result<(), Error> {
        while self.under_way.len() < self.parent.concurrency {
            while self.pending.is_empty() {
                if self.parents_are_over {
                    return Ok(());
                }
                self.read_parents().await?;
            }
            let Some(unit) = self.pending.pop_front() else {
                return Ok(());
            };
            let (spot, ends) = match self.seek.take() {
                // The unit at which the interrupted run was.
                Some(Seek { page: None, .. }) => continue,
                Some(Seek { page, ends, .. }) => (page, ends),
                None => (None, None),
            };
            let first = first_piece(&self.resource, &unit);
            let incremental = self.resource.endpoint.incremental.as_ref();
            let piece = match (ends, incremental) {
                (Some((start, end)), Some(incremental)) => {
                    Piece::of_checkpoint(incremental, start, end)
                }
                _ => first.clone(),
            };
            let plan = unit_plan(&self.resource, &unit, &piece, self.ground.max_pages);
            let plan = Arc::new(plan);
            self.under_way.push_back(Child {
                walk: self.ground.walk(at((*plan).clone(), spot.as_ref())),
                has_pieces: piece.start_value != first.start_value,
                bounds: unit_bounds(&self.resource, &piece),
                clock: None,
                piece,
                unit,
                plan,
                pages: 0,
                has_records: false,
                is_doubtful: false,
                ended: None,
                has_begun_again: false,
                is_resumed: spot.is_some(),
            });
        }
        Ok(())
    }

    /// Makes units of the next records of the parents.
    async fn read_parents(&mut self) -> Result<(), Error> {
        let mut units = Vec::new();
        if self.taken.is_none() {
            match self.parents.next().await? {
                Some(Event::Page(sheet)) => self.taken = Some(Box::new(self.take(sheet).await?)),
                // A parent's own unit ended; what it failed with is in the report.
                Some(Event::Over(_)) => {}
                None => {
                    self.parents_are_over = true;
                    if self.seek.as_ref().is_some_and(|seek| !seek.is_met()) {
                        return Err(Error::Moved);
                    }
                    if !self.gathered.is_empty() {
                        let batch = std::mem::take(&mut self.gathered);
                        units.push(self.batch(batch));
                    }
                }
            }
        }
        if let Some(mut taken) = self.taken.take() {
            self.make_units(&mut taken, &mut units)?;
            self.taken = Some(taken).filter(|taken| !taken.is_over());
        }
        if let (Some(cursors), true) = (&self.cursors, self.has_cursors()) {
            self.load_cursors(&cursors.clone(), &mut units).await?;
        }
        self.pending.extend(units);
        Ok(())
    }

    /// Sends a page of the parents through their own steps.
    async fn take(&mut self, mut sheet: Sheet) -> Result<Taken, Error> {
        self.note_cursor(&sheet.page);
        if let Some(steps) = &mut self.steps {
            let stepped = steps.page(&sheet.page.body, &sheet.page.records).await?;
            if let Some(reject) = stepped.rejects.first() {
                let message = format!(
                    "records of the parent could not be taken ({}): {}",
                    reject.reason,
                    reject.path.as_deref().unwrap_or("the record itself")
                );
                self.fail(Error::Parent(message).fault());
            }
            sheet.page.body = Bytes::from(stepped.body);
            sheet.page.records = stepped.records;
        }
        Ok(Taken {
            sheet,
            next: 0,
            anchor: Xxh3::new(),
        })
    }

    fn make_units(&mut self, taken: &mut Taken, units: &mut Vec<Unit>) -> Result<(), Error> {
        let sheet = &taken.sheet;
        let spot = match &sheet.trail {
            Some(trail) => trail.page.clone(),
            None => None,
        };
        let records = sheet.page.records.iter().enumerate().skip(taken.next);
        for (at, range) in records.take(UNITS_AT_ONCE) {
            taken.next = at + 1;
            let record = (sheet.page.body)
                .get(range.start as usize..range.end as usize)
                .unwrap_or_default();
            let values = self.values(record, &sheet.context);
            for (field, value) in &values {
                taken.anchor.update(field.path.to_string().as_bytes());
                taken.anchor.update(&[0]);
                taken.anchor.update(value.to_string().as_bytes());
                taken.anchor.update(&[0]);
            }
            let anchor = format!("{:032x}", taken.anchor.digest128());
            if let Some(seek) = &mut self.seek
                && !seek.is_met()
            {
                if at < seek.stop.record {
                    continue;
                }
                if anchor != seek.stop.anchor {
                    return Err(Error::Moved);
                }
                seek.stop.anchor.clear();
            }
            let stop = spot.clone().map(|page| Stop {
                page,
                record: at,
                anchor,
            });
            let Some(unit) = self.unit(record, values, sheet, stop) else {
                continue;
            };
            if self.parent.batch == 1 {
                units.push(unit);
                continue;
            }
            self.gathered.push(unit);
            if self.gathered.len() == self.parent.batch {
                let batch = std::mem::take(&mut self.gathered);
                units.push(self.batch(batch));
            }
        }
        match &self.seek {
            Some(seek) if taken.is_over() && !seek.is_met() => Err(Error::Moved),
            _ => Ok(()),
        }
    }

    /// What the requests below take from a parent's record, and from those above it.
    fn values(&self, record: &[u8], context: &Context) -> Vec<(Field, Value)> {
        let name = &self.parent.resource.name;
        let values = self.wanted.iter().map(|field| {
            let value = match field.resource == *name {
                true => shape::field(record, &field.path),
                false => context
                    .iter()
                    .find_map(|(known, value)| (known == field).then(|| value.clone())),
            };
            (field.clone(), value.unwrap_or_default())
        });
        values.collect()
    }

    /// `None`: the record is left out, and counted.
    fn unit(
        &mut self,
        record: &[u8],
        values: Vec<(Field, Value)>,
        sheet: &Sheet,
        stop: Option<Stop>,
    ) -> Option<Unit> {
        let own = values.get(..self.parent.fields.len()).unwrap_or(&values);
        if let Some((field, _)) = own.iter().find(|(_, value)| !is_usable(value)) {
            match self.parent.missing {
                Missing::Skip => self.ground.notes().report.skipped += 1,
                Missing::Fail => {
                    let message = format!(
                        "a record of {} has no {} to ask with",
                        self.parent.resource.name, field.path
                    );
                    self.fail(Error::Parent(message).fault());
                }
            }
            return None;
        }
        let mut hash = Xxh3::new();
        for (_, value) in own {
            hash.update(value.to_string().as_bytes());
            hash.update(&[0]);
        }
        let key = hash.digest128();
        if self.seen.contains(&key) {
            self.ground.notes().report.repeated += 1;
            return None;
        }
        if self.seen.len() < MOST_REMEMBERED {
            self.seen.insert(key);
        }
        let above = sheet.trail.as_ref();
        let mut stops = above.map(|trail| trail.stops.clone()).unwrap_or_default();
        let is_resumable = stop.is_some();
        stops.extend(stop);
        Some(Unit {
            include: self.included(record),
            record: self.parent.merge.then(|| record.to_vec()),
            partition: format!("{key:032x}"),
            cursor: None,
            stops,
            is_resumable,
            context: values.clone().into(),
            bindings: Bindings::new(values),
        })
    }

    /// The copied fields as an object, as far as the parent's privacy rules let them through.
    fn included(&mut self, record: &[u8]) -> Option<Vec<u8>> {
        if self.parent.include.is_empty() {
            return None;
        }
        let whole = whole(record);
        let screened = self
            .screen
            .as_mut()
            .map(|s| s.page(record, std::slice::from_ref(&whole)));
        let source: &[u8] = match &screened {
            // Left out by its own rules: nothing of it is copied.
            Some(page) if page.records.is_empty() => b"{}",
            Some(page) => &page.body,
            None => record,
        };
        let mut object = vec![b'{'];
        for include in &self.parent.include {
            let Some(value) = shape::raw_field(source, &include.field) else {
                continue;
            };
            if object.len() > 1 {
                object.push(b',');
            }
            object.extend_from_slice(Value::from(include.name.as_str()).to_string().as_bytes());
            object.push(b':');
            object.extend_from_slice(&value);
        }
        object.push(b'}');
        Some(object)
    }

    /// One unit of many parents: each field stands for the list of their values.
    fn batch(&self, units: Vec<Unit>) -> Unit {
        let lists: Vec<(Field, Value)> = self
            .wanted
            .iter()
            .map(|field| {
                let values = units.iter().filter_map(|unit| unit.bindings.value(field));
                (field.clone(), values.cloned().collect())
            })
            .collect();
        let mut units = units.into_iter();
        let first = units.next();
        let (stops, is_resumable) = first
            .map(|unit| (unit.stops, unit.is_resumable))
            .unwrap_or_default();
        Unit {
            bindings: Bindings::new(lists),
            include: None,
            record: None,
            partition: String::new(),
            cursor: None,
            stops,
            is_resumable,
            context: Context::default(),
        }
    }

    /// Notes how far the outermost parents are known to have changed.
    fn note_cursor(&self, page: &Page) {
        let Some(mapper) = &self.mapper else { return };
        let mut notes = self.ground.notes();
        let clock = || (page::cap_of(page), page.server_date.is_some());
        let (cap, _) = *notes.clock.get_or_insert_with(clock);
        let scan = mapper.scan(&page.body, &page.records, Some(cap));
        let endpoint = &self.ground.root.endpoint;
        notes.seen = walk::further(endpoint, notes.seen.take(), scan.cursor);
    }

    async fn load_cursors(&self, cursors: &Cursors, units: &mut [Unit]) -> Result<(), Error> {
        if units.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = units.iter().map(|unit| unit.partition.clone()).collect();
        let mut connection = cursors
            .pool
            .acquire()
            .await
            .map_err(crate::load::Error::database("connecting"))?;
        let stored =
            record::partition_cursors(&mut connection, cursors.resource_id, &names).await?;
        drop(connection);
        for (partition, value, fingerprint) in stored {
            if fingerprint.as_deref() != Some(self.resource.fingerprint.as_str()) {
                return Err(Error::CursorOfOtherConfiguration);
            }
            for unit in units.iter_mut().filter(|unit| unit.partition == partition) {
                let incremental = self.resource.endpoint.incremental.as_ref();
                let cursor = incremental.and_then(|i| plan::read_cursor(i, &value));
                unit.cursor = Some(cursor.ok_or(Error::CursorOfOtherConfiguration)?);
            }
        }
        Ok(())
    }
}

impl Taken {
    fn is_over(&self) -> bool {
        self.next >= self.sheet.page.records.len()
    }
}

impl Seek {
    /// Whether the record at which to go on was found.
    fn is_met(&self) -> bool {
        self.stop.anchor.is_empty()
    }
}

impl Sheet {
    /// A page of no unit.
    pub(super) fn bare(page: Page) -> Self {
        Self {
            page,
            is_first: false,
            trail: None,
            plan: None,
            bounds: None,
            context: Context::default(),
        }
    }
}

/// Puts what is copied from the parent into each record of a page.
fn graft(page: &mut Page, unit: &Unit) {
    if unit.include.is_none() && unit.record.is_none() {
        return;
    }
    let mut body = Vec::with_capacity(page.body.len());
    let mut records = Vec::with_capacity(page.records.len());
    let mut merged = Vec::new();
    for range in &page.records {
        let record = page
            .body
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default();
        let start = offset(body.len());
        let record = match &unit.record {
            Some(parent) => {
                merged.clear();
                shape::with_members(parent, record, &mut merged);
                &merged
            }
            None => record,
        };
        match &unit.include {
            Some(include) => shape::with_members(record, include, &mut body),
            None => body.extend_from_slice(record),
        }
        records.push(start..offset(body.len()));
    }
    page.body = Bytes::from(body);
    page.records = records;
}

/// Whether a value can stand in a request: never null, never an empty text or a structure.
fn is_usable(value: &Value) -> bool {
    match value {
        Value::Null | Value::Array(_) | Value::Object(_) => false,
        Value::String(text) => !text.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

impl Child {
    /// What is to be walked next for the same unit, now that this walk is proven.
    fn next_piece(&self, resource: &Resource) -> Option<Piece> {
        let incremental = resource.endpoint.incremental.as_ref()?;
        incremental.window?;
        self.piece
            .next(incremental, self.clock.unwrap_or_else(clock::now))
    }

    /// Begins a walk over another piece.
    fn go_on(&mut self, ground: &Ground, resource: &Resource, piece: Piece) {
        let plan = unit_plan(resource, &self.unit, &piece, ground.max_pages);
        self.plan = Arc::new(plan);
        self.walk = ground.walk((*self.plan).clone());
        self.bounds = unit_bounds(resource, &piece);
        self.piece = piece;
        self.has_pieces = true;
    }
}

/// The ends between which a unit's walks begin.
fn first_piece(resource: &Resource, unit: &Unit) -> Piece {
    let incremental = resource.endpoint.incremental.as_ref();
    incremental.map_or_else(Piece::default, |incremental| {
        Piece::first(incremental, unit.cursor.as_ref(), clock::now())
    })
}

fn unit_bounds(resource: &Resource, piece: &Piece) -> Option<Arc<Bounds>> {
    resource.endpoint.incremental.as_ref()?;
    Some(Arc::new(piece.bounds(resource, &resource.endpoint)))
}

/// What is asked for a unit: all, or what changed since its cursor.
fn unit_plan(resource: &Resource, unit: &Unit, piece: &Piece, max_pages: Option<u64>) -> WalkPlan {
    let incremental = resource.endpoint.incremental.as_ref();
    let first = incremental.and_then(|incremental| incremental.first.as_deref());
    WalkPlan {
        endpoint: first
            .filter(|_| unit.cursor.is_none())
            .unwrap_or(&resource.endpoint)
            .clone(),
        bindings: unit.bindings.clone(),
        start_value: piece.start_value.clone(),
        end_value: piece.end_value.clone(),
        key: resource.primary_key.clone(),
        resume: None,
        first_page: 0,
        max_pages: max_pages.unwrap_or(resource.max_pages),
    }
}
