//! Text that must not be printed.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

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

/// A JSON value of the configuration whose every text is treated as a secret.
#[derive(Clone, PartialEq)]
pub struct SecretJson(Value);

impl SecretJson {
    #[must_use]
    pub fn new(value: Value) -> Self {
        Self(value)
    }

    /// The value itself, for the last function before the socket.
    #[must_use]
    pub fn expose(&self) -> &Value {
        &self.0
    }

    /// All texts in it.
    #[must_use]
    pub fn texts(&self) -> Vec<Secret> {
        fn collect(value: &Value, texts: &mut Vec<Secret>) {
            match value {
                Value::String(text) => texts.push(Secret::new(text.clone())),
                Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
                Value::Object(map) => map.values().for_each(|value| collect(value, texts)),
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
        let mut texts = Vec::new();
        collect(&self.0, &mut texts);
        texts
    }
}

impl fmt::Debug for SecretJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretJson(***)")
    }
}
