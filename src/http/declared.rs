//! Each route is declared once. Its method, its path and its possible answers are at its handler (`#[utoipa::path]`);
//! the table of its resource names the handler, who may call it, and its quota.
//!
//! Routing, the API's description, the quotas, the authorization test and the list in docs/API.md follow from these
//! tables, so a route cannot be missing in one of them.

use super::at::At;
use actix_web::http::Method;
use actix_web::{FromRequest, Handler, Responder};
use utoipa::openapi::HttpMethod;

/// Who may call a route. Other clients get 401 if they are not signed in, else the code named here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Who {
    /// Every client, signed in or not.
    Anybody,
    /// A client with a refresh token, in the body.
    RefreshToken,
    User,
    /// A signed-in user who repeats the password; 403 `wrong_password`.
    Password,
    /// A user with a creator profile; 403 `not_a_creator`.
    Creator,
    /// The creator who owns the object, and admins; 403 `forbidden`.
    Manager,
    /// The user who owns the object; 403 `forbidden`.
    Owner,
    /// The user who owns the object, and admins; 403 `forbidden`.
    OwnerOrAdmin,
    /// The order's buyer; 404 `order_not_found`.
    Buyer,
    /// The order's buyer, the drop's creator, and admins; 404 `order_not_found`.
    Party,
    /// The drop's creator and admins; 403 `forbidden` for the order's buyer, 404 `order_not_found` for others.
    Seller,
    /// The user whose address it is; 404 `address_not_found`.
    Addressee,
    /// Only admins; 403 `forbidden`.
    Admin,
}

impl Who {
    /// The text in docs/API.md.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Anybody => "anybody",
            Self::RefreshToken => "a refresh token",
            Self::User => "signed in",
            Self::Password => "signed in, with the password",
            Self::Creator => "creators",
            Self::Manager => "its creator, admins",
            Self::Owner => "the user",
            Self::OwnerOrAdmin => "the user, admins",
            Self::Buyer => "its buyer",
            Self::Party => "its buyer, the drop's creator, admins",
            Self::Seller => "the drop's creator, admins",
            Self::Addressee => "whose address it is",
            Self::Admin => "admins",
        }
    }
}

/// The quota that a request counts against, see [`crate::http::middleware::limits`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quota {
    /// None: probes are not limited.
    None,
    /// `login`, always by address: an attacker who tries passwords may have valid tokens.
    Login,
    /// `login`, by user: the caller is signed in.
    Password,
    /// `accounts`, always by address.
    Accounts,
    /// Orders and their payments.
    Orders,
    /// Changes that notify a creator's followers.
    Announcements,
    /// Webhooks of payment providers, by address.
    Webhooks,
    /// All other requests that change something.
    Writes,
    /// Requests that change nothing.
    Reads,
}

/// The properties of a route without its handler.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Declaration {
    /// GET answers HEAD as well.
    pub method: Method,
    /// The whole path, with `{names}` of parameters.
    pub path: String,
    pub who: Who,
    /// The quota that a request counts against.
    pub quota: Quota,
}

impl Declaration {
    /// Whether a request's path matches this route. Each name matches one segment that is not empty.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        let literal = self.path.find('{').unwrap_or(self.path.len());
        let Some(path) = path.strip_prefix(&self.path[..literal]) else { return false };
        let (mut names, mut parts) = (self.path[literal..].split('/'), path.split('/'));
        loop {
            match (names.next(), parts.next()) {
                (None, None) => return true,
                (Some(name), Some(part)) if name == part || (name.starts_with('{') && !part.is_empty()) => {}
                _ => return false,
            }
        }
    }
}

/// Finds the route of a request. Used for every request, so most routes are skipped by comparing a number.
pub struct Lookup(Box<[(usize, Declaration)]>);

impl Lookup {
    /// A lookup over these routes.
    #[must_use]
    pub fn new(routes: Vec<Declaration>) -> Self {
        Self(routes.into_iter().map(|route| (parts(&route.path), route)).collect())
    }

