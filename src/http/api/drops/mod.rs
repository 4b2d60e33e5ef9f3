//! Drops: scheduling, changing, reading, and their stock.

pub mod dto;
pub mod routes;
