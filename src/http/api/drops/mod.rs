//! Drops: what is sold, when, and how many are left.

pub mod dto;
pub mod routes;
