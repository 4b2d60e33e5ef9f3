//! Every bound of the system in one place, with the relations between them asserted at compile time.
//!
//! At a bound the answer is a clear refusal, never growth and never a silent drop.

use std::time::Duration;

/// Variants that one drop may sell.
pub const VARIANTS_PER_DROP_MAX: usize = 64;
/// Units of one variant, restocks included.
pub const STOCK_PER_VARIANT_MAX: u32 = 10_000_000;
/// Units that one order may ask for.
pub const QUANTITY_PER_ORDER_MAX: u32 = 1_000;
/// Price of one unit in minor units: a hundred million of the major unit of most currencies.
pub const PRICE_MINOR_MAX: i64 = 10_000_000_000;
/// The maximum of orders per drop.
pub const ORDERS_PER_DROP_MAX: usize = 20_000_000;
/// Refused one-call payments that the process remembers concurrently, some 100 MB; beyond it the next are answered 503.
pub const REFUSED_KEYS_MAX: usize = 4_000_000;
/// Default for the minimum time for which a refused one-call payment is remembered: a minute, within which a copy of a
/// request delayed by a proxy or a network arrives.
pub const REFUSALS_KEPT_SECONDS_DEFAULT: u32 = 60;
/// The longest configurable time: an hour.
pub const REFUSALS_KEPT_SECONDS_MAX: u32 = 3_600;
/// Units that one buyer may hold and own in a drop, unless its creator sets a limit.
pub const PER_BUYER_LIMIT_DEFAULT: u32 = 10;
/// Unpaid holds of one buyer in one drop, unless the operator sets a limit.
pub const HOLDS_PER_BUYER_DEFAULT: u16 = 5;
/// Unpaid holds from one address (of IPv6: from one /64) in one drop, unless the operator sets a limit: households and
/// offices share one address.
pub const HOLDS_PER_ADDRESS_DEFAULT: u32 = 50;
/// How long a buyer waits for the next hold after one expired unpaid, in milliseconds; doubled each further time.
pub const COOL_DOWN_MS_DEFAULT: u32 = 30_000;
/// The longest such wait, in milliseconds: an hour.
pub const COOL_DOWN_MS_MAX: u32 = 3_600_000;
/// Holds that run at the same time in one drop.
pub const HOLDS_PER_DROP_MAX: usize = 10_000_000;
/// Countries in the shipping table of a drop: all that there are.
pub const SHIPPING_COUNTRIES_MAX: usize = 260;
/// Characters of the reference of an address; it has 59.
pub const ADDRESS_REFERENCE_CHARS_MAX: usize = 100;
/// How long a reference of an address is good: a day, so that the rush asks nobody for another one.
pub const ADDRESS_REFERENCE_MS: i64 = 86_400_000;
/// How long a version of an address is kept after its change or deletion at least: while references of it are good, and an hour more.
pub const PAST_ADDRESS_MS_MIN: i64 = ADDRESS_REFERENCE_MS + 3_600_000;
/// How long it is kept at most, where an order names it: half a year.
pub const PAST_ADDRESS_MS_MAX: i64 = 180 * 86_400_000;
/// Addresses of one user.
pub const ADDRESSES_PER_USER_MAX: u32 = 20;
/// Attempts at a change of an address while others change it.
pub const ADDRESS_CHANGE_ATTEMPTS_MAX: u32 = 4;
/// Characters of a postal code, a country's longest and some more.
pub const POSTAL_CODE_CHARS_MAX: usize = 16;
/// Characters of a telephone number as people write it.
pub const PHONE_CHARS_MAX: usize = 32;
/// Keys in the file of the keys that encrypt personal data.
pub const ENCRYPTION_KEYS_MAX: usize = 64;
/// Rows that a rotation of these keys reads at once.
pub const REWRAPPED_AT_ONCE: u32 = 500;
/// Characters of an idempotency key (IETF draft practice).
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;
/// Hold durations that a creator may choose, in milliseconds.
pub const HOLD_MS_MIN: u32 = 1_000;
/// One hour, in milliseconds.
pub const HOLD_MS_MAX: u32 = 3_600_000;
/// Five minutes, in milliseconds, unless the creator chooses.
pub const HOLD_MS_DEFAULT: u32 = 300_000;
/// Commands waiting for one drop actor; past it the edge answers 503 at once.
pub const DROP_MAILBOX_MAX: usize = 8_192;
/// Commands that a drop takes out of its mailbox before it decides them in order.
pub const DROP_BATCH_MAX: usize = 64;
/// Orders settled by one sweep of a drop actor, so that a mass expiry never stalls a live drop.
pub const SWEEP_ORDERS_MAX: usize = 512;
/// Decisions queued for the journal, over all drops.
pub const JOURNAL_QUEUE_ENTRIES_MAX: usize = 65_536;
/// Payload bytes of one journal frame.
pub const JOURNAL_FRAME_BYTES_MAX: usize = 4 << 20;
/// Bytes of one journal record.
pub const JOURNAL_RECORD_BYTES_MAX: usize = 64 << 10;
/// Default size of a journal segment.
pub const JOURNAL_SEGMENT_BYTES: usize = 64 << 20;
/// Bytes of durable frames kept in memory for consumers that keep up.
pub const JOURNAL_TAIL_BYTES_MAX: usize = 32 << 20;
/// Bytes of the journal kept for consumers that lag, unless configured: about fifteen million records.
pub const LAG_BYTES_DEFAULT: u64 = 2 << 30;
/// Upper bound of that setting: a tebibyte.
pub const LAG_BYTES_MAX: u64 = 1 << 40;
/// Upper bound of the age of records kept for consumers that lag: thirty days.
pub const LAG_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Age of records kept for consumers that lag, unless configured: a day.
pub const LAG_DEFAULT: Duration = Duration::from_secs(86_400);
/// Dead letters of one consumer: effects that its target refused permanently. At the bound the consumer stops until its
/// operator acts.
pub const DEAD_LETTERS_MAX: usize = 1_000;
/// Records that the projector writes in one transaction.
pub const PROJECTOR_BATCH_RECORDS_MAX: usize = 4_096;
/// Inbox entries of followers that one transaction of the projector writes, unless one record alone has more: each
/// follower of a creator gets one, and the transaction has to end well within the statement timeout.
pub const PROJECTOR_FAN_OUT_MAX: u64 = 10_000;
/// Seconds between two rounds that write checkpoints, by default.
pub const CHECKPOINT_SECONDS_DEFAULT: u64 = 30;
/// The longest that an operator may set: an hour.
pub const CHECKPOINT_SECONDS_MAX: u64 = 3_600;
/// Journal records after which a round begins early: a start replays about a million a second.
pub const CHECKPOINT_RECORDS_MAX: u64 = 200_000;
/// With fewer changes a drop is not copied again before its time; in a large drop, with fewer than a quarter of its orders.
pub const CHECKPOINT_CHANGES_MIN: u64 = 20_000;
/// Rows that a drop's actor copies without a pause: some hundred microseconds.
pub const CHECKPOINT_COPY_ROWS: u32 = 1_024;
/// Bytes a second written to checkpoint files, at most: orders wait for the same disk.
pub const CHECKPOINT_BYTES_PER_SECOND: u64 = 64 << 20;
/// Bytes of the disk that checkpoints leave free: four journal segments.
pub const CHECKPOINT_FREE_BYTES_MIN: u64 = 4 * JOURNAL_SEGMENT_BYTES as u64;
/// Durable records that SQL may lack while buyers have priority. The projector catches up with this many in two or
/// three seconds, and the journal keeps about as many in memory.
pub const PROJECTOR_BEHIND_MAX: u64 = 150_000;
/// Bytes of a JSON request body, unless its route has a limit of its own.
pub const JSON_BODY_BYTES_MAX: usize = 64 << 10;
/// Bytes of a JSON request body that describes a drop.
pub const DROP_BODY_BYTES_MAX: usize = 256 << 10;
/// Bytes of a JSON request body that describes a product.
pub const PRODUCT_BODY_BYTES_MAX: usize = 1 << 20;
/// Bytes of one character in JSON when it is escaped: two surrogates.
const JSON_CHAR_BYTES_MAX: usize = r"\ud83d\ude00".len();
/// Bytes around the texts of one item in a body: field names, ids, numbers, brackets. An upper bound.
const JSON_ITEM_BYTES: usize = 256;
/// Bytes of a request's target and headers, unless configured.
pub const HEAD_BYTES_DEFAULT: usize = 16 << 10;
/// Upper bound of that setting; actix-http's own limit is 128 KiB.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Bytes of one inbound websocket message.
pub const WS_MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Bytes queued for one websocket session; past it the session is closed with a reconnectable close code.
pub const WS_QUEUE_BYTES_MAX: usize = 256 << 10;
/// Topics that one session may subscribe to by name.
pub const SUBSCRIPTIONS_PER_SESSION_MAX: usize = 256;
/// Followed creators whose drops a session receives without subscribing.
pub const FOLLOWED_PER_SESSION_MAX: usize = 10_000;
/// Sessions of one user.
pub const SESSIONS_PER_USER_MAX: usize = 16;
/// Websocket sessions of the whole process.
pub const SESSIONS_MAX: usize = 200_000;
/// Connections that may send requests. A connection that became a WebSocket session no longer counts.
pub const REQUEST_CONNECTIONS_MAX: usize = 20_000;
/// Connections below which a server is of no use.
pub const CONNECTIONS_MIN: usize = 64;
/// Connections of one client address, unless configured: a crowd behind one address fits, and one address cannot take
/// all connections.
pub const CONNECTIONS_PER_ADDRESS_DEFAULT: usize = 1_024;
/// File descriptors reserved for everything but connections: the journal's segments and readers, the database pool, the
/// log, the workers.
pub const DESCRIPTORS_RESERVED: usize = 256;
/// Requests that one HTTP/2 connection may have at once (RFC 9113, section 6.5.2, advises against less than 100).
pub const STREAMS_PER_CONNECTION_MAX: u32 = 100;
/// Bytes of answers in memory that clients have not read yet, over all connections. Past it large answers are 503.
pub const UNSENT_BYTES_MAX: usize = 256 << 20;
/// Bytes of these for one connection; a single answer may be larger.
pub const UNSENT_BYTES_PER_CONNECTION_MAX: usize = 16 << 20;
/// Shorter answers do not count: the rest of a connection's memory is larger.
pub const COUNTED_ANSWER_BYTES_MIN: u64 = 32 << 10;
/// Bytes of partly received request bodies, over all connections. Past it a body that is not complete at once gets 503.
pub const ARRIVING_BYTES_MAX: usize = 64 << 20;
/// Bytes a second that a client must read while an answer waits for it.
pub const SEND_BYTES_PER_SECOND_MIN: u64 = 4 << 10;
/// The same while more than half of [`UNSENT_BYTES_MAX`] is in use.
pub const SEND_BYTES_PER_SECOND_CROWDED: u64 = 64 << 10;
/// `stock_changed` events a second and drop; between them only the latest stock is kept.
pub const STOCK_CHANGED_PER_SECOND_MAX: u32 = 20;
/// `stock_changed` messages that one worker sends in a second: about a fifth of its time. Past it stock is published
/// less often, so that watchers do not delay buyers' answers.
pub const STOCK_MESSAGES_PER_SECOND_MAX: u32 = 20_000;
/// Sessions accepted in one second, over all workers; the others get a `Retry-After`.
pub const SESSIONS_ACCEPTED_PER_SECOND_MAX: usize = 5_000;
/// Events of one drop kept for subscribers that reconnect.
pub const HISTORY_EVENTS_PER_DROP_MAX: usize = 256;
/// The same over all drops.
pub const HISTORY_EVENTS_MAX: usize = 65_536;
/// Order events kept for their buyers, about 110 bytes each.
pub const HISTORY_ORDERS_MAX: usize = 262_144;
/// Order events replayed to one buyer; past it, a snapshot is shorter.
pub const HISTORY_ORDERS_PER_USER_MAX: usize = 256;
/// How long the history keeps an event, in milliseconds.
pub const HISTORY_MS_MAX: i64 = 900_000;
/// Journal records read again at start to fill the history.
pub const HISTORY_REFILL_RECORDS_MAX: u64 = 2_000_000;
/// Bytes of missed events replayed to one request; past it, a snapshot is shorter.
pub const REPLAY_BYTES_MAX: usize = WS_QUEUE_BYTES_MAX / 2;
/// Single-use tickets that are issued and still valid.
pub const TICKETS_MAX: usize = 65_536;
/// Valid tickets of one account.
pub const TICKETS_PER_USER_MAX: usize = 16;
/// How long a ticket is valid, in milliseconds.
pub const TICKET_MS: i64 = 30_000;
/// The longest lifetime of an access token.
pub const ACCESS_TOKEN_SECONDS_MAX: u32 = 900;
/// How long access tokens stay valid while the database is away, unless configured: four hours.
pub const OUTAGE_GRACE_SECONDS_DEFAULT: u32 = 14_400;
/// Upper bound of that setting: a day.
pub const OUTAGE_GRACE_SECONDS_MAX: u32 = 86_400;
/// Period over which clients renew their tokens after the database is back, in milliseconds.
pub const RENEWALS_SPREAD_MS: i64 = 60_000;
/// Revocations of access tokens kept in memory: those of a quarter of an hour, and of an outage. Past it, every token
/// has to be renewed.
pub const REVOCATIONS_MAX: usize = 65_536;
/// Successors of a used refresh token that are searched for the unused one, within its grace period.
pub const REFRESH_SUCCESSORS_MAX: usize = 8;
/// Messages queued for one realtime shard.
pub const SHARD_QUEUE_MAX: usize = 65_536;
/// How long an inbox keeps unacknowledged entries, in milliseconds: thirty days.
pub const INBOX_MS_MAX: i64 = 30 * 24 * 60 * 60 * 1_000;
/// Unread entries are counted up to this number.
pub const INBOX_UNREAD_MAX: u32 = 1_000;
/// Entries that one request marks.
pub const INBOX_MARKED_MAX: usize = 100;
/// Acknowledgements waiting to be written, over all users.
pub const ACKNOWLEDGEMENTS_MAX: usize = 16_384;
/// Acknowledgements written in one transaction.
pub const ACKNOWLEDGEMENTS_AT_ONCE_MAX: usize = 256;
/// Up to this many followers, each gets an inbox entry when an event happens; beyond it, inboxes are computed when they
/// are read.
pub const FAN_OUT_FOLLOWERS_DEFAULT: u32 = 1_000;
/// Upper bound of that setting: the entries are written in the transaction that projects the event.
pub const FAN_OUT_FOLLOWERS_MAX: u32 = 100_000;
/// Connections to Postgres, unless configured; Postgres allows a hundred by default, over all its clients.
pub const DATABASE_CONNECTIONS_DEFAULT: u32 = 16;
/// Upper bound of that setting.
pub const DATABASE_CONNECTIONS_MAX: u32 = 1_000;
/// Unknown fields of one object that an answer names.
pub const UNKNOWN_FIELDS_TOLD_MAX: usize = 32;
/// How long the idempotency key of a change other than an order is kept with its answer, in milliseconds.
pub const KEY_KEPT_MS: i64 = 24 * 60 * 60 * 1_000;
/// Such keys of one user.
pub const KEPT_KEYS_PER_USER_MAX: u32 = 10_000;
/// Longest answer kept with a key. A longer one is computed again on a retry.
pub const KEPT_ANSWER_BYTES_MAX: usize = 64 << 10;
/// Log lines a minute about pages with refused origins.
pub const REFUSED_ORIGINS_LOGGED_PER_MINUTE_MAX: usize = 8;
/// Rows of one page.
pub const PAGE_LIMIT_MAX: u32 = 100;
/// Bytes of all texts in one page's rows. A page that would have more ends earlier, and the next one continues there.
pub const PAGE_BYTES_MAX: usize = 256 << 10;
/// Rows of one page, unless the client asks for another number.
pub const PAGE_LIMIT_DEFAULT: u32 = 20;
/// Characters of a name or a title.
pub const NAME_CHARS_MAX: usize = 120;
/// Characters of a longer text.
pub const TEXT_CHARS_MAX: usize = 4_000;
/// Variants of a product: a drop can sell all of them.
pub const VARIANTS_PER_PRODUCT_MAX: usize = VARIANTS_PER_DROP_MAX;
/// Images of a product.
pub const IMAGES_PER_PRODUCT_MAX: usize = 10;
/// Characters of a URL in its normal form. Longer ones do not work everywhere.
pub const URL_CHARS_MAX: usize = 2_048;
/// Attributes of a product.
pub const ATTRIBUTES_PER_PRODUCT_MAX: usize = 32;
/// Characters of an attribute's name.
pub const ATTRIBUTE_NAME_CHARS_MAX: usize = 64;
/// Characters of an attribute's text.
pub const ATTRIBUTE_TEXT_CHARS_MAX: usize = 500;
/// Characters of an attribute's number.
pub const ATTRIBUTE_NUMBER_CHARS_MAX: usize = 40;
/// Bytes of a product's attributes as JSON: a page of products must stay small.
pub const ATTRIBUTES_BYTES_MAX: usize = 8 << 10;
/// Attempts to change a product against concurrent changes, before the caller gets the conflict.
pub const PRODUCT_CHANGE_ATTEMPTS_MAX: u32 = 8;
/// Attempts to change a profile against concurrent changes.
pub const CREATOR_CHANGE_ATTEMPTS_MAX: u32 = 8;
/// Attempts of a command with a precondition on the drop, against concurrent changes.
pub const DROP_CHANGE_ATTEMPTS_MAX: u32 = 8;
/// Characters of an e-mail address (RFC 5321 section 4.5.3.1.3, less the angle brackets).
pub const EMAIL_CHARS_MAX: usize = 254;
/// A character, an `@` and a character.
pub const EMAIL_CHARS_MIN: usize = 3;
/// Characters of a refresh token, with room for longer ones in later versions.
pub const REFRESH_TOKEN_CHARS_MAX: usize = 512;
/// Characters of a password: NIST SP 800-63B asks for at least 8, and at least 64 allowed.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// Longer passwords only cost hashing time.
pub const PASSWORD_CHARS_MAX: usize = 256;
/// Attempts to pay one order: who tries cards has to hold units anew.
pub const PAYMENT_ATTEMPTS_MAX: u32 = 8;
/// How long a hold lasts at least from the moment at which its buyer has to act for a payment, such as for 3-D Secure. Once
/// per order.
pub const PAYMENT_ACTION_MS: u32 = 5 * 60 * 1_000;
/// How long before its authorization ends an uncaptured payment is told as an error, in milliseconds: time to look into it.
pub const CAPTURE_WARNING_MS: i64 = 24 * 60 * 60 * 1_000;
/// How long an authorization is assumed to hold whose provider has not said it, in milliseconds: card networks give five days
/// or more.
pub const CAPTURE_WINDOW_MS: i64 = 5 * 24 * 60 * 60 * 1_000;
/// Days of payments that are compared with the provider's books every day: an authorization lasts seven, and a day more.
pub const RECONCILE_DAYS: u32 = 8;
/// Days that can be asked for.
pub const RECONCILE_DAYS_MAX: u32 = 90;
/// Payments younger than this, in milliseconds, are not compared: they may be under way.
pub const RECONCILE_SETTLED_MS: i64 = 15 * 60 * 1_000;
/// The same in minutes where repairs rest on the database, which may be behind.
pub const RECONCILE_REPAIR_MINUTES: u32 = 24 * 60;
/// Pages of the provider's books that are read at most; each has a hundred payments at Stripe.
pub const RECONCILE_PAGES_MAX: usize = 10_000;
/// Differences that a report names; the others are counted.
pub const RECONCILE_FINDINGS_MAX: usize = 100;
/// Characters of a reason for a refund, and of the answer to it.
pub const REFUND_REASON_CHARS_MAX: usize = 500;
/// Characters of a payment method.
pub const PAYMENT_METHOD_CHARS_MAX: usize = 64;
/// Passwords hashed at the same time, on any number of cores: each takes 19 MiB. One core stays free for everything
/// else.
pub const PASSWORD_HASHES_AT_ONCE_MAX: usize = 4;
/// Logins waiting for their password to be hashed, and as many registrations; past it 503.
pub const PASSWORD_QUEUE_MAX: usize = 256;
/// Accounts (and, separately, addresses without an account) whose failed logins get a line of their own each time the
/// audit trail is written: a flood of failures makes no more lines than this.
pub const FAILED_LOGINS_APART_MAX: usize = 16;
/// How often failed logins are written, in milliseconds.
pub const FAILED_LOGINS_WRITTEN_EVERY_MS: u64 = 10_000;
/// Logins hashed before one registration when both are waiting.
pub const PASSWORD_LOGINS_PER_REGISTRATION: u32 = 3;
/// Drops kept in memory (to start soon, live, or with unsettled holds).
pub const DROPS_IN_MEMORY_MAX: usize = 50_000;
/// Drops of one creator that are scheduled or live, unless configured.
pub const DROPS_PER_CREATOR_DEFAULT: u32 = 100;
/// Upper bound of that setting.
pub const DROPS_PER_CREATOR_MAX: u32 = 1_000_000;
/// How long before its start a drop is loaded into memory, in milliseconds: six hours, so that a database outage of
/// some hours delays no start.
pub const WAKE_AHEAD_MS: i64 = 6 * 60 * 60 * 1_000;
/// A drop that starts later than this, in milliseconds from now, leaves memory. It is more than [`WAKE_AHEAD_MS`], so
/// that no drop is evicted and loaded in turns.
pub const SLEEP_AHEAD_MS: i64 = WAKE_AHEAD_MS + 60 * 60 * 1_000;
/// Bytes of a webhook's body. The largest that a payment provider sends is some 10 KiB.
pub const WEBHOOK_BYTES_MAX: usize = 256 << 10;
/// Webhooks that one query of the inbox reads.
pub const WEBHOOKS_READ_MAX: u32 = 256;
/// Webhooks that are worked on at the same time.
pub const WEBHOOKS_AT_ONCE_MAX: usize = 32;
/// How long the inbox keeps a webhook that was worked on, in milliseconds: thirty days. Stripe repeats for three.
pub const WEBHOOK_KEPT_MS: i64 = 30 * 24 * 60 * 60 * 1_000;
/// The pause before a webhook is tried for the second time, in milliseconds; it doubles.
pub const WEBHOOK_PAUSE_MS: i64 = 1_000;
/// The longest such pause: an hour.
pub const WEBHOOK_PAUSE_MS_MAX: i64 = 60 * 60 * 1_000;
/// Requests that a rate limit may allow at once.
pub const RATE_QUOTA_MAX: u32 = 1_000_000;
/// How long a rate limit may take to refill, in seconds: a day.
pub const RATE_WINDOW_SECONDS_MAX: u32 = 86_400;
/// Clients that one rate limit counts apart; past it new clients share one quota. A key takes 32 bytes.
pub const RATE_KEYS_MAX: usize = 1 << 20;

