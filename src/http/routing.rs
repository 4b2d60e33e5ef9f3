//! Paths and methods. What matches no path is a 404 problem, and a known path with another method a 405 with `Allow`.

use super::meters::RouteMeters;
use super::problem::Problem;
use crate::service::Code;
use actix_web::{FromRequest, Handler, Resource, Responder, guard, web};

/// One path and its methods.
pub struct At {
    resource: Resource,
    methods: Vec<&'static str>,
}

/// Starts a path.
#[must_use]
pub fn at(path: &str) -> At {
    At { resource: web::resource(path), methods: Vec::new() }
}

impl At {
    /// Answers GET, and HEAD with the same head (RFC 9110, section 9.3.2).
    #[must_use]
    pub fn get<F, Args>(mut self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let either = guard::Any(guard::Get()).or(guard::Head());
        self.resource = self.resource.route(web::route().guard(either).to(handler));
        self.methods.extend(["GET", "HEAD"]);
        self
    }

    /// Answers POST.
    #[must_use]
    pub fn post<F, Args>(mut self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.resource = self.resource.route(web::post().to(handler));
        self.methods.push("POST");
        self
    }

    /// Answers PATCH.
    #[must_use]
    pub fn patch<F, Args>(mut self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.resource = self.resource.route(web::patch().to(handler));
        self.methods.push("PATCH");
        self
    }

    /// Answers DELETE.
    #[must_use]
    pub fn delete<F, Args>(mut self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.resource = self.resource.route(web::delete().to(handler));
        self.methods.push("DELETE");
        self
    }

    /// The finished resource. `Allow` is leaked: once a path and worker, for as long as the process lives.
    #[must_use]
    pub fn done(self) -> Resource {
        let allow: &'static str = self.methods.join(", ").leak();
        self.resource
            .app_data(RouteMeters::default())
            .default_service(web::to(move || async move { Err::<&str, _>(Problem::method_not_allowed(allow)) }))
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
    use actix_web::{App, http::Method, test};

    #[actix_web::test]
    async fn unknown_paths_and_methods_are_problems() {
        let app = test::init_service(
            App::new()
                .service(
                    web::scope("/api/v1")
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
