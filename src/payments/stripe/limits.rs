//! Bounds of the Stripe client.

use std::time::Duration;

/// How long a connection to Stripe may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one answer may take. Stripe answers an authorization within a second or two; a bank may need longer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a call with all its tries may take.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(25);
/// Tries of one call.
pub const TRIES_MAX: u32 = 3;
/// The pause before the second try; each further one is twice as long. A random half is added.
pub const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause that Stripe may ask for and that is waited for within a call; past it the caller hears of it.
pub const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Bytes read of an answer. The largest is a page of payments, some 6 KiB each.
pub const ANSWER_BYTES_MAX: usize = 2 << 20;
/// Characters of an error's text that are kept.
pub const ERROR_CHARS_MAX: usize = 300;
/// Payments in one page of a list, which is Stripe's own bound.
pub const PAGE_MAX: usize = 100;
/// Pages that are read to find one payment: ten thousand payments within an order's time.
pub const PAGES_MAX: usize = 100;
/// How long after its order was placed an attempt to pay may begin, in seconds: the longest hold, its extension and more.
pub const ATTEMPT_SECONDS_MAX: i64 = 3 * 60 * 60;
/// How long Stripe keeps an idempotency key, in milliseconds, less an hour.
pub const KEY_KEPT_MS: i64 = 23 * 60 * 60 * 1_000;
/// How often the state of a payment is read again because it changed under a call.
pub const ROUNDS_MAX: u32 = 3;
/// Characters of an id or a name in an event that are kept.
pub const EVENT_TEXT_CHARS_MAX: usize = 100;
/// How old a signed webhook may be, in milliseconds.
pub const SIGNATURE_AGE_MS_MAX: i64 = 5 * 60 * 1_000;
/// Signatures that are read from one header.
pub const SIGNATURES_MAX: usize = 16;
/// Signing secrets at the same time: the current one and the one that it replaces.
pub const SECRETS_MAX: usize = 2;

const _: () = {
    assert!(CONNECT_TIMEOUT.as_millis() < ANSWER_TIMEOUT.as_millis());
    assert!(ANSWER_TIMEOUT.as_millis() < CALL_TIMEOUT.as_millis());
};
