//! One page on its way into the batch: the list of its stages.
//!
//! ```text
//! intake ──> scan ──> probe ──> encode ──> batch ──> rejects, sightings, counters ──> checkpoint
//! intake.rs  shape    load      shape      outbox.rs
//! ```

use std::{iter::repeat, sync::Arc};

use chrono::{DateTime, Utc};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    Error,
    fanout::Over,
    intake::Records,
    plan::Checkpoint,
    privacy,
    walk::{LEEWAY, Walker, signed, signed_u64},
};
use crate::{
    clock,
    config::{contract, source::Keep},
    failpoint,
    fetch::Page,
    load::write::{self, Standing, Way},
    record::{Counters, NewReject},
    shape::{Breach, CursorValue, KeySet, Reject, Scan, Stamp, identifier, kept, reason},
};

/// Rows of a page that are merged without asking whether they are new: the merge sees to that too, only not as
/// quickly as a straight COPY.
const FEW: usize = 100;

/// A page that was looked at, and what the table has of its rows.
///
/// Where nothing speaks against it the table is asked while the next page is looked at already.
pub(super) struct InHand {
    page: Page,
    records: Records,
    scan: Scan,
    /// Revision of the layout that the page was looked at with.
    revision: u32,
    asked: Asked,
}

pub(super) enum Asked {
    /// The table was not asked.
    Nothing(Standing),
    UnderWay(AbortOnDropHandle<Answer>),
    Answered(Answer),
}

pub(super) type Answer = Result<Vec<Standing>, Error>;

impl Asked {
    /// Waits until the table has answered. May be dropped and called again.
    async fn answered(&mut self) {
        if let Self::UnderWay(task) = self {
            let answer = task.await.unwrap_or(Err(Error::Crashed));
            *self = Self::Answered(answer);
        }
    }
}

impl InHand {
    fn shares_a_key(&self, scan: &Scan) -> bool {
        let keys: KeySet = self.scan.rows.iter().map(|row| row.key).collect();
        scan.rows.iter().any(|row| keys.contains(&row.key))
    }
}

/// Waits until the table has answered what it has of the page in hand; for ever where there is none.
pub(super) async fn answered(in_hand: &mut Option<InHand>) {
    match in_hand {
        Some(in_hand) => in_hand.asked.answered().await,
        None => std::future::pending().await,
    }
}

impl Walker {
    /// Looks at a page, asks the table about its rows, and meanwhile turns the page before it into
    /// rows of the batch in hand.
    pub(super) async fn absorb(&mut self, page: Page) -> Result<(), Error> {
        self.gauge
            .set_phase(format!("loading page {}", page.number + 1));
        if self.read.cap.is_none() {
            self.read.has_clock = page.server_date.is_some();
            self.read.cap = Some(cap_of(&page));
        }
        let records = self.take(&page).await?;
        privacy::tell_blocked(&self.store, &self.intake.take_blocked()).await?;
        let mut scan = records.scan(&self.mapper, self.read.cap);
        if let Some(frozen) = self.frozen_key(&scan.rejects) {
            return Err(frozen.into());
        }
        self.check_cursor(&scan)?;
        if (self.in_hand.as_ref()).is_some_and(|before| before.shares_a_key(&scan)) {
            let revision = self.layout.revision;
            self.load_in_hand().await?;
            if self.layout.revision != revision {
                scan = records.scan(&self.mapper, self.read.cap);
            }
        }
        let asked = self.ask(&scan).await?;
        let in_hand = InHand {
            revision: self.layout.revision,
            page,
            records,
            scan,
            asked,
        };
        let is_last = in_hand.page.next.is_none() && !in_hand.page.is_part;
        let is_asked = matches!(in_hand.asked, Asked::UnderWay(_));
        if let Some(before) = self.in_hand.replace(in_hand) {
            self.load(before).await?;
            self.hand_over_if_due().await?;
        }
        if is_last || !is_asked || !self.overlaps {
            self.load_in_hand().await?;
        }
        Ok(())
    }

