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
/// Orders and remembered refusals that one drop keeps in memory.
pub const KEYS_PER_DROP_MAX: usize = 20_000_000;
/// Refusals remembered per drop; a crowd that keeps asking a sold-out drop with new keys ends here, with 503.
pub const REFUSALS_PER_DROP_MAX: usize = 4_000_000;
/// Units that one buyer may hold and own in a drop whose creator does not say.
pub const PER_BUYER_LIMIT_DEFAULT: u32 = 10;
/// Unpaid holds of one buyer in one drop, where the operator does not say.
pub const HOLDS_PER_BUYER_DEFAULT: u16 = 5;
/// Unpaid holds from one address (of IPv6: from one /64) in one drop, where the operator does not say: households and offices have one.
pub const HOLDS_PER_ADDRESS_DEFAULT: u32 = 50;
/// How long a buyer whose hold ran out unpaid waits for the next, in milliseconds; twice as long each further time.
pub const COOL_DOWN_MS_DEFAULT: u32 = 30_000;
/// The longest such wait: an hour.
pub const COOL_DOWN_MS_MAX: u32 = 3_600_000;
/// Holds that run at the same time in one drop.
pub const HOLDS_PER_DROP_MAX: usize = 10_000_000;
/// Characters of an idempotency key (IETF draft practice).
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;
/// Hold durations that a creator may choose, in milliseconds.
pub const HOLD_MS_MIN: u32 = 1_000;
/// One hour.
pub const HOLD_MS_MAX: u32 = 3_600_000;
/// Five minutes, when the creator does not say.
pub const HOLD_MS_DEFAULT: u32 = 300_000;
/// Commands waiting for one drop actor; past it the edge answers 503 at once.
pub const DROP_MAILBOX_MAX: usize = 8_192;
/// Commands that a drop takes out of its mailbox before it decides them, one after the other.
pub const DROP_BATCH_MAX: usize = 64;
/// Orders settled by one sweep of a drop actor, so that a mass expiry never stalls a live drop.
pub const SWEEP_ORDERS_MAX: usize = 512;
/// Decisions on their way to the journal, over all drops.
pub const JOURNAL_QUEUE_ENTRIES_MAX: usize = 65_536;
/// Payload bytes of one journal frame.
pub const JOURNAL_FRAME_BYTES_MAX: usize = 4 << 20;
/// Bytes of one journal record.
pub const JOURNAL_RECORD_BYTES_MAX: usize = 64 << 10;
/// Default size of a journal segment.
pub const JOURNAL_SEGMENT_BYTES: usize = 64 << 20;
/// Bytes of durable frames kept in memory for consumers that keep up.
pub const JOURNAL_TAIL_BYTES_MAX: usize = 32 << 20;
/// Bytes of the journal that are kept for consumers that lag, where the operator does not say: some fifteen million records.
pub const LAG_BYTES_DEFAULT: u64 = 2 << 30;
/// The most that an operator may allow: a tebibyte.
pub const LAG_BYTES_MAX: u64 = 1 << 40;
/// The longest that an operator may allow: thirty days.
pub const LAG_MAX: Duration = Duration::from_secs(30 * 86_400);
/// How long, where the operator does not say: a day.
pub const LAG_DEFAULT: Duration = Duration::from_secs(86_400);
/// Effects that one consumer sets aside because its target refuses them for good; past it the consumer waits for its operator.
pub const DEAD_LETTERS_MAX: usize = 1_000;
/// Records that the projector writes in one transaction.
pub const PROJECTOR_BATCH_RECORDS_MAX: usize = 4_096;
/// Lines of followers' inboxes that a transaction of the projector writes, unless one record alone has more: a creator's followers each get
/// one, and the transaction has to end well within the time of a statement.
pub const PROJECTOR_FAN_OUT_MAX: u64 = 10_000;
/// Durable records that SQL may not have yet while buyers go first. It catches up with as many in two or three seconds, and the journal keeps
/// about as many in memory.
pub const PROJECTOR_BEHIND_MAX: u64 = 150_000;
/// Bytes of a JSON request body, where nothing else is said.
pub const JSON_BODY_BYTES_MAX: usize = 64 << 10;
/// Bytes of a JSON request body that describes a drop.
pub const DROP_BODY_BYTES_MAX: usize = 256 << 10;
/// Bytes of a JSON request body that describes a product.
pub const PRODUCT_BODY_BYTES_MAX: usize = 1 << 20;
/// Bytes that one character takes in JSON when it is escaped: two surrogates.
const JSON_CHAR_BYTES_MAX: usize = r"\ud83d\ude00".len();
/// Bytes around the texts of one item in a body: names of fields, ids, numbers, brackets. More than any has.
const JSON_ITEM_BYTES: usize = 256;
/// Bytes of a request's target and headers, where the operator does not say.
pub const HEAD_BYTES_DEFAULT: usize = 16 << 10;
/// The most that an operator may allow; actix-http ends at 128 KiB.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Bytes of one inbound websocket message.
pub const WS_MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Bytes queued to one websocket session; past it the session is cut with a reconnectable close code.
pub const WS_QUEUE_BYTES_MAX: usize = 256 << 10;
/// Topics that one session may subscribe to by name.
pub const SUBSCRIPTIONS_PER_SESSION_MAX: usize = 256;
/// Creators whose drops a session hears without asking.
pub const FOLLOWED_PER_SESSION_MAX: usize = 10_000;
/// Sessions of one user.
pub const SESSIONS_PER_USER_MAX: usize = 16;
/// Websocket sessions of the whole process.
pub const SESSIONS_MAX: usize = 200_000;
/// Connections that may send requests. One that has become a WebSocket session does not count any more.
pub const REQUEST_CONNECTIONS_MAX: usize = 20_000;
/// Connections below which a server is of no use.
pub const CONNECTIONS_MIN: usize = 64;
/// Connections of one client address, where the operator does not say: a crowd behind one address fits, and one address is not all.
pub const CONNECTIONS_PER_ADDRESS_DEFAULT: usize = 1_024;
/// Descriptors that connections leave to everything else: the journal's segments and its readers, the database and its pool, the log, the workers.
pub const DESCRIPTORS_RESERVED: usize = 256;
/// Requests that one HTTP/2 connection may have at once (RFC 9113, section 6.5.2, advises against less than 100).
pub const STREAMS_PER_CONNECTION_MAX: u32 = 100;
/// Bytes of answers that are in memory because their clients did not take them yet, over all connections. Past it large answers are 503.
pub const UNSENT_BYTES_MAX: usize = 256 << 20;
/// Of these, one connection's; one answer alone may be larger.
pub const UNSENT_BYTES_PER_CONNECTION_MAX: usize = 16 << 20;
/// Shorter answers do not count: what else a connection needs is more.
pub const COUNTED_ANSWER_BYTES_MIN: u64 = 32 << 10;
/// Bytes of request bodies that have arrived in part, over all connections. Past it a body that does not come at once is 503.
pub const ARRIVING_BYTES_MAX: usize = 64 << 20;
/// Bytes a second that a client must take while its answer waits for it.
pub const SEND_BYTES_PER_SECOND_MIN: u64 = 4 << 10;
/// The same while more than half of [`UNSENT_BYTES_MAX`] is taken.
pub const SEND_BYTES_PER_SECOND_CROWDED: u64 = 64 << 10;
/// `stock_changed` events a second and drop; in between only the latest stock counts.
pub const STOCK_CHANGED_PER_SECOND_MAX: u32 = 20;
/// Messages of `stock_changed` that one worker sends in a second: about a fifth of its time. Past it stock is told less often, so that a crowd that
/// watches does not keep the one that buys from its answers.
pub const STOCK_MESSAGES_PER_SECOND_MAX: u32 = 20_000;
/// Sessions that one second lets in, over all workers; the rest of a crowd is told when to come again.
pub const SESSIONS_ACCEPTED_PER_SECOND_MAX: usize = 5_000;
/// Events of one drop that are kept for listeners who come back.
pub const HISTORY_EVENTS_PER_DROP_MAX: usize = 256;
/// The same over all drops.
pub const HISTORY_EVENTS_MAX: usize = 65_536;
/// Events of orders that are kept for their buyers, about 110 bytes each.
pub const HISTORY_ORDERS_MAX: usize = 262_144;
/// Of these, what one buyer is told again; past it, a snapshot says more.
pub const HISTORY_ORDERS_PER_USER_MAX: usize = 256;
/// How long they are kept, in milliseconds.
pub const HISTORY_MS_MAX: i64 = 900_000;
/// Journal records read again at start to fill the history.
pub const HISTORY_REFILL_RECORDS_MAX: u64 = 2_000_000;
/// Bytes of missed events that one request gets; past it, a snapshot says more.
pub const REPLAY_BYTES_MAX: usize = WS_QUEUE_BYTES_MAX / 2;
/// Single-use tickets that were issued and are still good.
pub const TICKETS_MAX: usize = 65_536;
/// Of these, one account's.
pub const TICKETS_PER_USER_MAX: usize = 16;
/// How long a ticket is good, in milliseconds.
pub const TICKET_MS: i64 = 30_000;
/// The most that an access token may last.
pub const ACCESS_TOKEN_SECONDS_MAX: u32 = 900;
/// How long access tokens stay good while the database is away, where the operator does not say: four hours.
pub const OUTAGE_GRACE_SECONDS_DEFAULT: u32 = 14_400;
/// The most that an operator may allow: a day.
pub const OUTAGE_GRACE_SECONDS_MAX: u32 = 86_400;
/// Over how long a crowd renews its tokens when the database is back, in milliseconds.
pub const RENEWALS_SPREAD_MS: i64 = 60_000;
/// Revocations of access tokens that are kept in memory: those of a quarter of an hour, and of an outage. Past it, every token has to be renewed.
pub const REVOCATIONS_MAX: usize = 65_536;
/// Successors of a used refresh token that are looked through for the one that was not used yet, within its grace.
pub const REFRESH_SUCCESSORS_MAX: usize = 8;
/// What waits for one worker's sessions.
pub const SHARD_QUEUE_MAX: usize = 65_536;
/// How long an inbox keeps what nobody acknowledged, in milliseconds: thirty days.
pub const INBOX_MS_MAX: i64 = 30 * 24 * 60 * 60 * 1_000;
/// Where counting unread entries ends.
pub const INBOX_UNREAD_MAX: u32 = 1_000;
/// Entries that one request marks.
pub const INBOX_MARKED_MAX: usize = 100;
/// Acknowledgements that wait to be written, over all users.
pub const ACKNOWLEDGEMENTS_MAX: usize = 16_384;
/// Of these, how many one transaction writes.
pub const ACKNOWLEDGEMENTS_AT_ONCE_MAX: usize = 256;
/// Up to so many followers each gets a line of the inbox when something happens; the inbox of more is computed when they look.
pub const FAN_OUT_FOLLOWERS_DEFAULT: u32 = 1_000;
/// The most that an operator may set: they are written in the transaction that projects the event.
pub const FAN_OUT_FOLLOWERS_MAX: u32 = 100_000;
/// Connections to Postgres, unless configured; it allows a hundred by default, for everyone together.
pub const DATABASE_CONNECTIONS_DEFAULT: u32 = 16;
/// Connections to Postgres, at most.
pub const DATABASE_CONNECTIONS_MAX: u32 = 1_000;
/// Fields of one object that nobody knows, as far as an answer names them.
pub const UNKNOWN_FIELDS_TOLD_MAX: usize = 32;
/// How long the idempotency key of a change other than an order is kept, with its answer.
pub const KEY_KEPT_MS: i64 = 24 * 60 * 60 * 1_000;
/// Such keys of one user.
pub const KEPT_KEYS_PER_USER_MAX: u32 = 10_000;
/// A longer answer is read anew when it is asked for again.
pub const KEPT_ANSWER_BYTES_MAX: usize = 64 << 10;
/// Log lines a minute about pages of refused origins.
pub const REFUSED_ORIGINS_LOGGED_PER_MINUTE_MAX: usize = 8;
/// Rows of one page.
pub const PAGE_LIMIT_MAX: u32 = 100;
/// What the texts of a page's rows may have together, in bytes. A page that would have more is shorter, and the next one goes on there.
pub const PAGE_BYTES_MAX: usize = 256 << 10;
/// Rows of one page when the client does not say.
pub const PAGE_LIMIT_DEFAULT: u32 = 20;
/// Characters of a name or a title.
pub const NAME_CHARS_MAX: usize = 120;
/// Characters of a longer text.
pub const TEXT_CHARS_MAX: usize = 4_000;
/// Variants that a product comes in: a drop can sell all of them.
pub const VARIANTS_PER_PRODUCT_MAX: usize = VARIANTS_PER_DROP_MAX;
/// Images of a product.
pub const IMAGES_PER_PRODUCT_MAX: usize = 10;
/// Characters of an address on the web, in its normal form. Longer ones do not work everywhere.
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
/// Changes of a product that lose against another one at the same time, before the caller hears it.
pub const PRODUCT_CHANGE_ATTEMPTS_MAX: u32 = 8;
/// How often a change of a profile is tried when others change it at the same time.
pub const CREATOR_CHANGE_ATTEMPTS_MAX: u32 = 8;
/// How often a command that is meant for a drop as it was is tried when the drop changes at the same time.
pub const DROP_CHANGE_ATTEMPTS_MAX: u32 = 8;
/// Characters of an e-mail address (RFC 5321 section 4.5.3.1.3, less the angle brackets).
pub const EMAIL_CHARS_MAX: usize = 254;
/// Something, an `@` and something.
pub const EMAIL_CHARS_MIN: usize = 3;
/// Characters of a refresh token, with room for what we may issue one day.
pub const REFRESH_TOKEN_CHARS_MAX: usize = 512;
/// Characters of a password: NIST SP 800-63B asks for at least 8, and at least 64 allowed.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// Longer ones only cost hashing time.
pub const PASSWORD_CHARS_MAX: usize = 256;
/// Characters of a payment method.
pub const PAYMENT_METHOD_CHARS_MAX: usize = 64;
/// Passwords hashed at the same time, on however many cores: each takes 19 MiB. One core is left for everything else.
pub const PASSWORD_HASHES_AT_ONCE_MAX: usize = 4;
/// Logins waiting for their password to be hashed, and registrations besides; past it 503.
pub const PASSWORD_QUEUE_MAX: usize = 256;
/// Accounts whose failed logins are told apart in the audit trail, and addresses without an account besides, each time that they are
/// written: a flood of them makes no more than this many lines.
pub const FAILED_LOGINS_APART_MAX: usize = 16;
/// How often failed logins are written.
pub const FAILED_LOGINS_WRITTEN_EVERY_MS: u64 = 10_000;
/// Logins that come before a registration where both wait.
pub const PASSWORD_LOGINS_PER_REGISTRATION: u32 = 3;
/// Drops kept in memory (to start soon, live, or with unsettled holds).
pub const DROPS_IN_MEMORY_MAX: usize = 50_000;
/// Drops of one creator that are scheduled or live, where the operator does not say.
pub const DROPS_PER_CREATOR_DEFAULT: u32 = 100;
/// The most that an operator may set.
pub const DROPS_PER_CREATOR_MAX: u32 = 1_000_000;
/// So long before its start a drop comes into memory, in milliseconds: six hours, so that a database that is away for some of them delays no start.
pub const WAKE_AHEAD_MS: i64 = 6 * 60 * 60 * 1_000;
/// A drop that starts later than this leaves memory, in milliseconds from now. Beyond the above, so that none goes and comes back.
pub const SLEEP_AHEAD_MS: i64 = WAKE_AHEAD_MS + 60 * 60 * 1_000;
/// Requests of a rate limit that may come at once.
pub const RATE_QUOTA_MAX: u32 = 1_000_000;
/// How long a rate limit may take to be whole again: a day.
pub const RATE_WINDOW_SECONDS_MAX: u32 = 86_400;
/// Clients that one rate limit knows apart; past it newcomers share one quota. A key takes 32 bytes.
pub const RATE_KEYS_MAX: usize = 1 << 20;

