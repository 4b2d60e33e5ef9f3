//! Refunds that buyers ask for.

pub mod dto;
pub mod routes;
