//! Mailboxes, clocks and cursors around the engine.
//!
//! - [`drop_actor`]: one live drop. [`registry`] knows which are in memory, [`scheduler`] wakes them.
//! - [`publish`]: what a decision becomes once it is durable.
//! - [`tail`]: follows the durable journal. [`projector`] fills SQL from it, [`broadcaster`] tells the crowd, through [`fanout`] queues; [`hub`] is its front.

pub mod announce;
pub mod broadcaster;
pub mod clock;
pub mod drop_actor;
pub mod fanout;
pub mod hub;
pub mod janitor;
pub mod projector;
pub mod publish;
pub mod recovery;
pub mod registry;
pub mod scheduler;
pub mod tail;

pub use clock::Clock;
pub use drop_actor::Ask;
pub use hub::Hub;
pub use projector::{Projection, Projector};
pub use publish::{Answer, AskError, Decision};
pub use registry::{DropHandle, Registry};
pub use scheduler::Scheduler;
pub use tail::Tail;
