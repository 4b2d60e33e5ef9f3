//! Bounds of the fake.

use std::time::Duration;

/// Payments in its books.
pub const PAYMENTS_MAX: usize = 500_000;
/// Events that it remembers.
pub const EVENTS_MAX: usize = 1_000_000;
/// Idempotency keys that it remembers.
pub const KEYS_MAX: usize = 1_000_000;
/// Faults that wait to happen.
pub const FAULTS_MAX: usize = 1_000;
/// Calls that it remembers, the latest ones.
pub const CALLS_MAX: usize = 10_000;
/// Bytes of a request's body.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// Connections at the same time.
pub const CONNECTIONS_MAX: usize = 1_024;
/// How long an answer that hangs does so.
pub const HANG_MAX: Duration = Duration::from_secs(120);
/// Tries of one webhook.
pub const DELIVERY_TRIES_MAX: u32 = 20;
/// Webhooks that are on their way at once, if they may overtake each other.
pub const DELIVERIES_AT_ONCE_MAX: usize = 16;
/// The pause after the first failed delivery; it doubles.
pub const DELIVERY_PAUSE: Duration = Duration::from_millis(100);
/// The longest such pause.
pub const DELIVERY_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long one delivery may take.
pub const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an authorization holds, in seconds: that of a card.
pub const AUTHORIZED_SECONDS: i64 = 7 * 86_400;
/// Rows in one page of a list.
pub const PAGE_MAX: usize = 100;
