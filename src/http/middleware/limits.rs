//! Limits on the size of a request and on the rate of a client: a quota for each class of requests, by user if there is
//! one, else by address. One middleware enforces all classes, so that no route can lack a limit.

use super::quota::{Left, Quotas, Rate};
use crate::http::declared::{Lookup, Quota};
use crate::http::extract::{auth, client};
use crate::http::problem::Problem;
use crate::http::transport::sizes::Sizes;
use crate::http::transport::unsent::{self, Pieces};
use crate::service::caller::network;
use crate::service::{Code, Failure};
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, HeaderName};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError};
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// The quota of announcements when rate limits are off.
const ANNOUNCEMENTS_WITHOUT_LIMITS: &str = "600/60";
/// How often full quotas are removed.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// A class of requests with its own quota.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Requests with a password: by address; by user if a signed-in user repeats it.
    Login,
    /// Registrations and refreshed logins, by address.
    Accounts,
    /// Orders and their payments, by user.
    Orders,
    /// Changes that notify a creator's followers, by user: drops that are scheduled, moved, started or cancelled.
    Announcements,
    /// Webhooks of payment providers, by address.
    Webhooks,
    /// All other changes, by user.
    Writes,
    /// Requests that change nothing, by user.
    Reads,
    /// Orders, writes and reads without a valid token, by address.
    Anonymous,
    /// Orders, writes and reads with a valid token, by address: in addition to the user's quota.
    Address,
}

impl Class {
    const ALL: [Self; 9] = [
        Self::Login,
        Self::Accounts,
        Self::Orders,
        Self::Announcements,
        Self::Webhooks,
        Self::Writes,
        Self::Reads,
        Self::Anonymous,
        Self::Address,
    ];

    /// The name in the configuration and in `RateLimit` fields.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Accounts => "accounts",
            Self::Orders => "orders",
            Self::Announcements => "announcements",
            Self::Webhooks => "webhooks",
            Self::Writes => "writes",
            Self::Reads => "reads",
            Self::Anonymous => "anonymous",
            Self::Address => "address",
        }
    }
}

impl Quota {
    /// The class to count; `None` for none.
    fn class(self) -> Option<Class> {
        match self {
            Self::None => None,
            Self::Login | Self::Password => Some(Class::Login),
            Self::Accounts => Some(Class::Accounts),
            Self::Orders => Some(Class::Orders),
            Self::Announcements => Some(Class::Announcements),
            Self::Webhooks => Some(Class::Webhooks),
            Self::Writes => Some(Class::Writes),
            Self::Reads => Some(Class::Reads),
        }
    }

    /// Whether the quota ignores tokens.
    fn is_by_address(self) -> bool {
        matches!(self, Self::Login | Self::Accounts | Self::Webhooks)
    }

    /// The quota of a request. `path` is decoded, as for routing. Requests without a route count too.
    fn of(routes: &Lookup, method: &Method, path: &str) -> Self {
        let asked = if method == Method::HEAD { &Method::GET } else { method };
        match routes.find(asked, path) {
            Some(route) => route.quota,
            None if matches!(*asked, Method::GET | Method::OPTIONS) => Self::Reads,
            None => Self::Writes,
        }
    }
}

/// The rate of each class; `None` is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RateLimits([Option<Rate>; Class::ALL.len()]);

impl RateLimits {
    /// No limits except on announcements: their inbox entries stay in the database.
    fn off() -> Self {
        let mut limits = Self([None; Class::ALL.len()]);
        limits.0[Class::Announcements as usize] = Some(ANNOUNCEMENTS_WITHOUT_LIMITS.parse().expect("a rate"));
        limits
    }

    /// Whether requests are unlimited, announcements apart.
    #[must_use]
    pub fn are_off(&self) -> bool {
        Class::ALL.iter().all(|&class| class == Class::Announcements || self.0[class as usize].is_none())
    }
}

impl Default for RateLimits {
    /// Defaults that people do not reach, even many of them behind one address. See README.md.
    fn default() -> Self {
        let rate = |class| match class {
            Class::Login => Some("60/60"),
            Class::Accounts => Some("2000/40"),
            Class::Orders => Some("100/2"),
            Class::Announcements => Some("60/60"),
            Class::Webhooks => Some("10000/10"),
            Class::Writes => Some("300/10"),
            Class::Reads => Some("1000/10"),
            Class::Anonymous => Some("10000/10"),
            Class::Address => None,
        };
        Self(Class::ALL.map(|class| rate(class).map(|text| text.parse().expect("a rate"))))
    }
}

