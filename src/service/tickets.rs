//! Tickets for sessions: a browser cannot send a header with a WebSocket or an event stream, and an access token in a
//! URL would end up in logs. A ticket may: it opens one session, within seconds, and is then invalid.

use super::clock::Clock;
use super::tokens::Access;
use super::{Code, Failure};
use crate::domain::limits::{TICKET_MS, TICKETS_MAX, TICKETS_PER_USER_MAX};
use crate::domain::{Timestamp, UserId};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

/// 192 random bits; 32 characters in base64.
type Secret = [u8; 24];

/// Issues and redeems tickets. Cheap to clone. In memory only: a restart invalidates all of them.
#[derive(Clone)]
pub struct Tickets {
    clock: Clock,
    book: Arc<Mutex<Book>>,
}

#[derive(Default)]
struct Book {
    good: HashMap<Secret, (Access, Timestamp)>,
    /// In the order of expiry.
    queue: VecDeque<(Timestamp, Secret)>,
    by_user: HashMap<UserId, VecDeque<Secret>>,
}

impl Tickets {
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, book: Arc::default() }
    }

    /// Issues a ticket for this access, and returns when it expires. A user's newest replaces the oldest at the bound.
    ///
    /// # Errors
    /// `overloaded` if too many tickets are valid.
    pub fn issue(&self, access: Access) -> Result<(String, Timestamp), Failure> {
        let now = self.clock.steady();
        let until = now.plus_millis(TICKET_MS).min(access.expires_at);
        let secret: Secret = rand::random();
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.expire(now);
        if book.queue.len() >= TICKETS_MAX {
            return Err(Failure::retry(Code::Overloaded, (TICKET_MS / 1_000) as u32));
        }
        let theirs = book.by_user.entry(access.user).or_default();
        theirs.push_back(secret);
        let oldest = (theirs.len() > TICKETS_PER_USER_MAX).then(|| theirs.pop_front()).flatten();
        if let Some(oldest) = oldest {
            book.good.remove(&oldest);
        }
        book.good.insert(secret, (access, until));
        book.queue.push_back((now.plus_millis(TICKET_MS), secret));
        Ok((URL_SAFE_NO_PAD.encode(secret), self.clock.wall_at(until)))
    }

    /// Redeems a ticket, once.
    ///
    /// # Errors
    /// `unauthenticated`.
    pub fn redeem(&self, text: &str) -> Result<Access, Failure> {
        let invalid = || Failure::with(Code::Unauthenticated, "The ticket is not valid, or not any more");
        let secret = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| Secret::try_from(bytes).ok());
        let secret = secret.ok_or_else(invalid)?;
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let (access, until) = book.take(&secret).ok_or_else(invalid)?;
        if self.clock.steady() < until { Ok(access) } else { Err(invalid()) }
    }
}

impl Book {
    fn take(&mut self, secret: &Secret) -> Option<(Access, Timestamp)> {
        let taken = self.good.remove(secret)?;
        if let Some(theirs) = self.by_user.get_mut(&taken.0.user) {
            theirs.retain(|other| other != secret);
            if theirs.is_empty() {
                self.by_user.remove(&taken.0.user);
            }
        }
        Some(taken)
    }

    fn expire(&mut self, now: Timestamp) {
        while let Some((_, secret)) = self.queue.pop_front_if(|(until, _)| *until <= now) {
            self.take(&secret);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Login;
    use crate::service::tokens::Role;

    fn access(tickets: &Tickets) -> Access {
        let (login, issued_at) = (Login::default(), tickets.clock.steady());
        let expires_at = issued_at.plus_millis(900_000);
        Access { user: UserId::new(), role: Role::User, login, issued_at, expires_at }
    }

    #[test]
    fn a_ticket_opens_once_and_soon() {
        let clock = Clock::default();
        let tickets = Tickets::new(clock.clone());
        let access = access(&tickets);
        let (text, _) = tickets.issue(access).unwrap();
        assert_eq!(tickets.redeem(&text).unwrap(), access);
        assert_eq!(tickets.redeem(&text).unwrap_err().code, Code::Unauthenticated);
        let (late, until) = tickets.issue(access).unwrap();
        clock.shift(until.millis_since(clock.now()) + 1);
        assert_eq!(tickets.redeem(&late).unwrap_err().code, Code::Unauthenticated);
        for bad in ["", "x", "!!!!", &text[1..], &format!("{text}AAAA")] {
            assert!(tickets.redeem(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_ticket_ends_with_the_token_behind_it() {
        let clock = Clock::default();
        let tickets = Tickets::new(clock.clone());
        let mut access = access(&tickets);
        access.expires_at = clock.steady().plus_millis(5_000);
        let (text, until) = tickets.issue(access).unwrap();
        assert!(until.millis_since(clock.now()) <= 5_000);
        // The wall clock does not matter.
        clock.step(-3_600_000);
        clock.shift(5_001);
        assert!(tickets.redeem(&text).is_err());
    }

    #[test]
    fn tickets_are_bounded_for_a_user_and_for_all() {
        let clock = Clock::default();
        let tickets = Tickets::new(clock.clone());
        let greedy = access(&tickets);
        let texts: Vec<_> = (0..=TICKETS_PER_USER_MAX).map(|_| tickets.issue(greedy).unwrap().0).collect();
        assert!(tickets.redeem(&texts[0]).is_err(), "the oldest made room");
        assert!(tickets.redeem(&texts[1]).is_ok());
        let left = TICKETS_MAX - tickets.book.lock().unwrap().queue.len();
        (0..left).for_each(|_| assert!(tickets.issue(access(&tickets)).is_ok()));
        assert_eq!(tickets.issue(access(&tickets)).unwrap_err().code, Code::Overloaded);
        clock.shift(TICKET_MS + 1_000);
        assert!(tickets.issue(greedy).is_ok());
        let book = tickets.book.lock().unwrap();
        assert_eq!((book.good.len(), book.queue.len(), book.by_user.len()), (1, 1, 1));
    }
}
