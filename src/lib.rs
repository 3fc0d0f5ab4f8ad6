//! `rosterd` keeps a true Postgres copy of third-party HR systems.
//!
//! # One run, from tick to committed row
//!
//! ```text
//! tick -> claim -> walk(fetch -> select -> type) -> stage -> merge -> commit(rows + cursor + counters + fence) -> finish
//! ```
//!
//! The modules below stand in the order in which the data meets them. Imports run one way, from
//! `cli` down to the stages; the stages (`fetch`, `shape`, `load`, `record`) never call each other,
//! [`sync`] calls them. `clock`, `fault`, `failpoint` and `telemetry` know nothing of the rest.

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
