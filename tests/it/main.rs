//! One integration binary: a real server process on a free port, spoken to over real HTTP and WebSocket.

mod abuse;
mod accounts;
mod addresses;
mod admin;
mod authorization;
mod backup;
mod browser;
mod caching;
mod checkpoint;
#[path = "../support/chromium.rs"]
mod chromium;
mod conformance;
mod connections;
mod consumers;
mod crash;
mod creators;
mod database;
mod deliveries;
mod edge;
mod errors;
mod extremes;
mod fuzz;
mod http2;
mod identity;
mod inbox;
mod keys;
mod lifecycle;
mod listener;
mod load;
mod metrics;
#[path = "../support/mutate.rs"]
mod mutate;
#[path = "../support/node.rs"]
mod node;
mod notifications;
mod orders;
mod ownership;
#[path = "../support/packages.rs"]
mod packages;
mod payments;
#[path = "../support/pgbouncer.rs"]
mod pgbouncer;
#[path = "../support/postgres.rs"]
mod postgres;
mod preconditions;
mod privacy;
mod products;
mod reconcile;
mod recovery;
mod refusals;
mod revocation;
#[path = "../support/server.rs"]
mod server;
mod sessions;
mod set_aside;
mod slow;
mod sse;
mod starting;
mod stripe;
#[path = "../support/stripe_mock.rs"]
mod stripe_mock;
mod supervision;
#[path = "../support/target.rs"]
mod target;
mod tls;
mod unread;
mod upgrade;
mod webhooks;
mod without_database;
