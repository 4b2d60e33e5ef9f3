//! Makers of rows, records and batches.

use crate::Database;
use livedrop::domain::{
    Attributes, CreatorId, DropEvent, DropId, DropRecord, DropSpec, Fingerprint, KeyDigest, Money, OrderId, OrderLine,
    ProductId, ProductStatus, RefundCause, Refusal, ReleaseReason, StockCounts, Timestamp, TraceId, UserId, VariantId,
    VariantSpec,
};
use livedrop::storage::{AuditRow, Creator, DropRow, Product, ProjectionBatch, RefreshToken, Store, StoreError, User};
use std::sync::Arc;
use uuid::Uuid;

/// A point in time, some milliseconds after a fixed one.
pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + millis)
}

pub fn money(amount: i64) -> Money {
    Money { amount, currency: "EUR".parse().unwrap() }
}

pub fn user(email: &str) -> User {
    User {
        id: UserId::new(),
        email: email.to_owned(),
        email_key: Some(email.to_owned()),
        display_name: "Someone".to_owned(),
        password_hash: "$argon2id$...".to_owned(),
        role: "user".to_owned(),
        created_at: at(0),
        private_follows: true,
        token_version: 0,
    }
}

/// A line of the audit trail, for a user's change of their own account.
pub fn audit(user: UserId, millis: i64) -> AuditRow {
    AuditRow {
        id: Uuid::now_v7(),
        at: at(millis),
        actor: Some(user),
        role: "user".to_owned(),
        origin: "192.0.2.1".to_owned(),
        act: "tested".to_owned(),
        object_kind: "user".to_owned(),
        object: Some(user.0),
        detail: r#"{"a": [1, "\u00e9"]}"#.to_owned(),
        trace: TraceId::random(),
    }
}

pub fn token(user: UserId, family: Uuid) -> RefreshToken {
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    RefreshToken {
        hash,
        family,
        user_id: user,
        created_at: at(0),
        expires_at: at(1_000_000),
        used_at: None,
        revoked_at: None,
    }
}

pub fn creator(user: UserId, handle: &str) -> Creator {
    Creator {
        id: user.into(),
        handle: handle.to_owned(),
        display_name: "A creator".to_owned(),
        bio: "Makes things".to_owned(),
        follower_count: 0,
        created_at: at(0),
    }
}

/// A product with only a name and a price.
pub fn product(creator_id: CreatorId, name: &str, price: Money) -> Product {
    Product {
        id: ProductId::new(),
        creator_id,
        name: name.to_owned(),
        description: String::new(),
        price,
        images: Vec::new(),
        attributes: Attributes::new(),
        variants: Vec::new(),
        shipped: false,
        status: ProductStatus::Active,
        created_at: at(0),
        updated_at: at(0),
        version: 0,
    }
}

/// Inserts `count` accounts and one creator.
pub async fn register(db: &Database, count: usize) -> (Vec<UserId>, CreatorId) {
    let star = user("star@example.com");
    db.store.insert_user(&star).await.unwrap();
    db.store.insert_creator(&creator(star.id, "star")).await.unwrap();
    let mut ids = Vec::new();
    for i in 0..count {
        let fan = User { private_follows: false, ..user(&format!("fan{i}@example.com")) };
        db.store.insert_user(&fan).await.unwrap();
        ids.push(fan.id);
    }
    (ids, star.id.into())
}

/// A drop with a variant for each stock. It starts at 0, costs 19.99, and reports low stock at 2.
pub fn spec(stocks: &[u32]) -> DropSpec {
    DropSpec {
        id: DropId::new(),
        creator_id: CreatorId(Uuid::now_v7()),
        product_id: ProductId::new(),
        title: "A drop".to_owned(),
        variants: (0..)
            .zip(stocks)
            .map(|(i, &stock)| VariantSpec {
                id: VariantId::new(),
                name: format!("Variant {i}"),
                stock,
                price: money(1_999 + i),
            })
            .collect(),
        per_buyer_limit: 0,
        low_stock_threshold: 2,
        hold_ms: 60_000,
        starts_at: at(0),
        ends_at: Some(at(10_000_000)),
        created_at: at(-1_000),
        shipping: None,
    }
}

/// A journal that is projected record by record or in batches.
pub struct Journal {
    pub id: Uuid,
    pub epoch: u32,
    pub next: u64,
    pub store: Arc<dyn Store>,
}

impl Journal {
    pub fn new(db: &Database) -> Self {
        Self { id: Uuid::new_v4(), epoch: 1, next: 1, store: db.store.clone() }
    }

    /// The next batch of this journal, with these records.
    pub fn batch(&self, records: Vec<DropRecord>) -> ProjectionBatch {
        ProjectionBatch { journal: self.id, epoch: self.epoch, first_sequence: self.next, records }
    }

