//! Programs around the platform: users of the library, and of the server over HTTP.
//!
//! - [`demo`]: a sale of one drop with a crowd, checked against promises.
//! - [`load`]: the load driver. [`sim`]: the simulation of crashes and faults. [`verify`]: the offline auditor.
//! - [`stripe_fake`]: a fake of Stripe's API that keeps books, for tests.

pub mod demo;
pub mod load;
pub mod sim;
pub mod stripe_fake;
pub mod verify;
