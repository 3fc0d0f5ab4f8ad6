//! One run's row: its words, its counters, its end.

use std::{
    fmt,
    ops::{Add, AddAssign},
};

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use super::{Claim, Error, Worker, one_line};
use crate::fault::{Class, Fault};

/// What started a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trigger {
    Schedule,
    /// Slots were missed; one run answers them all.
    CatchUp,
    Manual,
    Backfill,
    Api,
    /// Goes on where an interrupted run stopped.
    Retry,
    Startup,
}

impl Trigger {
    /// The word that stands in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::CatchUp => "catch_up",
            Self::Manual => "manual",
            Self::Backfill => "backfill",
            Self::Api => "api",
            Self::Retry => "retry",
            Self::Startup => "startup",
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a run reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// From the cursor on.
    Incremental,
    /// Everything.
    Full,
    /// A range that was asked for.
    Backfill,
    /// Everything, to find what was missed or deleted.
    Reconcile,
}

impl Mode {
    /// The word that stands in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Incremental => "incremental",
            Self::Full => "full",
            Self::Backfill => "backfill",
            Self::Reconcile => "reconcile",
        }
    }

    pub(super) fn from_word(word: &str) -> Option<Self> {
        [
            Self::Incremental,
            Self::Full,
            Self::Backfill,
            Self::Reconcile,
        ]
        .into_iter()
        .find(|mode| mode.as_str() == word)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    Queued,
    Running,
    /// Complete: the walk was proven.
    Succeeded,
    /// What is in the table is right, but not all is there.
    Partial,
    Failed,
    /// A person stopped it.
    Cancelled,
    /// Its process stopped or died. It is resumed at once, and nobody need act.
    Interrupted,
    /// It never started.
    Skipped,
}

