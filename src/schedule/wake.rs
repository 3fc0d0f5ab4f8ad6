//! The clockwork: tokio-cron-scheduler, with the times taken from our own schedules.
//!
//! The crate keeps a zone's offset instead of the zone, loses firings when many jobs are due at
//! once, and spawns every firing apart. So its metadata store is ours (next times come from
//! [`Schedule`], in the right zone on both sides of a clock change), its channel is wide enough for
//! every job at once, and the callback does one thing: it wakes the loop, which reads from the
//! database what is due. A lost wake costs a poll interval, never a run.

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use tokio_cron_scheduler::{
    JobBuilder, JobScheduler, JobSchedulerError, MetaDataStorage, SimpleJobCode,
    SimpleNotificationCode, SimpleNotificationStore,
    job::job_data::{JobAndNextTick, JobStoredData},
    store::{DataStore, InitStore},
};
use uuid::Uuid;

use crate::{clock, config::schedule::Schedule};

/// The crate's channel drops what does not fit, so it must hold a wake of every job at once.
const SMALLEST_CHANNEL: usize = 1024;

/// A schedule expression that the crate parses and nobody follows; see [`Times`].
const DUMMY: &str = "0 0 0 1 1 *";

/// Wakes the scheduler's loop whenever a resource is due.
pub struct Wakes {
    scheduler: JobScheduler,
    times: Times,
    notify: Arc<Notify>,
    set: HashMap<Uuid, Schedule>,
}

impl Wakes {
    /// Starts the clockwork, with no job yet. `jobs` is how many will be set at most.
    ///
    /// # Errors
    ///
    /// Whatever the crate says of its own parts.
    pub async fn start(jobs: usize, notify: Arc<Notify>) -> Result<Self, JobSchedulerError> {
        let times = Times::default();
        let scheduler = JobScheduler::new_with_storage_and_code(
            Box::new(times.clone()),
            Box::<SimpleNotificationStore>::default(),
            Box::<SimpleJobCode>::default(),
            Box::<SimpleNotificationCode>::default(),
            (jobs * 2).next_power_of_two().max(SMALLEST_CHANNEL),
        )
        .await?;
        scheduler.start().await?;
        Ok(Self {
            scheduler,
            times,
            notify,
            set: HashMap::new(),
        })
    }

    /// Makes the jobs be exactly these, each named by its resource.
    ///
    /// # Errors
    ///
    /// Whatever the crate says of a job.
    pub async fn set(
        &mut self,
        schedules: &HashMap<String, Schedule>,
    ) -> Result<(), JobSchedulerError> {
        let wanted: HashMap<Uuid, (&String, &Schedule)> = schedules
            .iter()
            .map(|(name, schedule)| (job_id(name), (name, schedule)))
            .collect();
        let gone: Vec<Uuid> = self
            .set
            .iter()
            .filter(|(id, had)| {
                wanted
                    .get(*id)
                    .is_none_or(|(_, now)| now.describe() != had.describe())
            })
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.scheduler.remove(&id).await?;
            self.set.remove(&id);
        }
        // One after the other: the crate loses jobs that are added at the same time.
        for (id, (name, schedule)) in wanted {
            if self.set.contains_key(&id) {
                continue;
            }
            self.times
                .plan(id, schedule.clone(), schedule.jitter_for(name));
            let notify = Arc::clone(&self.notify);
            let job = JobBuilder::new()
                .with_job_id(id.into())
                .with_cron_job_type()
                .with_schedule(DUMMY)?
                .with_run_async(Box::new(move |_, _| {
                    let notify = Arc::clone(&notify);
                    Box::pin(async move { notify.notify_one() })
                }))
                .build()?;
            self.scheduler.add(job).await?;
            self.set.insert(id, schedule.clone());
        }
        Ok(())
    }

    /// Stops the ticking.
    pub async fn stop(mut self) {
        self.scheduler.shutdown().await.ok();
    }
}

/// The same resource keeps its job across reloads.
fn job_id(name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
}

