//! Products of creators: adding, changing, listing.

pub mod dto;
pub mod routes;