const _: () = {
    // An order in memory counts its units in 16 bits, its variants in 8, and its buyer's holds in 16.
    assert!(QUANTITY_PER_ORDER_MAX <= u16::MAX as u32 && VARIANTS_PER_DROP_MAX <= u8::MAX as usize + 1);
    assert!(COOL_DOWN_MS_DEFAULT <= COOL_DOWN_MS_MAX);
    // The highest price times the largest quantity of one order must fit.
    assert!(PRICE_MINOR_MAX.checked_mul(QUANTITY_PER_ORDER_MAX as i64).is_some());
    // Summing all variants of a drop must not overflow a u32.
    assert!((STOCK_PER_VARIANT_MAX as u64) * (VARIANTS_PER_DROP_MAX as u64) < u32::MAX as u64);
    // A slot index is a u32.
    assert!(ORDERS_PER_DROP_MAX < u32::MAX as usize);
    assert!(HOLDS_PER_DROP_MAX <= ORDERS_PER_DROP_MAX);
    assert!(HOLD_MS_MIN <= HOLD_MS_DEFAULT && HOLD_MS_DEFAULT <= HOLD_MS_MAX);
    // The largest frame fits into a segment, and the largest record into a frame.
    assert!(JOURNAL_RECORD_BYTES_MAX < JOURNAL_FRAME_BYTES_MAX);
    assert!(JOURNAL_FRAME_BYTES_MAX * 2 <= JOURNAL_SEGMENT_BYTES);
    assert!(JOURNAL_FRAME_BYTES_MAX <= JOURNAL_TAIL_BYTES_MAX);
    // One connection alone cannot take the room of all.
    assert!(UNSENT_BYTES_PER_CONNECTION_MAX * 4 <= UNSENT_BYTES_MAX);
    assert!(COUNTED_ANSWER_BYTES_MIN <= UNSENT_BYTES_PER_CONNECTION_MAX as u64);
    assert!(SEND_BYTES_PER_SECOND_MIN <= SEND_BYTES_PER_SECOND_CROWDED);
    assert!(CONNECTIONS_MIN <= REQUEST_CONNECTIONS_MAX);
    // One session's queue holds at least one message of the largest size.
    assert!(WS_MESSAGE_BYTES_MAX <= WS_QUEUE_BYTES_MAX);
    // A replay fits into the queue of a new session.
    assert!(REPLAY_BYTES_MAX < WS_QUEUE_BYTES_MAX);
    assert!(HISTORY_EVENTS_PER_DROP_MAX <= HISTORY_EVENTS_MAX);
    assert!(HISTORY_ORDERS_PER_USER_MAX <= HISTORY_ORDERS_MAX);
    assert!(PAGE_LIMIT_DEFAULT <= PAGE_LIMIT_MAX);
    // A body with every field at its maximum fits.
    assert!(JSON_CHAR_BYTES_MAX * (NAME_CHARS_MAX + TEXT_CHARS_MAX) + JSON_ITEM_BYTES <= JSON_BODY_BYTES_MAX);
    let variants = VARIANTS_PER_PRODUCT_MAX * (JSON_CHAR_BYTES_MAX * NAME_CHARS_MAX + JSON_ITEM_BYTES);
    let drop = JSON_CHAR_BYTES_MAX * NAME_CHARS_MAX + JSON_ITEM_BYTES + variants;
    assert!(VARIANTS_PER_DROP_MAX == VARIANTS_PER_PRODUCT_MAX && drop <= DROP_BODY_BYTES_MAX);
    let attribute = ATTRIBUTE_NAME_CHARS_MAX + ATTRIBUTE_TEXT_CHARS_MAX;
    let texts = NAME_CHARS_MAX
        + TEXT_CHARS_MAX
        + IMAGES_PER_PRODUCT_MAX * (URL_CHARS_MAX + ATTRIBUTE_TEXT_CHARS_MAX)
        + 2 * ATTRIBUTES_PER_PRODUCT_MAX * attribute;
    let items = 1 + IMAGES_PER_PRODUCT_MAX + 2 * ATTRIBUTES_PER_PRODUCT_MAX;
    assert!(JSON_CHAR_BYTES_MAX * texts + JSON_ITEM_BYTES * items + variants <= PRODUCT_BODY_BYTES_MAX);
    // A product may keep all attributes that one request may send.
    assert!(ATTRIBUTES_BYTES_MAX < JSON_BODY_BYTES_MAX);
    // The largest body that any route takes.
    assert!(WEBHOOK_BYTES_MAX <= PRODUCT_BODY_BYTES_MAX);
    assert!(DROP_BODY_BYTES_MAX <= PRODUCT_BODY_BYTES_MAX && JSON_BODY_BYTES_MAX <= PRODUCT_BODY_BYTES_MAX);
    assert!(HEAD_BYTES_DEFAULT <= HEAD_BYTES_MAX);
    // Many of the largest bodies may arrive at the same time; in memory one takes up to twice its length.
    assert!(16 * 2 * PRODUCT_BODY_BYTES_MAX <= ARRIVING_BYTES_MAX);
    // Even the fastest rate has an interval between two requests, in nanoseconds.
    assert!(1_000_000_000 / RATE_QUOTA_MAX >= 1);
    // One drop's mailbox alone cannot overrun the journal's queue.
    assert!(DROP_MAILBOX_MAX <= JOURNAL_QUEUE_ENTRIES_MAX);
};
