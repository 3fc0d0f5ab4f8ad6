//! Text that must not be printed.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// A secret from the configuration: no `Display`, masked `Debug`, wiped when dropped.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(value.into())
    }

    /// The text itself, for the last function before the socket.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Told apart only by this process, to see whether a reload changed it.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}
