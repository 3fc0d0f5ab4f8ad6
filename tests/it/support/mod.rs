//! What the tests stand on.

pub(crate) mod api;

pub(crate) mod daemon;

pub(crate) mod db;

pub(crate) mod documents;

pub(crate) mod history;

pub(crate) mod proxy;

pub(crate) mod scene;

pub(crate) mod server;

pub(crate) mod site;

pub(crate) mod sync;

pub(crate) mod timeline;

pub(crate) mod truth;
