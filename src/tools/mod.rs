//! Programs around the platform: users of the library, and of the server over HTTP.
//!
//! - [`demo`]: a sale of one drop with a crowd, checked against promises.
//! - [`load`]: the load driver. [`sim`]: the simulation of crashes and faults. [`verify`]: the offline auditor.

pub mod demo;
pub mod load;
pub mod sim;
pub mod verify;
