//! What replicas may send under the limits of a credential they share.
//!
//! One short transaction renews a share. The credential's row is locked first, so that shares are dealt
//! one after the other; reading them in the same statement would read what was there before the lock.

use std::time::Duration;

use sqlx::{PgPool, Row};

use super::Error;

/// How long a request may be on its way after its sender's share ran out.
const STRAY: Duration = Duration::from_secs(1);

/// How long one of several has what cannot be divided, before it is another's turn.
const TURN: f64 = 5.0;

/// A share to be renewed.
#[derive(Debug)]
pub struct ShareAsked<'a> {
    pub credential_key: &'a str,
    pub holder: &'a str,
    /// How long it holds without being renewed.
    pub lasts: Duration,
    pub windows: Vec<WindowAsked>,
    /// Nobody is to send for so long.
    pub pause: Option<Duration>,
    /// What the API last said of its own count.
    pub left: Option<(u64, Duration)>,
}

/// One window of it.
#[derive(Debug, Clone, Copy)]
pub struct WindowAsked {
    pub whole: i64,
    pub per: Duration,
    pub used: i64,
    pub wanted: i64,
}

/// The share as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareHeld {
    pub windows: Vec<i64>,
    /// Nobody is to send for so long.
    pub pause: Option<Duration>,
}

/// Another's share.
#[derive(Debug)]
struct Other {
    holder: String,
    held: Vec<i64>,
    wanted: Vec<i64>,
    /// For how long it has been over.
    over: f64,
}

/// Renews a share of a credential's limits: as much as is wanted, where the others leave it.
///
/// # Errors
///
/// [`Error::Database`].
pub async fn share(pool: &PgPool, asked: &ShareAsked<'_>) -> Result<ShareHeld, Error> {
    let mut transaction = pool.begin().await?;
    let slowest = asked.windows.iter().filter(|window| !window.per.is_zero());
    let emission = slowest
        .clone()
        .map(|window| window.per.as_secs_f64() / window.whole.max(1) as f64)
        .fold(0.0, f64::max);
    let burst = asked.windows.iter().map(|window| window.whole).min();
    let (left, reset) = asked
        .left
        .map_or((None, None), |(left, reset)| (Some(left), Some(reset)));
    let row = sqlx::query(
        "insert into rosterd.api_budgets as b (credential_key, emission, burst)
         values ($1, make_interval(secs => $2), $3)
         on conflict (credential_key) do update
            set emission = excluded.emission, burst = excluded.burst, updated_at = clock_timestamp(),
                blocked_until = greatest(b.blocked_until, clock_timestamp() + make_interval(secs => $4)),
                blocked_reason = case when $4::float8 is null then b.blocked_reason
                                      else 'the API asked to wait' end,
                remaining = coalesce($5, b.remaining),
                reset_at = coalesce(clock_timestamp() + make_interval(secs => $6), b.reset_at)
         returning extract(epoch from b.blocked_until - clock_timestamp())::float8 as blocked,
                   extract(epoch from clock_timestamp())::float8 as now",
    )
    .bind(asked.credential_key)
    .bind(emission)
    .bind(burst.unwrap_or(1))
    .bind(asked.pause.map(|pause| pause.as_secs_f64()))
    .bind(left.map(|left| i64::try_from(left).unwrap_or(i64::MAX)))
    .bind(reset.map(|reset: Duration| reset.as_secs_f64()))
    .fetch_one(&mut *transaction)
    .await?;
    let (blocked, now): (Option<f64>, f64) = (row.try_get("blocked")?, row.try_get("now")?);
    let rows = sqlx::query(
        "select holder, held, wanted, extract(epoch from clock_timestamp() - held_until)::float8 as over
           from rosterd.api_budget_shares where credential_key = $1 and holder <> $2",
    )
    .bind(asked.credential_key)
    .bind(asked.holder)
    .fetch_all(&mut *transaction)
    .await?;
    let others: Vec<Other> = rows
        .iter()
        .map(|row| {
            Ok(Other {
                holder: row.try_get("holder")?,
                held: row.try_get("held")?,
                wanted: row.try_get("wanted")?,
                over: row.try_get("over")?,
            })
        })
        .collect::<Result<_, sqlx::Error>>()?;
    let windows: Vec<i64> = (0..asked.windows.len())
        .filter_map(|at| deal(asked, &others, at, now))
        .collect();
    let held: Vec<i64> = asked
        .windows
        .iter()
        .zip(&windows)
        .map(|(window, granted)| window.used.max(*granted))
        .collect();
    let wanted: Vec<i64> = asked.windows.iter().map(|window| window.wanted).collect();
    // Nothing more is sent under a share of nothing.
    let is_over = wanted.iter().all(|wanted| *wanted == 0);
    if is_over && held.iter().all(|held| *held == 0) {
        sqlx::query(
            "delete from rosterd.api_budget_shares where credential_key = $1 and holder = $2",
        )
        .bind(asked.credential_key)
        .bind(asked.holder)
        .execute(&mut *transaction)
        .await?;
    } else {
        let lasts = if is_over {
            0.0
        } else {
            asked.lasts.as_secs_f64()
        };
        sqlx::query(
            "insert into rosterd.api_budget_shares (credential_key, holder, held, wanted, held_until)
             values ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))
             on conflict (credential_key, holder) do update
                set held = excluded.held, wanted = excluded.wanted, held_until = excluded.held_until",
        )
        .bind(asked.credential_key)
        .bind(asked.holder)
        .bind(&held)
        .bind(&wanted)
        .bind(lasts)
        .execute(&mut *transaction)
        .await?;
    }
    // A day is longer than any window that is told of here would still count.
    sqlx::query(
        "delete from rosterd.api_budget_shares
          where credential_key = $1 and held_until < clock_timestamp() - interval '1 day'",
    )
    .bind(asked.credential_key)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    let pause = blocked.filter(|seconds| *seconds > 0.0);
    Ok(ShareHeld {
        windows,
        pause: pause.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
    })
}

