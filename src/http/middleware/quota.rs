//! Quotas: how many requests each client may send in a period. The arithmetic is governor's (GCRA: one atomic number a
//! key); the storage of the numbers, and its bound, are this module's.

use crate::domain::limits::{RATE_KEYS_MAX, RATE_QUOTA_MAX, RATE_WINDOW_SECONDS_MAX};
use actix_web::http::header::HeaderValue;
use dashmap::{DashMap, Entry};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::{Quota, RateLimiter};
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// A burst of requests, and the same number again over a period in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    quota: NonZeroU32,
    window_s: NonZeroU32,
}

impl FromStr for Rate {
    type Err = String;

    /// Such as `100/2`: a hundred requests in two seconds.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str, max: u32| text.trim().parse::<NonZeroU32>().ok().filter(|number| number.get() <= max);
        let rate = || {
            let (quota, window_s) = text.split_once('/')?;
            let (quota, window_s) = (number(quota, RATE_QUOTA_MAX)?, number(window_s, RATE_WINDOW_SECONDS_MAX)?);
            Some(Self { quota, window_s })
        };
        rate().ok_or_else(|| "must be <requests>/<seconds>, such as 100/2".to_owned())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.quota, self.window_s)
    }
}

/// The rest of a quota after a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Left {
    /// Requests that may still come at once.
    pub requests: u32,
    /// Seconds until the quota is full again.
    pub full_in_s: u32,
    /// Seconds until a retry may succeed; set if this request exceeded the quota.
    pub retry_after_s: Option<u32>,
}

/// One quota for each key.
pub struct Quotas<C: Clock = DefaultClock> {
    name: &'static str,
    rate: Rate,
    policy: HeaderValue,
    limiter: RateLimiter<u128, Keys, C, StateInformationMiddleware>,
}

impl Quotas {
    /// Starts with full quotas.
    #[must_use]
    pub fn new(name: &'static str, rate: Rate) -> Self {
        Self::with(name, rate, RATE_KEYS_MAX, DefaultClock::default())
    }
}

impl<C: Clock> Quotas<C> {
    fn with(name: &'static str, rate: Rate, keys_max: usize, clock: C) -> Self {
        let Rate { quota, window_s } = rate;
        let interval = Duration::from_secs(u64::from(window_s.get())) / quota.get();
        let allowed = Quota::with_period(interval).expect("bounds keep it above zero").allow_burst(quota);
        let policy = HeaderValue::try_from(format!("\"{name}\";q={quota};w={window_s}")).expect("plain text");
        let limiter = RateLimiter::new(allowed, Keys::new(keys_max), clock);
        Self { name, rate, policy, limiter }
    }

    /// Takes one request off a key's quota. Allocates only for a new key, and never waits for more than one shard of
    /// the keys.
    pub fn take(&self, key: u128) -> Left {
        let full_after = |missing: u32| {
            let missing_s = u64::from(missing) * u64::from(self.rate.window_s.get());
            missing_s.div_ceil(u64::from(self.rate.quota.get())) as u32
        };
        match self.limiter.check_key(&key) {
            Ok(state) => {
                let requests = state.remaining_burst_capacity();
                Left { requests, full_in_s: full_after(self.rate.quota.get() - requests), retry_after_s: None }
            }
            Err(not_until) => {
                let wait = not_until.wait_time_from(self.limiter.clock().now());
                let retry_after_s = u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).max(1);
                Left { requests: 0, full_in_s: full_after(self.rate.quota.get()), retry_after_s: Some(retry_after_s) }
            }
        }
    }

    /// Removes the keys with full quotas.
    pub fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }

    /// The `RateLimit-Policy` field's item (draft-ietf-httpapi-ratelimit-headers-10, section 3).
    #[must_use]
    pub fn policy(&self) -> &HeaderValue {
        &self.policy
    }

    /// The `RateLimit` field's item (section 4 of the same draft).
    #[must_use]
    pub fn item(&self, left: Left) -> Option<HeaderValue> {
        HeaderValue::try_from(format!("\"{}\";r={};t={}", self.name, left.requests, left.full_in_s)).ok()
    }
}

/// When each key's next request is due, in governor's terms. At most `keys_max` keys have a number of their own: while
/// the map is full, new keys share one.
struct Keys {
    due: DashMap<u128, Due>,
    count: AtomicUsize,
    keys_max: usize,
    rest: Due,
}

#[derive(Default)]
struct Due(AtomicU64);

