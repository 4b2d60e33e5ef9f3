//! Mailboxes, clocks and cursors around the engine.

pub mod fanout;
pub mod hub;
