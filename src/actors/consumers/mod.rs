//! Consumers of the journal. A [`Consumer`] has a name, an effect, an offset and a retention class ([`About`]); one
//! [`runner`] drives them all, and [`progress`] reports the state of each.
//!
//! The runner asks a consumer for one *step* at a time: it takes the next run of records from its [`tail`], performs
//! their effect and stores its offset. There is no work per record here, so a step costs what its effect costs.
//!
//! - [`projector`] fills SQL, at its own `pace`; [`aside`]: records that SQL refuses.
//! - The broadcaster's pump (`actors::realtime::broadcaster`) feeds the realtime sessions. The refund relay
//!   (`service::settle::refunds`) pays money back.
//! - `service::events` sends events to other systems. Such a consumer stores its [`offsets`] and [`dead_letters`] in
//!   files.

pub mod aside;
pub mod cloud_event;
pub mod dead_letters;
pub mod keyed;
pub mod offsets;
mod pace;
pub mod progress;
pub mod projector;
pub mod runner;
pub mod tail;

pub use progress::{Gap, Lag, Progress};
pub use tail::{Run, Tail, TailError, Unread};

use std::future::{Future, pending, ready};

/// How long the journal keeps records for a consumer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retention {
    /// Until the consumer has passed them. For the projector only: any other consumer that pins could fill the disk and
    /// stop sales.
    Pins,
    /// Until the consumer has passed them, within the operator's bounds in bytes and age. Past them it skips records,
    /// with a [`Gap`].
    Lags,
    /// Not at all: if records are gone, the consumer reads the state of the drops instead.
    Rereads,
}

/// The properties of a consumer, known without running it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct About {
    /// Its name in the log, in metrics, in `/readyz`, and as the supervised task.
    pub name: &'static str,
    /// What it does with records, in a few words.
    pub effect: &'static str,
    /// Where its offset is stored.
    pub offset: &'static str,
    /// How long records are kept for it.
    pub retention: Retention,
}

/// The result of one step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// The effect of a run is done, and the offset moved.
    Worked,
    /// Nothing is done yet, and the next step may follow at once.
    Again,
    /// Every durable record is done.
    Idle,
    /// The target was unavailable, for this reason. The next step retries the same records, after a pause.
    Unavailable(String),
    /// The consumer cannot go on, for this reason. The supervisor restarts it.
    Stopped(String),
}

impl From<&TailError> for Step {
    fn from(error: &TailError) -> Self {
        match error {
            TailError::Unreadable(_) => Self::Unavailable(error.to_string()),
            TailError::Skipped(_) | TailError::Unread(_) => Self::Again,
            TailError::Lost(_) => Self::Stopped(error.to_string()),
        }
    }
}

/// The contract between a consumer and the [`runner`].
pub trait Consumer {
    /// Its position in the journal.
    fn tail(&self) -> &Tail;

    /// Takes the next run of records, if there is one, performs its effect, and stores the offset. Never cancelled;
    /// after [`Step::Unavailable`] the same run is taken again.
    fn work(&mut self) -> impl Future<Output = Step>;

    /// Called before it runs again after a panic or an end: the current run is read again.
    fn begin_again(&mut self) {}

    /// The wait after [`Step::Worked`]. May be dropped at any time.
    fn rest(&mut self) -> impl Future<Output = ()> {
        ready(())
    }

    /// The wait while there is nothing to read; when it ends, the next step follows. May be dropped at any time.
    fn idle(&mut self) -> impl Future<Output = ()> {
        pending()
    }
}
