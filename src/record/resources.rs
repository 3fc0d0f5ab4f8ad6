//! What should run: the configuration's resources as rows, and the switch that pauses one.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, Row, postgres::PgRow};

use super::{Error, Level, Mode, NewEvent, ResourceId, event, one_line, slots};
use crate::config::{
    Config, Resource, Source,
    schedule::{Schedule, Timing},
};

/// A resource of the configuration and its identity in the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    pub resource_id: ResourceId,
    pub source: String,
    pub account: String,
    pub resource: String,
}

/// Account, source and resource: what a resource is called in the tables.
type Name = (String, String, String);

/// Upserts every resource of the configuration, marks those gone as removed, and sets `next_run_at` where it
/// is null or the schedule changed. Rows that stay the same are not written.
///
/// All replicas on one database must have the same resources; the last one to register decides.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn register(
    pool: &PgPool,
    config: &Config,
    now: DateTime<Utc>,
) -> Result<Vec<Registered>, Error> {
    let mut wanted: Vec<(Name, &Source, &Resource)> = config
        .sources
        .iter()
        .flat_map(|source| {
            source
                .resources
                .iter()
                .map(move |resource| (source, resource))
        })
        .map(|(source, resource)| (name(source, resource), source, resource))
        .collect();
    // Always in the same order, so that replicas that start together wait for each other in line.
    wanted.sort_by(|a, b| a.0.cmp(&b.0));

    let mut tx = pool.begin().await?;
    let last_slots: HashMap<Name, Option<DateTime<Utc>>> = sqlx::query(
        "select account, source, resource, last_slot from rosterd.resources order by resource_id for update",
    )
    .try_map(|row: PgRow| {
        Ok((
            (row.try_get("account")?, row.try_get("source")?, row.try_get("resource")?),
            row.try_get("last_slot")?,
        ))
    })
    .fetch_all(&mut *tx)
    .await?
    .into_iter()
    .collect();

    let registered = upsert(&mut tx, &wanted, &last_slots, now).await?;
    let ids: Vec<ResourceId> = registered.iter().map(|known| known.resource_id).collect();
    sqlx::query(
        "update rosterd.resources set removed_at = clock_timestamp(), next_run_at = null, next_reconcile_at = null, updated_at = clock_timestamp()
          where removed_at is null and resource_id <> all($1)",
    )
    .bind(&ids)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "insert into rosterd.leases (resource_id) select unnest($1::bigint[]) on conflict (resource_id) do nothing",
    )
    .bind(&ids)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(registered)
}

