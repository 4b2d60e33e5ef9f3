//! Orders: placing, paying, cancelling, reading.

pub mod dto;
pub mod payments;
pub mod routes;
