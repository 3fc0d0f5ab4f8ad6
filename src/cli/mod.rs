//! cli

pub mod check;

pub mod schema;

pub mod init;
