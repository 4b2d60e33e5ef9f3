//! One integration binary: a real server process on a free port, spoken to over real HTTP and WebSocket.

mod accounts;
mod authorization;
mod crash;
mod creators;
mod database;
mod edge;
mod errors;
mod fuzz;
mod lifecycle;
#[path = "../support/mutate.rs"]
mod mutate;
mod notifications;
mod orders;
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/server.rs"]
mod server;
mod tls;
