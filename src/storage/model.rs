//! Rows, in domain types.

use crate::domain::{
    Attributes, CreatorId, Currency, DropId, DropRecord, DropSpec, DropStatus, Fingerprint, Image, KeyDigest, Money,
    OrderId, OrderView, ProductId, ProductStatus, ProductVariant, Refusal, Revocation, StockCounts, Timestamp, TraceId,
    UserId, VariantId,
};
use uuid::Uuid;

/// An account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// The account.
    pub id: UserId,
    /// The address, as it is shown.
    pub email: String,
    /// The form in which it is unique. `None` where an older account has it: two accounts from before there were keys.
    pub email_key: Option<String>,
    /// What others see.
    pub display_name: String,
    /// PHC string (argon2id).
    pub password_hash: String,
    /// `user` or `admin`; being a creator is having a profile.
    pub role: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether only its owner may see whom it follows.
    pub private_follows: bool,
    /// Raised by whatever revokes all access tokens of the account.
    pub token_version: u32,
}

/// What to change in an account's row; what is absent stays as it is then, not as it was when somebody looked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UserChange {
    /// What others see.
    pub display_name: Option<String>,
    /// Whether only its owner may see whom it follows.
    pub private_follows: Option<bool>,
}

/// A revocation of access tokens, as the database remembers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Revoked {
    /// Whose tokens.
    pub user: UserId,
    /// Which of them.
    pub what: Revocation,
    /// When.
    pub at: Timestamp,
}

/// An attempt at a change under an idempotency key, as it begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyedAttempt {
    /// Whose key.
    pub user: UserId,
    /// Stands for the key and for the route that it was sent to.
    pub scope: [u8; 32],
    /// Stands for what was asked for.
    pub fingerprint: [u8; 32],
    /// Names the attempt, where its key is new.
    pub id: Uuid,
    /// When it begins.
    pub at: Timestamp,
}

/// What a key stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attempted {
    /// Nothing until now: this attempt.
    New,
    /// An attempt that began before.
    Before {
        /// Its id.
        id: Uuid,
        /// Whether the same was asked for.
        same: bool,
        /// What was answered, if that was kept.
        answer: Option<KeptAnswer>,
    },
    /// Nothing, and the user has as many keys as one may have.
    TooMany,
}

/// An answer, for whoever asks again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptAnswer {
    /// Its status.
    pub status: u16,
    /// Where what was made lives.
    pub location: Option<String>,
    /// Its tag, in quotes.
    pub etag: Option<String>,
    /// JSON.
    pub body: String,
}

/// One line of the audit trail: who did what to which object, when, and from where. Never changed, never deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditRow {
    /// UUIDv7 of its time.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// Who; `None` for an operator at the command line, and for a visitor who is not signed in.
    pub actor: Option<UserId>,
    /// As what: `user`, `creator`, `admin`, `operator` or `visitor`.
    pub role: String,
    /// From which address; empty where there is none.
    pub origin: String,
    /// What, such as `password_changed`.
    pub act: String,
    /// To what kind of object: `user`, `product`, `drop`, `order`.
    pub object_kind: String,
    /// To which.
    pub object: Option<Uuid>,
    /// What else is worth knowing, as a JSON object.
    pub detail: String,
    /// The trace of the request.
    pub trace: TraceId,
}

/// Something that an order's own row does not keep, for its history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderNote {
    /// The order.
    pub order: OrderId,
    /// The journal's sequence number of the event.
    pub sequence: u64,
    /// `released` (of an order that was bought after all) or `refund_due`.
    pub kind: String,
    /// When.
    pub at: Timestamp,
    /// Why: a release reason, or a refund's cause.
    pub reason: String,
}

/// Names an entry of an inbox: the journal record that it is about. In the order of telling.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EntryId {
    /// The journal. Later ones sort after earlier ones.
    pub journal: Uuid,
    /// The record's sequence number.
    pub sequence: u64,
}

/// Something that somebody was told and nobody has acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InboxEntry {
    /// Names it.
    pub id: EntryId,
    /// The event's type on the wire.
    pub kind: String,
    /// When it happened.
    pub at: Timestamp,
    /// Of which drop.
    pub drop: DropId,
    /// The drop's headline, as it is now.
    pub title: String,
    /// When the drop starts or started, as it is now.
    pub starts_at: Timestamp,
    /// Whom it concerns, and why.
    pub concern: Concern,
    /// When it was read, if it was.
    pub read_at: Option<Timestamp>,
}

/// Why an entry is in somebody's inbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Concern {
    /// They follow the drop's creator.
    Follower(CreatorId),
    /// It is their order.
    Buyer {
        /// Which.
        order: OrderId,
        /// Of which variant.
        variant: VariantId,
        /// How many units.
        quantity: u32,
        /// Why it was released, or the money goes back.
        reason: Option<String>,
    },
}

/// Whose inbox, and what of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InboxView {
    /// Whose.
    pub user: UserId,
    /// Only what happened then or later.
    pub since: Timestamp,
    /// Only what was not read.
    pub unread: bool,
}

/// What may be done to an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// It has arrived, and waits no more.
    Acknowledged,
    /// It was looked at, and stays.
    Read,
}

/// Which lines of the audit trail to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AuditFilter {
    /// Only what this account did.
    pub actor: Option<UserId>,
    /// Only what was done to this object.
    pub object: Option<Uuid>,
}

