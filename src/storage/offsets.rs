//! Offsets of consumers, by consumer and journal.

use super::sql::{Columns, Database, Session, args};
use super::{ConsumerOffset, StoreError};
use uuid::Uuid;

pub(super) async fn get<D: Database>(
    db: &D,
    consumer: &str,
    journal: Uuid,
) -> Result<Option<ConsumerOffset>, StoreError> {
    let sql = "SELECT epoch, sequence FROM consumer_offsets WHERE consumer = $1 AND journal_id = $2";
    let Some(row) = db.session().await?.one(sql, args![consumer, journal]).await? else { return Ok(None) };
    let epoch = row.int("epoch")?;
    let epoch = u32::try_from(epoch).map_err(|_| StoreError::Corrupt(format!("epoch {epoch}")))?;
    Ok(Some(ConsumerOffset { epoch, sequence: row.int("sequence")?.cast_unsigned() }))
}

pub(super) async fn keep<D: Database>(
    db: &D,
    consumer: &str,
    journal: Uuid,
    offset: ConsumerOffset,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO consumer_offsets (consumer, journal_id, epoch, sequence) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (consumer, journal_id) DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence \
               WHERE consumer_offsets.epoch <= excluded.epoch";
    let mut tx = db.transaction().await?;
    tx.run(sql, args![consumer, journal, offset.epoch, offset.sequence]).await?;
    tx.commit().await
}