async fn upsert(
    tx: &mut PgConnection,
    wanted: &[(Name, &Source, &Resource)],
    last_slots: &HashMap<Name, Option<DateTime<Utc>>>,
    now: DateTime<Utc>,
) -> Result<Vec<Registered>, Error> {
    let accounts: Vec<&str> = wanted
        .iter()
        .map(|((account, ..), ..)| account.as_str())
        .collect();
    let sources: Vec<&str> = wanted
        .iter()
        .map(|((_, source, _), ..)| source.as_str())
        .collect();
    let resources: Vec<&str> = wanted
        .iter()
        .map(|((.., resource), ..)| resource.as_str())
        .collect();
    let tables: Vec<String> = wanted
        .iter()
        .map(|(.., r)| format!("{}.{}", r.schema, r.table))
        .collect();
    let credentials: Vec<String> = wanted
        .iter()
        .map(|(_, source, _)| source.credential_key())
        .collect();
    let modes: Vec<&str> = wanted
        .iter()
        .map(|(.., r)| usual_mode(r).as_str())
        .collect();
    let (schedules, zones): (Vec<Option<String>>, Vec<String>) =
        wanted.iter().map(|(.., r)| told(r)).unzip();
    let mut jitters: Vec<f64> = Vec::with_capacity(wanted.len());
    let mut next: Vec<Option<DateTime<Utc>>> = Vec::with_capacity(wanted.len());
    for (name, source, resource) in wanted {
        let slots = slots::of(source, resource);
        let answered = last_slots.get(name).copied().flatten();
        let after = answered.map_or(now, |last| last.max(now));
        jitters.push(
            slots
                .as_ref()
                .map_or(0.0, |slots| slots.jitter.as_seconds_f64()),
        );
        next.push(slots.and_then(|slots| slots.next_after(after)));
    }
    let reconciles: Vec<Option<String>> = wanted
        .iter()
        .map(|(.., r)| r.reconcile.as_ref().map(Schedule::describe))
        .collect();
    let next_reconciles: Vec<Option<DateTime<Utc>>> = wanted
        .iter()
        .map(|(_, source, r)| slots::of_reconcile(source, r)?.next_after(now))
        .collect();
    let freshness: Vec<Option<f64>> = wanted
        .iter()
        .map(|(.., r)| r.freshness.map(|freshness| freshness.as_secs_f64()))
        .collect();
    let fingerprints: Vec<&str> = wanted
        .iter()
        .map(|(.., r)| r.fingerprint.as_str())
        .collect();

    sqlx::query(
        "insert into rosterd.resources as r
           (account, source, resource, target_table, credential_key, mode, schedule, schedule_tz, jitter,
            freshness_slo, fingerprint, next_run_at, reconcile, next_reconcile_at)
         select account, source, resource, target_table, credential_key, mode, schedule, schedule_tz,
                make_interval(secs => jitter), make_interval(secs => freshness), fingerprint, next_run_at,
                reconcile, next_reconcile_at
         from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                     $9::float8[], $10::float8[], $11::text[], $12::timestamptz[], $13::text[], $14::timestamptz[])
           as new (account, source, resource, target_table, credential_key, mode, schedule, schedule_tz,
                   jitter, freshness, fingerprint, next_run_at, reconcile, next_reconcile_at)
         on conflict (account, source, resource) do update
            set target_table = excluded.target_table, credential_key = excluded.credential_key, mode = excluded.mode,
                schedule = excluded.schedule, schedule_tz = excluded.schedule_tz, jitter = excluded.jitter,
                freshness_slo = excluded.freshness_slo, fingerprint = excluded.fingerprint, removed_at = null,
                next_run_at = case
                  when r.next_run_at is null
                    or (r.schedule, r.schedule_tz, r.jitter)
                       is distinct from (excluded.schedule, excluded.schedule_tz, excluded.jitter)
                  then excluded.next_run_at else r.next_run_at end,
                reconcile = excluded.reconcile,
                next_reconcile_at = case
                  when r.next_reconcile_at is null or r.reconcile is distinct from excluded.reconcile
                  then excluded.next_reconcile_at else r.next_reconcile_at end,
                updated_at = clock_timestamp()
          where (r.target_table, r.credential_key, r.mode, r.schedule, r.schedule_tz, r.jitter, r.freshness_slo,
                 r.fingerprint, r.removed_at, r.reconcile)
                is distinct from
                (excluded.target_table, excluded.credential_key, excluded.mode, excluded.schedule,
                 excluded.schedule_tz, excluded.jitter, excluded.freshness_slo, excluded.fingerprint, null, excluded.reconcile)
             or (r.next_run_at is null and excluded.next_run_at is not null)
             or (r.next_reconcile_at is null and excluded.next_reconcile_at is not null)",
    )
    .bind(&accounts)
    .bind(&sources)
    .bind(&resources)
    .bind(tables)
    .bind(credentials)
    .bind(modes)
    .bind(schedules)
    .bind(zones)
    .bind(jitters)
    .bind(freshness)
    .bind(fingerprints)
    .bind(next)
    .bind(reconciles)
    .bind(next_reconciles)
    .execute(&mut *tx)
    .await?;

    let registered = sqlx::query(
        "select r.resource_id, r.source, r.account, r.resource
         from unnest($1::text[], $2::text[], $3::text[]) as wanted (account, source, resource)
         join rosterd.resources r using (account, source, resource)",
    )
    .bind(accounts)
    .bind(sources)
    .bind(resources)
    .try_map(|row: PgRow| registered(&row))
    .fetch_all(tx)
    .await?;
    Ok(registered)
}

/// Finds a resource of the configuration by its names.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn find(
    pool: &PgPool,
    source: &str,
    account: &str,
    resource: &str,
) -> Result<Option<Registered>, Error> {
    let found = sqlx::query(
        "select resource_id, source, account, resource from rosterd.resources
          where source = $1 and account = $2 and resource = $3 and removed_at is null",
    )
    .bind(source)
    .bind(account)
    .bind(resource)
    .try_map(|row: PgRow| registered(&row))
    .fetch_optional(pool)
    .await?;
    Ok(found)
}

