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
pub use going_down::GoingDown;
pub use health::{HealthSource, Readiness};
pub use limits::{Limits, RateLimits};
use origins::Origins;
use routes::{accounts, creators, drops, notifications, orders, products, sales};
use routing::{Routes, at};
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
            .service(operations())
            .service(api())
            .service(description())
            .default_service(web::to(routing::nothing_here));
    }
}

/// Every path, each with what `Allow` says there.
#[must_use]
pub fn routes() -> Vec<(String, &'static str)> {
    [operations().list(), api().list(), description().list()].concat()
}

/// For who runs the server. Tried first: whether a path is one of these is a comparison.
fn operations() -> Routes {
    Routes::below("", openapi::query_parameters)
        .service(at("/healthz").get(health::live).done())
        .service(at("/readyz").get(health::ready).done())
        .service(at("/metrics").get(meters::metrics).done())
}

/// For who writes a client.
fn description() -> Routes {
    Routes::below("", openapi::query_parameters)
        .service(at("/livedrop.js").get(browser::script).done())
        .service(at("/livedrop.d.ts").get(browser::types).done())
        .service(at("/openapi.json").get(openapi::read).done())
        .service(at("/docs").get(openapi::docs::page).done())
        .service(at("/docs/{file}").get(openapi::docs::file).done())
}

/// Paths are tried in this order, so the hot ones come first.
fn api() -> Routes {
    Routes::below("/api/v1", openapi::query_parameters)
        .service(at("/orders").post(orders::place).done())
        .service(at("/orders/{id}").get(orders::get).done())
        .service(at("/orders/{id}/pay").post(orders::pay).done())
        .service(at("/orders/{id}/cancel").post(orders::cancel).done())
        .service(at("/drops").get(drops::list).post(drops::create).done())
        .service(at("/drops/{id}").get(drops::get).done())
        .service(at("/drops/{id}/stock").get(drops::stock).done())
        .service(at("/drops/{id}/start").post(drops::start).done())
        .service(at("/drops/{id}/end").post(drops::end).done())
        .service(at("/drops/{id}/cancel").post(drops::cancel).done())
        .service(at("/drops/{id}/restock").post(drops::restock).done())
        .service(at("/drops/{id}/reschedule").post(drops::reschedule).done())
        .service(at("/drops/{id}/orders").get(sales::list).done())
        .service(at("/drops/{id}/orders/export").get(sales::export).done())
        .service(at("/orders/{id}/refund").post(sales::refund).done())
        .service(at("/orders/{id}/history").get(sales::history).done())
        .service(at("/notifications").get(ws::connect).query(session::PARAMETERS).done())
        .service(at("/notifications/stream").get(sse::stream).query(session::PARAMETERS).done())
        .service(at("/notifications/ticket").post(notifications::ticket).done())
        .service(at("/auth/register").post(accounts::register).done())
        .service(at("/auth/login").post(accounts::login).done())
        .service(at("/auth/refresh").post(accounts::refresh).done())
        .service(at("/auth/logout").post(accounts::logout).done())
        .service(at("/auth/logout-everywhere").post(accounts::logout_everywhere).done())
        .service(at("/users/me").get(accounts::me).patch(accounts::change).delete(accounts::delete).done())
        .service(at("/users/me/password").post(accounts::change_password).done())
        .service(at("/users/me/notifications").get(notifications::list).done())
        .service(at("/users/me/notifications/acknowledge").post(notifications::acknowledge).done())
        .service(at("/users/me/notifications/read").post(notifications::read).done())
        .service(at("/users/me/feed").get(drops::feed).done())
        .service(at("/audit").get(accounts::audit).done())
        .service(at("/users/{id}/orders").get(orders::list).done())
        .service(at("/users/{id}/following").get(creators::following).done())
        .service(at("/users/{id}/follows/{creator_id}").get(creators::follows).done())
        .service(at("/creators").get(creators::list).post(creators::create).done())
        .service(at("/creators/{id}").get(creators::get).patch(creators::change).done())
        .service(at("/creators/{id}/follow").post(creators::follow).delete(creators::unfollow).done())
        .service(at("/creators/{id}/followers").get(creators::followers).done())
        .service(at("/creators/{id}/products").get(creators::products).done())
        .service(at("/creators/{id}/drops").get(creators::drops).done())
        .service(at("/follows").post(creators::follow_named).done())
        .service(at("/products").get(products::list).post(products::create).done())
        .service(at("/products/{id}").get(products::get).patch(products::change).done())
        .service(at("/products/{id}/archive").post(products::archive).done())
        .service(at("/products/{id}/restore").post(products::restore).done())
}
