//! The latency of each route.
//!
//! A resource has the histograms of its own path, so that counting a request needs no second routing. Labels are the
//! route's pattern, never a client's text.

use actix_web::dev::ServiceResponse;
use actix_web::http::{Method, StatusCode};
use actix_web::web;
use prometheus::{Histogram, HistogramOpts, HistogramVec, Registry, TextEncoder};
use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

const SECONDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
const METHODS: usize = 6;
const CLASSES: usize = 5;
const NO_ROUTE: &str = "(none)";

/// The metrics of a server, and the hook that refreshes its gauges.
#[derive(Clone)]
pub struct HttpMetrics {
    registry: Registry,
    requests: HistogramVec,
    refresh: Arc<dyn Fn() + Send + Sync>,
}

impl HttpMetrics {
    /// Exports `registry`, with the latency of each route. `refresh` is called before each scrape: it must answer at
    /// once, from memory.
    ///
    /// # Errors
    /// If the registry has metrics of the same name.
    pub fn new(registry: Registry, refresh: impl Fn() + Send + Sync + 'static) -> prometheus::Result<Self> {
        let help = "Time from a request's head to its answer's, by route, method and class of status.";
        let options = HistogramOpts::new("livedrop_http_request_duration_seconds", help).buckets(SECONDS.to_vec());
        let requests = HistogramVec::new(options, &["route", "method", "status"])?;
        registry.register(Box::new(requests.clone()))?;
        Ok(Self { registry, requests, refresh: Arc::new(refresh) })
    }

    /// All current metrics, in the Prometheus text format.
    ///
    /// # Errors
    /// If two metrics contradict each other.
    pub fn text(&self) -> prometheus::Result<String> {
        (self.refresh)();
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// The histograms of one path, on one worker.
#[derive(Default)]
pub struct RouteMetrics([[OnceCell<Histogram>; CLASSES]; METHODS]);

/// Records an answer's latency in its route's histogram.
pub fn observe<B>(response: &ServiceResponse<B>, took: Duration) {
    let request = response.request();
    let class = (usize::from(response.status().as_u16()) / 100).clamp(1, CLASSES) - 1;
    let seconds = took.as_secs_f64();
    let of = |pattern: &str| {
        let metrics = request.app_data::<web::Data<HttpMetrics>>()?;
        Some(metrics.of(pattern, request.method(), response.status()))
    };
    let Some(route) = request.app_data::<RouteMetrics>() else {
        return of(NO_ROUTE).into_iter().for_each(|histogram| histogram.observe(seconds));
    };
    let cell = &route.0[method_index(request.method())][class];
    if cell.get().is_none()
        && let Some(histogram) = of(request.match_pattern().as_deref().unwrap_or(NO_ROUTE))
    {
        // The cell was empty.
        let _ = cell.set(histogram);
    }
    if let Some(histogram) = cell.get() {
        histogram.observe(seconds);
    }
}

impl HttpMetrics {
    fn of(&self, route: &str, method: &Method, status: StatusCode) -> Histogram {
        let class = match status.as_u16() / 100 {
            0 | 1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[route, METHOD_NAMES[method_index(method)], class])
    }
}

const METHOD_NAMES: [&str; METHODS] = ["GET", "HEAD", "POST", "PATCH", "DELETE", "other"];

/// The index of a method's histograms. Unknown methods share one, so that clients cannot create labels.
fn method_index(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PATCH => 3,
        Method::DELETE => 4,
        _ => 5,
    }
}
