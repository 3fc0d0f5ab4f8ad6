//! Keeps the requests of one credential inside the API's limits, as the API sees them.
//!
//! Two guards stand one behind the other. governor paces: what a short window allows is spread over
//! it instead of being fired at once. The [`Window`] proves: it counts a request against its window
//! from before it is sent until `per` after its answer began, and since the request reached the API
//! somewhere between those two moments, no window at the API's door can hold more than allowed,
//! however the network delays. governor alone cannot promise that: a bucket of N that refills at
//! N per window lets nearly 2 N through in the first one.

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Error,
    budget::{self, Ask, AskWindow, Budget, Grant},
};
use crate::config::source::Limit;

/// Windows up to this length are paced. Longer ones may be spent as fast as the others allow, so
/// that a short walk under "300 per minute" does not crawl at one request in 200 ms.
const PACED: Duration = Duration::from_secs(10);

/// Longest pause that one answer can cause. Afterwards one request finds out whether it still holds.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Ends of the API's windows that differ by less are one: they are told in whole seconds.
const SAME_WINDOW: Duration = Duration::from_millis(1500);

/// Longest time to give a share back at the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a request whose answer nobody saw may still be on its way.
const STRAY: Duration = Duration::from_secs(1);

/// Added to each window, for a server that rounds its clock to milliseconds.
const MARGIN: Duration = Duration::from_millis(2);

/// All limits of one credential.
pub(super) struct Limiter {
    /// With whom the limits are shared; `None`: they are all ours.
    budget: Option<Arc<dyn Budget>>,
    keepers: TaskTracker,
    stop: CancellationToken,
    /// Whoever holds it is the next to go; tokio's lock is handed over in the order of asking.
    gate: tokio::sync::Mutex<()>,
    in_flight: Arc<Semaphore>,
    pacers: Vec<Pacer>,
    shared: Arc<Shared>,
}

/// What permits give back to after their answers.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Told whenever a request stops counting as under way, and when a share comes.
    arrived: Notify,
    /// Told when a share does not suffice.
    hungry: Arc<Notify>,
    /// Told when nobody sends or waits any more.
    rested: Arc<Notify>,
}

struct State {
    /// Requests sent whose answers have not begun.
    under_way: usize,
    /// Permits given out.
    in_flight: usize,
    max_in_flight: usize,
    /// Whoever wants a permit.
    waiting: usize,
    /// What of the limits is ours, where they are shared.
    share: Option<Share>,
    /// Whether somebody renews the share.
    is_kept: bool,
    /// A pause that the others are to hear of.
    tell_pause: Option<Instant>,
    windows: Vec<Window>,
    pause: Option<Instant>,
    quota: Option<Left>,
}

/// What the API has left for us, by its own word.
#[derive(Debug, Clone, Copy)]
struct Left {
    requests: u64,
    until: Instant,
}

/// Our part of the limits. Nothing may be sent under one that ran out.
#[derive(Debug, Default)]
struct Share {
    until: Option<Instant>,
    in_flight: usize,
    windows: Vec<usize>,
}

/// The exact count of one limit.
struct Window {
    requests: usize,
    per: Duration,
    /// When the answers of the last `per` began; ascending.
    answered: VecDeque<Instant>,
}

/// The right to send one request.
#[must_use]
pub(super) struct Permit {
    shared: Arc<Shared>,
    counted: bool,
    _place: OwnedSemaphorePermit,
}

