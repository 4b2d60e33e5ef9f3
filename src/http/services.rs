//! What handlers ask.

use crate::http::api::operations::health::HealthSource;
use crate::http::extract::client::TrustedProxies;
use crate::http::middleware::metrics::HttpMetrics;
use crate::http::middleware::origins::Origins;
use crate::http::transport::sizes::Sizes;
use crate::service::Hub;
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
use std::sync::Arc;

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
    pub metrics: HttpMetrics,
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
