//! Paths and methods. What matches no path is a 404 problem, and a known path with another method a 405 with `Allow`.

use super::meters::RouteMeters;
use super::problem::Problem;
use crate::service::Code;
use actix_web::dev::{AppService, HttpServiceFactory};
use actix_web::http::Method;
use actix_web::{FromRequest, Handler, Resource, Responder, guard, web};

/// One path and its methods.
pub struct At {
    path: &'static str,
    handlers: Vec<actix_web::Route>,
    methods: Vec<Method>,
}

/// Starts a path.
#[must_use]
pub fn at(path: &'static str) -> At {
    At { path, handlers: Vec::new(), methods: Vec::new() }
}

impl At {
    /// Answers GET, and HEAD with the same head (RFC 9110, section 9.3.2).
    #[must_use]
    pub fn get<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on([Method::GET, Method::HEAD], handler)
    }

    /// Answers POST.
    #[must_use]
    pub fn post<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on([Method::POST], handler)
    }

    /// Answers PATCH.
    #[must_use]
    pub fn patch<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on([Method::PATCH], handler)
    }

    /// Answers DELETE.
    #[must_use]
    pub fn delete<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on([Method::DELETE], handler)
    }

    /// actix-web's own guards note each method that they refuse or let through, in allocations of their own, for a 405 that [`Self::done`] answers.
    fn on<F, Args, const N: usize>(mut self, methods: [Method; N], handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.methods.extend_from_slice(&methods);
        let asked = guard::fn_guard(move |context| methods.contains(&context.head().method));
        self.handlers.push(web::route().guard(asked).to(handler));
        self
    }

    /// The finished route. `Allow` is leaked: once a path and worker, for as long as the process lives.
    #[must_use]
    pub fn done(self) -> Route {
        let methods: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
        Route { path: self.path, allow: methods.join(", ").leak(), handlers: self.handlers }
    }
}

/// One path that is done.
pub struct Route {
    path: &'static str,
    allow: &'static str,
    handlers: Vec<actix_web::Route>,
}

impl Route {
    fn below(self, prefix: &str) -> Resource {
        let Self { path, allow, handlers } = self;
        let refuse = move || async move { Err::<&str, _>(Problem::method_not_allowed(allow)) };
        let resource = web::resource(format!("{prefix}{path}")).app_data(RouteMeters::default());
        handlers.into_iter().fold(resource, Resource::route).default_service(web::to(refuse))
    }
}

/// Paths with what they begin with. They can be listed, so that none is forgotten where they are described.
#[derive(Default)]
pub struct Routes {
    prefix: &'static str,
    all: Vec<Route>,
}

impl Routes {
    /// Nothing yet, below that path.
    #[must_use]
    pub fn below(prefix: &'static str) -> Self {
        Self { prefix, all: Vec::new() }
    }

    /// One more.
    #[must_use]
    pub fn service(mut self, route: Route) -> Self {
        self.all.push(route);
        self
    }

    /// Whole paths, each with what `Allow` says.
    #[must_use]
    pub fn list(&self) -> Vec<(String, &'static str)> {
        self.all.iter().map(|route| (format!("{}{}", self.prefix, route.path), route.allow)).collect()
    }
}

impl HttpServiceFactory for Routes {
    /// Each with its whole path: a scope would be one more router, future and move for each request.
    fn register(self, config: &mut AppService) {
        self.all.into_iter().for_each(|route| route.below(self.prefix).register(config));
    }
}

/// What is at no path of ours.
///
/// # Errors
/// Always: `not_found`.
pub async fn nothing_here() -> Result<&'static str, Problem> {
    Err(Code::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::{App, test};

    #[actix_web::test]
    async fn unknown_paths_and_methods_are_problems() {
        let app = test::init_service(
            App::new()
                .service(
                    Routes::below("/api/v1")
                        .service(at("/things/{id}").get(async || "thing").delete(async || "gone").done()),
                )
                .default_service(web::to(nothing_here)),
        )
        .await;
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
}
