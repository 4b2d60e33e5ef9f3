//! Paths and methods. An unknown path is a 404 problem, and a known path with another method a 405 with `Allow`.

use super::at::{At, Described};
use super::declared::Declared;
use super::problem::Problem;
use crate::service::Code;
use actix_web::dev::{AppService, HttpServiceFactory};

/// The paths of all routes.
pub struct Routes {
    described: Described,
    all: Vec<At>,
}

impl Routes {
    /// Groups the routes of these tables by path. Paths are matched in their order.
    #[must_use]
    pub fn of(tables: impl IntoIterator<Item = Declared>, described: Described) -> Self {
        let mut paths: Vec<At> = Vec::new();
        for Declared { declaration, parameters, add } in tables {
            let known = paths.iter().position(|at| at.path == declaration.path);
            let at = known.map_or_else(|| At::new(declaration.path), |index| paths.remove(index));
            let mut at = add(at);
            // Query parameters beyond the API's description.
            at.parameters.extend(parameters);
            paths.insert(known.unwrap_or(paths.len()), at);
        }
        Self { described, all: paths }
    }
}

impl HttpServiceFactory for Routes {
    /// Registers each path whole: a scope would add a router, a future and a move to each request.
    fn register(self, config: &mut AppService) {
        self.all.into_iter().for_each(|route| route.resource(self.described).register(config));
    }
}

/// Answers unknown paths.
///
/// # Errors
/// Always: `not_found`.
pub async fn nothing_here() -> Result<&'static str, Problem> {
    Err(Code::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::declared::{Declaration, Quota, Who};
    use actix_web::dev::Payload;
    use actix_web::http::Method;
    use actix_web::{App, FromRequest, HttpRequest, test, web};
    use std::future::{Future, Ready, ready};
    use std::pin::Pin;

    /// An extractor that panics: before its future exists, or when that is polled.
    struct Trap;

    impl FromRequest for Trap {
        type Error = Problem;
        type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

        fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
            let later = request.match_info().get("when") == Some("later");
            assert!(later, "on purpose, at once");
            Box::pin(async move { if later { panic!("on purpose, later") } else { Ok(Self) } })
        }
    }

    /// Takes the body, as [`crate::http::extract::json::Body`] does.
    struct Taken;

    impl FromRequest for Taken {
        type Error = Problem;
        type Future = Ready<Result<Self, Problem>>;

        fn from_request(_: &HttpRequest, payload: &mut Payload) -> Self::Future {
            drop(payload.take());
            ready(Ok(Self))
        }
    }

    fn routes() -> Routes {
        let described = |method: &Method, path: &str| match (method.as_str(), path) {
            ("GET", "/api/v1/things/{id}") => ["colour"].as_slice(),
            _ => &[],
        };
        let of = |method, path: &str| {
            let (path, quota) = (format!("/api/v1{path}"), Quota::None);
            Declaration { method, path, who: Who::Anybody, quota }
        };
        let tables = [
            Declared::other(of(Method::GET, "/things/{id}"), async || "thing"),
            Declared::other(of(Method::DELETE, "/things/{id}"), async || "gone"),
            Declared::other(of(Method::POST, "/bodies"), async |_: Taken| "taken").query(&["more"]),
            Declared::other(of(Method::GET, "/panics"), async || if true { panic!("on purpose") } else { "not so" }),
            Declared::other(of(Method::GET, "/traps/{when}"), async |_: Trap| "not so"),
        ];
        Routes::of(tables, described)
    }

    #[actix_web::test]
    async fn unknown_paths_and_methods_are_problems() {
        let app = test::init_service(App::new().service(routes()).default_service(web::to(nothing_here))).await;
        let call = async |method: Method, path: &str| {
            let request = test::TestRequest::default().method(method).uri(path).to_request();
            let response = test::call_service(&app, request).await;
            let header = |name: &str| response.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
            (response.status().as_u16(), header("allow"), header("content-type"))
        };
        let problem = Some("application/problem+json".to_owned());
        assert_eq!(call(Method::GET, "/api/v1/things/1").await.0, 200);
        assert_eq!(call(Method::HEAD, "/api/v1/things/1").await.0, 200);
        let refused = call(Method::PUT, "/api/v1/things/1").await;
        assert_eq!(refused, (405, Some("GET, HEAD, DELETE".to_owned()), problem.clone()));
        for path in ["/", "/api/v1", "/api/v1/thing", "/api/v1/things/1/2", "/nope"] {
            assert_eq!(call(Method::GET, path).await, (404, None, problem.clone()), "{path}");
        }
    }

    #[actix_web::test]
    async fn every_handler_is_guarded() {
        let app = test::init_service(App::new().service(routes())).await;
        let call = async |method: Method, path: &str, body: &'static str| {
            let request = test::TestRequest::default().method(method).uri(&format!("/api/v1{path}"));
            test::call_service(&app, request.set_payload(body).to_request()).await.status().as_u16()
        };
        for (path, status) in [
            ("/panics", 500),
            ("/traps/now", 500),
            ("/traps/later", 500),
            ("/things/1?size=2", 400),
            ("/things/1?colour=red", 200),
        ] {
            assert_eq!(call(Method::GET, path, "").await, status, "{path}");
        }
        assert_eq!(call(Method::DELETE, "/things/1?colour=red", "").await, 400, "another method's parameter");
        for (body, status) in [("", 200), (" {} ", 200), ("{\"a\":1}", 400), ("x", 400)] {
            assert_eq!(call(Method::GET, "/things/1", body).await, status, "{body}");
        }
        assert_eq!(call(Method::POST, "/bodies?more=1", "{\"a\":1}").await, 200);
        assert_eq!(call(Method::POST, "/bodies?less=1", "").await, 400);
    }
}
