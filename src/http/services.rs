//! The services of the handlers.

use crate::http::api::operations::health::HealthSource;
use crate::http::extract::client::TrustedProxies;
use crate::http::middleware::metrics::HttpMetrics;
use crate::http::middleware::origins::Origins;
use crate::http::transport::sizes::Sizes;
use crate::service::Hub;
use crate::service::accounts::Accounts;
use crate::service::addresses::Addresses;
use crate::service::creators::Creators;
use crate::service::drops::Drops;
use crate::service::inbox::Inbox;
use crate::service::keys::Keys;
use crate::service::orders::Orders;
use crate::service::products::Products;
use crate::service::sales::Sales;
use crate::service::tickets::Tickets;
use crate::service::tokens::Tokens;
use crate::service::webhooks::Webhooks;
use std::sync::Arc;

/// Everything that handlers use.
#[derive(Clone)]
pub struct Services {
    pub accounts: Accounts,
    pub addresses: Addresses,
    pub creators: Creators,
    pub products: Products,
    pub drops: Drops,
    pub orders: Orders,
    /// Orders in the view of sellers, and refunds.
    pub sales: Sales,
    pub inbox: Inbox,
    /// Idempotency keys of changes other than orders.
    pub keys: Keys,
    /// The inbox of payment providers' webhooks.
    pub webhooks: Webhooks,
    /// Realtime sessions, for follows and inbox changes.
    pub hub: Hub,
    /// Reports the state of all parts for `/readyz`.
    pub health: Arc<dyn HealthSource>,
    /// Request latencies and the server's other metrics.
    pub metrics: HttpMetrics,
    /// Issues and verifies access tokens.
    pub tokens: Tokens,
    /// Tickets that open realtime sessions.
    pub tickets: Tickets,
    /// Origins whose pages may call.
    pub origins: Origins,
    /// Proxies that may report their clients' addresses.
    pub trusted_proxies: TrustedProxies,
    /// Limits on the size of a request.
    pub sizes: Sizes,
}
