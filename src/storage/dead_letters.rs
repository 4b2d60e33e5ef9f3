//! Dead letters of consumers, by consumer and journal.

use super::projection::aside::plain;
use super::sql::{Columns, Database, Session, args};
use super::{DeadLetterRow, StoreError};
use uuid::Uuid;

pub(super) async fn all<D: Database>(
    db: &D,
    consumer: &str,
    journal: Uuid,
    limit: u32,
) -> Result<Vec<DeadLetterRow>, StoreError> {
    let sql = "SELECT id, sequence, reason, letter FROM dead_letters WHERE consumer = $1 AND journal_id = $2 \
               ORDER BY sequence, id LIMIT $3";
    let rows = db.session().await?.all(sql, args![consumer, journal, limit]).await?;
    let read = |row: &<D::Session as Session>::Row| {
        Ok(DeadLetterRow {
            id: row.text("id")?,
            sequence: row.int("sequence")?.cast_unsigned(),
            reason: row.text("reason")?,
            letter: row.text("letter")?,
        })
    };
    rows.iter().map(read).collect()
}

pub(super) async fn count<D: Database>(db: &D, consumer: &str, journal: Uuid) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) AS letters FROM dead_letters WHERE consumer = $1 AND journal_id = $2";
    let row = db.session().await?.one(sql, args![consumer, journal]).await?;
    row.map_or(Ok(0), |row| Ok(row.int("letters")?.cast_unsigned()))
}

pub(super) async fn keep<D: Database>(
    db: &D,
    consumer: &str,
    journal: Uuid,
    letters: &[DeadLetterRow],
) -> Result<(), StoreError> {
    let sql = "INSERT INTO dead_letters (consumer, journal_id, id, sequence, reason, letter) VALUES ($1, $2, $3, $4, $5, $6) \
               ON CONFLICT (consumer, journal_id, sequence, id) DO UPDATE SET reason = excluded.reason, letter = excluded.letter";
    let mut tx = db.transaction().await?;
    for DeadLetterRow { id, sequence, reason, letter } in letters {
        let reason = plain(reason);
        tx.run(sql, args![consumer, journal, id.as_str(), *sequence, reason.as_str(), letter.as_str()]).await?;
    }
    tx.commit().await
}

pub(super) async fn remove<D: Database>(
    db: &D,
    consumer: &str,
    journal: Uuid,
    letter: &DeadLetterRow,
) -> Result<(), StoreError> {
    let sql = "DELETE FROM dead_letters WHERE consumer = $1 AND journal_id = $2 AND sequence = $3 AND id = $4";
    let mut tx = db.transaction().await?;
    tx.run(sql, args![consumer, journal, letter.sequence, letter.id.as_str()]).await?;
    tx.commit().await
}