impl Limiter {
    pub(super) fn new(
        limits: &[Limit],
        max_in_flight: usize,
        budget: Option<Arc<dyn Budget>>,
    ) -> Self {
        let clock = TokioClock(Instant::now());
        Self {
            keepers: TaskTracker::new(),
            stop: CancellationToken::new(),
            gate: tokio::sync::Mutex::default(),
            in_flight: Arc::new(Semaphore::new(
                max_in_flight.clamp(1, Semaphore::MAX_PERMITS),
            )),
            pacers: limits
                .iter()
                .filter_map(|limit| Pacer::new(*limit, &clock))
                .collect(),
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    under_way: 0,
                    in_flight: 0,
                    max_in_flight: max_in_flight.max(1),
                    waiting: 0,
                    share: budget.is_some().then(Share::default),
                    is_kept: false,
                    tell_pause: None,
                    windows: limits.iter().map(|limit| Window::new(*limit)).collect(),
                    pause: None,
                    quota: None,
                }),
                arrived: Notify::new(),
                hungry: Arc::default(),
                rested: Arc::default(),
            }),
            budget,
        }
    }

    /// Waits until one request may be sent. First come, first served, over all walks of the source.
    ///
    /// # Errors
    ///
    /// [`Error::RateLimited`] when the API asked for a pause longer than `max_wait` is;
    /// [`Error::Cancelled`].
    pub(super) async fn permit(
        &self,
        max_wait: Duration,
        cancel: &CancellationToken,
    ) -> Result<Permit, Error> {
        let _waiting = self.want();
        let turn = async {
            let _gate = self.gate.lock().await;
            let place = Arc::clone(&self.in_flight)
                .acquire_owned()
                .await
                .map_err(|_| Error::Cancelled)?;
            self.pause_over(max_wait).await?;
            for pacer in &self.pacers {
                pacer.ready().await;
            }
            loop {
                // Made before looking, so that no word is missed between looking and waiting.
                let arrived = self.shared.arrived.notified();
                let (entry, is_hungry) = self.shared.lock().enter(Instant::now());
                if is_hungry {
                    self.shared.hungry.notify_one();
                }
                match entry {
                    Entry::Free => break,
                    Entry::At(time) => tokio::select! {
                        () = sleep_until(time) => {}
                        () = arrived => {}
                    },
                    Entry::WhenArrived => arrived.await,
                }
                // A pause may have been asked for meanwhile.
                self.pause_over(max_wait).await?;
            }
            Ok(place)
        };
        let place = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::Cancelled),
            place = turn => place?,
        };
        Ok(Permit {
            shared: Arc::clone(&self.shared),
            counted: true,
            _place: place,
        })
    }

    /// Gives back what is not used of the shared limits. Nothing is sent afterwards.
    pub(super) async fn retire(&self) {
        self.stop.cancel();
        self.keepers.close();
        // Whoever cannot be told finds out when the share runs out.
        tokio::time::timeout(FAREWELL, self.keepers.wait())
            .await
            .ok();
    }

    /// Notes that somebody waits, and has the share renewed while that is so.
    fn want(&self) -> Wanting {
        let mut state = self.shared.lock();
        state.waiting += 1;
        if let Some(budget) = &self.budget
            && !std::mem::replace(&mut state.is_kept, true)
        {
            budget::keep(
                &self.shared,
                Arc::clone(budget),
                &self.keepers,
                self.stop.clone(),
            );
        }
        Wanting(Arc::clone(&self.shared))
    }

    /// Holds all requests back for `time`, because the API said so.
    pub(super) fn pause(&self, time: Duration) {
        let until = Instant::now() + time.min(LONGEST_PAUSE);
        let mut state = self.shared.lock();
        state.pause = state.pause.max(Some(until));
        state.tell_pause = state.pause;
        self.shared.hungry.notify_one();
    }

    /// Takes the API's word on what is left of its window.
    ///
    /// Answers overtake each other, and it is not known which of the requests under way it has counted:
    /// all are taken off, and within one window the least counts.
    pub(super) fn left(&self, requests: u64, reset: Duration) {
        let now = Instant::now();
        let until = now + reset.min(LONGEST_PAUSE);
        let mut state = self.shared.lock();
        let mut requests = requests.saturating_sub(state.under_way as u64);
        if let Some(known) = state.quota
            && known.until > now
            && until < known.until + SAME_WINDOW
        {
            requests = requests.min(known.requests);
        }
        state.quota = Some(Left { requests, until });
    }

    async fn pause_over(&self, max_wait: Duration) -> Result<(), Error> {
        loop {
            let now = Instant::now();
            let held = self.shared.lock().held_until();
            match held {
                Some(until) if until > now + max_wait => {
                    return Err(Error::RateLimited { after: until - now });
                }
                Some(until) if until > now => sleep_until(until).await,
                _ => return Ok(()),
            }
        }
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Somebody who waits for a permit.
struct Wanting(Arc<Shared>);

impl Drop for Wanting {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.waiting = state.waiting.saturating_sub(1);
    }
}

impl Permit {
    /// The answer began: from now on the request counts for one more window. A permit that is
    /// dropped without this counts a little longer.
    pub(super) fn answered(&mut self) {
        self.leave(Instant::now());
    }