impl Due {
    fn measure<T, E>(&self, decide: impl Fn(Option<Nanos>) -> Result<(T, Nanos), E>) -> Result<T, E> {
        let mut known = self.0.load(Ordering::Acquire);
        loop {
            let (outcome, next) = decide(NonZeroU64::new(known).map(|due| due.get().into()))?;
            match self.0.compare_exchange_weak(known, next.into(), Ordering::Release, Ordering::Acquire) {
                Ok(_) => return Ok(outcome),
                Err(changed) => known = changed,
            }
        }
    }
}

impl Keys {
    fn new(keys_max: usize) -> Self {
        Self { due: DashMap::new(), count: AtomicUsize::new(0), keys_max, rest: Due::default() }
    }
}

impl StateStore for Keys {
    type Key = u128;

    fn measure_and_replace<T, F, E>(&self, key: &u128, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        if let Some(due) = self.due.get(key) {
            return due.measure(decide);
        }
        if self.count.load(Ordering::Relaxed) >= self.keys_max {
            return self.rest.measure(decide);
        }
        match self.due.entry(*key) {
            Entry::Occupied(known) => known.get().measure(decide),
            Entry::Vacant(place) => {
                self.count.fetch_add(1, Ordering::Relaxed);
                place.insert(Due::default()).measure(decide)
            }
        }
    }
}

impl ShrinkableKeyedStateStore<u128> for Keys {
    fn retain_recent(&self, drop_below: Nanos) {
        self.due.retain(|_, due| {
            let recent = due.0.load(Ordering::Relaxed) > drop_below.as_u64();
            if !recent {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
            recent
        });
    }

    fn shrink_to_fit(&self) {
        // Only after a crowd has gone: growing again takes time.
        if self.due.capacity() / 8 > self.len() {
            self.due.shrink_to_fit();
        }
    }

    fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    fn quotas(rate: &str, keys_max: usize) -> (Quotas<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        clock.advance(Duration::from_secs(1_000));
        (Quotas::with("some", rate.parse().unwrap(), keys_max, clock.clone()), clock)
    }

    #[test]
    fn rates_are_read_and_shown() {
        for text in ["100/2", "1/86400", "1000000/1"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for bad in ["", "1", "0/1", "1/0", "-1/1", "1/86401", "1000001/1", "1/1/1", "x/1", "1.5/1"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_quota_is_spent_and_comes_back_bit_by_bit() {
        let (quotas, clock) = quotas("4/2", 10);
        for requests in [3, 2, 1, 0] {
            let left = quotas.take(7);
            assert_eq!((left.requests, left.retry_after_s), (requests, None));
        }
        assert_eq!(quotas.take(7), Left { requests: 0, full_in_s: 2, retry_after_s: Some(1) });
        assert_eq!(quotas.take(8), Left { requests: 3, full_in_s: 1, retry_after_s: None }, "others have their own");
        clock.advance(Duration::from_millis(500));
        assert_eq!(quotas.take(7).retry_after_s, None);
        assert_eq!(quotas.take(7).retry_after_s, Some(1), "one came back, and was taken");
        clock.advance(Duration::from_secs(2));
        assert_eq!(quotas.take(7), Left { requests: 3, full_in_s: 1, retry_after_s: None });
    }

    #[test]
    fn the_wait_is_rounded_up() {
        let (quotas, clock) = quotas("1/60", 10);
        assert_eq!(quotas.take(1), Left { requests: 0, full_in_s: 60, retry_after_s: None });
        clock.advance(Duration::from_millis(1_500));
        assert_eq!(quotas.take(1).retry_after_s, Some(59));
        clock.advance(Duration::from_millis(58_400));
        assert_eq!(quotas.take(1).retry_after_s, Some(1));
        clock.advance(Duration::from_millis(100));
        assert_eq!(quotas.take(1).retry_after_s, None);
    }

    #[test]
    fn memory_has_a_bound_and_is_given_back() {
        let (quotas, clock) = quotas("2/2", 3);
        for key in 0..100 {
            quotas.take(key);
        }
        assert_eq!(quotas.limiter.len(), 3);
        assert_eq!(quotas.take(0).requests, 0, "whoever had a place keeps it");
        assert!(quotas.take(1_000).retry_after_s.is_some(), "the others share one");
        quotas.sweep();
        assert_eq!(quotas.limiter.len(), 3, "they are owed something still");
        clock.advance(Duration::from_secs(10));
        quotas.sweep();
        assert!(quotas.limiter.is_empty());
        assert_eq!(quotas.take(1_000).requests, 1);
    }

    #[test]
    fn fields_are_structured() {
        let (quotas, _) = quotas("4/2", 10);
        assert_eq!(quotas.policy(), "\"some\";q=4;w=2");
        assert_eq!(quotas.item(quotas.take(1)).unwrap(), "\"some\";r=3;t=1");
    }
}
