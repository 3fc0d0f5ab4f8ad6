//! Named points where a test may kill the process as `kill -9` would.
//!
//! Built only with the feature `failpoints`; without it [`reach`] is nothing. A test sets
//! `ROSTERD_FAILPOINT=name` or `name:k` (the k-th time the point is reached, from 1).

/// The points of a run, in the order in which a run reaches them.
pub const POINTS: [&str; 14] = [
    "claim.before_commit",
    "claim.after_commit",
    "run.before_first_request",
    "fetch.before_request",
    "fetch.after_headers",
    "fetch.after_page",
    "shape.after_page",
    "load.before_begin",
    "load.after_copy",
    "load.after_merge",
    "load.before_commit",
    "load.after_commit",
    "run.before_finish",
    "run.after_finish",
];

/// Between the API's answer with a new refresh token and its way into the database.
pub const NEW_CREDENTIAL: &str = "credentials.before_write";

fn is_known(name: &str) -> bool {
    POINTS.contains(&name) || name == NEW_CREDENTIAL
}

/// Marks that the named point was reached; dies there when the test asked for it.
#[inline]
pub fn reach(name: &'static str) {
    debug_assert!(is_known(name), "unknown failpoint {name}");
    // Lets a test count how often a run comes by.
    #[cfg(feature = "failpoints")]
    tracing::trace!(name, "failpoint reached");
    fail::fail_point!(name);
}

/// Arms the point named by `spec` (`name` or `name:k`).
///
/// # Errors
///
/// Names what is wrong with `spec`: an unknown point, or a count that is no positive number.
#[cfg(feature = "failpoints")]
pub fn arm(spec: &str) -> Result<(), String> {
    use std::sync::atomic::{AtomicU64, Ordering};

    let (name, count) = spec.split_once(':').unwrap_or((spec, "1"));
    if !is_known(name) {
        return Err(format!("unknown failpoint {name:?}"));
    }
    let count: u64 = count
        .parse()
        .ok()
        .filter(|k| *k > 0)
        .ok_or_else(|| format!("not a positive number: {count:?}"))?;
    let reached = AtomicU64::new(0);
    fail::cfg_callback(name, move || {
        if reached.fetch_add(1, Ordering::SeqCst) + 1 == count {
            let me = rustix::process::getpid();
            rustix::process::kill_process(me, rustix::process::Signal::KILL).ok();
        }
    })
}
