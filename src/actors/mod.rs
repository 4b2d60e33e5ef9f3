//! Mailboxes, clocks and cursors around the engine.
//!
//! - [`inventory`]: drops on sale, each an actor that decides alone; decisions become durable before they are answered.
//! - [`realtime`]: publishes durable records to sessions: the broadcaster, its shards, and the history that clients
//!   replay.
//! - [`consumers`]: consumers of the durable journal, such as the projector, which fills SQL.
//! - [`clock`], [`backoff`], [`outage`]: time, pauses between attempts, and the database's outages.

pub mod backoff;
pub mod clock;
pub mod consumers;
pub mod inventory;
pub mod outage;
pub mod realtime;

pub use backoff::Backoff;
pub use clock::Clock;
pub use consumers::Tail;
pub use consumers::projector::{Projected, Projection, Projector};
pub use inventory::decider::Decider;
pub use inventory::messages::Ask;
pub use inventory::metrics::OrderMetrics;
pub use inventory::registry::{DropHandle, KeyInUse, KeyTaken, Registry};
pub use inventory::scheduler::Scheduler;
pub use inventory::sleepers::Sleepers;
pub use inventory::snapshot::{Answer, AskError, Decisions};
pub use realtime::hub::Hub;
