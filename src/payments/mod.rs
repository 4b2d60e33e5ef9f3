//! How LiveDrop is paid.
//!
//! - [`gateway`]: what a provider of payments can be asked, and how it answers.

pub mod gateway;