    /// Gives the batch in hand to a commit, where it should go now.
    pub(super) async fn hand_over_if_due(&mut self) -> Result<(), Error> {
        if self.outbox.is_due(&self.store.context.resource.batch) {
            self.outbox.hand_over(None).await?;
        }
        Ok(())
    }

    /// Turns the page in hand into rows, where there is one.
    pub(super) async fn load_in_hand(&mut self) -> Result<(), Error> {
        match self.in_hand.take() {
            Some(in_hand) => self.load(in_hand).await,
            None => Ok(()),
        }
    }

    async fn load(&mut self, mut in_hand: InHand) -> Result<(), Error> {
        if in_hand.revision != self.layout.revision {
            // The page before changed what keys look like.
            in_hand.scan = in_hand.records.scan(&self.mapper, self.read.cap);
            in_hand.asked = self.ask(&in_hand.scan).await?;
        }
        let InHand {
            page,
            mut records,
            mut scan,
            asked,
            ..
        } = in_hand;
        let mut standings = self.standings(&scan, asked).await?;
        self.settle_waiting(&records, &scan, &mut standings).await?;
        failpoint::reach("shape.after_page");

        let mut rejected = std::mem::take(&mut scan.rejects);
        let of_steps = std::mem::take(&mut records.rejects);
        self.outbox.add(&Counters {
            text_replaced: signed_u64(records.replaced),
            ..Counters::default()
        });
        // What the first look rejects has no usable key, so nobody can say which row is its.
        let nameless = (rejected.len() + of_steps.len()) as u64;
        rejected.extend(self.encode(&records, &scan, &standings).await?);

        self.sight(&scan, nameless);
        self.note_loaded(&scan, &rejected);
        self.has_rejects |= !of_steps.is_empty();
        self.keep_rejects(&records, rejected, of_steps);
        self.load_later(&records, &scan).await?;
        self.note_page(&page, &scan, &standings);
        self.note_checkpoint(&page, &scan);
        Ok(())
    }

    /// What becomes of a page's records before they are looked at as rows.
    async fn take(&mut self, page: &Page) -> Result<Records, Error> {
        let halt = self.halt.clone();
        tokio::select! {
            records = self.intake.take(page) => records,
            () = halt.cancelled() => Err(Error::Halted),
        }
    }

    /// Hands on the rows that have keys of these.
    pub(super) async fn make_way(&mut self, scan: &Scan) -> Result<(), Error> {
        if self.outbox.repeats_a_key(scan) {
            self.outbox.hand_over(None).await?;
            if self.outbox.is_probing {
                self.outbox.settle().await?;
            }
            self.offer_checkpoint();
        }
        Ok(())
    }

    /// Asks what the table has of the page's rows.
    pub(super) async fn ask(&mut self, scan: &Scan) -> Result<Asked, Error> {
        self.make_way(scan).await?;
        if !self.outbox.is_probing {
            return Ok(Asked::Nothing(Standing::New));
        }
        if !self.outbox.has_applied(self.layout.revision) {
            // The probe speaks in the layout's types; the table must have them first.
            self.outbox.flush().await?;
        }
        self.read_hashes_if_worth_it().await?;
        let unknown = self.hashes.unknown(&scan.rows);
        let mut standings = vec![Standing::Unchanged; scan.rows.len()];
        // What is gone and has no row is not looked into any further; only the table knows.
        let is_gone = |row: &usize| scan.rows.get(*row).is_some_and(|row| row.is_gone);
        if self.hashes.are_read() && unknown.len() <= FEW && !unknown.iter().any(is_gone) {
            note_standings(&mut standings, &unknown, repeat(Standing::Changed));
            return Ok(Asked::Answered(Ok(standings)));
        }
        let Some(probe) = scan.probe_of(&self.layout, &unknown) else {
            return Ok(Asked::Nothing(Standing::Changed));
        };
        let (store, gauge) = (Arc::clone(&self.store), Arc::clone(&self.gauge));
        let key = self.key();
        let question = async move {
            let answer = store.probe(&gauge, &key, &probe, unknown.len()).await?;
            note_standings(&mut standings, &unknown, answer);
            Ok(standings)
        };
        let task = self.store.context.tracker.spawn(question.in_current_span());
        Ok(Asked::UnderWay(AbortOnDropHandle::new(task)))
    }

