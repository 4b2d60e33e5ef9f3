//! Drops that are sold: one actor for each decides alone, in memory, one message at a time.
//!
//! - [`drop_actor`]: a shell around a [`decider`], reached by its [`mailbox`] with [`messages`].
//! - [`snapshot`]: what a decision becomes once it is durable: the published stock, and the replies.
//! - [`registry`]: which drops are in memory. [`recovery`] fills it at a start, [`sleepers`] before a start that is far ahead; [`evictor`] takes out what needs no actor.
//! - [`scheduler`]: alarms; [`timer`] ticks the drops whose alarms are due.
//! - [`metrics`]: how many orders went which way.

pub mod decider;
pub mod drop_actor;
pub mod evictor;
pub mod mailbox;
pub mod messages;
pub mod metrics;
pub mod recovery;
pub mod registry;
pub mod scheduler;
pub mod sleepers;
pub mod snapshot;
pub mod timer;
