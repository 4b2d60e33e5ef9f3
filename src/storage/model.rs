//! Rows, in domain types.

use crate::domain::{
    AddressId, AddressVersionId, Attributes, CreatorId, Currency, DropId, DropRecord, DropSpec, DropStatus, Image,
    Money, OrderId, PaymentIncident, PaymentProvider, PaymentStep, ProductId, ProductStatus, ProductVariant,
    RefundRequestStatus, Revocation, StockCounts, Timestamp, TraceId, UserId, VariantId,
};
use uuid::Uuid;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    pub id: UserId,
    /// The address in the user's own spelling.
    pub email: String,
    /// The normalised form, which is unique. `None` if an older account has the same: both are from before keys
    /// existed.
    pub email_key: Option<String>,
    /// The name that other users see.
    pub display_name: String,
    /// Argon2id, as a PHC string.
    pub password_hash: String,
    /// Either `user` or `admin`; a creator is an account with a profile.
    pub role: String,
    /// When the account was registered.
    pub created_at: Timestamp,
    /// Whether only the owner may see the account's follows.
    pub private_follows: bool,
    /// Access tokens of a lower version are revoked.
    pub token_version: u32,
}

/// A change of an account's row; absent fields keep their current value.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UserChange {
    /// The new public name.
    pub display_name: Option<String>,
    /// Whether only the owner may see the account's follows.
    pub private_follows: Option<bool>,
}

/// A revocation of access tokens, as the database remembers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Revoked {
    pub user: UserId,
    pub what: Revocation,
    pub at: Timestamp,
}

/// An attempt at a change under an idempotency key, as it begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyedAttempt {
    pub user: UserId,
    /// Digest of the key and its route.
    pub scope: [u8; 32],
    /// Digest of the request.
    pub fingerprint: [u8; 32],
    /// The attempt's id, if its key is new.
    pub id: Uuid,
    pub at: Timestamp,
}

/// The state of a key when an attempt begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attempted {
    /// The key was unused: this attempt has it now.
    New,
    /// The key belongs to an earlier attempt.
    Before {
        /// The earlier attempt's id.
        id: Uuid,
        /// Whether the fingerprints are equal.
        same: bool,
        /// The stored answer, if there is one.
        answer: Option<KeptAnswer>,
    },
    /// The key was unused, and the user has reached the bound on keys.
    TooMany,
}

/// An answer stored for retries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptAnswer {
    /// HTTP status of the answer.
    pub status: u16,
    /// `Location` header: the path of the created resource.
    pub location: Option<String>,
    /// `ETag` header, in quotes.
    pub etag: Option<String>,
    /// The JSON text of the answer.
    pub body: String,
}

/// One line of the audit trail: an act, its actor, its object, time and address. Never changed, never deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditRow {
    /// UUIDv7 of its time.
    pub id: Uuid,
    pub at: Timestamp,
    /// `None` for an operator at the command line, and for a visitor who is not signed in.
    pub actor: Option<UserId>,
    /// `user`, `creator`, `admin`, `operator` or `visitor`.
    pub role: String,
    /// The client's address; empty if there is none.
    pub origin: String,
    /// The act's name, such as `password_changed`.
    pub act: String,
    /// `user`, `product`, `drop` or `order`.
    pub object_kind: String,
    /// The object's id; absent if there is no such object.
    pub object: Option<Uuid>,
    /// Further data, as a JSON object.
    pub detail: String,
    /// The trace of the request.
    pub trace: TraceId,
}

/// An event in an order's history that its row does not keep.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderNote {
    pub order: OrderId,
    /// The journal's sequence number of the event.
    pub sequence: u64,
    /// `released` (of an order that was bought after all) or `refund_due`.
    pub kind: String,
    pub at: Timestamp,
    /// A release reason, or a refund's cause.
    pub reason: String,
}

/// A step in the history of an order's payments. Play money leaves none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PaymentNote {
    pub order: OrderId,
    /// The journal's sequence number of the event.
    pub sequence: u64,
    /// From 1: which attempt to pay the order.
    pub attempt: u32,
    pub provider: PaymentProvider,
    pub step: PaymentStep,
    pub at: Timestamp,
    /// The provider's reference, if the step came with one.
    pub reference: Option<String>,
    /// The method of a payment that begins, why it was declined, or why it goes back.
    pub detail: Option<String>,
}

/// The id of an inbox entry: its journal record. Ids sort in the order of publication.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EntryId {
    /// The journal. Later ones sort after earlier ones.
    pub journal: Uuid,
    /// The record's sequence number.
    pub sequence: u64,
}