    /// What the table has of the rows, once it has answered, and what that makes of records that are gone.
    pub(super) async fn standings(
        &mut self,
        scan: &Scan,
        mut asked: Asked,
    ) -> Result<Vec<Standing>, Error> {
        asked.answered().await;
        let mut standings = match asked {
            Asked::Nothing(standing) => vec![standing; scan.rows.len()],
            Asked::Answered(answer) => answer?,
            Asked::UnderWay(_) => return Err(Error::Crashed),
        };
        self.hashes.note_answer(&standings);
        let soft = !self.store.context.resource.deletes.hard;
        note_gone(scan, &mut standings, self.outbox.is_probing, soft);
        Ok(standings)
    }

    /// Types the rows that are new or changed into the batch in hand. Returns those that cannot be rows.
    pub(super) async fn encode(
        &mut self,
        records: &Records,
        scan: &Scan,
        standings: &[Standing],
    ) -> Result<Vec<Reject>, Error> {
        self.hashes.note_written(&scan.rows, standings);
        let stamp = Stamp {
            run_id: self.store.claim.run_id,
            synced_at: clock::now(),
        };
        let mut rejected = Vec::new();
        for (way, wanted) in [
            (Way::Insert, Standing::New),
            (Way::Merge, Standing::Changed),
            (Way::Delete, Standing::Gone),
        ] {
            let keep: Vec<bool> = standings
                .iter()
                .map(|standing| *standing == wanted)
                .collect();
            if keep.contains(&true) {
                rejected.extend(self.encode_way(records, scan, &keep, way, stamp).await?);
            }
        }
        Ok(rejected)
    }

    async fn encode_way(
        &mut self,
        records: &Records,
        scan: &Scan,
        keep: &[bool],
        way: Way,
        stamp: Stamp,
    ) -> Result<Vec<Reject>, Error> {
        let (body, ranges) = (&records.body, &records.ranges);
        let mut encoded = self.mapper.encode(body, ranges, scan, keep, stamp);
        if let Some(breach) = encoded.breach.take() {
            return Err(breach.into());
        }
        if encoded.revision != self.layout.revision {
            self.layout = Arc::new(self.mapper.layout().clone());
        }
        let outbox = &mut self.outbox;
        let revision = outbox.batch.revision();
        if revision.is_some_and(|revision| revision != encoded.revision) {
            // Rows of the older layout must be in before the table changes under them. The page in
            // hand is not whole yet, so the batch keeps the checkpoint of the page before it.
            let checkpoint = outbox.batch.checkpoint.clone();
            outbox.hand_over(None).await?;
            outbox.batch.checkpoint = checkpoint;
        }
        outbox.add(&Counters {
            text_replaced: signed_u64(encoded.replaced),
            fields_repeated: signed_u64(encoded.repeated),
            values_discarded: signed_u64(encoded.discarded),
            ..Counters::default()
        });
        let rejects = std::mem::take(&mut encoded.rejects);
        self.read.rows += encoded.rows.len() as u64;
        let kept = self.keeps_records().then(|| write::Records {
            body: records.body.clone(),
            ranges: (encoded.rows.iter())
                .map(|&row| {
                    let record = scan.rows.get(row as usize).map(|row| row.record as usize);
                    record
                        .and_then(|at| ranges.get(at).cloned())
                        .unwrap_or_default()
                })
                .collect(),
        });
        let outbox = &mut self.outbox;
        let (layout, keyed) = (&self.layout, self.store.keyed);
        outbox
            .batch
            .push(encoded, scan.row_keys(), layout, keyed, way, kept);
        Ok(rejects)
    }

    /// The key that does not fit its column, where the contract has the run fail of that.
    fn frozen_key(&self, rejected: &[Reject]) -> Option<Breach> {
        if self.contract.data_type != contract::Terms::Freeze {
            return None;
        }
        let misfit = (rejected.iter()).find(|r| r.reason == reason::CONTRACT_DATA_TYPE)?;
        Some(Breach {
            clause: "data_type",
            table: identifier(&self.store.context.resource.table),
            field: misfit.path.clone().unwrap_or_default(),
        })
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
        self.outbox.batch.see(keys.unwrap_or_default());
    }

