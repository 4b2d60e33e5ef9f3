//! REST and WebSocket: routes, bodies, problems and sessions. No SQL and nothing of the engine.
//!
//! A request passes [`trace`] (its trace, panics, log line, and the [`headers`] of every answer), [`cors`] and [`limits`] (how much one
//! client may ask), is routed by [`routing`], read by extractors ([`auth`],
//! [`path`], [`json`], [`pages`], [`idempotency`]) within a [`guard`], handled by [`mod@routes`], and leaves as a body of [`dto`] or as a
//! [`problem`]. [`ws`] and [`sse`] hold the sessions of those who listen, [`server`] and [`transport`] the sockets, until
//! `upgrade` takes one out of HTTP.

pub mod auth;
mod browser;
pub mod client;
pub mod conditional;
pub mod cors;
pub mod declared;
pub mod dto;
pub mod field;
pub mod going_down;
pub mod guard;
pub mod headers;
pub mod health;
pub mod idempotency;
pub mod json;
pub mod keyed;
pub mod known;
pub mod lifeline;
pub mod limits;
pub mod meters;
pub mod openapi;
pub mod origins;
pub mod pages;
pub mod path;
pub mod plain;
pub mod problem;
pub mod quota;
pub mod routes;
pub mod routing;
pub mod server;
pub mod session;
pub mod sizes;
pub mod sse;
pub mod tls;
pub mod trace;
pub mod transport;
mod upgrade;
pub mod ws;
mod ws_frames;
pub mod ws_protocol;
mod ws_socket;

use crate::service::accounts::Accounts;
use crate::service::creators::Creators;
use crate::service::drops::Drops;
use crate::service::inbox::Inbox;
use crate::service::keys::Keys;
use crate::service::orders::Orders;
use crate::service::products::Products;
use crate::service::sales::Sales;
use crate::service::tickets::Tickets;
use crate::service::tokens::Tokens;
use crate::service::{Hub, collect_turns};
use actix_web::web::{self, ServiceConfig};
pub use client::TrustedProxies;
use declared::{Declaration, Declared};
pub use going_down::GoingDown;
pub use health::{HealthSource, Readiness};
pub use limits::{Limits, RateLimits};
use origins::Origins;
use routes::{accounts, creators, drops, notifications, operations, orders, products, sales};
use routing::Routes;
pub use sizes::Sizes;
use std::sync::Arc;
pub use tls::{TlsConfig, TlsError, TlsFiles};
pub use transport::{ConnectionBounds, Connections, KeepTask};

/// Everything that handlers ask.
#[derive(Clone)]
pub struct Services {
    /// Register, log in and out.
    pub accounts: Accounts,
    /// Profiles and follows.
    pub creators: Creators,
    /// Catalogues.
    pub products: Products,
    /// Drops.
    pub drops: Drops,
    /// Orders.
    pub orders: Orders,
    /// The seller's side of orders.
    pub sales: Sales,
    /// What waits for people.
    pub inbox: Inbox,
    /// Idempotency keys.
    pub keys: Keys,
    /// Live sessions.
    pub hub: Hub,
    /// For `/readyz`.
    pub health: Arc<dyn HealthSource>,
    /// For `/metrics`.
    pub meters: meters::Meters,
    /// Access tokens.
    pub tokens: Tokens,
    /// Tickets for sessions.
    pub tickets: Tickets,
    /// Pages of which other origins may call.
    pub origins: Origins,
    /// Whose word about a client's address counts.
    pub trusted_proxies: TrustedProxies,
    /// How large a request may be.
    pub sizes: Sizes,
}

/// Every route. The application around it wraps [`trace::trace`], as [`server::build`] does.
///
/// Call it once a worker: its `web::Data` is then the worker's own, and cores do not fight over one counter.
pub fn configure(services: Services) -> impl FnOnce(&mut ServiceConfig) {
    move |config| {
        collect_turns();
        config
            .app_data(web::Data::new(services.tokens.clone()))
            .app_data(web::Data::new(auth::Remembered::default()))
            .app_data(web::Data::new(conditional::Pages::default()))
            .app_data(web::Data::new(services.accounts.clone()))
            .app_data(web::Data::new(services.trusted_proxies.clone()))
            .app_data(web::Data::new(services.sizes))
            .app_data(web::Data::new(services.meters.clone()))
            .app_data(web::Data::new(services.hub.open_shard()))
            .app_data(web::Data::new(services))
            .service(Routes::of(tables(), openapi::query_parameters))
            .default_service(web::to(routing::nothing_here));
    }
}

/// Every route.
#[must_use]
pub fn routes() -> Vec<Declaration> {
    tables().into_iter().map(|route| route.declaration).collect()
}

/// Probes are tried first: whether a path is one of these is a comparison. Then the hot ones.
fn tables() -> Vec<Declared> {
    let tables = [
        operations::table(),
        orders::table(),
        drops::table(),
        sales::table(),
        notifications::sessions(),
        notifications::table(),
        accounts::table(),
        creators::table(),
        products::table(),
        operations::pages(),
    ];
    tables.into_iter().flatten().collect()
}
