//! The sessions' side of the broadcaster.

use super::fanout::{SessionQueue, Topic};
use crate::domain::{CreatorId, UserId};
use std::sync::Arc;

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
pub struct Hub {}

impl Hub {
    /// Adds a session.
    pub fn connect(&self, queue: Arc<SessionQueue>) -> Result<SessionId, JoinError> {
        todo!("{}", Arc::strong_count(&queue))
    }
    /// Makes a session a user's: it hears `user:{id}` and the drops of these creators. Past `SESSIONS_PER_USER_MAX` the user's oldest session is closed.
    pub fn authenticate(&self, session: SessionId, user: UserId, following: Vec<CreatorId>) -> Result<(), JoinError> {
        todo!("{session:?} {user} {following:?}")
    }
    /// Subscribes (the session checks its own bound and its right to the topics).
    pub fn subscribe(&self, session: SessionId, topics: Vec<Topic>) -> Result<(), JoinError> {
        todo!("{session:?} {topics:?}")
    }
    /// Unsubscribes.
    pub fn unsubscribe(&self, session: SessionId, topics: Vec<Topic>) -> Result<(), JoinError> {
        todo!("{session:?} {topics:?}")
    }
    /// Forgets a session. Never refused.
    pub fn disconnect(&self, session: SessionId) {
        todo!("{session:?}")
    }
    /// Keeps the open sessions of `user` in step with a follow or an unfollow.
    pub fn follow_changed(&self, user: UserId, creator: CreatorId, follows: bool) {
        todo!("{user} {creator} {follows}")
    }
}
