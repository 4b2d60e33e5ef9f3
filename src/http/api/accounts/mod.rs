//! Accounts: registration, login, logout, the audit trail.

pub mod dto;
pub mod routes;
