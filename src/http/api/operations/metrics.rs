//! `/metrics`, in the Prometheus text format.

use crate::http::services::Services;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpResponse, web};

#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Operations",
    operation_id = "get_metrics",
    summary = "Counters, gauges and histograms, for Prometheus",
    responses((status = 200, description = "Prometheus' text format", body = String, content_type = "text/plain")),
)]
pub async fn metrics(services: web::Data<Services>) -> HttpResponse {
    match services.metrics.text() {
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
