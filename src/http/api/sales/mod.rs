//! The seller's side of orders.

pub mod dto;
pub mod routes;
