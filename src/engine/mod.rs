//! The pure state machine of a drop: state, command and time in; outcome and events out.
//!
//! No clock, no I/O, no visible randomness. A command is *decided* ([`DropState::apply`]): it yields events, and only
//! events change the state ([`DropState::evolve`]). Replaying the same events therefore gives the same state. Recovery,
//! the audit and the simulation rely on that.
//!
//! - [`command`]: what may be asked, and the named outcomes.
//! - [`state`]: a drop in memory, and how it is read and restored.
//! - `decide`: commands to events. [`admission`] is the part of it that says who may reserve.
//! - `payments`: the part of it about payments.
//! - `evolve`: events to state.
//! - [`checkpoint`]: a drop as bytes, copied while it goes on selling.
//! - `orders`: the table of orders: compact slots that never move, found by id, key and buyer through `index`.

pub mod admission;
pub mod checkpoint;
pub mod command;
mod copying;
mod decide;
mod evolve;
mod index;
mod orders;
mod payments;
pub mod state;

#[cfg(test)]
pub mod fixtures;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod scenario_tests;

pub use command::{Command, NewEnd, Outcome, Rejection, Reserve};
pub use state::DropState;
