//! Questions to the database on behalf of somebody who may hang up at any time.
//!
//! The server drops a handler when its client goes away, and a dropped query would leave the pool a
//! connection in the middle of a statement. So each question is a task of its own, which runs to its
//! end, and the handler only waits for what it says, and not for long.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout_at},
};
use tokio_util::task::TaskTracker;

use crate::record::report::{Error, Reports};

/// How long a page waits for the database. Longer than a statement may take on the server.
const PATIENCE: Duration = Duration::from_secs(5);

/// Questions at the same time; the rest of the pool belongs to the runs.
const LANES: usize = 2;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error(transparent)]
    Database(#[from] Error),
    #[error("the database did not answer in time")]
    TooLate,
}

impl Unavailable {
    /// What the operator should do.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Database(error) => error.hint(),
            Self::TooLate => Error::NoConnection.hint(),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Asker {
    reports: Reports,
    tasks: TaskTracker,
    lanes: Arc<Semaphore>,
}

impl Asker {
    pub(super) fn new(reports: Reports, tasks: TaskTracker) -> Self {
        Self {
            reports,
            tasks,
            lanes: Arc::new(Semaphore::new(LANES)),
        }
    }

    pub(super) async fn ask<T, F, A>(&self, question: F) -> Result<T, Unavailable>
    where
        F: FnOnce(Reports) -> A,
        A: Future<Output = Result<T, Error>> + Send + 'static,
        T: Send + 'static,
    {
        let deadline = Instant::now() + PATIENCE;
        let lane = timeout_at(deadline, Arc::clone(&self.lanes).acquire_owned())
            .await
            .map_err(|_| Unavailable::TooLate)?;
        let (say, hear) = oneshot::channel();
        let question = question(self.reports.clone());
        self.tasks.spawn(async move {
            let answer = question.await;
            drop(lane);
            // Nobody may be there any more to hear it.
            say.send(answer).ok();
        });
        match timeout_at(deadline, hear).await {
            Ok(Ok(answer)) => Ok(answer?),
            Ok(Err(_)) | Err(_) => Err(Unavailable::TooLate),
        }
    }
}
