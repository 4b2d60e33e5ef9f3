//! How LiveDrop is paid. What a payment does to an order is in [`crate::service`]'s `settle`.
//!
//! - [`gateway`]: what every gateway is asked, and how it answers.
//! - [`provider`]: the gateways that a server can be configured with.
//! - [`sandbox`]: play money.
//! - [`stripe`]: PaymentIntents with manual capture.
//! - [`breaker`]: keeps a provider that fails from holding up anything else.

pub mod breaker;
pub mod gateway;
pub mod provider;
pub mod sandbox;
pub mod stripe;
