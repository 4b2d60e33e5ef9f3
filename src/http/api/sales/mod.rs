//! A creator's side of orders.

pub mod routes;
