//! Applies records that were set aside.

use super::apply::{apply, take_watermark};
use crate::domain::DropRecord;
use crate::storage::failure::in_projection;
use crate::storage::sql::{Database, Session, args};
use crate::storage::{SetAside, StoreError};
use uuid::Uuid;

/// Applies a drop's next records and removes them from the table, in one transaction.
pub(in crate::storage) async fn retry<D: Database>(
    db: &D,
    journal: Uuid,
    epoch: u32,
    records: &[SetAside],
    fan_out_max: u32,
) -> Result<(), StoreError> {
    let mut tx = db.transaction().await?;
    take_watermark(&mut tx, journal, epoch).await?;
    let numbered: Vec<(u64, &DropRecord)> = records.iter().map(|aside| (aside.sequence, &aside.record)).collect();
    apply(&mut tx, journal, &numbered, fan_out_max).await.map_err(in_projection)?;
    for SetAside { sequence, record } in records {
        let sql = "DELETE FROM set_aside WHERE journal_id = $1 AND drop_id = $2 AND sequence = $3";
        if tx.run(sql, args![journal, record.drop.0, *sequence]).await? != 1 {
            return Err(StoreError::Corrupt(format!("record {sequence} is not set aside any more")));
        }
    }
    tx.commit().await
}
