//! One binary for all integration tests: one Postgres cluster, started once, a database per test.

#![cfg(test)]

mod adoption;

mod api_trouble;

mod boundaries;

mod config;

mod configuration;

mod database_trouble;

mod deletes;

mod demo;

mod fetch;

mod postgres;

mod record;

mod secrets;

mod serve;

mod shape;

mod shapes;

mod support;
