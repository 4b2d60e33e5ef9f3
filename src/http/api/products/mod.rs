//! Products of creators.

pub mod dto;
pub mod routes;
