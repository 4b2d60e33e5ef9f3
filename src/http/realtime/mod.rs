//! Sessions: WebSocket and event streams.
//!
//! - [`session`]: common to both: the account, the topics, the position.
//! - [`ws`]: WebSocket, its `upgrade` out of HTTP, its [`ws_protocol`], frames and socket. [`sse`]: event streams.

mod handover;
pub mod session;
pub mod sse;
pub mod upgrade;
pub mod ws;
mod ws_frames;
pub mod ws_protocol;
mod ws_socket;