fn registered(row: &PgRow) -> Result<Registered, sqlx::Error> {
    Ok(Registered {
        resource_id: row.try_get("resource_id")?,
        source: row.try_get("source")?,
        account: row.try_get("account")?,
        resource: row.try_get("resource")?,
    })
}

/// Lets no slot of a resource run until [`resume`]. A run that is going on goes on; runs by hand still start.
///
/// # Errors
///
/// [`Error::UnknownResource`], [`Error::Database`].
pub async fn pause(
    pool: &PgPool,
    resource_id: ResourceId,
    reason: &str,
    by: &str,
) -> Result<(), Error> {
    let said = if reason.is_empty() {
        by.to_owned()
    } else {
        format!("{by}: {reason}")
    };
    let mut tx = pool.begin().await?;
    sqlx::query(
        "update rosterd.resources set paused_at = coalesce(paused_at, clock_timestamp()), paused_reason = $2
          where resource_id = $1 and removed_at is null returning resource_id",
    )
    .bind(resource_id)
    .bind(one_line(&said, 500))
    .fetch_optional(&mut *tx)
    .await?
    .ok_or(Error::UnknownResource)?;
    say(&mut tx, resource_id, "pause", &format!("paused by {said}")).await?;
    tx.commit().await?;
    Ok(())
}

/// Lets the slots of a resource run again. Returns whether it was paused.
///
/// # Errors
///
/// [`Error::UnknownResource`], [`Error::Database`].
pub async fn resume(pool: &PgPool, resource_id: ResourceId, by: &str) -> Result<bool, Error> {
    let mut tx = pool.begin().await?;
    let was_paused: bool = sqlx::query_scalar(
        "select paused_at is not null from rosterd.resources
          where resource_id = $1 and removed_at is null for update",
    )
    .bind(resource_id)
    .fetch_optional(&mut *tx)
    .await?
    .ok_or(Error::UnknownResource)?;
    if was_paused {
        sqlx::query("update rosterd.resources set paused_at = null, paused_reason = null where resource_id = $1")
            .bind(resource_id)
            .execute(&mut *tx)
            .await?;
        say(&mut tx, resource_id, "resume", &format!("resumed by {by}")).await?;
    }
    tx.commit().await?;
    Ok(was_paused)
}

async fn say(
    tx: &mut PgConnection,
    resource_id: ResourceId,
    kind: &str,
    message: &str,
) -> Result<(), Error> {
    let happened = NewEvent {
        run_id: None,
        resource_id: Some(resource_id),
        level: Level::Info,
        kind,
        message,
        data: serde_json::json!({}),
    };
    event(tx, &happened).await
}

/// What the tables call a resource.
pub(super) fn name(source: &Source, resource: &Resource) -> Name {
    (
        source.account.clone(),
        source.name.clone(),
        resource.name.clone(),
    )
}

/// What a run does when nobody asks for anything else.
pub(super) fn usual_mode(resource: &Resource) -> Mode {
    if resource.endpoint.incremental.is_some() {
        Mode::Incremental
    } else {
        Mode::Full
    }
}

/// The schedule and its zone as people read them.
fn told(resource: &Resource) -> (Option<String>, String) {
    match resource.schedule.as_ref().map(|schedule| &schedule.timing) {
        None => (None, "UTC".to_owned()),
        Some(Timing::Every(period)) => {
            (Some(format!("every {}", short(*period))), "UTC".to_owned())
        }
        Some(Timing::Cron {
            expression, zone, ..
        }) => (Some(expression.clone()), zone.name().to_owned()),
    }
}

/// A duration in its largest whole unit: `90s`, `15m`, `2h`.
fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration.subsec_nanos() > 0 {
        format!("{}ms", duration.as_millis())
    } else if seconds.is_multiple_of(3600) {
        format!("{}h", seconds / 3600)
    } else if seconds.is_multiple_of(60) {
        format!("{}m", seconds / 60)
    } else {
        format!("{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_told_in_its_largest_whole_unit() {
        let cases = [
            (90_000, "90s"),
            (900_000, "15m"),
            (7_200_000, "2h"),
            (1_500, "1500ms"),
            (5_400_000, "90m"),
        ];
        for (millis, text) in cases {
            assert_eq!(short(Duration::from_millis(millis)), text);
        }
    }
}
