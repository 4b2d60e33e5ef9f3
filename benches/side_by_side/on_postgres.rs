//! Stock and orders in Postgres, the usual way: a hot row per drop, one transaction an order, statements prepared once.

use super::shop::{Order, Placed};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{Executor, Row};
use uuid::Uuid;

/// Connections of each worker; `SIDE_BY_SIDE_POOL` sets another number. All orders wait for one row, so more
/// connections only wait in the database instead of here.
const CONNECTIONS: u32 = 8;

/// No foreign key, which would lock the hot row once more; free space in the page, so that an update stays in it.
const SCHEMA: &str = "
    CREATE TABLE drops (id uuid PRIMARY KEY, total int NOT NULL, available int NOT NULL CHECK (available >= 0)) WITH (fillfactor = 10);
    CREATE TABLE orders (
        id uuid PRIMARY KEY, drop_id uuid NOT NULL, buyer_id uuid NOT NULL, idempotency_key text NOT NULL,
        quantity int NOT NULL, created_ms bigint NOT NULL, UNIQUE (buyer_id, idempotency_key)
    );";
const TAKE: &str = "UPDATE drops SET available = available - $2 WHERE id = $1 AND available >= $2";
const INSERT: &str = "
    INSERT INTO orders (id, drop_id, buyer_id, idempotency_key, quantity, created_ms) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT DO NOTHING";
/// Order and stock in one statement. A known key fails the statement as a whole.
const BOTH: &str = "
    WITH taken AS (UPDATE drops SET available = available - $5 WHERE id = $2 AND available >= $5 RETURNING id)
    INSERT INTO orders (id, drop_id, buyer_id, idempotency_key, quantity, created_ms) SELECT $1, id, $3, $4, $5, $6 FROM taken";
const KNOWN: &str = "SELECT id, created_ms FROM orders WHERE buyer_id = $1 AND idempotency_key = $2";

/// The number of round trips of an order.
#[derive(Clone, Copy)]
pub enum Way {
    /// `BEGIN`, the order, the stock, `COMMIT`: four round trips, and the row is locked during as few of them as
    /// possible.
    Transaction,
    /// One statement, which commits by itself: one round trip.
    Statement,
}

/// A pool of connections, and the chosen way.
#[derive(Clone)]
pub struct OnPostgres {
    pool: PgPool,
    way: Way,
}

impl OnPostgres {
    pub async fn connect(url: &str, way: Way) -> Self {
        let asked = std::env::var("SIDE_BY_SIDE_POOL").ok().and_then(|text| text.parse().ok());
        // A ping before each use would cost a round trip.
        let options = PgPoolOptions::new().max_connections(asked.unwrap_or(CONNECTIONS)).test_before_acquire(false);
        Self { pool: options.connect(url).await.expect("postgres answers"), way }
    }

    pub async fn migrate(&self) {
        self.pool.execute(SCHEMA).await.expect("a schema");
    }

    pub async fn open(&self, drop: Uuid, stock: i32) {
        let insert = sqlx::query("INSERT INTO drops (id, total, available) VALUES ($1, $2, $2)").bind(drop).bind(stock);
        insert.execute(&self.pool).await.expect("a drop");
    }

    pub async fn stock(&self, drop: Uuid) -> (i64, i64) {
        let sql = sqlx::query("SELECT total, available FROM drops WHERE id = $1").bind(drop);
        let row = sql.fetch_one(&self.pool).await.expect("a drop");
        (row.get::<i32, _>(0).into(), row.get::<i32, _>(1).into())
    }

    pub async fn place(&self, order: &Order) -> Placed {
        let placed = match self.way {
            Way::Transaction => self.in_transaction(order).await,
            Way::Statement => self.in_statement(order).await,
        };
        match placed.expect("postgres answers") {
            Some(placed) => placed,
            None => self.known(order).await,
        }
    }

    /// Returns `None` if the key is known.
    async fn in_transaction(&self, order: &Order) -> sqlx::Result<Option<Placed>> {
        let mut transaction = self.pool.begin().await?;
        let insert = sqlx::query(INSERT).bind(order.id).bind(order.drop).bind(order.buyer).bind(&order.key);
        let insert = insert.bind(order.quantity).bind(order.created_ms);
        if insert.execute(&mut *transaction).await?.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(None);
        }
        let take = sqlx::query(TAKE).bind(order.drop).bind(order.quantity);
        if take.execute(&mut *transaction).await?.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(Some(Placed::SoldOut));
        }
        transaction.commit().await?;
        Ok(Some(Placed::New))
    }

    async fn in_statement(&self, order: &Order) -> sqlx::Result<Option<Placed>> {
        let both = sqlx::query(BOTH).bind(order.id).bind(order.drop).bind(order.buyer).bind(&order.key);
        match both.bind(order.quantity).bind(order.created_ms).execute(&self.pool).await {
            Ok(done) if done.rows_affected() == 1 => Ok(Some(Placed::New)),
            // No row: sold out, unless the key belongs to an order.
            Ok(_) => {
                let known = sqlx::query(KNOWN).bind(order.buyer).bind(&order.key).fetch_optional(&self.pool).await?;
                Ok(known.is_none().then_some(Placed::SoldOut))
            }
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn known(&self, order: &Order) -> Placed {
        let known = sqlx::query(KNOWN).bind(order.buyer).bind(&order.key).fetch_one(&self.pool).await;
        let row = known.expect("the order of that key");
        Placed::Again(row.get(0), row.get(1))
    }
}
