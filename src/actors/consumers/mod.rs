//! What follows the journal. A [`Consumer`] has a name, an effect, an offset and a retention class ([`About`]); one [`runner`] drives
//! them all, and [`progress`] says how each of them does.
//!
//! A consumer is asked for one *step* at a time: it takes the next run of records from its [`tail`], brings their effect about and keeps its
//! offset. Nothing is decided for each record here, so a step costs what its effect costs.
//!
//! - [`projector`] fills SQL, at its own `pace`; [`aside`]: what SQL refuses.
//! - The broadcaster's pump (`actors::realtime::broadcaster`) feeds real time. The refund relay (`service::settle::refunds`) pays money back.
//! - `service::events` sends events to other systems. [`offsets`] and [`dead_letters`] are what such a consumer keeps in files.

pub mod aside;
pub mod cloud_event;
pub mod dead_letters;
pub mod offsets;
mod pace;
pub mod progress;
pub mod projector;
pub mod runner;
pub mod tail;

pub use progress::{Gap, Lag, Progress};
pub use tail::{Run, Tail, TailError};

use std::future::{Future, pending, ready};

/// How long the journal keeps records for a consumer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retention {
    /// Until it has passed them. For the projector alone: whatever else pins could fill the disk and stop sales.
    Pins,
    /// Until it has passed them, within the operator's bounds in bytes and age. Past them it skips, with a [`Gap`].
    Lags,
    /// Not at all: where records are gone it learns what it needs from the state of the drops.
    Rereads,
}

/// What there is to know of a consumer without running it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct About {
    /// In the log, in metrics, in `/readyz`, and as the task that the supervisor keeps.
    pub name: &'static str,
    /// What it does with records.
    pub effect: &'static str,
    /// Where its offset is kept.
    pub offset: &'static str,
    /// How long records are kept for it.
    pub retention: Retention,
}

/// What one step came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// The effect of a run is there, and the offset behind it.
    Worked,
    /// Nothing is done yet, and there is no reason to wait before the next step.
    Again,
    /// It has done everything that is durable.
    Idle,
    /// Something was not there, for this reason. The next step tries the same records, after a pause.
    Unavailable(String),
    /// It cannot go on, for this reason. The supervisor begins again.
    Stopped(String),
}

impl From<&TailError> for Step {
    fn from(error: &TailError) -> Self {
        match error {
            TailError::Unreadable(_) => Self::Unavailable(error.to_string()),
            TailError::Skipped(_) => Self::Again,
            TailError::Lost(_) => Self::Stopped(error.to_string()),
        }
    }
}

/// The contract between a consumer and the [`runner`].
pub trait Consumer {
    /// Where it reads.
    fn tail(&self) -> &Tail;

    /// Takes the next run of records, if there is one, brings its effect about, and keeps the offset. Not interrupted; what it had in hand is
    /// taken again after [`Step::Unavailable`].
    fn work(&mut self) -> impl Future<Output = Step>;

    /// Before it is run again, after a panic or an end: what was in hand then is read once more.
    fn begin_again(&mut self) {}

    /// What it waits for after [`Step::Worked`]. May be dropped at any time.
    fn rest(&mut self) -> impl Future<Output = ()> {
        ready(())
    }

    /// What it does while there is nothing to read; when it ends, the next step is taken. May be dropped at any time.
    fn idle(&mut self) -> impl Future<Output = ()> {
        pending()
    }
}
