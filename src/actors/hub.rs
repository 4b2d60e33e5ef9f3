//! The sessions' side of the broadcaster.

use super::broadcaster::{Broadcaster, Wish};
use super::fanout::{CloseCause, SessionQueue, Topic};
use crate::domain::limits::SESSIONS_MAX;
use crate::domain::{CreatorId, UserId};
use actix::Addr;
use bytes::Bytes;
use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// Names one session within this process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SessionId(pub u64);

/// Why a session may not join.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JoinError {
    /// `SESSIONS_MAX` or the broadcaster's mailbox is full.
    #[error("too many sessions")]
    Full,
}

/// Talks to the broadcaster actor. Cheap to clone; calls never block.
#[derive(Clone)]
pub struct Hub {
    broadcaster: Addr<Broadcaster>,
    next: Arc<AtomicU64>,
    open: Arc<AtomicUsize>,
}

impl Hub {
    /// A hub in front of a broadcaster.
    #[must_use]
    pub fn new(broadcaster: Addr<Broadcaster>) -> Self {
        Self { broadcaster, next: Arc::default(), open: Arc::default() }
    }

    /// How many sessions are open.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Adds a session.
    ///
    /// # Errors
    /// [`JoinError::Full`] at the bound.
    pub fn connect(&self, queue: Arc<SessionQueue>) -> Result<SessionId, JoinError> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= SESSIONS_MAX {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(JoinError::Full);
        }
        let id = SessionId(self.next.fetch_add(1, Ordering::Relaxed));
        self.wish(Wish::Connect(id, queue)).inspect_err(|_| {
            self.open.fetch_sub(1, Ordering::Relaxed);
        })?;
        Ok(id)
    }

    /// Makes a session a user's: it hears `user:{id}` and the drops of these creators. Past `SESSIONS_PER_USER_MAX` the
    /// user's oldest session is closed. `done` is the first frame that it hears as that user's.
    ///
    /// # Errors
    /// [`JoinError::Full`] where the broadcaster's mailbox is.
    pub fn authenticate(
        &self,
        session: SessionId,
        user: UserId,
        following: Vec<CreatorId>,
        done: Bytes,
    ) -> Result<(), JoinError> {
        self.wish(Wish::Authenticate(session, user, following, done))
    }

    /// Subscribes (the session checks its own bound and its right to the topics). After `done` it hears everything.
    ///
    /// # Errors
    /// [`JoinError::Full`] where the broadcaster's mailbox is.
    pub fn subscribe(&self, session: SessionId, topics: Vec<Topic>, done: Bytes) -> Result<(), JoinError> {
        self.wish(Wish::Subscribe(session, topics, done))
    }

    /// Takes back what was asked for; what comes with the account stays. After `done` it hears nothing of the rest.
    ///
    /// # Errors
    /// [`JoinError::Full`] where the broadcaster's mailbox is.
    pub fn unsubscribe(&self, session: SessionId, topics: Vec<Topic>, done: Bytes) -> Result<(), JoinError> {
        self.wish(Wish::Unsubscribe(session, topics, done))
    }

    /// Forgets a session. Never refused: at most one per session that was let in, so it cannot grow without bound.
    pub fn disconnect(&self, session: SessionId) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.broadcaster.do_send(Wish::Disconnect(session));
    }

    /// Keeps the open sessions of `user` in step with a follow or an unfollow. A full mailbox loses it: the session is
    /// right again when it reconnects.
    pub fn follow_changed(&self, user: UserId, creator: CreatorId, follows: bool) {
        if self.wish(Wish::FollowChanged(user, creator, follows)).is_err() {
            tracing::warn!("the broadcaster is full; a session will hear of a follow at its next connect");
        }
    }

    /// Closes every session. Used once, when the server goes down.
    pub fn close_all(&self, cause: CloseCause) {
        self.broadcaster.do_send(Wish::CloseAll(cause));
    }

    fn wish(&self, wish: Wish) -> Result<(), JoinError> {
        self.broadcaster.try_send(wish).map_err(|_| JoinError::Full)
    }
}
