//! Inboxes, and tickets for sessions.

pub mod dto;
pub mod routes;
