//! Section `credential_store`: the keys under which credentials lie in the database.

use super::{Secret, decode::section, problem::Problems, tree::Node};

/// A secret that encrypts, and the name that tells it from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreKey {
    pub id: String,
    pub secret: Secret,
}

section! {
    /// Keys that encrypt what `oauth2_refresh_token` keeps in the database. Without its key a kept token is lost, and somebody has to sign in to the API again.
    pub(super) struct CredentialStoreFile {
        /// The key under which credentials are written down from now on. A new secret needs a new `id`.
        key: StoreKeyFile; required,
        /// Keys of the past, to read what still lies under them. Each refresh moves a credential under the present key.
        former_keys: Vec<StoreKeyFile>,
    }
}

section! {
    /// A key that encrypts credentials.
    pub(super) struct StoreKeyFile {
        /// Name that is stored beside what it encrypts.
        id: String; required,
        /// At least 32 characters that nobody can guess, such as `${file:/run/secrets/store-key}`; `openssl rand -hex 32` makes one.
        secret: Secret; required,
    }
}

/// Shorter secrets could be found by trying.
const SHORTEST_SECRET: usize = 32;

impl CredentialStoreFile {
    /// The keys, the present one first.
    pub(super) fn resolve(&self, node: &Node, problems: &mut Problems) -> Vec<StoreKey> {
        let former = node.nearest(&["former_keys"]).list().unwrap_or_default();
        let nodes = std::iter::once(node.nearest(&["key"])).chain(former);
        let files = std::iter::once(&self.key).chain(self.former_keys.iter().flatten());
        let mut keys: Vec<StoreKey> = Vec::new();
        for (file, node) in files.zip(nodes) {
            if file.id.is_empty() || file.id.len() > 32 || file.id.contains(char::is_control) {
                node.nearest(&["id"])
                    .wrong(problems, "expected a name of at most 32 signs");
            }
            if keys.iter().any(|key| key.id == file.id) {
                node.nearest(&["id"])
                    .wrong(problems, "another key has this id");
            }
            if file.secret.expose().len() < SHORTEST_SECRET {
                node.nearest(&["secret"]).wrong(
                    problems,
                    "expected a secret of at least 32 characters; `openssl rand -hex 32` makes one",
                );
            }
            keys.push(StoreKey {
                id: file.id.clone(),
                secret: file.secret.clone(),
            });
        }
        keys
    }
}