impl Status {
    /// The word that stands in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::Skipped => "skipped",
        }
    }

    /// Whether a run that was started can end like this.
    fn is_ending(self) -> bool {
        match self {
            Self::Succeeded
            | Self::Partial
            | Self::Failed
            | Self::Cancelled
            | Self::Interrupted => true,
            Self::Queued | Self::Running | Self::Skipped => false,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a run did, as a difference to be added. Times are milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub pages: i64,
    pub records_read: i64,
    pub rows_inserted: i64,
    pub rows_updated: i64,
    pub rows_unchanged: i64,
    pub rows_deleted: i64,
    pub rows_rejected: i64,
    /// Characters that Postgres cannot store and that became U+FFFD.
    pub text_replaced: i64,
    /// Rows whose cursor value lies in the future.
    pub cursor_future_rows: i64,
    /// Rows without a readable cursor value.
    pub cursor_missing_rows: i64,
    /// Records that are out of the bounds of the walk, or that a rule leaves out.
    pub records_left_out: i64,
    pub http_requests: i64,
    pub http_retries: i64,
    pub http_429: i64,
    /// Decoded bytes.
    pub bytes_in: i64,
    pub wait_rate_ms: i64,
    pub wait_retry_ms: i64,
    pub fetch_ms: i64,
    pub write_ms: i64,
    pub schema_changes: i64,
    /// Of the rejected rows, those that the contract leaves out.
    pub rows_discarded: i64,
    /// Values that the contract left out of rows.
    pub values_discarded: i64,
    /// Records that gave way to a later version of their row.
    pub rows_behind: i64,
    /// Fields that stood twice in their record, of which the last counts.
    pub fields_repeated: i64,
    /// Records that gave way to another record of their key with other contents, in the same walk.
    pub records_superseded: i64,
}

impl Counters {
    /// In the order of `counted!`.
    fn values(&self) -> [i64; 25] {
        [
            self.pages,
            self.records_read,
            self.rows_inserted,
            self.rows_updated,
            self.rows_unchanged,
            self.rows_deleted,
            self.rows_rejected,
            self.text_replaced,
            self.cursor_future_rows,
            self.http_requests,
            self.http_retries,
            self.http_429,
            self.bytes_in,
            self.wait_rate_ms,
            self.wait_retry_ms,
            self.fetch_ms,
            self.write_ms,
            self.schema_changes,
            self.rows_discarded,
            self.values_discarded,
            self.cursor_missing_rows,
            self.records_left_out,
            self.rows_behind,
            self.fields_repeated,
            self.records_superseded,
        ]
    }

    /// Rows inserted, updated or deleted.
    #[must_use]
    pub fn rows_changed(&self) -> i64 {
        self.rows_inserted + self.rows_updated + self.rows_deleted
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.pages += other.pages;
        self.records_read += other.records_read;
        self.rows_inserted += other.rows_inserted;
        self.rows_updated += other.rows_updated;
        self.rows_unchanged += other.rows_unchanged;
        self.rows_deleted += other.rows_deleted;
        self.rows_rejected += other.rows_rejected;
        self.text_replaced += other.text_replaced;
        self.cursor_future_rows += other.cursor_future_rows;
        self.http_requests += other.http_requests;
        self.http_retries += other.http_retries;
        self.http_429 += other.http_429;
        self.bytes_in += other.bytes_in;
        self.wait_rate_ms += other.wait_rate_ms;
        self.wait_retry_ms += other.wait_retry_ms;
        self.fetch_ms += other.fetch_ms;
        self.write_ms += other.write_ms;
        self.schema_changes += other.schema_changes;
        self.rows_discarded += other.rows_discarded;
        self.values_discarded += other.values_discarded;
        self.cursor_missing_rows += other.cursor_missing_rows;
        self.records_left_out += other.records_left_out;
        self.rows_behind += other.rows_behind;
        self.fields_repeated += other.fields_repeated;
        self.records_superseded += other.records_superseded;
    }
}

impl Add for Counters {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

/// The assignments that add [`Counters::values`], bound as `$2`, to a run.
macro_rules! counted {
    () => {
        "pages = pages + $2[1], records_read = records_read + $2[2],
         rows_inserted = rows_inserted + $2[3], rows_updated = rows_updated + $2[4],
         rows_unchanged = rows_unchanged + $2[5], rows_deleted = rows_deleted + $2[6],
         rows_rejected = rows_rejected + $2[7], text_replaced = text_replaced + $2[8],
         cursor_future_rows = cursor_future_rows + $2[9], http_requests = http_requests + $2[10],
         http_retries = http_retries + $2[11], http_429 = http_429 + $2[12], bytes_in = bytes_in + $2[13],
         wait_rate_ms = wait_rate_ms + $2[14], wait_retry_ms = wait_retry_ms + $2[15],
         fetch_ms = fetch_ms + $2[16], write_ms = write_ms + $2[17],
         schema_changes = schema_changes + $2[18], rows_discarded = rows_discarded + $2[19],
         values_discarded = values_discarded + $2[20],
         cursor_missing_rows = cursor_missing_rows + $2[21],
         records_left_out = records_left_out + $2[22], rows_behind = rows_behind + $2[23],
         fields_repeated = fields_repeated + $2[24],
         records_superseded = records_superseded + $2[25]"
    };
}

/// Adds to the run's counters, inside the transaction of the batch that they count.
///
/// # Errors
///
/// [`Error::Lost`] when the run was closed for us: the caller must roll back. [`Error::Database`].
pub async fn add_counters(
    tx: &mut PgConnection,
    claim: &Claim,
    delta: &Counters,
) -> Result<(), Error> {
    let done = sqlx::query(concat!(
        "update rosterd.runs set ",
        counted!(),
        " where run_id = $1 and status = 'running'"
    ))
    .bind(claim.run_id)
    .bind(delta.values())
    .execute(tx)
    .await?;
    if done.rows_affected() == 1 {
        Ok(())
    } else {
        Err(Error::Lost)
    }
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Ending {
    /// Succeeded, partial, failed, cancelled or interrupted.
    pub status: Status,
    pub fault: Option<Fault>,
    /// In words, where there is no fault: who cancelled, what is missing.
    pub reason: Option<String>,
    /// What was not added yet.
    pub counters: Counters,
    pub cursor_from: Option<String>,
    pub cursor_to: Option<String>,
    /// Time of the source up to which the table is complete.
    pub watermark_at: Option<DateTime<Utc>>,
}

impl Ending {
    /// An ending with nothing more to say than its status.
    #[must_use]
    pub fn of(status: Status) -> Self {
        Self {
            status,
            fault: None,
            reason: None,
            counters: Counters::default(),
            cursor_from: None,
            cursor_to: None,
            watermark_at: None,
        }
    }
}

/// Closes the run and its attempt and frees the lease, in one transaction.
///
/// A run that was taken over meanwhile was closed by the taker; then this changes nothing and is no error.
/// Neither is a second call, when the answer to the first commit was lost.
///
/// # Errors
///
/// [`Error::NotAnEnding`], [`Error::Database`].
pub async fn finish(
    pool: &PgPool,
    worker: &Worker,
    claim: &Claim,
    ending: Ending,
) -> Result<(), Error> {
    if !ending.status.is_ending() {
        return Err(Error::NotAnEnding(ending.status));
    }
    let mut tx = pool.begin().await?;
    // No data hangs on this, so the fence need not be ours: a lease that still names our run is ours to free.
    if close(&mut tx, claim.run_id, &ending).await? {
        free(&mut tx, worker, claim, None, ending.status).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// As [`finish`], inside the transaction of the last batch, which it fences too. Call it last.
///
/// # Errors
///
/// [`Error::Lost`] when another worker has taken over: the caller must roll back. [`Error::NotAnEnding`],
/// [`Error::Database`].
pub async fn finish_in(
    tx: &mut PgConnection,
    worker: &Worker,
    claim: &Claim,
    ending: Ending,
) -> Result<(), Error> {
    if !ending.status.is_ending() {
        return Err(Error::NotAnEnding(ending.status));
    }
    let ours = close(tx, claim.run_id, &ending).await?
        && free(tx, worker, claim, Some(claim.fence), ending.status).await?;
    if ours { Ok(()) } else { Err(Error::Lost) }
}

/// Frees the lease at the end of the run. `false`: it is not ours any more.
async fn free(
    tx: &mut PgConnection,
    worker: &Worker,
    claim: &Claim,
    fence: Option<i64>,
    status: Status,
) -> Result<bool, Error> {
    let freed = sqlx::query(
        "update rosterd.leases
            set run_id = null, owner = null, expires_at = null, phase = null, cancel_requested = false,
                heartbeat_at = clock_timestamp(), resume_of = $5
          where resource_id = $1 and run_id = $2 and owner = $3 and ($4::bigint is null or fence = $4)",
    )
    .bind(claim.resource_id)
    .bind(claim.run_id)
    .bind(&worker.name)
    .bind(fence)
    .bind((status == Status::Interrupted).then_some(claim.run_id))
    .execute(tx)
    .await?;
    Ok(freed.rows_affected() == 1)
}

/// Closes a run's row and its attempt. `false`: it was closed before.
pub(super) async fn close(
    tx: &mut PgConnection,
    run_id: i64,
    ending: &Ending,
) -> Result<bool, Error> {
    // The table refuses a failure without a cause; a history with a vague line is better than none.
    let unexplained = Fault {
        class: Class::Internal,
        code: "unexplained".to_owned(),
        message: "the run failed without saying why".to_owned(),
        hint: "please report this".to_owned(),
        retryable: true,
    };
    let fault = match (&ending.fault, ending.status) {
        (None, Status::Failed) => Some(&unexplained),
        (fault, _) => fault.as_ref(),
    };
    let reason = match (&ending.reason, fault, ending.status) {
        (None, None, Status::Partial) => Some("not everything could be loaded".to_owned()),
        (reason, ..) => reason.as_deref().map(|text| one_line(text, 500)),
    };

    let closed: Option<i32> = sqlx::query_scalar(concat!(
        "update rosterd.runs as r set ",
        counted!(),
        ", status = $3, finished_at = clock_timestamp(), reason = $4, cursor_from = coalesce($5, cursor_from),
           cursor_to = coalesce($6, cursor_to), watermark_at = coalesce($7, watermark_at),
           error_class = $8, error_code = $9, error_message = $10, error_hint = $11, error_fingerprint = $12,
           retryable = $13,
           next_retry_at = case when $13 then (select d.next_run_at from rosterd.resources d where d.resource_id = r.resource_id) end
         where run_id = $1 and status in ('queued', 'running')
         returning attempts"
    ))
    .bind(run_id)
    .bind(ending.counters.values())
    .bind(ending.status.as_str())
    .bind(reason)
    .bind(ending.cursor_from.as_deref().map(|text| one_line(text, 200)))
    .bind(ending.cursor_to.as_deref().map(|text| one_line(text, 200)))
    .bind(ending.watermark_at)
    .bind(fault.map(|f| f.class.as_str()))
    .bind(fault.map(|f| one_line(&f.code, 100)))
    .bind(fault.map(|f| one_line(&f.message, 500)))
    .bind(fault.map(|f| one_line(&f.hint, 500)))
    .bind(fault.map(fingerprint))
    .bind(fault.map(|f| f.retryable))
    .fetch_optional(&mut *tx)
    .await?;
    let Some(attempt) = closed else {
        return Ok(false);
    };

    sqlx::query(
        "update rosterd.attempts a
            set finished_at = r.finished_at, outcome = r.status, pages = r.pages, records_read = r.records_read,
                error_class = r.error_class, error_code = r.error_code, error_message = r.error_message,
                http_status = substring(r.error_code from '^HTTP ([1-5][0-9]{2})$')::smallint
           from rosterd.runs r
          where r.run_id = $1 and a.run_id = r.run_id and a.attempt = $2",
    )
    .bind(run_id)
    .bind(attempt)
    .execute(tx)
    .await?;
    Ok(true)
}

/// The same for the same cause: words of the message that hold a digit are left out of it.
fn fingerprint(fault: &Fault) -> String {
    let words: Vec<&str> = fault
        .message
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty() && !word.chars().any(|c| c.is_ascii_digit()))
        .collect();
    let cause = format!("{}\n{}\n{}", fault.class, fault.code, words.join(" "));
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(cause.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: &str, message: &str) -> Fault {
        Fault {
            class: Class::SourceResponse,
            code: code.to_owned(),
            message: message.to_owned(),
            hint: String::new(),
            retryable: false,
        }
    }

    #[test]
    fn the_same_cause_has_the_same_fingerprint_whatever_its_numbers() {
        let one = fingerprint(&fault(
            "HTTP 500",
            "page 41 of 6fa459ea-ee8a-3ca4-894e-db77e160355e: no data",
        ));
        assert_eq!(
            one,
            fingerprint(&fault(
                "HTTP 500",
                "page 7 of 16fd2706-8baf-433b-82eb-8c7fada847da: no data"
            ))
        );
        assert_ne!(
            one,
            fingerprint(&fault(
                "HTTP 502",
                "page 41 of 6fa459ea-ee8a-3ca4-894e-db77e160355e: no data"
            ))
        );
    }

    #[test]
    fn counters_add_up() {
        let one = Counters {
            pages: 1,
            rows_inserted: 2,
            schema_changes: 3,
            ..Counters::default()
        };
        let both = one + one;
        assert_eq!(both.values().iter().sum::<i64>(), 12);
        assert_eq!(both.rows_changed(), 4);
    }

    #[test]
    fn each_counter_is_added_to_its_own_column() {
        for position in 1..=Counters::default().values().len() {
            assert_eq!(counted!().matches(&format!("$2[{position}]")).count(), 1);
        }
    }
}
