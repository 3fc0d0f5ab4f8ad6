//! `rosterd` keeps a true Postgres copy of third-party HR systems.
//!
//! # One run, from tick to committed row
//!
//! ```text
//! tick -> claim -> walk(fetch -> select -> steps -> privacy -> type) -> stage -> merge -> commit(rows + cursor + counters + fence) -> finish
//! ```
//!
//! It is 03:00 and `hr/employees` is due.
//!
//! 1. **Tick.** [`schedule::wake`] rings; it carries no information. The loop of
//!    [`schedule::Scheduler`] asks the database what is due, because the database outlives processes.
//! 2. **Claim.** [`record::claim_due`] takes the resource's lease, opens its row in `rosterd.runs` and
//!    moves its next slot on, in one short transaction. Of several replicas one gets it.
//! 3. **Plan.** [`sync::run`] is the run. [`sync::plan`] reads the stored cursor and checkpoint and says
//!    where the walk begins; a heartbeat keeps the lease alive beside it.
//! 4. **Walk.** [`fetch::Walk`] yields pages: each request waits for its permit, is signed last, tried
//!    again as [`fetch::Error::retry`] says, read under a cap, decoded. The paginator says what follows,
//!    and at the end whether the walk is [`fetch::Proven`]. A resource with a parent has one walk for each of the
//!    parent's records; [`sync::stream`] makes one stream of pages of them.
//! 5. **Shape.** [`shape::Steps`], in a process of their own ([`sync::sandbox`]), and [`shape::Screen`] make
//!    of the records what the configuration wants of them. [`shape::Mapper`] scans a page for keys, hashes and cursor values. [`load::write::probe`]
//!    answers which of those rows Postgres has already as they are, or [`load::hashes`] has told it for all rows at once;
//!    only the others are typed, straight into the bytes of a binary COPY.
//! 6. **Load.** When the batch is full, [`sync::commit`] first adds missing columns in a transaction of
//!    their own ([`load::table`]), so that no page waits behind a lock. Then it begins the batch's: new
//!    rows are copied straight into the table, changed ones staged and merged ([`load::write`]).
//! 7. **Commit.** In the same transaction go rejects, counters and checkpoint, and as its last statement
//!    [`record::fence`]: whoever lost the lease meanwhile commits nothing. The next page was being fetched
//!    all the while.
//! 8. **Finish.** After a proven walk the last batch, the cursor's move and the closing of the run row are
//!    one transaction. Anything else ends the run with a [`fault::Fault`]: class, code, one line, hint.
//!
//! # Where each promise is kept
//!
//! | promise | kept by |
//! | --- | --- |
//! | effectively once | [`sync::commit`]: one transaction; [`failpoint`]s kill the process around it in tests |
//! | `succeeded` means complete | [`fetch::Proven`], which only a paginator can make, and [`sync`] asks for |
//! | one bad record costs one record | [`shape::Reject`], stored by [`record::reject()`] |
//! | never above the rate limit | `fetch::limiter`: every try takes a permit, whoever tries; replicas hold shares of it, dealt by [`record::share`] |
//! | one writer per resource | [`record::fence`], in the transaction of the rows |
//! | bounded everything | body cap in `fetch::client`, page and time limits in the walk, [`sync::batch`], [`sync::sandbox`] |
//! | no secret leaves | [`config::Secret`] cannot be printed; `fetch::auth` signs last; [`telemetry`] covers the rest |
//! | unchanged rows are not written | the hashes before, `is distinct from` in the merge ([`load::sql`]) |
//! | every due slot leaves a row | [`record::claim_due`]: run, skipped with its reason, or caught up |
//!
//! # How to add
//!
//! - **a paginator**: its keys and its meaning in [`config::paginator::Paginator`], its
//!   steps in `fetch::paginate`. The compiler names the places that must know it. Say how it *ends*: a kind
//!   without a proof of its end cannot be built.
//! - **a kind of credential**: its keys in `config::auth`, its way onto a request in `fetch::auth`, and into
//!   the values that [`telemetry`] covers (`Config::secret_texts`).
//! - **a column kind**: a variant of [`shape::Kind`] with its place in `join` (what it widens to), its wire
//!   format beside the others in `shape::value`, and a case in the test that has Postgres read it back.
//! - **a key of the configuration**: one line in its section; decoder, JSON Schema, reference and "did you
//!   mean" come from that line.
//! - **a table**: a new file in `migrations/`, with a comment on the table and each column; views only gain
//!   columns.
//!
//! # The house
//!
//! The modules stand in the order in which the data meets them. Imports run one way, from `cli` down to
//! the stages; the stages (`fetch`, `shape`, `load`, `record`) never call each other, [`sync`] calls them.
//! `clock`, `fault`, `failpoint` and `telemetry` know nothing of the rest. `tests/it/boundaries.rs` holds
//! this.

pub mod cli;

pub mod config;

pub mod daemon;

pub mod schedule;

pub mod sync;

pub mod fetch;

pub mod shape;

pub mod load;

pub mod record;

pub mod serve;

pub mod postgres;

pub mod demo;

pub mod clock;

pub mod failpoint;

pub mod fault;

pub mod telemetry;
