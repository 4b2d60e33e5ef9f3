//! Inboxes, and how a session begins.

pub mod dto;
pub mod routes;
