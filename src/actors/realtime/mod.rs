//! Sessions hear what is durable.
//!
//! - [`broadcaster`]: follows the journal, encodes each event once ([`wire`]) and hands it to the shards.
//! - [`messages`]: what sessions ask of it, and what it sends to the shards.
//! - [`hub`]: its front. [`shard`]: a worker's sessions, each a [`subscriber`] with an [`outbox`].
//! - [`history`]: what was published lately; [`sequence`]: where in it a client stands.
//! - [`event`]: topics, events, and why a session ends.

pub mod broadcaster;
pub mod event;
pub mod history;
pub mod hub;
pub mod messages;
pub mod outbox;
pub mod position;
pub mod shard;
pub mod subscriber;
pub mod wire;