    /// Projects a batch; the journal advances if that succeeded.
    pub async fn try_project(&mut self, records: Vec<DropRecord>) -> Result<(), StoreError> {
        let batch = self.batch(records);
        self.store.project(&batch).await?;
        self.next += batch.records.len() as u64;
        Ok(())
    }

    pub async fn project(&mut self, records: Vec<DropRecord>) {
        self.try_project(records).await.unwrap();
    }
}

/// One drop and the records about it.
pub struct Sale {
    pub spec: DropSpec,
}

impl Sale {
    pub fn of(stocks: &[u32]) -> Self {
        Self { spec: spec(stocks) }
    }

    pub fn id(&self) -> DropId {
        self.spec.id
    }

    pub fn event(&self, millis: i64, event: DropEvent) -> DropRecord {
        DropRecord { drop: self.spec.id, at: at(millis), event }
    }

    /// Scheduled and started at 0.
    pub fn opened(&self) -> Vec<DropRecord> {
        vec![self.event(-1_000, DropEvent::Scheduled(Box::new(self.spec.clone()))), self.event(0, DropEvent::Started)]
    }

    /// An order of `quantity` units of a variant, not placed yet.
    pub fn order(&self, variant: usize, quantity: u32) -> Ask {
        let line = OrderLine {
            order: OrderId::for_drop(self.spec.id),
            buyer: UserId::new(),
            variant: self.spec.variants[variant].id,
            quantity,
        };
        Ask { drop: self.spec.id, line, unit_price: self.spec.variants[variant].price, key: Uuid::new_v4().to_string() }
    }

    pub fn refused(&self, millis: i64, ask: &Ask, refusal: Refusal) -> DropRecord {
        let trace = TraceId::random();
        let (buyer, key, digest, fingerprint) =
            (ask.line.buyer, ask.key.clone().into(), ask.digest(), ask.fingerprint());
        self.event(millis, DropEvent::Refused { buyer, key, digest, fingerprint, refusal, trace })
    }

    /// The projected row.
    pub async fn row(&self, db: &Database) -> DropRow {
        db.store.drop_row(self.spec.id).await.unwrap().expect("the drop is projected")
    }

    /// The projected stock of a variant as (available, held, sold); the equation has been checked.
    pub async fn stock(&self, db: &Database, variant: usize) -> (u32, u32, u32) {
        let stock: StockCounts = self.row(db).await.variants[variant].stock;
        assert!(stock.balances(), "{stock:?}");
        (stock.available, stock.held, stock.sold)
    }

    pub async fn is_settled(&self, db: &Database) -> bool {
        !db.store.unsettled_drops().await.unwrap().iter().any(|row| row.spec.id == self.spec.id)
    }
}

/// One buyer's order, and makers of its records.
#[derive(Clone)]
pub struct Ask {
    pub drop: DropId,
    pub line: OrderLine,
    pub unit_price: Money,
    pub key: String,
}

impl Ask {
    pub fn digest(&self) -> KeyDigest {
        KeyDigest::of(self.line.buyer, &self.key)
    }

    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_order(self.drop, self.line.variant, self.line.quantity, None)
    }

    fn record(&self, millis: i64, event: DropEvent) -> DropRecord {
        DropRecord { drop: self.drop, at: at(millis), event }
    }

    pub fn reserved(&self, millis: i64, payment_method: Option<&str>) -> DropRecord {
        let event = DropEvent::Reserved {
            order: self.line.order,
            buyer: self.line.buyer,
            variant: self.line.variant,
            quantity: self.line.quantity,
            unit_price: self.unit_price,
            expires_at: at(millis + 60_000),
            key: self.key.clone().into(),
            digest: self.digest(),
            fingerprint: self.fingerprint(),
            payment_method: payment_method.map(Into::into),
            delivery: None,
        };
        self.record(millis, event)
    }

    pub fn paying(&self, millis: i64, method: &str) -> DropRecord {
        self.record(millis, DropEvent::PaymentStarted { order: self.line.order, attempt: 1, method: method.into() })
    }

    pub fn confirmed(&self, millis: i64, payment: Option<&str>, retaken: bool) -> DropRecord {
        let payment = payment.map(Into::into);
        self.record(millis, DropEvent::Confirmed { line: self.line, payment, retaken })
    }

    pub fn released(&self, millis: i64, reason: ReleaseReason, trace: TraceId) -> DropRecord {
        self.record(millis, DropEvent::Released { line: self.line, reason, trace })
    }

    pub fn refund_due(&self, millis: i64, payment: &str, cause: RefundCause, was_sold: bool) -> DropRecord {
        let payment = Some(payment).filter(|payment| !payment.is_empty()).map(Into::into);
        self.record(millis, DropEvent::RefundDue { line: self.line, payment, cause, was_sold })
    }

    pub fn refunded(&self, millis: i64) -> DropRecord {
        self.record(millis, DropEvent::Refunded { line: self.line })
    }
}
