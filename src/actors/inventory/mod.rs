//! Drops on sale: one actor for each decides alone, in memory, one message at a time.
//!
//! - [`drop_actor`]: a shell around a [`decider`], reached by its [`mailbox`] with [`messages`].
//! - [`snapshot`]: the effects of a durable decision: the published stock, and the replies.
//! - [`registry`]: the drops in memory, each by its [`drop_handle`]. [`recovery`] fills it at startup, [`sleepers`] before a start that is far
//!   ahead; [`evictor`] removes drops that need no actor.
//! - [`scheduler`]: alarms; [`timer`] ticks the drops whose alarms are due.
//! - [`refused_keys`]: refused one-call payments, remembered for a while.
//! - [`metrics`]: counters of order outcomes. [`all_cores`]: work on all drops at a start.

pub mod all_cores;
pub mod checkpoint;
pub mod decider;
pub mod drop_actor;
pub mod drop_handle;
pub mod evictor;
pub mod mailbox;
pub mod messages;
pub mod metrics;
pub mod recovery;
pub mod refused_keys;
pub mod registry;
pub mod scheduler;
pub mod sleepers;
pub mod snapshot;
pub mod timer;
