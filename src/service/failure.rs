//! Failures of use cases, independent of the protocol.

use super::settle::Action;
use crate::actors::AskError;
use crate::actors::Projection;
use crate::domain::{DeclineReason, Refusal, Timestamp, TraceId};
use crate::storage::StoreError;
use std::borrow::Cow;
use std::time::Duration;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $title:literal;)+) => {
        /// A stable, machine-readable failure code; part of the API.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Code { $($(#[$doc])* #[doc = $title] $name),+ }

        impl Code {
            /// Every code, for the API's documentation.
            pub const ALL: &'static [Code] = &[$(Code::$name),+];

            /// The code on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text),+ }
            }

            /// A short sentence, the same for every failure of the code.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Code::$name => $title),+ }
            }
        }
    };
}

codes! {
    MalformedJson = "malformed_json", "The body is not valid JSON";
    UnexpectedBody = "unexpected_body", "No body is expected here";
    ValidationFailed = "validation_failed", "Some fields are not valid";
    IdempotencyKeyMissing = "idempotency_key_missing", "The Idempotency-Key header is missing";
    IdempotencyKeyInvalid = "idempotency_key_invalid", "The Idempotency-Key header is not valid";
    ConflictingFields = "conflicting_fields", "The fields contradict each other, or what they are about";
    OrderNumberInvalid = "order_number_invalid", "No order has this number: it was mistyped";
    InvalidCursor = "invalid_cursor", "The cursor is not valid";
    Unauthenticated = "unauthenticated", "Authentication is required";
    TokenExpired = "token_expired", "The access token has expired";
    TokenRevoked = "token_revoked", "The login of this access token has ended";
    InvalidCredentials = "invalid_credentials", "The e-mail or the password is wrong";
    RefreshTokenInvalid = "refresh_token_invalid", "The refresh token is not valid";
    PaymentDeclined = "payment_declined", "The payment was declined";
    Forbidden = "forbidden", "This is not yours to do";
    WrongPassword = "wrong_password", "The current password is wrong";
    NotACreator = "not_a_creator", "Only creators can do this";
    NotFound = "not_found", "There is nothing here";
    UserNotFound = "user_not_found", "There is no such user";
    CreatorNotFound = "creator_not_found", "There is no such creator";
    ProductNotFound = "product_not_found", "There is no such product";
    DropNotFound = "drop_not_found", "There is no such drop";
    OrderNotFound = "order_not_found", "There is no such order";
    AddressNotFound = "address_not_found", "There is no such address";
    MethodNotAllowed = "method_not_allowed", "The method is not allowed here";
    EmailTaken = "email_taken", "The e-mail address is taken";
    AddressRequired = "address_required", "The drop is shipped, and the order names no address";
    NotShippedThere = "not_shipped_there", "The drop is not shipped to this country";
    HandleTaken = "handle_taken", "The handle is taken";
    AccountHasDrops = "account_has_drops", "The account has drops that are not over";
    ProductArchived = "product_archived", "The product is archived";
    TooManyDrops = "too_many_drops", "Too many drops are scheduled or live";
    TooManyAddresses = "too_many_addresses", "The account has as many addresses as it may have";
    AlreadyACreator = "already_a_creator", "The account is a creator already";
    DropNotStarted = "drop_not_started", "The drop has not started";
    DropEnded = "drop_ended", "The drop has ended";
    DropCancelled = "drop_cancelled", "The drop was cancelled";
    SoldOut = "sold_out", "Sold out";
    NotEnoughStock = "not_enough_stock", "Fewer units are free than were asked for";
    LimitExceeded = "limit_exceeded", "The limit per buyer is reached";
    TooManyHolds = "too_many_holds", "Too many unpaid holds";
    HoldCooldown = "hold_cooldown", "A hold ran out unpaid lately";
    RequestInProgress = "request_in_progress", "A request with this key is still running";
    PaymentInProgress = "payment_in_progress", "A payment for this order is still running";
    OrderNotReserved = "order_not_reserved", "The order is not reserved any more";
    OrderNotConfirmed = "order_not_confirmed", "The order is not confirmed";
    OrderAlreadyConfirmed = "order_already_confirmed", "The order is confirmed already";
    HoldExpired = "hold_expired", "The hold has expired";
    DropStateConflict = "drop_state_conflict", "The drop is not in a state that allows this";
    PreconditionFailed = "precondition_failed", "It is not any more what the change was meant for";
    RequestTimeout = "request_timeout", "The request did not arrive in time";
    HeadersTooLarge = "headers_too_large", "The headers are too large";
    BodyTooLarge = "body_too_large", "The body is too large";
    UnsupportedMediaType = "unsupported_media_type", "The media type is not supported";
    IdempotencyKeyReused = "idempotency_key_reused", "The idempotency key was used for another request";
    UnknownVariant = "unknown_variant", "The drop has no such variant";
    AddressReferenceInvalid = "address_reference_invalid", "The reference of the address is not valid";
    PaymentMethodUnknown = "payment_method_unknown", "The payment method is not known";
    RateLimited = "rate_limited", "Too many requests in too short a time";
    Overloaded = "overloaded", "Too much at once";
    DatabaseUnavailable = "database_unavailable", "The database is not available";
    ShuttingDown = "shutting_down", "The server is shutting down";
    OutcomeUnknown = "outcome_unknown", "The outcome is not known";
    DiskFull = "disk_full", "No space for new reservations";
    PaymentTimeout = "payment_timeout", "The payment gateway did not answer in time";
    PaymentActionRequired = "payment_action_required", "The buyer has to act before the payment goes on";
    PaymentUnavailable = "payment_unavailable", "The payment provider is not available";
    PaymentsOff = "payments_off", "Nothing that costs money can be bought here";
    RefundRequestNotOpen = "refund_request_not_open", "There is no open request for a refund";
    AddressUnreadable = "address_unreadable", "A stored address cannot be decrypted";
    Internal = "internal_error", "Something went wrong on our side";
}

