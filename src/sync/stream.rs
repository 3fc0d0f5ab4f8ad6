//! The pages of a run, however they come: from one walk, or from one for each record of a parent.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    Binary, Error,
    commit::Store,
    fanout::{Cursors, End, Event, Fanout, Order, Sheet},
    plan::Plan,
};
use crate::{
    config::Resource,
    fetch::{self, Doubt, Page, Tally, Walk, WalkPlan},
    record::Mode,
};

/// The pages of one walk or fan-out.
pub(super) enum Stream {
    Walk(Walk),
    Fanout(Box<Fanout>),
}

impl Stream {
    pub(super) fn start(store: &Store, plan: &Plan, halt: CancellationToken) -> Self {
        let context = &store.context;
        let walk = plan.walk(&context.resource);
        if context.resource.parent.is_none() {
            return Self::Walk(context.api.walk(walk, halt));
        }
        let order = Order {
            root: outermost_walk(&context.resource, walk),
            max_pages: None,
            resource: Arc::clone(&context.resource),
            api: Arc::clone(&context.api),
            binary: context.binary.clone(),
            resume: plan.resume.as_ref().and_then(|c| c.trail.clone()),
            first_number: plan.resume.as_ref().map_or(0, |checkpoint| {
                let is_over = checkpoint.trail.as_ref().is_some_and(|t| t.page.is_none());
                checkpoint.page + u64::from(is_over)
            }),
            cursors: plan.uses_cursors_of_units().then(|| Cursors {
                pool: context.pool.clone(),
                resource_id: store.claim.resource_id,
            }),
            halt,
        };
        Self::Fanout(Box::new(Fanout::start(order)))
    }

    /// The next page or end of a unit; `None` when all is over. May be dropped.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Error> {
        match self {
            Self::Walk(walk) => {
                let page = walk.next().await?;
                Ok(page.map(|page| Event::Page(Sheet::bare(page))))
            }
            Self::Fanout(fanout) => fanout.next().await,
        }
    }

    pub(super) fn tally(&self) -> Tally {
        match self {
            Self::Walk(walk) => walk.tally(),
            Self::Fanout(fanout) => fanout.tally(),
        }
    }

    /// How it ended.
    pub(super) fn end(&self) -> Finish {
        let lost = || Finish {
            doubt: Some(Doubt::Drift("the parents' walk was lost".to_owned())),
            ..Finish::default()
        };
        match self {
            Self::Walk(walk) => Finish {
                doubt: walk.doubt(),
                token: walk.ending().and_then(|ending| ending.sync_token),
                parents: None,
            },
            Self::Fanout(fanout) => fanout.end().map_or_else(lost, |end| Finish {
                doubt: end.doubt.clone(),
                token: end.token.clone(),
                parents: Some(end.clone()),
            }),
        }
    }
}

/// How a stream ended.
#[derive(Default)]
pub(super) struct Finish {
    /// Why it is not proven to be all.
    pub(super) doubt: Option<Doubt>,
    /// The token that the next walk begins with.
    pub(super) token: Option<String>,
    /// What became of the parents, where there are any.
    pub(super) parents: Option<End>,
}

/// The plan of the outermost parents' walk, from its beginning.
fn outermost_walk(resource: &Resource, walk: WalkPlan) -> WalkPlan {
    let (outermost, _) = resource.outermost();
    WalkPlan {
        key: outermost.primary_key.clone(),
        max_pages: outermost.max_pages,
        resume: None,
        first_page: 0,
        ..walk
    }
}

/// The first page of a resource and the plan that it was asked for with; of a child's, that of the first
/// parent that has one. For a look at what the API sends: nothing is read from the database.
///
/// # Errors
///
/// What a run would fail with before its first page. [`Error::Parent`] when there is no parent.
pub async fn first_page(
    resource: &Resource,
    api: &Arc<fetch::Api>,
) -> Result<(WalkPlan, Option<Page>), Error> {
    let plan = Plan::new(resource, None, super::Start::Anew, Mode::Full)?;
    let walk = plan.walk(resource);
    let halt = CancellationToken::new();
    let Some(parent) = &resource.parent else {
        let walk = WalkPlan {
            max_pages: 1,
            ..walk
        };
        let page = api.walk(walk.clone(), halt).next().await?;
        return Ok((walk, page));
    };
    let mut alone = resource.clone();
    let mut parent = parent.clone();
    parent.concurrency = 1;
    alone.parent = Some(parent);
    let mut fanout = Fanout::start(Order {
        root: outermost_walk(resource, walk),
        max_pages: Some(1),
        resource: Arc::new(alone),
        api: Arc::clone(api),
        binary: Binary::own(),
        resume: None,
        first_number: 0,
        cursors: None,
        halt,
    });
    while let Some(event) = fanout.next().await? {
        if let Event::Page(sheet) = event {
            let walk = sheet
                .plan
                .map_or_else(|| plan.walk(resource), Arc::unwrap_or_clone);
            return Ok((walk, Some(sheet.page)));
        }
    }
    match fanout.end().and_then(|end| end.report.fault()) {
        Some(fault) => Err(Error::Children(fault)),
        None => Err(Error::Parent(
            "there is no record of the parent to ask with".to_owned(),
        )),
    }
}
