//! The addresses of users.

pub mod dto;
pub mod routes;
