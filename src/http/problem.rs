//! Failures in answers: `application/problem+json` (RFC 9457).

use crate::domain::{DeclineReason, Timestamp, TraceId};
use crate::http::middleware::{current_trace, headers};
use crate::service::{Code, Failure};
use actix_web::http::{
    StatusCode,
    header::{ALLOW, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE},
};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use std::fmt;
use utoipa::ToSchema;

/// The base URI of problem types: `<base><code>`.
pub const TYPE_BASE: &str = "https://livedrop.dev/problems/";
/// Seconds for answers that must have `Retry-After` if the use case gave none.
const RETRY_AFTER_DEFAULT_S: u32 = 1;

/// A failure as an answer.
#[derive(Debug)]
pub struct Problem {
    failure: Failure,
    replayed: bool,
    allow: Option<&'static str>,
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self { failure, replayed: false, allow: None }
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Failure::new(code).into()
    }
}

impl Problem {
    /// Marks the answer as the replay of an idempotency key's first answer.
    #[must_use]
    pub fn replayed(self, replayed: bool) -> Self {
        Self { replayed, ..self }
    }

    /// 405 with the allowed methods.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Code::MethodNotAllowed.into() }
    }

    /// A server error, with the trace of its request.
    #[must_use]
    pub fn internal(trace: TraceId) -> Self {
        Failure { trace: Some(trace), ..Failure::new(Code::Internal) }.into()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

/// The HTTP status of a code, as in the table of docs/API.md.
#[must_use]
pub fn status(code: Code) -> StatusCode {
    use Code as C;
    match code {
        C::MalformedJson
        | C::UnexpectedBody
        | C::ValidationFailed
        | C::IdempotencyKeyMissing
        | C::IdempotencyKeyInvalid
        | C::OrderNumberInvalid
        | C::InvalidCursor => StatusCode::BAD_REQUEST,
        C::Unauthenticated | C::TokenExpired | C::TokenRevoked | C::InvalidCredentials | C::RefreshTokenInvalid => {
            StatusCode::UNAUTHORIZED
        }
        C::PaymentDeclined | C::PaymentActionRequired => StatusCode::PAYMENT_REQUIRED,
        C::Forbidden | C::WrongPassword | C::NotACreator => StatusCode::FORBIDDEN,
        C::NotFound
        | C::UserNotFound
        | C::CreatorNotFound
        | C::ProductNotFound
        | C::DropNotFound
        | C::UnknownVariant
        | C::AddressNotFound
        | C::OrderNotFound => StatusCode::NOT_FOUND,
        C::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        C::EmailTaken
        | C::HandleTaken
        | C::AccountHasDrops
        | C::AlreadyACreator
        | C::TooManyDrops
        | C::TooManyAddresses
        | C::AddressRequired
        | C::NotShippedThere
        | C::ProductArchived
        | C::DropNotStarted
        | C::DropEnded
        | C::DropCancelled
        | C::SoldOut
        | C::NotEnoughStock
        | C::ConflictingFields
        | C::LimitExceeded
        | C::TooManyHolds
        | C::RequestInProgress
        | C::PaymentInProgress
        | C::OrderNotConfirmed
        | C::RefundRequestNotOpen
        | C::OrderNotReserved
        | C::OrderAlreadyConfirmed
        | C::HoldExpired
        | C::PaymentsOff
        | C::DropStateConflict => StatusCode::CONFLICT,
        C::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        C::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        C::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        C::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        C::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        C::IdempotencyKeyReused | C::PaymentMethodUnknown | C::AddressReferenceInvalid => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        C::RateLimited | C::HoldCooldown => StatusCode::TOO_MANY_REQUESTS,
        C::Overloaded
        | C::DatabaseUnavailable
        | C::ShuttingDown
        | C::OutcomeUnknown
        | C::DiskFull
        | C::PaymentUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        C::PaymentTimeout => StatusCode::GATEWAY_TIMEOUT,
        C::Internal | C::AddressUnreadable => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A problem (RFC 9457): `code` is stable and made for programs, `detail` explains it to people.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    #[schema(example = "https://livedrop.dev/problems/sold_out")]
    r#type: String,
    title: &'static str,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    detail: &'a str,
    code: &'static str,
    #[schema(example = "4bf92f3577b34da6a3ce929d0e0e4736")]
    trace_id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ProblemField<'a>>,
    /// Free units; only if `code` is `not_enough_stock`.
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<u32>,
    /// The time from which a retry may succeed; absent if it is not known exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<Timestamp>,
    /// Why a payment was declined; only if `code` is `payment_declined` and the provider says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    decline_reason: Option<&'static str>,
    /// For the provider's script; only if `code` is `payment_action_required`.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<&'a str>,
    /// Where to send the buyer; only if `code` is `payment_action_required`.
    #[serde(skip_serializing_if = "Option::is_none")]
    action_url: Option<&'a str>,
}

/// One invalid field, by its JSON pointer into the body.
#[derive(Serialize, ToSchema)]
pub struct ProblemField<'a> {
    pointer: &'a str,
    detail: &'a str,
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        status(self.failure.code)
    }

    fn error_response(&self) -> HttpResponse {
        let Failure { code, detail, fields, retry_after, trace, more } = &self.failure;
        let more = more.as_deref();
        let action = more.and_then(|more| more.action.as_ref());
        let status = self.status_code();
        let body = ProblemBody {
            r#type: format!("{TYPE_BASE}{}", code.as_str()),
            title: code.title(),
            status: status.as_u16(),
            detail,
            code: code.as_str(),
            trace_id: trace.unwrap_or_else(current_trace::id).to_string(),
            errors: fields.iter().map(|f| ProblemField { pointer: &f.pointer, detail: &f.detail }).collect(),
            available: more.and_then(|more| more.available),
            retry_at: more.and_then(|more| more.retry_at),
            decline_reason: more.and_then(|more| more.decline_reason).map(DeclineReason::code),
            client_secret: action.and_then(|action| action.client_secret.as_deref()),
            action_url: action.and_then(|action| action.url.as_deref()),
        };
        let mut response = HttpResponse::build(status);
        // Caches may store some errors by default (404, 405), but a missing object may exist the next moment.
        response.content_type("application/problem+json").insert_header((CACHE_CONTROL, "no-store"));
        match code {
            Code::TokenExpired => {
                let challenge = r#"Bearer realm="livedrop", error="invalid_token", error_description="expired""#;
                response.insert_header((WWW_AUTHENTICATE, challenge));
            }
            Code::TokenRevoked => {
                let challenge = r#"Bearer realm="livedrop", error="invalid_token", error_description="revoked""#;
                response.insert_header((WWW_AUTHENTICATE, challenge));
            }
            _ if status == StatusCode::UNAUTHORIZED => {
                response.insert_header((WWW_AUTHENTICATE, r#"Bearer realm="livedrop""#));
            }
            _ => {}
        }
        if retry_after.is_some() || *code == Code::RequestInProgress || status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((RETRY_AFTER, retry_after.unwrap_or(RETRY_AFTER_DEFAULT_S)));
        }
        if let Some(allow) = self.allow {
            response.insert_header((ALLOW, allow));
        }
        if matches!(code, Code::RequestTimeout | Code::BodyTooLarge | Code::HeadersTooLarge) {
            // The rest of the body is not read.
            response.force_close();
        }
        if self.replayed {
            response.insert_header(("idempotency-replayed", "true"));
        }
        let mut response = response.json(body);
        if *code == Code::Internal {
            // After a panic no middleware adds the security headers.
            headers::protect(response.headers_mut(), false);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::FieldError;
    use actix_web::body::to_bytes;

    /// The codes and statuses in docs/API.md.
    fn documented() -> Vec<(String, u16)> {
        let mut all = Vec::new();
        for line in include_str!("../../docs/API.md").lines() {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let [_, number, codes, _] = cells[..] else { continue };
            let Ok(number) = number.parse() else { continue };
            // Codes are in backticks; text in parentheses is prose.
            all.extend(codes.split('`').skip(1).step_by(2).map(|code| (code.to_owned(), number)));
        }
        all
    }

    #[test]
    fn every_code_has_the_status_that_the_documentation_says() {
        let documented = documented();
        assert!(documented.len() > 30);
        for &code in Code::ALL {
            let listed = documented.iter().find(|(name, _)| name == code.as_str());
            match listed {
                Some((_, number)) => assert_eq!(status(code).as_u16(), *number, "{code:?}"),
                // Server errors are not part of the contract.
                None => assert_eq!(code, Code::Internal, "docs/API.md does not list it"),
            }
        }
        for (name, _) in documented {
            assert!(Code::ALL.iter().any(|code| code.as_str() == name), "{name} is documented and does not exist");
        }
    }

    #[actix_web::test]
    async fn a_problem_says_everything_that_is_wrong() {
        let trace = TraceId::random();
        let field = FieldError { pointer: "/quantity".into(), detail: "must be 1 to 1000".into() };
        let failure = Failure { trace: Some(trace), ..Failure::invalid(vec![field]) };
        let response = Problem::from(failure).replayed(true).error_response();
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers().get("content-type").unwrap(), "application/problem+json");
        assert_eq!(response.headers().get("idempotency-replayed").unwrap(), "true");
        let body: serde_json::Value = serde_json::from_slice(&to_bytes(response.into_body()).await.unwrap()).unwrap();
        let expected = serde_json::json!({
            "type": "https://livedrop.dev/problems/validation_failed",
            "title": "Some fields are not valid",
            "status": 400,
            "detail": "Some fields are not valid",
            "code": "validation_failed",
            "trace_id": trace.to_string(),
            "errors": [{"pointer": "/quantity", "detail": "must be 1 to 1000"}],
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn headers_follow_the_status() {
        let header = |problem: Problem, name: &str| {
            problem.error_response().headers().get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(header(Code::Overloaded.into(), "retry-after").as_deref(), Some("1"));
        assert_eq!(header(Failure::retry(Code::DatabaseUnavailable, 7).into(), "retry-after").as_deref(), Some("7"));
        assert_eq!(header(Code::RequestInProgress.into(), "retry-after").as_deref(), Some("1"));
        assert_eq!(header(Code::SoldOut.into(), "retry-after"), None);
        assert_eq!(header(Problem::method_not_allowed("GET, HEAD"), "allow").as_deref(), Some("GET, HEAD"));
        assert!(header(Code::TokenExpired.into(), "www-authenticate").unwrap().contains("invalid_token"));
        assert_eq!(header(Code::InvalidCredentials.into(), "www-authenticate").unwrap(), r#"Bearer realm="livedrop""#);
        assert_eq!(header(Code::Forbidden.into(), "www-authenticate"), None);
    }
}