/// The crate's metadata store, which decides when a job fires.
#[derive(Clone, Default)]
struct Times(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    jobs: HashMap<Uuid, JobStoredData>,
    plans: HashMap<Uuid, (Schedule, Duration)>,
    /// Next firing in Unix seconds, so that only what is due is listed.
    due: BTreeSet<(u64, Uuid)>,
}

impl Inner {
    fn next(&self, id: Uuid) -> Option<u64> {
        let (schedule, jitter) = self.plans.get(&id)?;
        let next = schedule.next_after(clock::now() - *jitter)? + *jitter;
        // The slot's own second is over only when it has ended, as the database sees it.
        u64::try_from(next.timestamp())
            .ok()
            .map(|seconds| seconds + u64::from(next.timestamp_subsec_nanos() > 0))
    }

    fn set_due(&mut self, id: Uuid, next: Option<u64>) {
        if let Some(job) = self.jobs.get_mut(&id) {
            self.due.remove(&(job.next_tick, id));
            job.next_tick = next.unwrap_or_default();
            if let Some(next) = next {
                self.due.insert((next, id));
            }
        }
    }
}

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, JobSchedulerError>> + Send>>;

fn answer<T: Send + 'static>(value: Result<T, JobSchedulerError>) -> Answer<T> {
    Box::pin(std::future::ready(value))
}

impl Times {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plan(&self, id: Uuid, schedule: Schedule, jitter: Duration) {
        self.inner().plans.insert(id, (schedule, jitter));
    }
}

impl InitStore for Times {
    fn init(&mut self) -> Answer<()> {
        answer(Ok(()))
    }

    fn inited(&mut self) -> Answer<bool> {
        answer(Ok(true))
    }
}

impl DataStore<JobStoredData> for Times {
    fn get(&mut self, id: Uuid) -> Answer<Option<JobStoredData>> {
        answer(Ok(self.inner().jobs.get(&id).cloned()))
    }

    fn add_or_update(&mut self, data: JobStoredData) -> Answer<()> {
        let Some(id) = data.id.as_ref().map(Uuid::from) else {
            return answer(Err(JobSchedulerError::CantAdd));
        };
        let mut inner = self.inner();
        if !inner.plans.contains_key(&id) {
            return answer(Err(JobSchedulerError::CantAdd));
        }
        if let Some(old) = inner.jobs.insert(id, data) {
            inner.due.remove(&(old.next_tick, id));
        }
        let next = inner.next(id);
        inner.set_due(id, next);
        answer(Ok(()))
    }

    fn delete(&mut self, id: Uuid) -> Answer<()> {
        let mut inner = self.inner();
        if let Some(job) = inner.jobs.remove(&id) {
            inner.due.remove(&(job.next_tick, id));
        }
        inner.plans.remove(&id);
        answer(Ok(()))
    }
}

impl MetaDataStorage for Times {
    fn list_next_ticks(&mut self) -> Answer<Vec<JobAndNextTick>> {
        let now = u64::try_from(clock::now().timestamp()).unwrap_or_default();
        let inner = self.inner();
        let due = inner.due.range(..=(now, Uuid::max()));
        answer(Ok(due
            .map(|(next_tick, id)| JobAndNextTick {
                id: Some((*id).into()),
                job_type: 0,
                next_tick: *next_tick,
                last_tick: inner.jobs.get(id).and_then(|job| job.last_tick),
            })
            .collect()))
    }

    fn set_next_and_last_tick(
        &mut self,
        id: Uuid,
        _next: Option<DateTime<Utc>>,
        last: Option<DateTime<Utc>>,
    ) -> Answer<()> {
        let mut inner = self.inner();
        let next = inner.next(id);
        inner.set_due(id, next);
        match inner.jobs.get_mut(&id) {
            Some(job) => {
                job.last_tick = last.and_then(|last| u64::try_from(last.timestamp()).ok());
                answer(Ok(()))
            }
            None => answer(Err(JobSchedulerError::UpdateJobData)),
        }
    }

    fn time_till_next_job(&mut self) -> Answer<Option<Duration>> {
        answer(Ok(None))
    }
}
