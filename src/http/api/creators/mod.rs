//! Creators and their followers.

pub mod dto;
pub mod routes;
