//! Extractors: how handlers read a request. Each refuses invalid input, with a problem that names it.
//!
//! - [`auth`]: the caller. [`client`]: the client's address.
//! - [`json`], [`field`], [`known`]: bodies. [`path`], [`pages`]: ids, and parameters of lists.
//! - [`idempotency`], [`keyed`]: changes made once for each key. [`conditional`]: `ETag` and `If-Match`.

pub mod auth;
pub mod client;
pub mod conditional;
pub mod field;
pub mod idempotency;
pub mod json;
pub mod keyed;
pub mod known;
pub mod pages;
pub mod path;
