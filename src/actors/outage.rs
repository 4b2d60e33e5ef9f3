//! Outages of the database, and their effect on access tokens.
//!
//! During an outage no token can be renewed, and an outage may last longer than a token. A token that was valid when
//! the database last answered therefore stays valid until the database is back, and a little longer, so that clients do
//! not renew their tokens all at once. Tokens revoked before or since stay revoked: see `service::revocations`.

use crate::domain::limits::{OUTAGE_GRACE_SECONDS_DEFAULT, RENEWALS_SPREAD_MS};
use crate::domain::{Login, Timestamp};
use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};
use std::time::Duration;

/// Marks a time that is not set.
const NEVER: i64 = i64::MAX;

/// Updated by the monitor, read when tokens are checked. Cheap to clone.
#[derive(Clone)]
pub struct Outage(Arc<Inner>);

struct Inner {
    grace_ms: i64,
    /// When the last answered query was sent.
    answered: AtomicI64,
    /// `answered` as of the start of the current outage, or of the last one.
    since: AtomicI64,
    /// When the last outage ended; [`NEVER`] during one.
    ended: AtomicI64,
}

impl Default for Outage {
    fn default() -> Self {
        Self::new(Duration::from_secs(OUTAGE_GRACE_SECONDS_DEFAULT.into()))
    }
}

impl Outage {
    /// Starts without an outage. In one, tokens stay valid for at most `grace`; zero: not at all.
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        let grace_ms = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        let [answered, since, ended] = [i64::MIN, NEVER, NEVER].map(AtomicI64::new);
        Self(Arc::new(Inner { grace_ms, answered, since, ended }))
    }

    /// Reports a query sent at `asked_at` and its result at `now`. For one caller only. An outage that begins while the
    /// last one's tokens are still being renewed counts as the same one.
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

    /// Whether there is an outage now.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.since.load(Ordering::Acquire) != NEVER && self.0.ended.load(Ordering::Acquire) == NEVER
    }

    /// Until when a token that expired at `expires_at` stays valid; `None` if it does not. During an outage the time is
    /// a near one, and is asked for again then.
    #[must_use]
    pub fn prolongs(&self, expires_at: Timestamp, login: Login, now: Timestamp) -> Option<Timestamp> {
        let since = self.0.since.load(Ordering::Acquire);
        if since == NEVER || expires_at.as_millis() <= since {
            return None;
        }
        let mut until = since.saturating_add(self.0.grace_ms);
        let ended = self.0.ended.load(Ordering::Acquire);
        if ended != NEVER {
            // The random end of an id spreads the renewals of all logins.
            let spread = login.id.as_u64_pair().1 % RENEWALS_SPREAD_MS.unsigned_abs();
            until = until.min(ended.saturating_add(spread.cast_signed()));
        }
        let soon = now.plus_millis(RENEWALS_SPREAD_MS);
        (now.as_millis() < until).then(|| Timestamp::from_millis(until).min(soon))
    }

    /// Tokens that expired before this are invalid in any case.
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

    /// The login with the latest possible renewal.
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
        // Another outage before all tokens are renewed: it is the same outage.
        outage.observe(false, at(10_000), at(10_001));
        assert!(outage.is_on() && prolongs(&outage, 5_000, end));
        outage.observe(true, at(20_000), at(20_001));
        // A later outage is another one: clients that have not renewed their token by then are signed out.
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
