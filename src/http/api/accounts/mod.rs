//! Accounts, log-in and log-out.

pub mod dto;
pub mod routes;
