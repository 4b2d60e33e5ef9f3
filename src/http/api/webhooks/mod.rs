//! Webhooks of payment providers.

pub mod routes;
