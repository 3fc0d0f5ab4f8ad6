//! One credential with what all walks that use it must share: its token and its circuit.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Error, auth::Signer, circuit::Circuit, vault::Keeper};
use crate::config::{self, auth::Auth, endpoint::Endpoint};

pub(super) struct Credential {
    /// `None`: requests are sent as they are.
    pub(super) signer: Option<Signer>,
    pub(super) circuit: Circuit,
}

/// The credentials of a source: the client's, and those that single endpoints bring along.
pub(super) struct Credentials {
    client: config::source::Client,
    keeper: Option<Keeper>,
    /// Few and found by their values; equal ones are one credential.
    made: Mutex<Vec<(Option<Auth>, Arc<Credential>)>>,
}

impl Credentials {
    pub(super) fn new(
        client: &config::source::Client,
        keeper: Option<Keeper>,
    ) -> Result<Self, Error> {
        let all = Self {
            client: client.clone(),
            keeper,
            made: Mutex::default(),
        };
        // What is wrong with it is told before anything runs.
        all.get(client.auth.as_ref())?;
        Ok(all)
    }

    /// Who we are to an endpoint.
    ///
    /// # Errors
    ///
    /// [`Error::BadHeader`], [`Error::Client`].
    pub(super) fn of(&self, endpoint: &Endpoint) -> Result<Arc<Credential>, Error> {
        self.get(endpoint.auth.as_ref().or(self.client.auth.as_ref()))
    }

    fn get(&self, auth: Option<&Auth>) -> Result<Arc<Credential>, Error> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = made.iter().find(|(known, _)| known.as_ref() == auth) {
            return Ok(Arc::clone(known));
        }
        let credential = Arc::new(Credential {
            signer: auth
                .map(|auth| Signer::new(auth, self.keeper.as_ref(), &self.client))
                .transpose()?,
            circuit: Circuit::new(self.client.circuit),
        });
        made.push((auth.cloned(), Arc::clone(&credential)));
        Ok(credential)
    }
}
