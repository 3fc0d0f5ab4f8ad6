//! Deletions that another endpoint lists, ended before the run reads what there is.
//!
//! In this order a record that was deleted and came back is there in the end. What the feed showed in
//! an earlier run already ends no row that was written since; what is new in it always does.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    Context, Error, Gauge,
    commit::Store,
    deletes,
    page::new_reject,
    plan::{Plan, read_cursor},
    sandbox::Steps,
    span::Piece,
};
use crate::{
    clock,
    config::{Resource, source::DeleteFeed},
    fault::{Class, Fault},
    fetch::WalkPlan,
    load::deletes::{Census, Listed},
    record::{self, Counters, NewReject},
    shape::{Bound, Bounds, CursorRule, CursorValue, Layout, MapSpec, Mapper, Reject, Stamp},
};

/// The partition of the feed's cursor.
const PARTITION: &str = "deletes";

/// What a feed has said.
struct Said {
    lists: Vec<Listed>,
    cursor: Option<CursorValue>,
    /// Its records that name no row.
    rejects: Vec<NewReject>,
    counters: Counters,
}

/// Ends the rows that the feed lists. Returns why some stay, or why the feed could not be read: the
/// run goes on, and is partial.
pub(super) async fn apply(
    context: &Context,
    store: &Arc<Store>,
    gauge: &Arc<Gauge>,
    plan: &Plan,
    halt: CancellationToken,
) -> Result<Option<Fault>, Error> {
    let Some(feed) = &context.resource.delete_feed else {
        return Ok(None);
    };
    gauge.set_phase("reading what was deleted".to_owned());
    match read_and_end(context, store, gauge, feed, plan, halt).await {
        Ok(held) => Ok(held),
        Err(error @ (Error::Halted | Error::Lost | Error::Load(_) | Error::Record(_))) => {
            Err(error)
        }
        Err(error) => {
            let mut fault = error.fault();
            warn!(
                error = fault.message,
                "the feed of deletions could not be read"
            );
            fault.message = format!("feed of deletions: {}", fault.message);
            Ok(Some(fault))
        }
    }
}

async fn read_and_end(
    context: &Context,
    store: &Arc<Store>,
    gauge: &Arc<Gauge>,
    feed: &DeleteFeed,
    plan: &Plan,
    halt: CancellationToken,
) -> Result<Option<Fault>, Error> {
    let stored = store.cursor_of(PARTITION).await?;
    let has_table = store.has_table().await;
    if stored.is_none() && has_table && !plan.reads_everything {
        return Ok(Some(not_begun(store)));
    }
    let incremental = feed.endpoint.incremental.as_ref();
    let value = stored.as_ref().and_then(|s| s.value.as_ref());
    if value.is_some()
        && stored.as_ref().and_then(|s| s.fingerprint.as_deref()) != Some(&feed.fingerprint)
    {
        return Err(Error::CursorOfOtherConfiguration);
    }
    let cursor = match incremental.zip(value) {
        Some((incremental, value)) => {
            Some(read_cursor(incremental, value).ok_or(Error::CursorOfOtherConfiguration)?)
        }
        None => None,
    };
    // What was deleted before the first row came ends none. From here on it is known.
    let parts = match has_table {
        true => parts(cursor.as_ref(), stored.as_ref()),
        false => Vec::new(),
    };
    let said = listen(context, feed, &parts, cursor.as_ref(), halt).await?;
    let (live, named) = match has_table {
        true => store.count_listed(&said.lists).await?,
        false => (0, 0),
    };
    let census = Census {
        seen: live - named.min(live),
        live,
        unseen: named,
    };
    // That all rows are gone is no empty answer here, but more than the share that may go.
    let judged = deletes::judge(
        &context.resource.deletes,
        &Census { seen: 1, ..census },
        0,
        plan.allow_deletes,
    );
    if let Err(held) = judged {
        return Ok(Some(held.fault(&census, &store.claim)));
    }
    // Only a new value is stored: the run beside it is the one that read the list so far.
    let moved = said
        .cursor
        .as_ref()
        .filter(|new| cursor.as_ref() != Some(*new));
    let is_new = moved.is_some() || stored.is_none();
    let counters = store
        .end_listed(
            &said.lists,
            is_new.then_some(PARTITION),
            moved,
            &feed.fingerprint,
            &said.rejects,
            said.counters,
        )
        .await?;
    gauge.add(&counters);
    gauge.book(&counters);
    Ok(None)
}

/// Old entries of a feed may name records that came back long ago, which only a full read shows.
fn not_begun(store: &Store) -> Fault {
    Fault {
        class: Class::Config,
        code: "feed_not_begun".to_owned(),
        message: "the feed of deletions was never read for this table".to_owned(),
        hint: format!(
            "Nothing is deleted before everything is read once more: `rosterd sync {}/{} --full`.",
            store.claim.source, store.claim.resource
        ),
        retryable: false,
    }
}

