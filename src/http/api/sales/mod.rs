//! The seller's side of orders.

pub mod routes;