    /// The route with that method (GET for HEAD) and a path that matches this decoded one.
    #[must_use]
    pub fn find(&self, method: &Method, path: &str) -> Option<&Declaration> {
        let asked = parts(path);
        let of = |(parts, route): &&(usize, Declaration)| *parts == asked && route.method == *method && route.has(path);
        self.0.iter().find(of).map(|(_, route)| route)
    }
}

fn parts(path: &str) -> usize {
    path.bytes().filter(|byte| *byte == b'/').count()
}

/// A route with its handler.
pub struct Declared {
    pub(super) declaration: Declaration,
    /// Query parameters that the API's description lacks.
    pub(super) parameters: &'static [&'static str],
    pub(super) add: Box<dyn FnOnce(At) -> At>,
}

impl Declared {
    /// A route with the description at its handler.
    #[must_use]
    pub fn described<P, F, Args>(handler: F, who: Who, quota: Quota) -> Self
    where
        P: utoipa::Path,
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let method = match P::methods()[..] {
            [HttpMethod::Get] => Method::GET,
            [HttpMethod::Post] => Method::POST,
            [HttpMethod::Patch] => Method::PATCH,
            [HttpMethod::Delete] => Method::DELETE,
            _ => unreachable!("one method of these for each handler"),
        };
        Self::other(Declaration { method, path: P::path(), who, quota }, handler)
    }

    /// A route without a description: pages, and sessions, which are not requests with answers.
    #[must_use]
    pub fn other<F, Args>(declaration: Declaration, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let method = declaration.method.clone();
        Self { declaration, parameters: &[], add: Box::new(move |at| at.answer(method, handler)) }
    }

    /// Adds query parameters that the API's description lacks.
    #[must_use]
    pub fn query(self, parameters: &'static [&'static str]) -> Self {
        Self { parameters, ..self }
    }
}

/// The table of a resource's routes: each handler, its description (`__path_` and its name), who may call it, and its
/// quota.
macro_rules! table {
    ($($handler:ident $description:ident $who:ident $quota:ident;)+) => {
        /// The descriptions of these routes.
        #[derive(utoipa::OpenApi)]
        #[openapi(paths($($handler),+))]
        pub struct Described;

        /// The routes of this resource, the most frequent ones first.
        #[must_use]
        pub fn table() -> Vec<$crate::http::declared::Declared> {
            use $crate::http::declared::{Declared, Quota, Who};
            vec![$(Declared::described::<$description, _, _>($handler, Who::$who, Quota::$quota)),+]
        }
    };
}
pub(super) use table;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;
    use std::{env, fs, path::Path};

    #[test]
    fn a_name_stands_for_one_part() {
        let route = |path: &str| Declaration {
            method: Method::GET,
            path: path.to_owned(),
            who: Who::Anybody,
            quota: Quota::Reads,
        };
        let order = route("/api/v1/orders/{id}");
        assert!(order.has("/api/v1/orders/7") && order.has("/api/v1/orders/{id}"));
        for other in ["/api/v1/orders", "/api/v1/orders/", "/api/v1/orders/7/pay", "/api/v1/drops/7", "api/v1/orders/7"]
        {
            assert!(!order.has(other), "{other}");
        }
        assert!(route("/healthz").has("/healthz") && !route("/healthz").has("/healthz/"));
    }

    #[test]
    fn the_documentation_lists_every_route() {
        let mut expected = String::from("| route | who | quota |\n|---|---|---|\n");
        let mut routes = crate::http::routes();
        routes.sort_by(|one, other| (&one.path, one.method.as_str()).cmp(&(&other.path, other.method.as_str())));
        for Declaration { method, path, who, quota } in routes {
            let quota = match quota {
                Quota::None => "–".to_owned(),
                Quota::Password => "`login`".to_owned(),
                quota => format!("`{}`", format!("{quota:?}").to_lowercase()),
            };
            let _ = writeln!(expected, "| `{method} {path}` | {} | {quota} |", who.in_words());
        }
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/API.md")).unwrap();
        let (_, section) = text.split_once("## Every route\n").expect("a section of that name");
        let listed: String = section
            .lines()
            .skip_while(|line| !line.starts_with('|'))
            .take_while(|line| line.starts_with('|'))
            .fold(String::new(), |text, line| text + line + "\n");
        assert_eq!(listed, expected, "docs/API.md should have:\n{expected}");
    }
}