/// Reads the feed to its proven end. Only the `parts` of it are held in memory.
async fn listen(
    context: &Context,
    feed: &DeleteFeed,
    parts: &[(Bounds, Option<record::RunId>)],
    cursor: Option<&CursorValue>,
    halt: CancellationToken,
) -> Result<Said, Error> {
    let incremental = feed.endpoint.incremental.as_ref();
    let piece = incremental.map_or_else(Piece::default, |i| Piece::first(i, cursor, clock::now()));
    let plan = WalkPlan {
        bindings: Default::default(),
        endpoint: feed.endpoint.clone(),
        start_value: piece.start_value,
        key: feed.key.clone(),
        end_value: piece.end_value,
        resume: None,
        first_page: 0,
        max_pages: context.resource.max_pages,
    };
    let mut mapper = Mapper::new(spec(feed, &context.resource), Layout::default());
    let mut said = Said {
        lists: Vec::new(),
        cursor: cursor.cloned(),
        rejects: Vec::new(),
        counters: Counters::default(),
    };
    let resource = &context.resource;
    let mut steps = Steps::new(
        &context.binary,
        &feed.steps,
        resource.nul,
        resource.processing_limits,
    );
    let (mut cap, mut held) = (None, 0);
    let mut walk = context.api.walk(plan, halt.clone());
    while let Some(page) = walk.next().await? {
        if halt.is_cancelled() {
            return Err(Error::Halted);
        }
        let cap = *cap.get_or_insert_with(|| {
            let leeway = clock::now() + TimeDelta::days(1);
            page.server_date.unwrap_or(leeway)
        });
        let (body, records) = match &mut steps {
            Some(steps) => {
                let stepped = steps.page(&page.body, &page.records).await?;
                said.reject(stepped.rejects);
                (Bytes::from(stepped.body), stepped.records)
            }
            None => (page.body, page.records),
        };
        mapper.bound(Bounds::default());
        let mut scan = mapper.scan(&body, &records, Some(cap));
        if let Some(seen) = &scan.cursor
            && said.cursor.as_ref().is_none_or(|last| seen > last)
        {
            said.cursor = Some(seen.clone());
        }
        said.reject(std::mem::take(&mut scan.rejects));
        for (bounds, before_run) in parts {
            mapper.bound(bounds.clone());
            let scan = mapper.scan(&body, &records, Some(cap));
            held += scan.rows.len() as u64;
            if held > feed.max_records {
                let limit = feed.max_records;
                return Err(Error::FeedTooLarge { limit });
            }
            if let Some(keys) = arrays(&mut mapper, &body, &records, &scan) {
                let before_run = *before_run;
                said.lists.push(Listed { keys, before_run });
            }
        }
        if said.rejects.len() as u64 > feed.max_records {
            let limit = feed.max_records;
            return Err(Error::FeedTooLarge { limit });
        }
    }
    let tally = walk.tally();
    let count = |count| i64::try_from(count).unwrap_or(i64::MAX);
    said.counters = Counters {
        rows_rejected: count(said.rejects.len() as u64),
        http_requests: count(tally.requests),
        http_retries: count(tally.retries),
        http_429: count(tally.http_429),
        bytes_in: count(tally.bytes_in),
        ..Counters::default()
    };
    match walk.doubt() {
        None => Ok(said),
        Some(why) => Err(Error::Unproven(why)),
    }
}

impl Said {
    /// Keeps records that name no row. Of what stands in them, nothing: the privacy rules are for the
    /// resource's own fields.
    fn reject(&mut self, rejects: Vec<Reject>) {
        self.rejects.extend(rejects.into_iter().map(|mut reject| {
            reject.key = None;
            reject.path = reject.path.map(|path| format!("deletes.{path}"));
            new_reject(reject)
        }));
    }
}

/// Which records of the feed end which rows: new ones all, those that an earlier run read only rows
/// that were not written since.
fn parts(
    cursor: Option<&CursorValue>,
    stored: Option<&record::Cursor>,
) -> Vec<(Bounds, Option<record::RunId>)> {
    // The run that first read so far. Its own rows were read after the list, and so were all later ones.
    let before = stored.and_then(|stored| stored.updated_by_run);
    let Some(cursor) = cursor else {
        return vec![(Bounds::default(), None)];
    };
    let bound = |closed| {
        Some(Bound {
            value: cursor.clone(),
            closed,
        })
    };
    let known = Bounds {
        upper: bound(true),
        ..Bounds::default()
    };
    let fresh = Bounds {
        lower: bound(false),
        leaves_out_missing: true,
        ..Bounds::default()
    };
    vec![(known, before), (fresh, None)]
}

fn arrays(
    mapper: &mut Mapper,
    body: &[u8],
    records: &[Range<u32>],
    scan: &crate::shape::Scan,
) -> Option<Vec<crate::shape::BinaryArray>> {
    let keep = vec![true; scan.rows.len()];
    let stamp = Stamp {
        run_id: 0,
        synced_at: clock::now(),
    };
    // Only to learn the types of the keys: nothing of these rows is kept.
    mapper.encode(body, records, scan, &keep, stamp);
    Some(scan.probe(mapper.layout())?.key_arrays)
}

fn spec(feed: &DeleteFeed, resource: &Resource) -> MapSpec {
    let incremental = feed.endpoint.incremental.as_ref();
    MapSpec {
        primary_key: feed.key.clone(),
        cursor_path: incremental.and_then(|i| i.cursor_path.clone()),
        cursor: incremental.map_or_else(CursorRule::default, |i| CursorRule {
            notation: i.notation.clone(),
            toward: i.toward,
            order: None,
        }),
        detect: resource.detect,
        nul: resource.nul,
        ..MapSpec::default()
    }
}
