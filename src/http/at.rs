//! The methods of one path.

use crate::http::middleware::guard::{Arguments, Guarded, KnownParameters};
use crate::http::middleware::metrics::RouteMetrics;
use crate::http::problem::Problem;
use actix_web::http::Method;
use actix_web::{FromRequest, Handler, Resource, Responder, guard, web};

/// The query parameters of a method and a whole path, from the API's description.
pub type Described = fn(&Method, &str) -> &'static [&'static str];

/// One path and the handlers of its methods.
pub struct At {
    pub(super) path: String,
    pub(super) handlers: Vec<actix_web::Route>,
    pub(super) methods: Vec<Method>,
    pub(super) parameters: Vec<&'static str>,
}

impl At {
    pub(super) fn new(path: String) -> Self {
        Self { path, handlers: Vec::new(), methods: Vec::new(), parameters: Vec::new() }
    }

    /// Adds a handler; for GET also HEAD, with the same head (RFC 9110, section 9.3.2).
    #[must_use]
    pub fn answer<F, Args>(self, method: Method, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        if method == Method::GET { self.on([method, Method::HEAD], handler) } else { self.on([method], handler) }
    }

    /// Adds handlers without actix-web's own method guards: those allocate for each method they try, for a 405 that
    /// [`Self::resource`] answers here.
    fn on<F, Args, const N: usize>(mut self, methods: [Method; N], handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.methods.extend_from_slice(&methods);
        let asked = guard::fn_guard(move |context| methods.contains(&context.head().method));
        self.handlers.push(web::route().guard(asked).to::<_, Arguments<Args>>(Guarded(handler)));
        self
    }

    /// The finished resource. `Allow` is leaked: once a path and worker, for the life of the process.
    pub(super) fn resource(self, described: Described) -> Resource {
        let Self { path, handlers, methods, parameters } = self;
        let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
        let allow: &'static str = names.join(", ").leak();
        let refuse = move || async move { Err::<&str, _>(Problem::method_not_allowed(allow)) };
        let known = methods.into_iter().map(|method| {
            let all = described(&method, &path).iter().chain(&parameters).copied().collect();
            (method, all)
        });
        let known = KnownParameters(known.collect());
        let resource = web::resource(path).app_data(RouteMetrics::default()).app_data(known);
        handlers.into_iter().fold(resource, Resource::route).default_service(web::to(refuse))
    }
}
