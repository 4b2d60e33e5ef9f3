//! Mailboxes, clocks and cursors around the engine.
//!
//! - [`drop_actor`]: one live drop, a shell around its [`decider`], reached by its [`mailbox`]. [`registry`] knows which are in memory, [`scheduler`] wakes them, [`sleepers`] brings them
//!   in before their start.
//! - [`publish`]: what a decision becomes once it is durable.
//! - [`consumers`]: what follows the durable journal, such as the projector, which fills SQL. [`broadcaster`] tells the crowd.
//! - [`hub`] is the broadcaster's front, [`shard`] a worker's sessions, each a [`seat`] with an [`outbox`]. [`history`] is what was
//!   told lately, [`place`] where in it a client stands.

pub mod announce;
pub mod backoff;
pub mod broadcaster;
pub mod clock;
pub mod cloud_event;
pub mod consumers;
pub mod decider;
pub mod drop_actor;
pub mod fanout;
pub mod history;
pub mod hub;
pub mod janitor;
pub mod mailbox;
pub mod outage;
pub mod outbox;
pub mod place;
pub mod publish;
pub mod recovery;
pub mod registry;
pub mod scheduler;
pub mod seat;
pub mod shard;
pub mod sleepers;
pub mod tally;

pub use backoff::Backoff;
pub use clock::Clock;
pub use consumers::Tail;
pub use consumers::projector::{Projected, Projection, Projector};
pub use decider::Decider;
pub use drop_actor::Ask;
pub use hub::Hub;
pub use publish::{Answer, AskError, Decisions};
pub use registry::{DropHandle, KeyInUse, KeyTaken, Registry};
pub use scheduler::Scheduler;
pub use sleepers::Sleepers;
pub use tally::Tally;
