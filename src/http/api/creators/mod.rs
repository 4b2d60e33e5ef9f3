//! Creators and who follows them.

pub mod dto;
pub mod routes;