impl From<Refusal> for Code {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotStarted => Self::DropNotStarted,
            Refusal::Ended => Self::DropEnded,
            Refusal::DropCancelled => Self::DropCancelled,
            Refusal::SoldOut => Self::SoldOut,
            Refusal::LimitExceeded => Self::LimitExceeded,
            Refusal::UnknownVariant => Self::UnknownVariant,
            Refusal::NotEnoughStock { .. } => Self::NotEnoughStock,
        }
    }
}

/// An invalid field of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldError {
    /// JSON pointer into the body (RFC 6901), such as `/variants/0/stock`.
    pub pointer: String,
    /// What the field must be.
    pub detail: String,
}

/// A failed use case.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct Failure {
    pub code: Code,
    /// An explanation for people.
    pub detail: Cow<'static, str>,
    /// Every invalid field, if `code` is `validation_failed` or `conflicting_fields`.
    pub fields: Vec<FieldError>,
    /// Seconds after which a retry may succeed.
    pub retry_after: Option<u32>,
    /// The trace id of the first request with this answer, if it is a replay.
    pub trace: Option<TraceId>,
    /// Data of a few codes. Boxed to keep results small.
    pub more: Option<Box<More>>,
}

/// The data of a few codes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct More {
    /// The number of free units, for `not_enough_stock`.
    pub available: Option<u32>,
    /// The exact time from which a retry may succeed, if it is known.
    pub retry_at: Option<Timestamp>,
    /// Why a payment was declined.
    pub decline_reason: Option<DeclineReason>,
    /// What the buyer has to do before the payment goes on.
    pub action: Option<Action>,
}

impl Failure {
    /// A failure with its code's title as detail.
    #[must_use]
    pub fn new(code: Code) -> Self {
        Self::with(code, code.title())
    }

    /// A failure with a detail of its own.
    #[must_use]
    pub fn with(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), fields: Vec::new(), retry_after: None, trace: None, more: None }
    }

    /// A failure that the client may retry after this many seconds.
    #[must_use]
    pub fn retry(code: Code, after_s: u32) -> Self {
        Self { retry_after: Some(after_s), ..Self::new(code) }
    }

    /// Adds the exact time from which a retry may succeed.
    #[must_use]
    pub fn until(self, retry_at: Timestamp) -> Self {
        Self { more: Some(Box::new(More { retry_at: Some(retry_at), ..More::default() })), ..self }
    }

    /// Fields that are valid one by one but contradict each other or the object.
    #[must_use]
    pub fn conflicting(fields: Vec<FieldError>) -> Self {
        Self { fields, ..Self::new(Code::ConflictingFields) }
    }

    /// A request with invalid fields, all of them named.
    #[must_use]
    pub fn invalid(fields: Vec<FieldError>) -> Self {
        Self { fields, ..Self::new(Code::ValidationFailed) }
    }
}

/// How long a read that needs SQL waits for it to catch up after a restart.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(2);

/// Waits until SQL has every record of drops that are not in memory.
///
/// # Errors
/// `database_unavailable` if it does not catch up in time.
pub(super) async fn ensure_projected(projection: &Projection) -> Result<(), Failure> {
    if projection.past_recovery(RECOVERY_PATIENCE).await {
        return Ok(());
    }
    let detail = "The database is still catching up with the journal after a restart";
    Err(Failure { detail: detail.into(), ..Failure::retry(Code::DatabaseUnavailable, 2) })
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => {
                tracing::warn!(%error, "database unavailable");
                Self::retry(Code::DatabaseUnavailable, 2)
            }
            StoreError::Missing { what: "creator" } => Self::new(Code::CreatorNotFound),
            StoreError::Missing { .. } => Self::new(Code::UserNotFound),
            StoreError::Taken { what: "email" } => Self::new(Code::EmailTaken),
            StoreError::Taken { what: "handle" } => Self::new(Code::HandleTaken),
            StoreError::Taken { what: "creator" } => Self::new(Code::AlreadyACreator),
            other => {
                tracing::error!(error = %other, "unexpected database error");
                Self::new(Code::Internal)
            }
        }
    }
}

/// The failure that a caller gets for an unanswered command.
#[must_use]
pub fn ask_failure(error: AskError) -> Failure {
    match error {
        AskError::Overloaded => Failure::retry(Code::Overloaded, 1),
        AskError::TooManyDrops { .. } => Failure::with(Code::TooManyDrops, error.to_string()),
        AskError::Stopped => Failure::retry(Code::ShuttingDown, 1),
        AskError::DiskFull => Failure::retry(Code::DiskFull, 5),
        AskError::OutcomeUnknown => Failure {
            detail: "it may or may not have happened; ask again with the same key".into(),
            ..Failure::retry(Code::OutcomeUnknown, 1)
        },
        AskError::Gone => Failure::retry(Code::Overloaded, 1),
    }
}