/// An inbox entry: a notification that is not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InboxEntry {
    pub id: EntryId,
    /// The event's type on the wire.
    pub kind: String,
    /// When the event happened.
    pub at: Timestamp,
    pub drop: DropId,
    /// The drop's current headline.
    pub title: String,
    /// The drop's current start.
    pub starts_at: Timestamp,
    /// Why the user gets it.
    pub concern: Concern,
    /// When it was read; absent while unread.
    pub read_at: Option<Timestamp>,
}

/// Why an entry is in a user's inbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Concern {
    /// The user follows this creator of the drop.
    Follower(CreatorId),
    /// It is about the user's order.
    Buyer {
        order: OrderId,
        variant: VariantId,
        /// Units of the order.
        quantity: u32,
        /// The release reason, or the cause of the refund.
        reason: Option<String>,
    },
}

/// A user's inbox, and which entries of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InboxView {
    pub user: UserId,
    /// Only events of this time or later.
    pub since: Timestamp,
    /// Lists only unread entries.
    pub unread: bool,
}

/// The marks of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// The user has it; it is no longer listed.
    Acknowledged,
    /// The user has looked at it; it is still listed.
    Read,
}

/// Selects lines of the audit trail.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AuditFilter {
    /// Only acts of this account.
    pub actor: Option<UserId>,
    /// Only acts on this object.
    pub object: Option<Uuid>,
}

/// A refresh token: one link of a family that begins at a login.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefreshToken {
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// The login that it belongs to.
    pub family: Uuid,
    pub user_id: UserId,
    /// When it was issued.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// When it was exchanged for the next token.
    pub used_at: Option<Timestamp>,
    /// When its family was revoked.
    pub revoked_at: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Creator {
    /// The owner's account id.
    pub id: CreatorId,
    /// Unique name in URLs: `[a-z0-9_]{3,30}`.
    pub handle: String,
    /// The name that other users see.
    pub display_name: String,
    /// A description in the creator's words; may be empty.
    pub bio: String,
    /// Updated with each follow, never counted.
    pub follower_count: i64,
    /// When the profile was created.
    pub created_at: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Product {
    pub id: ProductId,
    pub creator_id: CreatorId,
    /// The name that buyers see.
    pub name: String,
    /// The description that buyers see; may be empty.
    pub description: String,
    /// The usual price; a drop sets its own.
    pub price: Money,
    /// In the order of display.
    pub images: Vec<Image>,
    /// Further facts by name.
    pub attributes: Attributes,
    /// Its variants; empty if there is no choice.
    pub variants: Vec<ProductVariant>,
    /// Whether buyers get it by post, so that an order needs an address.
    pub shipped: bool,
    /// Whether it can get new drops.
    pub status: ProductStatus,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// The number of changes; a change names the version that it is based on.
    pub version: u32,
}

/// A product in a list, without the fields of its own page, which may be a hundred times as large.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProductSummary {
    pub id: ProductId,
    pub creator_id: CreatorId,
    /// The name that buyers see.
    pub name: String,
    /// The usual price; a drop sets its own.
    pub price: Money,
    /// The first image, if there is any.
    pub image: Option<Image>,
    /// Whether it can get new drops.
    pub status: ProductStatus,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// Selects products to list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProductFilter {
    /// Only products of this status.
    pub status: ProductStatus,
    /// Only products of this creator.
    pub creator: Option<CreatorId>,
    /// Only products with a price in this currency.
    pub currency: Option<Currency>,
    /// Lowest price, in minor units.
    pub price_min: Option<i64>,
    /// Highest price, in minor units.
    pub price_max: Option<i64>,
}

/// One variant of a projected drop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VariantRow {
    pub id: VariantId,
    /// Its stock at the watermark.
    pub stock: StockCounts,
    /// Whether `stock_low` was published since the free units were last above the threshold.
    pub low: bool,
}

/// A drop as projected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DropRow {
    /// The spec with its current times (a variant's `stock` here is the scheduled one; restocks are in `variants`).
    pub spec: DropSpec,
    pub status: DropStatus,
    /// When it was started, if it was.
    pub started_at: Option<Timestamp>,
    /// When it ended or was cancelled.
    pub ended_at: Option<Timestamp>,
    /// Time of the last record applied to this drop.
    pub last_event_at: Timestamp,
    /// In the spec's order.
    pub variants: Vec<VariantRow>,
}

/// Rows of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found<T> {
    /// In the list's order.
    pub rows: Vec<T>,
    /// Set if the search ended before it had the requested number: the id of the last row that it examined. More rows
    /// may follow.
    pub stopped_at: Option<Uuid>,
}

/// Selects drops to list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DropFilter {
    /// Only drops of this status.
    pub status: Option<DropStatus>,
    /// Only drops in this phase.
    pub phase: Option<Phase>,
    /// Only drops of this creator.
    pub creator: Option<CreatorId>,
    /// Only drops of creators that this user follows.
    pub followed_by: Option<UserId>,
    /// Only drops that start at this time or later.
    pub starts_from: Option<Timestamp>,
    /// Only drops that start before this time.
    pub starts_before: Option<Timestamp>,
}

