//! REST and WebSocket: routes, bodies, problems and sessions. No SQL and nothing of the engine.
//!
//! A request arrives on a connection of [`transport`], passes [`middleware`], is routed by [`routing`] as its route is
//! [`declared`], read by extractors ([`extract`]), handled by [`api`], and leaves as an [`answer`] or a [`problem`].
//! [`realtime`] has the sessions of subscribers. [`mod@openapi`] describes all of it.

pub mod answer;
pub mod api;
mod at;
pub mod declared;
pub mod extract;
pub mod middleware;
pub mod openapi;
pub mod problem;
pub mod realtime;
pub mod routing;
pub mod services;
pub mod transport;

use crate::service::collect_turns;
use actix_web::web::{self, ServiceConfig};
pub use api::operations::health::{HealthSource, Readiness};
use api::{
    accounts, addresses, creators, drops, notifications, operations, orders, products, refunds, sales, webhooks,
};
use declared::{Declaration, Declared};
pub use extract::client::TrustedProxies;
use extract::{auth, conditional};
pub use middleware::limits::{Limits, RateLimits};
pub use middleware::shutdown::ShutdownSignal;
use routing::Routes;
pub use services::Services;
pub use transport::sizes::Sizes;
pub use transport::tls::{TlsConfig, TlsError, TlsFiles};
pub use transport::{ConnectionBounds, Connections, KeepTask};

/// Configures every route. The application around it wraps [`middleware::trace::trace`], as
/// [`transport::server::build`] does.
///
/// Call it once a worker: its `web::Data` is then the worker's own, and cores do not contend for one counter.
pub fn configure(services: Services) -> impl FnOnce(&mut ServiceConfig) {
    move |config| {
        collect_turns();
        config
            .app_data(web::Data::new(services.tokens.clone()))
            .app_data(web::Data::new(auth::Remembered::default()))
            .app_data(web::Data::new(conditional::Pages::default()))
            .app_data(web::Data::new(services.accounts.clone()))
            .app_data(web::Data::new(services.webhooks.clone()))
            .app_data(web::Data::new(services.trusted_proxies.clone()))
            .app_data(web::Data::new(services.sizes))
            .app_data(web::Data::new(services.metrics.clone()))
            .app_data(web::Data::new(services.hub.open_shard()))
            .app_data(web::Data::new(services))
            .service(Routes::of(tables(), openapi::query_parameters))
            .default_service(web::to(routing::nothing_here));
    }
}

/// The declarations of every route.
#[must_use]
pub fn routes() -> Vec<Declaration> {
    tables().into_iter().map(|route| route.declaration).collect()
}

/// Probes come first: they are matched by a comparison. Then the most frequent ones.
fn tables() -> Vec<Declared> {
    let tables = [
        operations::routes::table(),
        orders::routes::table(),
        drops::routes::table(),
        sales::routes::table(),
        refunds::routes::table(),
        notifications::routes::sessions(),
        notifications::routes::table(),
        accounts::routes::table(),
        creators::routes::table(),
        addresses::routes::table(),
        products::routes::table(),
        webhooks::routes::routes(),
        operations::routes::pages(),
    ];
    tables.into_iter().flatten().collect()
}