/// A refresh token: one link of a family that begins at a login.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefreshToken {
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// Its login.
    pub family: Uuid,
    /// Whose it is.
    pub user_id: UserId,
    /// When it was issued.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// When it was exchanged for the next one.
    pub used_at: Option<Timestamp>,
    /// When its family was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// A creator's profile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Creator {
    /// The profile.
    pub id: CreatorId,
    /// Unique name in URLs: `[a-z0-9_]{3,30}`.
    pub handle: String,
    /// What others see.
    pub display_name: String,
    /// A few words.
    pub bio: String,
    /// Kept beside the list of followers, never counted.
    pub follower_count: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A product.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Product {
    /// The product.
    pub id: ProductId,
    /// Whose it is.
    pub creator_id: CreatorId,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// The usual price; a drop sets its own.
    pub price: Money,
    /// The first one is shown first.
    pub images: Vec<Image>,
    /// What else is to be known of it.
    pub attributes: Attributes,
    /// What it comes in, if there is a choice.
    pub variants: Vec<ProductVariant>,
    /// Whether it can get new drops.
    pub status: ProductStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// How often it was changed.
    pub version: u32,
}

/// What a list tells of a product: not what only its own page has, which may be a hundred times as much.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProductSummary {
    /// The product.
    pub id: ProductId,
    /// Whose it is.
    pub creator_id: CreatorId,
    /// Its name.
    pub name: String,
    /// The usual price; a drop sets its own.
    pub price: Money,
    /// The first one.
    pub image: Option<Image>,
    /// Whether it can get new drops.
    pub status: ProductStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// Which products to list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProductFilter {
    /// Only these.
    pub status: ProductStatus,
    /// Only this creator's.
    pub creator: Option<CreatorId>,
    /// Only those with a price in this currency.
    pub currency: Option<Currency>,
    /// Only those that cost so many minor units or more.
    pub price_min: Option<i64>,
    /// Only those that cost so many minor units or less.
    pub price_max: Option<i64>,
}

/// One variant of a projected drop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VariantRow {
    /// The variant.
    pub id: VariantId,
    /// Its stock at the watermark.
    pub stock: StockCounts,
    /// Whether `stock_low` has been told since the free units were last above the threshold.
    pub low: bool,
}

/// A drop as projected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DropRow {
    /// As scheduled (a variant's `stock` here is the scheduled one; restocks are in `variants`).
    pub spec: DropSpec,
    /// Where it stands.
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
    /// Where the search ended before it had as many as were asked for: the row of this id is the last that it looked at, and others may follow.
    pub stopped_at: Option<Uuid>,
}

/// Which drops to list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DropFilter {
    /// Only these.
    pub status: Option<DropStatus>,
    /// Only those in this part of their life.
    pub phase: Option<Phase>,
    /// Only this creator's.
    pub creator: Option<CreatorId>,
    /// Only those of creators whom this user follows.
    pub followed_by: Option<UserId>,
    /// Only those that start at this time or later.
    pub starts_from: Option<Timestamp>,
    /// Only those that start before this time.
    pub starts_before: Option<Timestamp>,
}

/// A part of a drop's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Scheduled.
    Upcoming,
    /// Live or sold out.
    Live,
    /// Ended or cancelled.
    Over,
}

/// A remembered refusal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefusalRow {
    /// The journal's sequence number of the refusal.
    pub sequence: u64,
    /// The drop that refused.
    pub drop_id: DropId,
    /// Who was refused.
    pub buyer: UserId,
    /// What is kept of its key.
    pub digest: KeyDigest,
    /// What the request asked for.
    pub fingerprint: Fingerprint,
    /// Why.
    pub refusal: Refusal,
    /// The trace of the refused request.
    pub trace: TraceId,
    /// When.
    pub at: Timestamp,
}

/// What a key was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyAnswer {
    /// An order was placed with it.
    Order(Box<OrderView>),
    /// A refusal was answered.
    Refused(RefusalRow),
}

/// Up to where SQL holds the truth of one journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watermark {
    /// The last record applied.
    pub sequence: u64,
    /// The epoch of the process that applied it.
    pub epoch: u32,
}

/// A journal that has the database, or had it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// Its id.
    pub journal: Uuid,
    /// Whether the database was taken from it.
    pub retired: bool,
    /// The last of its records that was applied, if any was.
    pub applied: Option<u64>,
}

/// How far a consumer of a journal has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConsumerOffset {
    /// The journal's opening that says so.
    pub epoch: u32,
    /// The last record that had its effect.
    pub sequence: u64,
}

/// A sign of life of a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// The journal that it runs with.
    pub journal: Uuid,
    /// Where it runs, for a person.
    pub server: String,
    /// How long ago by the database's clock, in milliseconds; below zero where that clock was set back since.
    pub ago_ms: i64,
}

/// How far a database's schema is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Schema {
    /// There is none: nothing of this program was ever there.
    Absent,
    /// An earlier version's.
    Older,
    /// This program's.
    Current,
    /// A later version's.
    Newer,
}

/// A journal record that was set aside: the database refused it for good, or one of the same drop before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetAside {
    /// Its place in the journal.
    pub sequence: u64,
    /// The record.
    pub record: DropRecord,
}

/// A drop of which records were set aside. Its rows are true up to the record before the first of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetAsideDrop {
    /// Which.
    pub drop: DropId,
    /// The record that was refused.
    pub first_sequence: u64,
    /// How many there are, with those that follow it.
    pub records: u64,
    /// What the database said, in ASCII.
    pub reason: String,
}

/// Which records of a batch to set aside, by sequence number, and why.
pub type Aside = std::collections::BTreeMap<u64, String>;

/// A run of journal records without a gap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProjectionBatch {
    /// Whose records these are.
    pub journal: Uuid,
    /// The writing process's epoch.
    pub epoch: u32,
    /// The sequence number of `records[0]`; the rest follow one by one.
    pub first_sequence: u64,
    /// The records, at least one.
    pub records: Vec<DropRecord>,
}
