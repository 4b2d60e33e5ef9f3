//! Rows written under an earlier version of the schema.

use crate::Database;
use crate::fixtures::{Sale, at, audit};
use livedrop::domain::{OrderStatus, TraceId};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use uuid::Uuid;

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// The last version without the index of orders by their drops' tags.
const BEFORE: i64 = 5;

/// Ids whose tags are the limits of a 32-bit number, and the two values around its middle.
const TAGS: [u128; 4] = [0, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

pub async fn orders_from_before_are_found(db: Database) {
    let literal = |id| db.literal(id);
    let mut statements = String::new();
    let mut asks = Vec::new();
    for tag in TAGS {
        let mut sale = Sale::of(&[9]);
        sale.spec.id.0 = Uuid::from_u128(sale.spec.id.0.as_u128() & !0xffff_ffff | tag);
        for (bought, refused) in (0..3).map(|_| (sale.order(0, 2), sale.order(0, 99))) {
            let [drop, buyer, variant] = [bought.drop.0, bought.line.buyer.0, bought.line.variant.0].map(literal);
            let (id, digest, key) = (literal(bought.line.order.0), literal(bought.digest().0), &bought.key);
            let millis = at(asks.len() as i64).as_millis();
            statements += &format!(
                "INSERT INTO orders (id, drop_id, variant_id, buyer_id, quantity, price_amount, price_currency, key, digest, \
                 fingerprint, created_at, expires_at, status, confirmed_at, payment_ref) VALUES ({id}, {drop}, {variant}, \
                 {buyer}, 2, 5, 'EUR', '{key}', {digest}, 7, {millis}, {millis}, 'confirmed', {millis}, 'p');"
            );
            let (buyer, digest, key) = (literal(refused.line.buyer.0), literal(refused.digest().0), &refused.key);
            let (journal, trace) = (literal(Uuid::nil()), literal(TraceId::random().0));
            statements += &format!(
                "INSERT INTO refusals (journal_id, sequence, drop_id, buyer_id, key, digest, fingerprint, refusal, trace, at) \
                 VALUES ({journal}, {}, {drop}, {buyer}, '{key}', {digest}, 7, 'sold_out', {trace}, {millis});",
                asks.len()
            );
            asks.push((bought, refused));
        }
    }
    db.at_version(BEFORE, statements).await;
    db.store.migrate().await.unwrap();
    for (bought, refused) in &asks {
        let order = db.store.order(bought.line.order).await.unwrap().expect("it was there");
        assert_eq!((order.drop_id, order.buyer, order.digest), (bought.drop, bought.line.buyer, bought.digest()));
        assert_eq!(
            (order.status, order.quantity, order.payment_ref.as_deref()),
            (OrderStatus::Confirmed, 2, Some("p"))
        );
        assert_eq!(db.store.orders_of(order.buyer, None, 9).await.unwrap(), std::slice::from_ref(&order));
        let of_drop = db.store.drop_orders(bought.drop, None, 9).await.unwrap();
        assert!(of_drop.len() == 3 && of_drop.contains(&order), "{of_drop:?}");
        let found = db.store.order_of_key(bought.line.buyer, &bought.key).await.unwrap();
        assert_eq!(found, Some(order));
        let found = db.store.order_of_key(refused.line.buyer, &refused.key).await.unwrap();
        assert_eq!(found, None, "the key of a refusal is free");
    }
}

/// An ASCII address is its own key; the program computes the keys of the others, which have none yet.
pub async fn addresses_from_before_have_their_keys(db: Database) {
    let mut statements = String::new();
    let rows = [("ada@example.com", None), ("caf\u{e9}@example.com", None), ("deleted:1", Some(7))];
    let rows = rows.map(|(email, deleted_at)| (Uuid::now_v7(), email, deleted_at));
    for (id, email, deleted_at) in rows {
        let deleted_at = deleted_at.map_or("NULL".to_owned(), |at: i64| at.to_string());
        statements += &format!(
            "INSERT INTO users (id, email, display_name, password_hash, role, created_at, deleted_at) \
             VALUES ({}, '{email}', 'x', 'x', 'user', 1, {deleted_at});",
            db.literal(id)
        );
    }
    db.at_version(BEFORE, statements).await;
    db.store.migrate().await.unwrap();
    let ada = db.store.user_by_email("", "ada@example.com").await.unwrap().expect("it has its key");
    assert_eq!((ada.id.0, ada.email_key.as_deref()), (rows[0].0, Some("ada@example.com")));
    let without = db.store.accounts_without_key(None, 9).await.unwrap();
    assert_eq!(without.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [rows[1].0]);
}

/// Earlier versions stored the text of a key, which may contain personal data. The text is deleted with the account,
/// and the key is still known.
pub async fn the_key_of_an_order_goes_with_its_buyer(db: Database) {
    let sale = Sale::of(&[9]);
    let (order, literal) = (sale.order(0, 2), |id| db.literal(id));
    let [id, drop, variant, buyer, digest] =
        [order.line.order.0, order.drop.0, order.line.variant.0, order.line.buyer.0, order.digest().0].map(literal);
    let key = &order.key;
    let statements = format!(
        "INSERT INTO users (id, email, display_name, password_hash, role, created_at) \
         VALUES ({buyer}, 'ada@example.com', 'x', 'x', 'user', 1);\
         INSERT INTO orders (id, drop_id, variant_id, buyer_id, quantity, price_amount, price_currency, key, digest, fingerprint, \
         created_at, expires_at, status) VALUES ({id}, {drop}, {variant}, {buyer}, 2, 5, 'EUR', '{key}', {digest}, 7, 1, 2, 'reserved');"
    );
    db.at_version(BEFORE, statements).await;
    db.store.migrate().await.unwrap();
    // The update breaks a rule if a row has the text.
    let no_row_has_it =
        async || db.run(format!("UPDATE orders SET quantity = 0 WHERE key LIKE '%{key}%'")).await.is_ok();
    assert!(!no_row_has_it().await);
    db.store.delete_user(order.line.buyer, "x", &audit(order.line.buyer, 1)).await.unwrap().unwrap();
    assert!(no_row_has_it().await);
    let found = db.store.order_of_key(order.line.buyer, key).await.unwrap().expect("the order");
    assert_eq!((found.id, found.digest), (order.line.order, order.digest()));
}

/// Changes that break a rule of the schema fail; the allowed ones beside them succeed.
pub async fn rows_that_break_a_rule_are_refused(db: Database) {
    let sale = Sale::of(&[9]);
    let literal = |id| db.literal(id);
    let [drop, buyer, variant, id, digest] =
        [sale.spec.id.0, Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()].map(literal);
    let order = format!(
        "INSERT INTO orders (id, drop_id, variant_id, buyer_id, quantity, price_amount, price_currency, key, digest, fingerprint, \
         created_at, expires_at, status) VALUES ({id}, {drop}, {variant}, {buyer}, 2, 5, 'EUR', 'k', {digest}, 7, 1, 2, 'reserved');"
    );
    db.at_version(BEFORE, order).await;
    db.store.migrate().await.unwrap();
    for (change, allowed) in [
        ("status = 'confirmed'", true),
        ("status = 'refunded', refund_due = 'requested'", true),
        ("status = 'released', release_reason = 'expired'", true),
        ("status = 'lost'", false),
        ("release_reason = 'forgotten', status = 'released'", false),
        ("release_reason = 'expired', status = 'confirmed'", false),
        ("release_reason = NULL, status = 'released'", false),
        ("refund_due = 'never'", false),
        ("quantity = 0", false),
        ("price_currency = 'EU'", false),
    ] {
        let changed = db.run(format!("UPDATE orders SET {change}")).await;
        assert_eq!(changed.is_ok(), allowed, "{change}: {changed:?}");
    }
}

/// SQLite builds a temporary tree for a longer list, for each row anew.
pub async fn no_rule_of_sqlite_is_a_list_of_more_than_two(db: Database) {
    let mut sqlite = SqliteConnection::connect(&db.url).await.unwrap();
    let definitions: Vec<String> =
        sqlx::query_scalar("SELECT sql FROM sqlite_schema WHERE type = 'table' AND sql IS NOT NULL")
            .fetch_all(&mut sqlite)
            .await
            .unwrap();
    let lists = definitions.iter().flat_map(|sql| sql.split(" IN (").skip(1));
    let lengths: Vec<usize> = lists.map(|list| list.split(')').next().unwrap_or_default().split(',').count()).collect();
    assert!(!lengths.is_empty() && lengths.iter().all(|length| *length <= 2), "{lengths:?}");
}

impl Database {
    fn is_sqlite(&self) -> bool {
        self.store.kind() == "sqlite"
    }

    /// An id as an SQL literal.
    fn literal(&self, id: Uuid) -> String {
        if self.is_sqlite() { format!("x'{}'", id.simple()) } else { format!("'{id}'") }
    }

    /// Migrates an empty database to an earlier version and inserts these rows.
    async fn at_version(&self, version: i64, statements: String) {
        if self.is_sqlite() {
            let mut sqlite = SqliteConnection::connect(&self.url).await.unwrap();
            SQLITE.run_to(version, &mut sqlite).await.unwrap();
        } else {
            let mut postgres = PgConnection::connect(&self.url).await.unwrap();
            POSTGRES.run_to(version, &mut postgres).await.unwrap();
        }
        self.run(statements).await.unwrap();
    }

    /// Runs statements past the store.
    async fn run(&self, statements: String) -> sqlx::Result<()> {
        let statements = sqlx::raw_sql(AssertSqlSafe(statements));
        if self.is_sqlite() {
            SqliteConnection::connect(&self.url).await?.execute(statements).await?;
        } else {
            PgConnection::connect(&self.url).await?.execute(statements).await?;
        }
        Ok(())
    }
}