const _: () = {
    // An order in memory counts its units in 16 bits, its variants in 8, and its buyer's holds in 16.
    assert!(QUANTITY_PER_ORDER_MAX <= u16::MAX as u32 && VARIANTS_PER_DROP_MAX <= u8::MAX as usize + 1);
    assert!(COOL_DOWN_MS_DEFAULT <= COOL_DOWN_MS_MAX);
    // A full stock times the highest price must fit, whatever one order asks for.
    assert!(PRICE_MINOR_MAX.checked_mul(QUANTITY_PER_ORDER_MAX as i64).is_some());
    // Summing all variants of a drop must not overflow a u32.
    assert!((STOCK_PER_VARIANT_MAX as u64) * (VARIANTS_PER_DROP_MAX as u64) < u32::MAX as u64);
    // A slot index is a u32.
    assert!(KEYS_PER_DROP_MAX < u32::MAX as usize);
    assert!(REFUSALS_PER_DROP_MAX <= KEYS_PER_DROP_MAX);
    assert!(HOLDS_PER_DROP_MAX <= KEYS_PER_DROP_MAX);
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
    // One session's queue holds at least one largest message.
    assert!(WS_MESSAGE_BYTES_MAX <= WS_QUEUE_BYTES_MAX);
    // What was missed fits into the queue of a session that has just opened.
    assert!(REPLAY_BYTES_MAX < WS_QUEUE_BYTES_MAX);
    assert!(HISTORY_EVENTS_PER_DROP_MAX <= HISTORY_EVENTS_MAX);
    assert!(HISTORY_ORDERS_PER_USER_MAX <= HISTORY_ORDERS_MAX);
    assert!(PAGE_LIMIT_DEFAULT <= PAGE_LIMIT_MAX);
    // Whatever its fields may be, a body fits.
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
    // What one request may bring, one product may keep.
    assert!(ATTRIBUTES_BYTES_MAX < JSON_BODY_BYTES_MAX);
    // The largest body that any route takes.
    assert!(DROP_BODY_BYTES_MAX <= PRODUCT_BODY_BYTES_MAX && JSON_BODY_BYTES_MAX <= PRODUCT_BODY_BYTES_MAX);
    assert!(HEAD_BYTES_DEFAULT <= HEAD_BYTES_MAX);
    // Many of the largest bodies may arrive at the same time; in memory one takes up to twice its length.
    assert!(16 * 2 * PRODUCT_BODY_BYTES_MAX <= ARRIVING_BYTES_MAX);
    // Even the fastest rate has an interval between two requests, in nanoseconds.
    assert!(1_000_000_000 / RATE_QUOTA_MAX >= 1);
    // One drop's mailbox alone cannot overrun the journal's queue.
    assert!(DROP_MAILBOX_MAX <= JOURNAL_QUEUE_ENTRIES_MAX);
};
