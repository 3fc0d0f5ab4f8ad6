//! One binary for all integration tests: one Postgres cluster, started once, a database per test.

#![cfg(test)]

mod adoption;

mod answers;

mod api_trouble;

mod apis;

mod auth;

mod boundaries;

mod capabilities;

mod budgets;

mod commits;

mod config;

mod configuration;

mod contracts;

#[cfg(feature = "failpoints")]
mod crash;

mod credentials;

mod database_trouble;

mod deletes;

mod demo;

mod dispositions;

mod dlt;

mod dlt_shown;

mod erasure;

mod features;

mod fetch;

mod from_dlt;

mod guarded;

mod hand_made;

mod hashes;

mod incremental;

mod keys;

mod marked_lists;

mod nested_truth;

mod nesting;

mod paging;

mod parents;

mod postgres;

mod previews;
mod privacy;

mod record;

mod refusals;
mod rejects;

mod replicas;

mod sandbox;
mod scheduling;

mod secrets;

mod serve;

mod shape;

mod shapes;

mod signals;

mod soak;

mod steps;

mod strategies;

mod support;

mod table_lists;

mod superseded;

mod traces;

mod unchanged;

mod ways;

mod wrong_files;
