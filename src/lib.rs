//! LiveDrop: a flash-sale and follow platform on one node.
//!
//! The tour, from the inside out; each layer knows only those above it in this list (`tests/tidy.rs` checks that):
//!
//! - [`domain`]: ids, money, time, limits, and the events from which all state is folded.
//! - [`engine`]: decides. Pure and deterministic: state, command and time in; outcome and events out.
//! - [`journal`]: makes decisions durable: one writer thread, group commit, one frame a batch.
//! - [`storage`]: the SQL side, one contract over SQLite and Postgres.
//! - [`payments`]: the contract with gateways, and the gateways.
//! - [`actors`]: give the engine a mailbox and a clock, and carry durable events onward.
//! - [`service`]: the use cases that every protocol shares.
//! - [`http`]: REST and WebSocket.
//! - [`config`], [`backup`], [`app`]: configuration, backups, and the server put together.
//! - [`tools`]: programs around it: the demo, the load driver, the simulation, the offline audit.
//!
//! An order begins in [`http::api`], passes [`service::orders`] and a drop's [`actors::inventory`] actor to [`engine::DropState`], is durable in the
//! [`journal`], and reaches SQL and sessions through [`actors::consumers`]. docs/ARCHITECTURE.md has the map, and how to add things.
#![forbid(unsafe_code)]

#[macro_use]
mod failpoint;

pub mod actors;
pub mod app;
pub mod backup;
pub mod config;
pub mod console;
pub mod domain;
pub mod engine;
pub mod http;
pub mod journal;
pub mod payments;
pub mod service;
pub mod storage;
mod suggest;
pub mod tools;
mod whole_file;
