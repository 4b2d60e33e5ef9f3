//! What handlers read from a request, and how: each refuses what it does not understand, with a problem that names it.
//!
//! - [`auth`]: the caller. [`client`]: the address that a request comes from.
//! - [`json`], [`field`], [`known`]: bodies. [`path`], [`pages`]: ids, and parameters of lists.
//! - [`idempotency`], [`keyed`]: a change that is made once for each key. [`conditional`]: `ETag` and `If-Match`.

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
