//! Index generations. Lookups by user or by key come in random order, so in a large index each row of a batch changes a
//! page of its own. These indexes therefore begin with a generation, and a new generation begins when the last one has
//! grown: a rush then changes the same few pages again and again.
//!
//! A lookup searches every generation, so there must not be many: a generation may grow to a share of all rows, and the
//! number of generations grows with the logarithm of the rows.

use crate::storage::failure::from_sqlx;
use crate::storage::sql::{Columns, args};
use crate::storage::{StoreError, sqlite::query};
use sqlx::SqliteConnection;

/// Rows that any generation may have: about 700 pages of an index.
const ROWS_MIN: i64 = 65_536;
/// Beyond that, a generation may have one row in this many of all rows.
const SHARE: i64 = 32;

/// The generation for this many new rows, which are added to its count.
pub(super) async fn take(connection: &mut SqliteConnection, rows: usize) -> Result<i64, StoreError> {
    // `WHERE TRUE`: otherwise `ON` would belong to a join.
    let sql = "INSERT INTO eras (era, entries) \
               SELECT era + (entries >= MAX($2, (SELECT SUM(entries) FROM eras) / $3)), $1 FROM eras WHERE TRUE \
               ORDER BY era DESC LIMIT 1 \
               ON CONFLICT (era) DO UPDATE SET entries = entries + excluded.entries RETURNING era";
    let row = query(sql, args![rows as u64, ROWS_MIN, SHARE]).fetch_one(connection).await.map_err(from_sqlx)?;
    row.int("era")
}

/// Precedes a condition on the user of inbox entries.
pub(super) const OF_INBOX: &str = "era IN (SELECT era FROM eras) AND ";

/// A page of a buyer's orders: the newest of each generation, and of these the newest.
pub(super) const ORDERS_OF: &str = "SELECT orders.* FROM (\
     SELECT newest.drop_tag, newest.id FROM eras CROSS JOIN orders AS newest \
     WHERE newest.era = eras.era AND newest.buyer_id = ?1 AND newest.id IN (\
     SELECT its.id FROM orders AS its WHERE its.era = eras.era AND its.buyer_id = ?1 AND its.id < ?2 \
     ORDER BY its.id DESC LIMIT ?3) \
     ORDER BY newest.id DESC LIMIT ?3) AS page \
     CROSS JOIN orders ON orders.drop_tag = page.drop_tag AND orders.id = page.id ORDER BY orders.id DESC";
/// A buyer's order by key. Reads only orders whose key bits match.
pub(super) const ORDER_OF_KEY: &str = "SELECT orders.* FROM eras CROSS JOIN orders AS known CROSS JOIN orders \
     WHERE known.era = eras.era AND known.buyer_id = ?1 AND known.key_bits = ?2 \
     AND orders.drop_tag = known.drop_tag AND orders.id = known.id AND orders.key IN (?3, ?4) \
     ORDER BY orders.created_at, orders.id LIMIT 1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::OrderStatus;
    use crate::storage::sold::{self, SoldFilter};
    use crate::storage::sql::{Database, Session};
    use crate::storage::sqlite::SqliteDatabase;
    use uuid::Uuid;

    async fn database(directory: &tempfile::TempDir) -> SqliteDatabase {
        let url = format!("sqlite://{}", directory.path().join("eras.db").display());
        let database = SqliteDatabase::connect(&url).await.unwrap();
        database.migrate().await.unwrap();
        database
    }

    #[tokio::test]
    async fn the_number_of_eras_grows_with_the_logarithm_of_the_rows() {
        let directory = tempfile::tempdir().unwrap();
        let mut tx = database(&directory).await.transaction().await.unwrap();
        let (mut all, mut generations) = (0, Vec::new());
        for limit in [1, 1_000_000, 10_000_000, 100_000_000] {
            while all < limit {
                take(tx.connection(), 20_000).await.unwrap();
                all += 20_000;
            }
            let row =
                tx.one("SELECT COUNT(*) AS eras, SUM(entries) AS entries FROM eras", args![]).await.unwrap().unwrap();
            assert_eq!(row.int("entries").unwrap(), all);
            generations.push(row.int("eras").unwrap());
        }
        assert!(generations[0] == 1 && generations[1] > 10, "{generations:?}");
        assert!(generations[2] < 100 && generations[3] < 170, "{generations:?}");
    }

    /// A drop may have very many orders: a seller's page reads only its own rows, in whatever state.
    #[tokio::test]
    async fn a_sellers_page_goes_through_the_trees_alone() {
        let directory = tempfile::tempdir().unwrap();
        let mut session = database(&directory).await.session().await.unwrap();
        let sold = SoldFilter { status: Some(OrderStatus::Confirmed), ..SoldFilter::default() };
        for (filter, tree) in [
            (SoldFilter::default(), "PRIMARY KEY (drop_tag=? AND id>? AND id<?)"),
            (sold, "INDEX orders_by_status (drop_tag=? AND status=? AND fulfilment=? AND id>? AND id<?)"),
        ] {
            let mut values = args![0, Uuid::max(), Uuid::nil(), Uuid::max(), 20];
            let sql = sold::statement(&filter, &mut values);
            let plan = session.all(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")), values).await.unwrap();
            let plan: Vec<String> = plan.iter().map(|row| row.text("detail").unwrap()).collect();
            let part = |step: &&String| step.contains("orders USING") && step.ends_with(tree);
            let parts = plan.iter().filter(part).count();
            assert!(parts == 1 || parts == 4, "{plan:#?}");
            assert!(!plan.iter().any(|step| step.starts_with("SCAN orders")), "{plan:#?}");
        }
    }

    /// A buyer may have very many orders: every query reads only the rows that it returns.
    #[tokio::test]
    async fn look_ups_go_through_the_trees_alone() {
        let directory = tempfile::tempdir().unwrap();
        let mut session = database(&directory).await.session().await.unwrap();
        for (sql, steps) in [
            (
                ORDERS_OF,
                &[
                    "SEARCH newest USING COVERING INDEX orders_by_buyer (era=? AND buyer_id=? AND id=?)",
                    "SEARCH its USING COVERING INDEX orders_by_buyer (era=? AND buyer_id=? AND id<?)",
                    "SEARCH orders USING PRIMARY KEY (drop_tag=? AND id=?)",
                ][..],
            ),
            (
                ORDER_OF_KEY,
                &[
                    "SEARCH known USING COVERING INDEX orders_by_buyer (era=? AND buyer_id=?)",
                    "SEARCH orders USING PRIMARY KEY (drop_tag=? AND id=?)",
                ],
            ),
        ] {
            let sql = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
            let plan = session.all(sql, args![]).await.unwrap();
            let plan: Vec<String> = plan.iter().map(|row| row.text("detail").unwrap()).collect();
            let searched: Vec<&str> =
                plan.iter().map(String::as_str).filter(|step| step.starts_with("SEARCH")).collect();
            assert_eq!(searched, steps);
        }
    }
}
