//! The database's absence, and what it means to access tokens.
//!
//! While the database is away nobody can renew a token, and an outage may be longer than a token lasts. So one that was good when the database
//! last answered stays good until it is back, and a little longer, so that a crowd does not renew its tokens all at once. What was revoked
//! before or since stays revoked: see `service::revocations`.

use crate::domain::limits::{OUTAGE_GRACE_SECONDS_DEFAULT, RENEWALS_SPREAD_MS};
use crate::domain::{Login, Timestamp};
use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};
use std::time::Duration;

/// No time at all.
const NEVER: i64 = i64::MAX;

/// Told by the monitor, asked when tokens are checked. Cheap to clone.
#[derive(Clone)]
pub struct Outage(Arc<Inner>);

struct Inner {
    grace_ms: i64,
    /// When the database was asked the last question that it answered.
    answered: AtomicI64,
    /// The same, of before the current outage or the last one.
    since: AtomicI64,
    /// When that ended.
    ended: AtomicI64,
}

impl Default for Outage {
    fn default() -> Self {
        Self::new(Duration::from_secs(OUTAGE_GRACE_SECONDS_DEFAULT.into()))
    }
}

impl Outage {
    /// There is none. In one, tokens stay good for `grace` at the most; zero: not at all.
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        let grace_ms = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        let [answered, since, ended] = [i64::MIN, NEVER, NEVER].map(AtomicI64::new);
        Self(Arc::new(Inner { grace_ms, answered, since, ended }))
    }

    /// What became of a question to the database that was asked at `asked_at`; it is `now` when that is known. One caller only. An outage that
    /// begins while the last one's tokens are still being renewed is the same one.
    pub fn observe(&self, answered: bool, asked_at: Timestamp, now: Timestamp) {
        let Inner { answered: last, since, ended, .. } = &*self.0;
        let now = now.as_millis();
        if answered {
            last.store(asked_at.as_millis(), Ordering::Relaxed);
            if self.is_on() {
                ended.store(now, Ordering::Release);
            }
            return;
        }
        let end = ended.load(Ordering::Acquire);
        if end != NEVER && now < end.saturating_add(RENEWALS_SPREAD_MS) {
            ended.store(NEVER, Ordering::Release);
        } else if !self.is_on() {
            ended.store(NEVER, Ordering::Release);
            since.store(last.load(Ordering::Relaxed), Ordering::Release);
        }
    }

    /// Whether the database is away now.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.since.load(Ordering::Acquire) != NEVER && self.0.ended.load(Ordering::Acquire) == NEVER
    }

    /// Until when a token is good that has ended at `expires_at`; `None` where that is final. The time itself is for answers that must name one: it is
    /// soon, and asked again then.
    #[must_use]
    pub fn prolongs(&self, expires_at: Timestamp, login: Login, now: Timestamp) -> Option<Timestamp> {
        let since = self.0.since.load(Ordering::Acquire);
        if since == NEVER || expires_at.as_millis() <= since {
            return None;
        }
        let mut until = since.saturating_add(self.0.grace_ms);
        let ended = self.0.ended.load(Ordering::Acquire);
        if ended != NEVER {
            // The random end of an id: each login has its own moment.
            let spread = login.id.as_u64_pair().1 % RENEWALS_SPREAD_MS.unsigned_abs();
            until = until.min(ended.saturating_add(spread.cast_signed()));
        }
        let soon = now.plus_millis(RENEWALS_SPREAD_MS);
        (now.as_millis() < until).then(|| Timestamp::from_millis(until).min(soon))
    }

    /// No token that has ended by then is good any more.
    #[must_use]
    pub fn horizon(&self, now: Timestamp) -> Timestamp {
        let since = self.0.since.load(Ordering::Acquire);
        let end = self.0.ended.load(Ordering::Acquire).saturating_add(RENEWALS_SPREAD_MS);
        let over = now.as_millis() >= since.saturating_add(self.0.grace_ms).min(end);
        if over { now } else { Timestamp::from_millis(since).min(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const GRACE_MS: i64 = 3_600_000;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    /// Its renewals come as late as they may.
    fn last() -> Login {
        Login { id: Uuid::from_u64_pair(0, RENEWALS_SPREAD_MS.unsigned_abs() - 1), version: 0 }
    }

    fn outage() -> Outage {
        let outage = Outage::new(Duration::from_millis(GRACE_MS as u64));
        outage.observe(true, at(1_000), at(1_001));
        outage
    }

    fn prolongs(outage: &Outage, expires: i64, now: i64) -> bool {
        outage.prolongs(at(expires), last(), at(now)).is_some()
    }

    #[test]
    fn a_token_that_was_good_when_the_database_last_answered_stays_good() {
        let outage = outage();
        assert!(!outage.is_on() && !prolongs(&outage, 5_000, 6_000), "the database is there");
        outage.observe(false, at(2_000), at(2_001));
        assert!(outage.is_on() && prolongs(&outage, 5_000, 6_000) && prolongs(&outage, 1_001, 6_000));
        assert!(!prolongs(&outage, 1_000, 6_000), "it had ended before");
        outage.observe(false, at(3_000), at(3_001));
        assert!(prolongs(&outage, 1_001, GRACE_MS + 999), "since the first");
        assert!(!prolongs(&outage, 5_000, GRACE_MS + 1_000), "no longer than the grace");
        assert_eq!(outage.horizon(at(6_000)), at(1_000));
        assert_eq!(outage.horizon(at(GRACE_MS + 1_000)), at(GRACE_MS + 1_000));
    }

    #[test]
    fn when_the_database_is_back_tokens_end_one_after_the_other() {
        let outage = outage();
        outage.observe(false, at(2_000), at(2_001));
        outage.observe(true, at(9_000), at(9_001));
        assert!(!outage.is_on());
        let first = Login { id: Uuid::from_u64_pair(7, 0), version: 0 };
        assert_eq!(outage.prolongs(at(5_000), first, at(9_001)), None);
        let end = 9_001 + RENEWALS_SPREAD_MS;
        assert!(prolongs(&outage, 5_000, end - 2) && !prolongs(&outage, 5_000, end - 1));
        assert_eq!((outage.horizon(at(end - 1)), outage.horizon(at(end))), (at(1_000), at(end)));
        // It is away again before all are renewed: it is the same outage.
        outage.observe(false, at(10_000), at(10_001));
        assert!(outage.is_on() && prolongs(&outage, 5_000, end));
        outage.observe(true, at(20_000), at(20_001));
        // A later one is another: who has not renewed their token until then is signed out.
        let later = 20_001 + RENEWALS_SPREAD_MS;
        outage.observe(true, at(later), at(later));
        outage.observe(false, at(later + 1), at(later + 2));
        assert!(!prolongs(&outage, 5_000, later + 3) && prolongs(&outage, later + 1, later + 3));
    }

    #[test]
    fn without_grace_nothing_is_prolonged() {
        let outage = Outage::new(Duration::ZERO);
        outage.observe(true, at(1_000), at(1_001));
        outage.observe(false, at(2_000), at(2_001));
        assert!(outage.is_on() && !prolongs(&outage, 5_000, 6_000));
        assert_eq!(outage.horizon(at(6_000)), at(6_000));
    }
}
