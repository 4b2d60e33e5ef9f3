//! Orders: reserve, pay, cancel.

pub mod dto;
pub mod routes;