    /// Notes the keys of a page's good records, where one of them may have been bad before.
    pub(super) fn note_loaded(&mut self, scan: &Scan, rejected: &[Reject]) {
        if self.has_rejects {
            let bad: std::collections::HashSet<usize> =
                rejected.iter().map(|reject| reject.record).collect();
            let good = scan.rows.iter().enumerate();
            let good = good.filter(|(_, row)| !bad.contains(&(row.record as usize)));
            self.outbox
                .batch
                .loaded
                .extend(good.filter_map(|(at, _)| scan.key_text(at)));
        }
        self.has_rejects |= !rejected.is_empty();
    }

    fn keeps_records(&self) -> bool {
        self.store.context.resource.kept_of_rejects == Keep::Record
    }

    /// Counts and keeps the page's rejects. Of those that never got through the steps, nothing but
    /// the reason: the privacy rules could not be applied to them.
    pub(super) fn keep_rejects(
        &mut self,
        records: &Records,
        rejected: Vec<Reject>,
        of_steps: Vec<Reject>,
    ) {
        let keeps = self.keeps_records();
        self.read.rejects += (rejected.len() + of_steps.len()) as u64;
        let by_contract = |reject: &&Reject| reason::is_contract(reject.reason);
        self.outbox.add(&Counters {
            rows_rejected: signed(rejected.len() + of_steps.len()),
            rows_discarded: signed(rejected.iter().filter(by_contract).count()),
            ..Counters::default()
        });
        let batch = &mut self.outbox.batch;
        batch.rejects.extend(of_steps.into_iter().map(new_reject));
        batch.rejects.extend(rejected.into_iter().map(|reject| {
            let range = records.ranges.get(reject.record).filter(|_| keeps);
            let record =
                range.and_then(|range| records.body.get(range.start as usize..range.end as usize));
            NewReject {
                record: record.and_then(kept),
                ..new_reject(reject)
            }
        }));
    }

    /// Counts the page and its rows.
    fn note_page(&mut self, page: &Page, scan: &Scan, standings: &[Standing]) {
        self.outbox.add(&Counters {
            pages: 1,
            records_read: signed(page.records.len()),
            rows_unchanged: count_unchanged(standings) + signed_u64(scan.duplicates),
            cursor_future_rows: signed_u64(scan.cursor_future),
            cursor_missing_rows: signed_u64(scan.cursor_missing),
            records_left_out: signed_u64(scan.left_out),
            records_superseded: signed_u64(scan.superseded),
            ..Counters::default()
        });
        self.note_keys(scan);
        self.outbox.batch.note_page(page.records.len());
        self.pages = page.number + 1;
        self.read.records += page.records.len() as u64;
        self.read.cursor = self.further(self.read.cursor.clone(), scan.cursor.clone());
        if page.total.is_some() {
            self.gauge.set_total(page.total);
        }
    }

    /// Notes the keys of the batch in hand.
    pub(super) fn note_keys(&mut self, scan: &Scan) {
        if self.store.keyed {
            let keys = scan.rows.iter().map(|row| row.key);
            self.outbox.batch.keys.extend(keys);
        }
    }

    /// Gives the batch in hand the place to resume at.
    pub(super) fn offer_checkpoint(&mut self) {
        let checkpoint = self.waiting.checkpoint(&self.checkpoint);
        self.outbox.batch.checkpoint.clone_from(checkpoint);
    }

    /// Moves the place to resume at behind the page that was absorbed.
    fn note_checkpoint(&mut self, page: &Page, scan: &Scan) {
        if page.doubtful || page.is_part || (self.is_fanout() && self.trail.is_none()) {
            // A walk that went on from here would not know of the doubt.
            self.checkpoint = None;
        } else if !scan.rows.is_empty() {
            self.checkpoint = Some(Checkpoint {
                at: page.at.clone(),
                page: page.number,
                anchor: anchor(scan),
                start_value: self.piece.start_value.clone(),
                end_value: self.piece.end_value.clone(),
                cursor: self.stored.as_ref().map(CursorValue::to_json),
                cap: self.read.cap,
                has_clock: self.read.has_clock,
                is_unsorted: self.read.is_unsorted,
                seen: self.read.cursor.as_ref().map(CursorValue::to_json),
                records: self.read.records,
                snapshot: self.snapshot.clone(),
                trail: self.trail.clone(),
                stored_at: clock::now(),
            });
        }
        self.offer_checkpoint();
    }