    fn leave(&mut self, time: Instant) {
        if std::mem::take(&mut self.counted) {
            self.shared.lock().leave(time);
            self.shared.arrived.notify_waiters();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.leave(Instant::now() + STRAY);
        let mut state = self.shared.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        let is_idle = state.is_idle();
        drop(state);
        self.shared.arrived.notify_waiters();
        if is_idle {
            self.shared.rested.notify_one();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to ask of a budget, and whether nothing is used or wanted any more.
    pub(super) fn ask(&self) -> (Ask, bool) {
        let now = Instant::now();
        let mut state = self.lock();
        let is_wanted = !state.is_idle();
        // As much again as is used, so that a growing need is met in a few steps, and a process that
        // dies takes little of the rest with it.
        let window = |whole: usize, per, used: usize| AskWindow {
            whole: whole as u64,
            per,
            used: used as u64,
            wanted: match is_wanted {
                true => (used * 2 + whole.div_ceil(4)).min(whole) as u64,
                false => 0,
            },
        };
        let mut windows = vec![window(state.max_in_flight, Duration::ZERO, state.in_flight)];
        let under_way = state.under_way;
        for limit in &mut state.windows {
            limit.forget(now);
            let used = under_way + limit.answered.len();
            windows.push(window(limit.requests, limit.per, used));
        }
        let ask = Ask {
            windows,
            pause: state
                .tell_pause
                .take()
                .map(|until| until.saturating_duration_since(now)),
            left: state
                .quota
                .map(|left| (left.requests, left.until.saturating_duration_since(now))),
        };
        let is_used = ask.windows.iter().any(|window| window.used > 0);
        (ask, !is_wanted && !is_used)
    }

    /// Takes a share.
    pub(super) fn granted(&self, grant: Grant, until: Instant) {
        let counts = grant.windows.iter();
        let mut counts = counts.map(|count| usize::try_from(*count).unwrap_or(usize::MAX));
        let mut state = self.lock();
        state.share = Some(Share {
            until: Some(until),
            in_flight: counts.next().unwrap_or(0),
            windows: counts.collect(),
        });
        if let Some(pause) = grant.pause {
            let until = Instant::now() + pause.min(LONGEST_PAUSE);
            state.pause = state.pause.max(Some(until));
        }
        drop(state);
        self.arrived.notify_waiters();
    }

    /// Gives up the share, unless somebody came meanwhile.
    pub(super) fn leave_if_idle(&self) -> bool {
        let mut state = self.lock();
        let is_idle = state.is_idle();
        if is_idle {
            state.share = Some(Share::default());
            state.is_kept = false;
        }
        is_idle
    }

    pub(super) fn is_idle(&self) -> bool {
        self.lock().is_idle()
    }

    pub(super) fn rested(&self) -> Arc<Notify> {
        Arc::clone(&self.rested)
    }

    pub(super) fn hungry(&self) -> Arc<Notify> {
        Arc::clone(&self.hungry)
    }
}

enum Entry {
    Free,
    At(Instant),
    WhenArrived,
}

impl State {
    fn is_idle(&self) -> bool {
        self.waiting == 0 && self.in_flight == 0
    }

    /// Until when nobody sends, because the API said so.
    fn held_until(&self) -> Option<Instant> {
        let quota = self.quota.filter(|left| left.requests == 0);
        self.pause.max(quota.map(|left| left.until))
    }

    /// Counts one more request, or says when to ask again; and whether a larger share would help.
    fn enter(&mut self, now: Instant) -> (Entry, bool) {
        self.quota = self.quota.filter(|left| left.until > now);
        let mut later = self.held_until().filter(|until| *until > now);
        let (mut is_hungry, mut is_full) = (false, false);
        let share = self.share.as_ref();
        let is_valid = share.is_none_or(|share| share.until.is_some_and(|until| now < until));
        if share.is_some_and(|share| !is_valid || self.in_flight >= share.in_flight) {
            (is_hungry, is_full) = (true, true);
        }
        for (at, window) in self.windows.iter_mut().enumerate() {
            window.forget(now);
            let used = self.under_way + window.answered.len();
            let ours = share.map_or(window.requests, |share| {
                let ours = share.windows.get(at).copied().unwrap_or(0);
                ours.min(window.requests)
            });
            if used < ours {
                continue;
            }
            is_hungry |= ours < window.requests;
            match window.answered.front() {
                Some(first) => later = later.max(Some(*first + window.per)),
                None => is_full = true,
            }
        }
        let entry = match later {
            _ if is_full => Entry::WhenArrived,
            Some(time) => Entry::At(time),
            None => {
                self.under_way += 1;
                self.in_flight += 1;
                if let Some(left) = &mut self.quota {
                    left.requests = left.requests.saturating_sub(1);
                }
                Entry::Free
            }
        };
        (entry, is_hungry)
    }

    fn leave(&mut self, time: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        for window in &mut self.windows {
            let place = window.answered.partition_point(|other| *other <= time);
            window.answered.insert(place, time);
        }
    }
}

impl Window {
    fn new(limit: Limit) -> Self {
        Self {
            requests: usize::try_from(limit.requests.max(1)).unwrap_or(usize::MAX),
            per: limit.per + MARGIN,
            answered: VecDeque::new(),
        }
    }

    fn forget(&mut self, now: Instant) {
        while self
            .answered
            .front()
            .is_some_and(|first| *first + self.per <= now)
        {
            self.answered.pop_front();
        }
    }
}

/// Spreads requests over a short window; a quarter of them may come at once.
struct Pacer {
    clock: TokioClock,
    bucket: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>,
}

impl Pacer {
    /// `None`: the limit needs no pacing.
    fn new(limit: Limit, clock: &TokioClock) -> Option<Self> {
        let requests = NonZeroU32::new(limit.requests)?;
        if limit.per > PACED {
            return None;
        }
        let burst = NonZeroU32::new(limit.requests / 4).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(limit.per / requests.get())?.allow_burst(burst);
        Some(Self {
            clock: clock.clone(),
            bucket: RateLimiter::direct_with_clock(quota, clock.clone()),
        })
    }

    async fn ready(&self) {
        while let Err(early) = self.bucket.check() {
            let wait = early.wait_time_from(self.clock.now());
            tokio::time::sleep(wait).await;
        }
    }
}

/// governor on tokio's clock: its own sleeps on a thread that cancellation and tests do not reach.
#[derive(Clone)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn limit(requests: u32, per: Duration) -> Limit {
        Limit { requests, per }
    }

    /// The most moments that any window of length `per` holds.
    fn fullest(moments: &[Instant], per: Duration) -> usize {
        moments
            .iter()
            .enumerate()
            .map(|(i, first)| {
                moments[i..]
                    .iter()
                    .take_while(|m| **m < *first + per)
                    .count()
            })
            .max()
            .unwrap_or(0)
    }

    /// Sends `count` requests as fast as allowed; answers when each reached the API.
    async fn arrivals(
        limits: &[Limit],
        in_flight: usize,
        count: usize,
    ) -> (Vec<Instant>, Duration) {
        let limiter = Arc::new(Limiter::new(limits, in_flight, None));
        let cancel = CancellationToken::new();
        let begun = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for i in 0..count {
            let (limiter, cancel) = (Arc::clone(&limiter), cancel.clone());
            tasks.spawn(async move {
                let mut permit = limiter.permit(MINUTE, &cancel).await.unwrap();
                // The way there takes between 0 and 90 ms, the way back 10 ms.
                tokio::time::sleep(Duration::from_millis((i as u64 * 37) % 91)).await;
                let arrived = Instant::now();
                tokio::time::sleep(Duration::from_millis(10)).await;
                permit.answered();
                arrived
            });
        }
        let mut moments = Vec::new();
        while let Some(moment) = tasks.join_next().await {
            moments.push(moment.unwrap());
        }
        moments.sort();
        (moments, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn no_window_at_the_api_holds_more_than_allowed() {
        for (limits, in_flight, count) in [
            (
                vec![limit(300, MINUTE), limit(15, Duration::from_secs(1))],
                8,
                1000,
            ),
            (vec![limit(5, Duration::from_secs(1))], 4, 60),
            (vec![limit(1, Duration::from_millis(100))], 4, 40),
            (vec![limit(100, MINUTE)], 50, 350),
            (
                vec![
                    limit(2, Duration::from_secs(1)),
                    limit(10, MINUTE),
                    limit(30, 10 * MINUTE),
                ],
                3,
                65,
            ),
        ] {
            let (moments, _) = arrivals(&limits, in_flight, count).await;
            assert_eq!(moments.len(), count);
            for limit in limits {
                let fullest = fullest(&moments, limit.per);
                assert!(fullest <= limit.requests as usize, "{limit:?}: {fullest}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_requests_run_at_the_speed_of_the_short_window() {
        let limits = [limit(300, MINUTE), limit(15, Duration::from_secs(1))];
        let (_, took) = arrivals(&limits, 8, 150).await;
        // 150 at 15 per second, each counted until 10 to 100 ms after it was sent.
        assert!(took < Duration::from_secs(12), "{took:?}");
        let (_, took) = arrivals(&limits, 8, 900).await;
        assert!(
            took > Duration::from_secs(120) && took < Duration::from_secs(150),
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn goes_in_the_order_of_asking() {
        let limiter = Arc::new(Limiter::new(&[limit(10, Duration::from_secs(1))], 2, None));
        let order = Arc::new(Mutex::new(Vec::new()));
        let cancel = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        for i in 0..50 {
            let (limiter, order, cancel) =
                (Arc::clone(&limiter), Arc::clone(&order), cancel.clone());
            tasks.spawn(async move {
                let _permit = limiter.permit(MINUTE, &cancel).await.unwrap();
                order.lock().unwrap().push(i);
            });
            tokio::task::yield_now().await;
        }
        tasks.join_all().await;
        assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_all_back_and_a_long_one_is_an_error() {
        let limiter = Limiter::new(&[], 4, None);
        let cancel = CancellationToken::new();
        limiter.pause(Duration::from_secs(30));
        limiter.pause(Duration::from_secs(5));
        let begun = Instant::now();
        let _permit = limiter.permit(MINUTE, &cancel).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_secs(30));
        limiter.pause(Duration::from_secs(90));
        let refused = limiter.permit(MINUTE, &cancel).await.map(|_| ());
        assert!(matches!(refused, Err(Error::RateLimited { .. })));
        tokio::time::advance(Duration::from_secs(31)).await;
        assert!(limiter.permit(MINUTE, &cancel).await.is_ok());
        limiter.pause(Duration::from_secs(1 << 40));
        tokio::time::advance(LONGEST_PAUSE).await;
        assert!(limiter.permit(MINUTE, &cancel).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_api_has_left_is_not_overdrawn() {
        let limiter = Limiter::new(&[], 8, None);
        let cancel = CancellationToken::new();
        let second = Duration::from_secs(1);
        let mut first = limiter.permit(MINUTE, &cancel).await.unwrap();
        first.answered();
        // Three are left, and one is told of while two more are under way.
        limiter.left(3, 30 * second);
        let mut second_one = limiter.permit(MINUTE, &cancel).await.unwrap();
        let _third = limiter.permit(MINUTE, &cancel).await.unwrap();
        second_one.answered();
        limiter.left(2, 30 * second);
        let begun = Instant::now();
        let _fourth = limiter.permit(MINUTE, &cancel).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let _fifth = limiter.permit(MINUTE, &cancel).await.unwrap();
        assert!(begun.elapsed() >= 30 * second);
        // The next window may have more, and none too long is waited for.
        limiter.left(50, 30 * second);
        assert!(limiter.permit(MINUTE, &cancel).await.is_ok());
        limiter.left(0, 600 * second);
        let refused = limiter.permit(MINUTE, &cancel).await.map(|_| ());
        assert!(matches!(refused, Err(Error::RateLimited { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_is_cancelled_takes_nothing() {
        let limiter = Limiter::new(&[limit(1, MINUTE)], 1, None);
        let cancel = CancellationToken::new();
        let held = limiter.permit(MINUTE, &cancel).await.unwrap();
        let stop = CancellationToken::new();
        let waiting = limiter.permit(MINUTE, &stop);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        stop.cancel();
        assert_eq!(waiting.await.map(|_| ()), Err(Error::Cancelled));
        drop(held);
        let begun = Instant::now();
        let _next = limiter.permit(MINUTE, &cancel).await.unwrap();
        assert!(begun.elapsed() >= MINUTE && begun.elapsed() < MINUTE * 2);
    }
}