impl FromStr for RateLimits {
    type Err = String;

    /// Changes to the defaults, `orders=200/2,reads=off`; after `off`, changes to no limits: `off,announcements=off`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',').map(str::trim).filter(|part| !part.is_empty()).peekable();
        let mut limits = if parts.next_if_eq(&"off").is_some() { Self::off() } else { Self::default() };
        for part in parts {
            let (name, rate) = part.split_once('=').ok_or("must be off, or a list of <class>=<requests>/<seconds>")?;
            let class = Class::ALL.into_iter().find(|class| class.name() == name.trim()).ok_or_else(|| {
                let known = Class::ALL.map(Class::name).join(", ");
                format!("there is no class of requests named {:?}: the classes are {known}", name.trim())
            })?;
            limits.0[class as usize] = match rate.trim() {
                "off" => None,
                rate => Some(rate.parse()?),
            };
        }
        Ok(limits)
    }
}

/// The quotas of a running server. Cheap to clone.
#[derive(Clone)]
pub struct Limits {
    sizes: Sizes,
    routes: Arc<Lookup>,
    quotas: Arc<[Option<Quotas>; Class::ALL.len()]>,
}

impl Limits {
    /// Starts with full quotas.
    #[must_use]
    pub fn new(sizes: Sizes, rates: &RateLimits) -> Self {
        let quotas = Class::ALL.map(|class| rates.0[class as usize].map(|rate| Quotas::new(class.name(), rate)));
        Self { sizes, routes: Arc::new(Lookup::new(crate::http::routes())), quotas: Arc::new(quotas) }
    }

    /// Removes full quotas periodically. Never ends.
    pub async fn sweep(self) {
        let mut ticks = tokio::time::interval(SWEEP_EVERY);
        loop {
            ticks.tick().await;
            self.quotas.iter().flatten().for_each(Quotas::sweep);
        }
    }

    fn of(&self, class: Class) -> Option<&Quotas> {
        self.quotas[class as usize].as_ref()
    }

    /// Takes a request off each quota that it counts against.
    fn take(&self, request: &ServiceRequest) -> [Option<(&Quotas, Left)>; 2] {
        // Skips the lookup if no limit applies to reads.
        if *request.method() == Method::GET
            && [Class::Reads, Class::Anonymous, Class::Address].iter().all(|&class| self.of(class).is_none())
        {
            return [None, None];
        }
        let path = request.match_info().as_str();
        let quota = Quota::of(&self.routes, request.method(), path);
        let Some(class) = quota.class() else { return [None, None] };
        let address = || client::address(request.request()).map_or(0, network);
        let take = |class, key: &dyn Fn() -> u128| self.of(class).map(|quotas| (quotas, quotas.take(key())));
        if quota.is_by_address() {
            return [take(class, &address), None];
        }
        // Without limits the caller need not be identified.
        if [class, Class::Anonymous, Class::Address].into_iter().all(|class| self.of(class).is_none()) {
            return [None, None];
        }
        // The handler reports an invalid token.
        match auth::of(request.request()) {
            Ok(Some(access)) => [take(class, &|| access.user.0.as_u128()), take(Class::Address, &address)],
            _ if class == Class::Login => [take(class, &address), None],
            _ => [take(Class::Anonymous, &address), None],
        }
    }

    /// A middleware, for [`actix_web::middleware::from_fn`]: 431 or 413 for a request that is too large, 429 past a
    /// quota, 503 for a large answer without room, and the rest of the quota on every answer.
    ///
    /// # Errors
    /// Those of the handler.
    pub async fn keep<B: MessageBody + 'static>(
        self: Rc<Self>,
        request: ServiceRequest,
        next: Next<B>,
    ) -> Result<ServiceResponse<EitherBody<Pieces<B>>>, Error> {
        let taken = self.take(&request);
        let wait_s = taken.iter().flatten().filter_map(|(_, left)| left.retry_after_s).max();
        let refusal = match wait_s {
            Some(wait_s) => Some(Failure::retry(Code::RateLimited, wait_s)),
            None => self.sizes.check(request.head()).err(),
        };
        let mut response = match refusal {
            Some(refusal) => request.into_response(Problem::from(refusal).error_response().map_into_right_body()),
            None => unsent::count(next.call(request).await?),
        };
        for (quotas, left) in taken.into_iter().flatten() {
            tell(response.headers_mut(), quotas, left);
        }
        Ok(response)
    }
}

