//! `/metrics`, in the Prometheus text format, and the latency of each route.
//!
//! A resource carries the histograms of its own path, so that a request is counted without a second look at its path. Labels are
//! the route's pattern, never what a client wrote.

use super::Services;
use actix_web::dev::ServiceResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use prometheus::{Histogram, HistogramOpts, HistogramVec, Registry, TextEncoder};
use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

const SECONDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
const METHODS: usize = 6;
const CLASSES: usize = 5;
const NO_ROUTE: &str = "(none)";

/// What is measured, and how gauges get their values.
#[derive(Clone)]
pub struct Meters {
    registry: Registry,
    requests: HistogramVec,
    refresh: Arc<dyn Fn() + Send + Sync>,
}

impl Meters {
    /// Shows `registry`, and in it the latency of each route. `refresh` is called before each look: it must answer at once, from
    /// memory.
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
}

/// The histograms of one path, on one worker.
#[derive(Default)]
pub struct RouteMeters([[OnceCell<Histogram>; CLASSES]; METHODS]);

/// Counts an answer.
pub fn observe<B>(response: &ServiceResponse<B>, took: Duration) {
    let request = response.request();
    let class = (usize::from(response.status().as_u16()) / 100).clamp(1, CLASSES) - 1;
    let seconds = took.as_secs_f64();
    let of = |pattern: &str| {
        let meters = request.app_data::<web::Data<Meters>>()?;
        Some(meters.of(pattern, request.method(), response.status()))
    };
    let Some(route) = request.app_data::<RouteMeters>() else {
        return of(NO_ROUTE).into_iter().for_each(|histogram| histogram.observe(seconds));
    };
    let cell = &route.0[method_index(request.method())][class];
    if cell.get().is_none()
        && let Some(histogram) = of(request.match_pattern().as_deref().unwrap_or(NO_ROUTE))
    {
        // It was empty.
        let _ = cell.set(histogram);
    }
    if let Some(histogram) = cell.get() {
        histogram.observe(seconds);
    }
}

impl Meters {
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

/// Clients may invent methods; labels may not.
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

/// `GET /metrics`.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Operations",
    operation_id = "get_metrics",
    summary = "Counters, gauges and histograms, for Prometheus",
    responses((status = 200, description = "Prometheus' text format", body = String, content_type = "text/plain")),
)]
pub async fn metrics(services: web::Data<Services>, _: HttpRequest) -> HttpResponse {
    (services.meters.refresh)();
    match TextEncoder::new().encode_to_string(&services.meters.registry.gather()) {
        Ok(text) => HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, prometheus::TEXT_FORMAT))
            .insert_header((CACHE_CONTROL, "no-store"))
            .body(text),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            HttpResponse::InternalServerError().finish()
        }
    }
}
