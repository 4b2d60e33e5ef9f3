//! Payments.
//!
//! - [`gateway`]: the contract of a payment provider.

pub mod gateway;