/// A phase of a drop: one or two of its states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Upcoming,
    /// Live or sold out.
    Live,
    /// Either ended or cancelled.
    Over,
}

/// The last journal record that SQL has applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watermark {
    /// The last applied record.
    pub sequence: u64,
    /// The epoch of the process that applied it.
    pub epoch: u32,
}

/// A journal that owns or owned the database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    pub journal: Uuid,
    /// The journal's opening that claimed the database last.
    pub epoch: u32,
    /// Whether another journal or an operator has taken the database from it.
    pub retired: bool,
    /// Its last applied record, if there is one.
    pub applied: Option<u64>,
}

/// A consumer's offset in a journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConsumerOffset {
    /// The epoch that stored it.
    pub epoch: u32,
    /// The last record with a completed effect.
    pub sequence: u64,
}

/// A dead letter of a consumer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetterRow {
    /// Its id: the event's.
    pub id: String,
    /// The record that it is of.
    pub sequence: u64,
    /// Why it is one; stored in ASCII.
    pub reason: String,
    /// All of it, in JSON, as its consumer reads it.
    pub letter: String,
}

/// An address in its latest version, encrypted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressRow {
    /// The id of the version.
    pub version: AddressVersionId,
    pub address: AddressId,
    pub user: UserId,
    /// When the version was made.
    pub updated_at: Timestamp,
    /// The key that wraps the data key.
    pub key: String,
    /// The wrapped data key.
    pub data_key: Vec<u8>,
    /// The encrypted address.
    pub sealed: Vec<u8>,
}

/// A webhook in the inbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WebhookRow {
    /// The payment provider.
    pub provider: String,
    /// The provider's id of the event.
    pub id: String,
    /// The provider's type of the event.
    pub kind: String,
    /// The provider's payment, if it is about one.
    pub reference: Option<String>,
    /// Our order, if the event names it.
    pub order: Option<OrderId>,
    /// The attempt to pay it, if the event names it; absent in rows of earlier versions.
    pub attempt: Option<u32>,
    pub received_at: Timestamp,
    /// How often it was tried in vain.
    pub tries: u32,
}

/// An incident of a payment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IncidentRow {
    pub order: OrderId,
    /// The payment provider.
    pub provider: String,
    /// The provider's id of the event.
    pub id: String,
    pub kind: PaymentIncident,
    /// When the event came.
    pub at: Timestamp,
}

/// A buyer's request for a refund, and its seller's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefundRequestRow {
    pub order: OrderId,
    /// The buyer's.
    pub reason: String,
    pub asked_at: Timestamp,
    pub status: RefundRequestStatus,
    /// The seller's reason, if there is one.
    pub answer: Option<String>,
    pub answered_at: Option<Timestamp>,
}

/// The last sign of life of a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    pub journal: Uuid,
    /// The server's name and address, for a person.
    pub server: String,
    /// Age by the database's clock, in milliseconds; negative if that clock was set back since.
    pub ago_ms: i64,
}

/// A database's schema, compared with this program's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Schema {
    /// There is no schema: this program never used the database.
    Absent,
    /// From an earlier version of this program.
    Older,
    /// From the same version of this program.
    Current,
    /// From a later version of this program.
    Newer,
}

/// A journal record that was set aside: the database refused it permanently, or an earlier one of the same drop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetAside {
    /// Its sequence in the journal.
    pub sequence: u64,
    pub record: DropRecord,
}

/// A drop with records set aside. Its rows are right up to the record before the first of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetAsideDrop {
    pub drop: DropId,
    /// Sequence of the refused record.
    pub first_sequence: u64,
    /// The number of records set aside, the refused one included.
    pub records: u64,
    /// The database's error, in ASCII.
    pub reason: String,
}

/// The records of a batch to set aside, by sequence, and why.
pub type Aside = std::collections::BTreeMap<u64, String>;

/// A journal record that this version of the program cannot read, to be set aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnreadRecord {
    /// Its sequence.
    pub sequence: u64,
    /// Its drop.
    pub drop: DropId,
    /// As in the journal.
    pub bytes: Vec<u8>,
    /// Why it cannot be read.
    pub reason: String,
}

/// Consecutive journal records to apply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProjectionBatch {
    /// The journal of these records.
    pub journal: Uuid,
    /// The epoch of the writing process.
    pub epoch: u32,
    /// The sequence of `records[0]`; the others follow without gaps.
    pub first_sequence: u64,
    /// The records, at least one.
    pub records: Vec<DropRecord>,
}
