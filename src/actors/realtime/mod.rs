//! Publishes durable records to sessions.
//!
//! - [`broadcaster`]: follows the journal, encodes each event once ([`wire`]) and hands it to the shards.
//! - [`messages`]: commands of sessions to the broadcaster, and its messages to the shards.
//! - [`hub`]: the interface to the broadcaster. [`shard`]: a worker's sessions, each a [`subscriber`] with an
//!   [`outbox`].
//! - [`history`]: recently published events; [`position`]: a client's position in them.
//! - [`event`]: topics, events, and why a session is closed.

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
