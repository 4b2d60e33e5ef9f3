//! Another system, which gets events, and what their consumer keeps beside the journal: an offset and dead letters. All of it outlives the
//! server's crashes, which come before the effect, between the effect and the offset, and after both.

use crate::actors::consumers::dead_letters::DeadLetter;
use crate::actors::consumers::keyed::Effect;
use crate::domain::DropId;
use crate::service::events::{Keep, Target};
use bytes::Bytes;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use uuid::Uuid;

/// Events of every record of which the number is a multiple of this are refused permanently.
const REFUSED_EVERY: u64 = 37;

/// What becomes of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It is taken, and its offset is stored.
    Taken,
    /// It is taken, and the answer is lost.
    AnswerLost,
    /// The target is not there.
    Away,
    /// It is taken, and its offset cannot be stored.
    OffsetFails,
    /// The server ends before the batch arrives.
    EndsBefore,
    /// The server ends between the effect and the offset.
    EndsBetween,
}

#[derive(Deserialize)]
struct Event {
    id: String,
    partitionkey: DropId,
}

#[derive(Default)]
struct State {
    /// Of a batch to come, after so many others.
    fate: Option<(Fate, u32)>,
    /// Records whose events have arrived since the last look, in that order.
    arrived: Vec<(DropId, u64)>,
    journal: (Uuid, u32),
    /// Of which opening of the journal it is, and the last record.
    offset: Option<(u32, u64)>,
    offset_fails: bool,
    dead: BTreeSet<u64>,
    offset_first: bool,
}

/// The other system, and the consumer's place beside the journal. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Outside {
    state: Arc<Mutex<State>>,
    ended: Arc<Notify>,
}

impl Outside {
    /// One whose consumer stores its offset before the effect, which loses events: whether that is found.
    pub fn with_offset_first(offset_first: bool) -> Self {
        let outside = Self::default();
        outside.state().offset_first = offset_first;
        outside
    }

    /// Decides what becomes of a batch, after so many others.
    pub fn decide(&self, fate: Fate, after: u32) {
        self.state().fate = Some((fate, after));
    }

    /// Whether what was decided has happened.
    pub fn is_decided(&self) -> bool {
        self.state().fate.is_none()
    }

    /// Returns when the server has to end.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }

    /// The drops and records of events that have arrived since the last look.
    pub fn arrived(&self) -> Vec<(DropId, u64)> {
        std::mem::take(&mut self.state().arrived)
    }

    /// Records whose events are set aside.
    pub fn dead(&self) -> BTreeSet<u64> {
        self.state().dead.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fate(&self) -> Fate {
        let mut state = self.state();
        match state.fate {
            Some((fate, 0)) => {
                state.fate = None;
                fate
            }
            Some((fate, after)) => {
                state.fate = Some((fate, after - 1));
                Fate::Taken
            }
            None => Fate::Taken,
        }
    }

    async fn end(&self) {
        self.ended.notify_one();
        pending().await
    }
}

fn record_of(id: &str) -> u64 {
    id.strip_suffix("-0").and_then(|sequence| sequence.parse().ok()).expect("the id of a record's event")
}

impl Target for Outside {
    async fn send(&mut self, batch: Bytes) -> Effect {
        let events: Vec<Event> = serde_json::from_slice(&batch).expect("events of drops: the journal keeps everything");
        let events = events.iter().map(|event| (event.partitionkey, record_of(&event.id)));
        let events: Vec<(DropId, u64)> = events.collect();
        let fate = self.fate();
        {
            let mut state = self.state();
            if state.offset_first {
                state.offset = events.last().map(|(_, sequence)| (state.journal.1, *sequence));
            }
        }
        match fate {
            Fate::EndsBefore => self.end().await,
            Fate::Away => return Effect::Unavailable("it is away".to_owned()),
            _ => {}
        }
        if events.iter().any(|(_, sequence)| sequence % REFUSED_EVERY == 0) {
            return Effect::Refused("it does not like the number".to_owned());
        }
        self.state().arrived.extend(events);
        match fate {
            Fate::EndsBetween => self.end().await,
            Fate::AnswerLost => return Effect::Unavailable("the answer is lost".to_owned()),
            Fate::OffsetFails => self.state().offset_fails = true,
            _ => {}
        }
        Effect::Done
    }
}

impl Keep for Outside {
    fn offset(&self, journal: Uuid, epoch: u32) -> io::Result<Option<u64>> {
        let mut state = self.state();
        state.journal = (journal, epoch);
        Ok(state.offset.filter(|(of, _)| *of <= epoch).map(|(_, sequence)| sequence))
    }

    fn store(&self, _: Uuid, epoch: u32, sequence: u64) -> io::Result<()> {
        let mut state = self.state();
        if std::mem::take(&mut state.offset_fails) {
            return Err(io::Error::other("a simulated error"));
        }
        state.offset = Some((epoch, sequence));
        Ok(())
    }

    fn set_aside(&self, letter: DeadLetter) -> io::Result<usize> {
        let mut state = self.state();
        state.dead.insert(record_of(&letter.id));
        Ok(state.dead.len())
    }
}