/// Adds the two fields of draft-ietf-httpapi-ratelimit-headers-10.
fn tell(headers: &mut HeaderMap, quotas: &Quotas, left: Left) {
    headers.append(HeaderName::from_static("ratelimit-policy"), quotas.policy().clone());
    if let Some(item) = quotas.item(left) {
        headers.append(HeaderName::from_static("ratelimit"), item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::declared::Declaration;

    #[test]
    fn what_is_only_read_counts_as_reading() {
        let read = |route: &Declaration| matches!(route.quota, Quota::None | Quota::Reads);
        assert!(crate::http::routes().iter().filter(|route| route.method == Method::GET).all(read));
    }

    #[test]
    fn classes_follow_what_is_asked() {
        let routes = Lookup::new(crate::http::routes());
        let of = |method: Method, path: &str| Quota::of(&routes, &method, path).class().map(Class::name);
        for (method, path, class) in [
            (Method::GET, "/healthz", None),
            (Method::POST, "/api/v1/auth/login", Some("login")),
            (Method::POST, "/api/v1/users/me/password", Some("login")),
            (Method::DELETE, "/api/v1/users/me", Some("login")),
            (Method::PATCH, "/api/v1/users/me", Some("writes")),
            (Method::POST, "/api/v1/auth/register", Some("accounts")),
            (Method::POST, "/api/v1/auth/logout-everywhere", Some("writes")),
            (Method::POST, "/api/v1/orders", Some("orders")),
            (Method::POST, "/api/v1/orders/x/pay", Some("orders")),
            (Method::GET, "/api/v1/orders/x", Some("reads")),
            (Method::POST, "/api/v1/drops", Some("announcements")),
            (Method::POST, "/api/v1/drops/x/reschedule", Some("announcements")),
            (Method::POST, "/api/v1/drops/x/start", Some("announcements")),
            (Method::POST, "/api/v1/drops/x/cancel", Some("announcements")),
            (Method::POST, "/api/v1/drops/x/restock", Some("writes")),
            (Method::POST, "/api/v1/drops/x/end", Some("writes")),
            (Method::DELETE, "/api/v1/creators/x/follow", Some("writes")),
            (Method::HEAD, "/api/v1/drops", Some("reads")),
            (Method::POST, "/webhooks/stripe", Some("webhooks")),
            (Method::GET, "/nowhere", Some("reads")),
            (Method::PUT, "/api/v1/orders", Some("writes")),
            (Method::OPTIONS, "/api/v1/orders", Some("reads")),
        ] {
            assert_eq!(of(method, path), class, "{path}");
        }
    }

    #[test]
    fn limits_are_read() {
        let limits = |text: &str| text.parse::<RateLimits>();
        assert_eq!(limits("").unwrap(), RateLimits::default());
        let off = limits(" off ").unwrap();
        assert!(off.are_off() && !limits("reads=off").unwrap().are_off());
        assert_eq!(off.0.iter().flatten().map(Rate::to_string).collect::<Vec<_>>(), ["600/60"]);
        assert!(limits("off, announcements=off").unwrap().0.iter().all(Option::is_none));
        let changed = limits("orders=7/1, reads=off").unwrap();
        let rate = |class: Class| changed.0[class as usize].map(|rate| rate.to_string());
        assert_eq!(rate(Class::Orders).as_deref(), Some("7/1"));
        assert_eq!(rate(Class::Reads), None);
        assert_eq!(rate(Class::Login).as_deref(), Some("60/60"));
        for bad in ["on", "orders", "orders=1", "order=1/1", "orders=0/1", "orders=1/1,off"] {
            assert!(limits(bad).is_err(), "{bad}");
        }
    }
}