    /// Notes that a parent's records are all there: its cursor, and that the walk may go on behind it.
    pub(super) fn close_unit(&mut self, over: Over) {
        let seen = self.read.cursor.take();
        if over.is_proven && over.partition.is_some() {
            let (cursor, flaw) = self.watermark_of(&over, seen);
            self.unit_flaw = self.unit_flaw.take().or(flaw);
            if let Some((partition, cursor)) = over.partition.zip(cursor) {
                let cursors = &mut self.outbox.batch.cursors;
                cursors.insert(partition, cursor.to_json());
            }
        }
        self.checkpoint = over.trail.map(|trail| Checkpoint {
            at: None,
            page: self.pages.saturating_sub(1),
            anchor: String::new(),
            start_value: self.piece.start_value.clone(),
            end_value: self.piece.end_value.clone(),
            cursor: self.stored.as_ref().map(CursorValue::to_json),
            cap: self.read.cap,
            has_clock: self.read.has_clock,
            is_unsorted: false,
            seen: None,
            records: self.read.records,
            snapshot: self.snapshot.clone(),
            trail: Some(trail),
            stored_at: clock::now(),
        });
        self.offer_checkpoint();
        // So that also parents without records are put behind in time.
        self.outbox.batch.note_page(0);
    }

    /// What [`Checkpoint::anchor`] would be after this page.
    pub(super) async fn anchor_of(&mut self, page: &Page) -> Result<String, Error> {
        // Through the same steps as the page that the anchor was taken of.
        let records = self.take(page).await?;
        Ok(anchor(&records.scan(&self.mapper, self.read.cap)))
    }
}

/// Notes what some of the rows are to the table.
fn note_standings(
    standings: &mut [Standing],
    rows: &[usize],
    news: impl IntoIterator<Item = Standing>,
) {
    for (&row, new) in rows.iter().zip(news) {
        if let Some(standing) = standings.get_mut(row) {
            *standing = new;
        }
    }
}

pub(super) fn count_unchanged(standings: &[Standing]) -> i64 {
    let unchanged = standings.iter().filter(|s| **s == Standing::Unchanged);
    signed(unchanged.count())
}

/// Takes the records that say of themselves that they are gone out of those that become rows.
/// `soft`: their rows are marked, and stay.
pub(super) fn note_gone(scan: &Scan, standings: &mut [Standing], is_probing: bool, soft: bool) {
    for (row, standing) in scan.rows.iter().zip(standings) {
        *standing = match (row.is_gone, *standing) {
            // Without a probe, rows of this very run may have the key.
            (true, Standing::New) if is_probing => Standing::Unchanged,
            (true, Standing::Marked) if soft => Standing::Unchanged,
            (true, _) => Standing::Gone,
            (false, Standing::Marked) => Standing::Changed,
            (false, standing) => standing,
        };
    }
}

/// The time of the API's clock at a page; no cursor may pass that of a walk's first.
pub(super) fn cap_of(page: &Page) -> DateTime<Utc> {
    // Without a clock of the API's, a day of leeway still keeps out dates of years to come.
    page.server_date.unwrap_or_else(|| clock::now() + LEEWAY)
}

/// Tells whether a page still shows the same records in the same order.
fn anchor(scan: &Scan) -> String {
    let keys: Vec<[u8; 16]> = scan.rows.iter().map(|row| row.key.to_be_bytes()).collect();
    format!("{:032x}", xxh3_128(keys.as_flattened()))
}

pub(super) fn new_reject(reject: Reject) -> NewReject {
    NewReject {
        key: reject.key,
        stage: "shape",
        column: reject.path,
        reason: reject.reason.to_owned(),
        sqlstate: None,
        record: None,
    }
}
