//! Keeps a refused credential from being sent again and again.
//!
//! Vendors lock accounts that hammer: after a handful of wrong passwords, or dozens of 403 in seconds, and
//! then people cannot log in either. So a refusal that a fresh token does not mend ends the credential's use
//! for a while, for all resources; after that one request finds out whether it is good again.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use super::Error;
use crate::config::source::CircuitRule;

pub(super) struct Circuit {
    rule: Option<CircuitRule>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Refusals of the last `per`, oldest first; never more than the rule counts.
    refusals: VecDeque<Instant>,
    open: Option<Open>,
}

struct Open {
    /// Until when nothing is sent.
    until: Instant,
    status: u16,
}

/// Leave to send one request.
pub(super) struct Pass<'a> {
    circuit: &'a Circuit,
    /// The request finds out for all others whether the credential is good again.
    probe: bool,
}

impl Circuit {
    pub(super) fn new(rule: Option<CircuitRule>) -> Self {
        Self {
            rule,
            state: Mutex::default(),
        }
    }

    /// Asks whether a request may carry the credential.
    ///
    /// # Errors
    ///
    /// [`Error::CircuitOpen`].
    pub(super) fn pass(&self) -> Result<Pass<'_>, Error> {
        let mut state = self.state();
        let mut probe = false;
        if let (Some(open), Some(rule)) = (&mut state.open, &self.rule) {
            let now = Instant::now();
            if now < open.until {
                return Err(Error::CircuitOpen {
                    status: open.status,
                    left: open.until - now,
                });
            }
            // The others wait for what this one finds out.
            open.until = now + rule.open_for;
            probe = true;
        }
        Ok(Pass {
            circuit: self,
            probe,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// The credential was accepted.
    pub(super) fn accepted(&mut self) {
        if std::mem::take(&mut self.probe) {
            self.circuit.state().open = None;
        }
    }

    /// The credential was refused with this status; `beyond_doubt`: one refusal is enough.
    pub(super) fn refused(mut self, status: u16, beyond_doubt: bool) {
        let Some(rule) = &self.circuit.rule else {
            return;
        };
        let now = Instant::now();
        let mut state = self.circuit.state();
        let State { refusals, open } = &mut *state;
        while refusals.front().is_some_and(|at| now - *at > rule.per) {
            refusals.pop_front();
        }
        refusals.push_back(now);
        let many = refusals.len() >= rule.refusals as usize;
        if many || beyond_doubt || self.probe {
            refusals.clear();
            let until = now + rule.open_for;
            *open = Some(Open { until, status });
        }
        self.probe = false;
    }
}

impl Drop for Pass<'_> {
    /// A probe that found nothing out leaves its turn to the next request.
    fn drop(&mut self) {
        if self.probe
            && let Some(open) = &mut self.circuit.state().open
        {
            open.until = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn circuit() -> Circuit {
        Circuit::new(Some(CircuitRule {
            refusals: 3,
            per: Duration::from_secs(10),
            open_for: Duration::from_secs(60),
            first_401: true,
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn many_refusals_in_a_short_time_open_it_and_few_do_not() {
        let circuit = circuit();
        for _ in 0..10 {
            circuit.pass().unwrap().refused(403, false);
            tokio::time::advance(Duration::from_secs(6)).await;
        }
        tokio::time::advance(Duration::from_secs(20)).await;
        circuit.pass().unwrap().refused(403, false);
        circuit.pass().unwrap().accepted();
        circuit.pass().unwrap().refused(403, false);
        // Was sent before the third refusal, so it says nothing of what came after.
        let mut early = circuit.pass().unwrap();
        circuit.pass().unwrap().refused(403, false);
        early.accepted();
        assert_eq!(
            circuit.pass().err(),
            Some(Error::CircuitOpen {
                status: 403,
                left: Duration::from_secs(60)
            })
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_finds_out_whether_the_credential_is_good_again() {
        let circuit = circuit();
        circuit.pass().unwrap().refused(401, true);
        assert!(circuit.pass().is_err());
        tokio::time::advance(Duration::from_secs(61)).await;
        let probe = circuit.pass().unwrap();
        assert!(circuit.pass().is_err(), "while one is out, the others wait");
        probe.refused(401, false);
        assert!(circuit.pass().is_err());
        tokio::time::advance(Duration::from_secs(61)).await;
        drop(circuit.pass().unwrap());
        let mut probe = circuit.pass().unwrap();
        probe.accepted();
        assert!(circuit.pass().is_ok() && circuit.pass().is_ok());
    }

    #[tokio::test]
    async fn without_a_rule_it_never_opens() {
        let circuit = Circuit::new(None);
        for _ in 0..100 {
            circuit.pass().unwrap().refused(401, true);
        }
        assert!(circuit.pass().is_ok());
    }
}
