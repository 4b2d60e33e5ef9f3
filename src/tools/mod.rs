//! Programs around the platform: users of the library, and of the server over HTTP.
//!
//! - [`demo`]: the first command: a market of creators and buyers, and the promises that it checks.
//! - [`load`]: the load driver. [`sim`]: the simulation of crashes and faults. [`verify`]: the offline auditor.

pub mod demo;
pub mod load;
pub mod sim;
pub mod verify;
