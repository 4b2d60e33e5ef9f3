//! Requirements on a Postgres, checked before the schema is made. Otherwise the first rejected row would reveal them.

use super::PostgresDatabase;
use crate::storage::StoreError;
use crate::storage::sql::{Columns, Database, Session, args};
use tracing::info;

/// The oldest tested version, as Postgres writes it.
const VERSION_MIN: i64 = 140_000;

/// `closed`: existing tables that the role may not read and write.
const FACTS: &str = "SELECT current_setting('server_encoding') AS encoding, \
    CAST(current_setting('server_version_num') AS BIGINT) AS number, current_setting('server_version') AS version, \
    current_setting('synchronous_commit') AS commits, current_setting('fsync') AS fsync, \
    CAST(session_user AS TEXT) AS role, CAST(current_schema() AS TEXT) AS schema, \
    CAST(coalesce(CAST(has_schema_privilege(current_schema(), 'CREATE') AS INT), 0) AS BIGINT) AS may_create, \
    (SELECT string_agg(CAST(c.relname AS TEXT), ', ' ORDER BY c.relname) FROM pg_class c \
     JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema() \
     WHERE c.relname IN ('users', 'refresh_tokens', 'creators', 'follows', 'products', 'drops', 'drop_variants', 'orders', \
     'refusals', 'order_notes', 'payment_notes', 'watermarks', 'drop_news', 'inbox', 'set_aside') AND c.relkind IN ('r', 'p') \
     AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') \
     AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))) AS closed";

/// Checks the server, the database and the role's rights in it.
///
/// # Errors
/// [`StoreError::Refused`], one line that says what to change.
pub(super) async fn check(db: &PostgresDatabase) -> Result<(), StoreError> {
    // A transaction: behind a pooler the settings are made for each.
    let mut tx = db.transaction().await?;
    let row = tx.one(FACTS, args![]).await?;
    let row = row.ok_or_else(|| StoreError::Corrupt("the server says nothing about itself".to_owned()))?;
    let refused = |reason: String| Err(StoreError::Refused(reason));
    if row.int("number")? < VERSION_MIN {
        return refused(format!("the database is Postgres {}: 14 or newer is needed", row.text("version")?));
    }
    let encoding = row.text("encoding")?;
    if encoding != "UTF8" {
        return refused(format!(
            "the database's encoding is {encoding}, which cannot hold every title: make one with ENCODING 'UTF8' TEMPLATE template0"
        ));
    }
    let role = row.text("role")?;
    let Some(schema) = row.maybe_text("schema")? else {
        return refused(format!("the role {role} may use no schema of its search_path"));
    };
    if row.int("may_create")? == 0 {
        return refused(format!("the role {role} may not create tables in the schema {schema}"));
    }
    if let Some(tables) = row.maybe_text("closed")? {
        return refused(format!(
            "the role {role} may not read and write these tables in the schema {schema}: {tables}"
        ));
    }
    if row.text("commits")? == "off" {
        return refused(
            "synchronous_commit is off for our connections: a commit that is lost would take orders with it that the journal has let go"
                .to_owned(),
        );
    }
    if row.text("fsync")? == "off" {
        info!("the database runs with fsync = off: a power loss may take what the journal has let go");
    }
    Ok(())
}
