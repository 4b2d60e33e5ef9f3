//! `/healthz` (the process is up; touches nothing) and `/readyz` (whether to send traffic, and what is degraded).

use super::health::{Alive, Health, Readiness};
use crate::http::services::Services;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, web};

#[utoipa::path(
    get,
    path = "/healthz",
    tag = "Operations",
    operation_id = "get_health",
    summary = "Whether the process is up",
    responses((status = 200, description = "It is", body = Alive)),
)]
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(Alive { status: "ok" })
}

#[utoipa::path(
    get,
    path = "/readyz",
    tag = "Operations",
    operation_id = "get_readiness",
    summary = "Whether traffic may come",
    responses(
        (status = 200, description = "It may; maybe not everything works", body = Readiness),
        (status = 503, description = "It must not", body = Readiness),
    ),
)]
pub async fn ready(services: web::Data<Services>) -> HttpResponse {
    answer(&services.health.readiness())
}

fn answer(readiness: &Readiness) -> HttpResponse {
    let mut response = match readiness.status {
        Health::Ready | Health::Degraded => HttpResponse::Ok(),
        Health::Unavailable => HttpResponse::ServiceUnavailable(),
    };
    response.insert_header((CACHE_CONTROL, "no-store")).json(readiness)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::http::api::operations::health::{
        Checks, ConsumerCheck, ConsumersCheck, DatabaseCheck, JournalCheck, PaymentCheck, PaymentsCheck,
        ProjectorCheck, TasksCheck,
    };
    use actix_web::body::to_bytes;

    #[actix_web::test]
    async fn degraded_takes_traffic_and_unavailable_does_not() {
        let readiness = |status| Readiness {
            status,
            payments: "sandbox".to_owned(),
            checks: Checks {
                journal: JournalCheck { status, durability: "always".into() },
                database: DatabaseCheck { status: Health::Unavailable, kind: "postgres" },
                projector: ProjectorCheck {
                    status: Health::Degraded,
                    lag_records: 7,
                    set_aside_records: 2,
                    set_aside_drops: vec!["d".to_owned()],
                },
                consumers: ConsumersCheck {
                    status: Health::Degraded,
                    each: vec![ConsumerCheck {
                        name: "events",
                        status: Health::Degraded,
                        lag_records: 3,
                        lag_bytes: 400,
                        lag_ms: 5,
                        errors: 6,
                        last_error: Some("no space".to_owned()),
                        lost_records: 4,
                        gaps: 1,
                        skipped_records: 9,
                        dead_letters: 2,
                        last_gap: Some([11, 19]),
                    }],
                },
                payments: PaymentsCheck {
                    status: Health::Degraded,
                    each: vec![PaymentCheck {
                        provider: "stripe",
                        status: Health::Degraded,
                        down_since: Some(Timestamp::from_millis(1_000)),
                        retry_at: None,
                    }],
                },
                tasks: TasksCheck { status: Health::Degraded, failing: vec!["scheduler"] },
            },
        };
        assert_eq!(answer(&readiness(Health::Ready)).status(), 200);
        assert_eq!(answer(&readiness(Health::Unavailable)).status(), 503);
        let degraded = answer(&readiness(Health::Degraded));
        assert_eq!(degraded.status(), 200);
        let body: serde_json::Value = serde_json::from_slice(&to_bytes(degraded.into_body()).await.unwrap()).unwrap();
        let expected = serde_json::json!({"status": "degraded", "payments": "sandbox", "checks": {
            "journal": {"status": "degraded", "durability": "always"},
            "database": {"status": "unavailable", "kind": "postgres"},
            "projector":
                {"status": "degraded", "lag_records": 7, "set_aside_records": 2, "set_aside_drops": ["d"]},
            "consumers": {"status": "degraded", "each": [{
                "name": "events", "status": "degraded", "lag_records": 3, "lag_bytes": 400, "lag_ms": 5, "errors": 6,
                "last_error": "no space", "lost_records": 4, "gaps": 1, "skipped_records": 9, "dead_letters": 2, "last_gap": [11, 19]}]},
            "payments": {"status": "degraded", "each": [{
                "provider": "stripe", "status": "degraded", "down_since": "1970-01-01T00:00:01.000Z", "retry_at": null}]},
            "tasks": {"status": "degraded", "failing": ["scheduler"]},
        }});
        assert_eq!(body, expected);
    }
}
