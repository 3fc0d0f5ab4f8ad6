//! The server behind the pool: somebody else's, or a private one. Nobody after this line cares.

use std::path::Path;

use super::{ConnectOptions, Error, embedded::Embedded, options};
use crate::config::Database;

/// Where the tables live. Stop it when the pool is closed.
pub struct Server(Kind);

enum Kind {
    External(Box<ConnectOptions>),
    Embedded(Embedded),
}

impl Server {
    /// Reads `database.url`, without connecting yet; or starts the private server under `state_dir`
    /// and returns when it answers.
    ///
    /// # Errors
    ///
    /// [`Error::Url`], or why the private server does not run ([`Error::Embedded`]).
    pub async fn start(database: &Database, state_dir: &Path) -> Result<Self, Error> {
        Ok(Self(match &database.url {
            Some(url) => Kind::External(Box::new(options::from_url(url.expose())?)),
            None => Kind::Embedded(Box::pin(Embedded::start(database, state_dir)).await?),
        }))
    }

    /// How to connect to it.
    #[must_use]
    pub fn connect_options(&self) -> ConnectOptions {
        match &self.0 {
            Kind::External(options) => options.as_ref().clone(),
            Kind::Embedded(embedded) => embedded.connect_options(),
        }
    }

    /// One sentence for people: which server this is, and where.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.0 {
            Kind::External(options) => format!("using PostgreSQL at {}", options::place(options)),
            Kind::Embedded(embedded) => embedded.describe(),
        }
    }

    /// The command that opens the database, without any password.
    #[must_use]
    pub fn psql(&self) -> String {
        match &self.0 {
            Kind::External(options) => {
                let host = options.get_socket().map_or_else(
                    || options.get_host().to_owned(),
                    |s| s.display().to_string(),
                );
                format!(
                    "psql -h {host} -p {} -U {} -d {}",
                    options.get_port(),
                    options.get_username(),
                    options.get_database().unwrap_or(options.get_username()),
                )
            }
            Kind::Embedded(embedded) => embedded.psql(),
        }
    }

    /// Whether this is the private server.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        matches!(self.0, Kind::Embedded(_))
    }

    /// Stops the private server cleanly, unless another process uses it; leaves any other alone.
    ///
    /// # Errors
    ///
    /// [`Error::Embedded`] when it does not stop within 45 seconds.
    pub async fn stop(self) -> Result<(), Error> {
        match self.0 {
            Kind::External(_) => Ok(()),
            Kind::Embedded(embedded) => Ok(embedded.stop().await?),
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The options' own Debug shows the password.
        f.debug_tuple("Server").field(&self.describe()).finish()
    }
}
