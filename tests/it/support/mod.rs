//! What the tests stand on.

pub(crate) mod api;

pub(crate) mod daemon;

pub(crate) mod db;

pub(crate) mod documents;

pub(crate) mod history;

pub(crate) mod server;

pub(crate) mod sync;