/// What one window has for the one who asks. What others hold is never dealt again; what they want is
/// divided, and what cannot be divided goes round.
fn deal(asked: &ShareAsked<'_>, others: &[Other], at: usize, now: f64) -> Option<i64> {
    let window = asked.windows.get(at)?;
    let counts = |other: &&Other| other.over < (window.per + STRAY).as_secs_f64();
    let held: i64 = others
        .iter()
        .filter(counts)
        // A replica with other limits holds we do not know what of ours.
        .map(|other| match other.held.len() == asked.windows.len() {
            true => other.held.get(at).copied().unwrap_or(0),
            false => other.held.iter().copied().max().unwrap_or(0),
        })
        .sum();
    let free = (window.whole - held).max(0);
    let mut rivals: Vec<(&str, i64)> = others
        .iter()
        .filter(|other| other.over < 0.0)
        .map(|other| {
            let wanted = other.wanted.get(at).copied().unwrap_or(window.whole);
            (other.holder.as_str(), wanted)
        })
        .filter(|(_, wanted)| *wanted > 0)
        .collect();
    rivals.push((asked.holder, window.wanted));
    rivals.sort_unstable();
    let count = i64::try_from(rivals.len()).unwrap_or(i64::MAX);
    let turn = (now / TURN) as i64;
    let fair = |rank: usize| {
        let rank = i64::try_from(rank).unwrap_or(i64::MAX);
        let has_turn = (rank.wrapping_add(turn)).rem_euclid(count) < window.whole % count;
        window.whole / count + i64::from(has_turn)
    };
    let mut mine = 0;
    let mut wanted_by_others = 0;
    for (rank, (holder, wanted)) in rivals.iter().enumerate() {
        if *holder == asked.holder {
            mine = fair(rank);
        } else {
            wanted_by_others += (*wanted).min(fair(rank));
        }
    }
    let due = mine.max(window.whole - wanted_by_others);
    Some(window.wanted.min(due).min(free))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(holder: &str, whole: i64, used: i64, wanted: i64) -> ShareAsked<'_> {
        ShareAsked {
            credential_key: "hr/default",
            holder,
            lasts: Duration::from_secs(10),
            windows: vec![WindowAsked {
                whole,
                per: Duration::from_secs(60),
                used,
                wanted,
            }],
            pause: None,
            left: None,
        }
    }

    fn other(holder: &str, held: i64, wanted: i64, over: f64) -> Other {
        Other {
            holder: holder.into(),
            held: vec![held],
            wanted: vec![wanted],
            over,
        }
    }

    #[test]
    fn shares_never_add_up_to_more_than_the_whole() {
        for (name, whole, wanted, others, expected) in [
            ("alone", 300, 300, vec![], 300),
            ("alone, wanting less", 300, 75, vec![], 75),
            (
                "the other wants little",
                300,
                300,
                vec![other("b", 10, 20, -5.0)],
                280,
            ),
            (
                "both want all",
                300,
                300,
                vec![other("b", 0, 300, -5.0)],
                150,
            ),
            (
                "the other still holds",
                300,
                300,
                vec![other("b", 300, 300, -5.0)],
                0,
            ),
            (
                "the other rests",
                300,
                300,
                vec![other("b", 40, 0, 0.1)],
                260,
            ),
            (
                "the other died, its window not over",
                300,
                300,
                vec![other("b", 75, 150, 59.0)],
                225,
            ),
            (
                "the other died long ago",
                300,
                300,
                vec![other("b", 75, 150, 62.0)],
                300,
            ),
        ] {
            let granted = deal(&asked("a", whole, 0, wanted), &others, 0, 0.0);
            assert_eq!(granted, Some(expected), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_divided_goes_round() {
        let mut turns = Vec::new();
        for turn in 0..4 {
            let now = f64::from(turn) * TURN;
            let a = deal(&asked("a", 1, 0, 1), &[other("b", 0, 1, -1.0)], 0, now);
            let b = deal(&asked("b", 1, 0, 1), &[other("a", 0, 1, -1.0)], 0, now);
            turns.push((a.unwrap(), b.unwrap()));
        }
        assert_eq!(turns, [(1, 0), (0, 1), (1, 0), (0, 1)]);
    }

    #[test]
    fn a_replica_with_other_limits_counts_with_all_it_may_hold() {
        let mut odd = other("b", 5, 5, -1.0);
        odd.held = vec![4, 200];
        let granted = deal(&asked("a", 300, 0, 300), &[odd], 0, 0.0);
        assert_eq!(granted, Some(100));
    }
}
