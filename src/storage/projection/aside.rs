//! Records that the database refused permanently, each with the later ones of its drop. They are stored in the
//! journal's binary form, in the transaction that moves the watermark past them, until they are applied after all.

use crate::domain::{DropId, DropRecord};
use crate::storage::sql::{Columns, Database, Session, Value, args};
use crate::storage::{SetAside, SetAsideDrop, StoreError, UnreadRecord};
use uuid::Uuid;

/// Longest stored reason, in characters.
const REASON_CHARS_MAX: usize = 300;

/// A row of the table `set_aside`.
#[derive(Clone)]
pub(in crate::storage) struct AsideRow {
    pub sequence: u64,
    pub drop: DropId,
    /// The record in the journal's binary form.
    pub bytes: Vec<u8>,
    /// Why it was refused, in ASCII: the reason may quote a text that could not be written.
    pub reason: String,
}

impl AsideRow {
    pub fn of(sequence: u64, record: &DropRecord, reason: &str) -> Self {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        Self { sequence, drop: record.drop, bytes, reason: plain(reason) }
    }

    pub fn of_unread(UnreadRecord { sequence, drop, bytes, reason }: &UnreadRecord) -> Self {
        Self { sequence: *sequence, drop: *drop, bytes: bytes.clone(), reason: plain(reason) }
    }
}

/// In ASCII, and short.
pub(in crate::storage) fn plain(reason: &str) -> String {
    let keep = |c: char| if c.is_ascii() && !c.is_ascii_control() { c } else { '?' };
    reason.chars().take(REASON_CHARS_MAX).map(keep).collect()
}

pub(in crate::storage) async fn drops<D: Database>(db: &D, journal: Uuid) -> Result<Vec<SetAsideDrop>, StoreError> {
    let sql = "SELECT s.drop_id, s.sequence, s.reason, g.records FROM \
               (SELECT drop_id, MIN(sequence) AS sequence, COUNT(*) AS records FROM set_aside WHERE journal_id = $1 GROUP BY drop_id) g \
               JOIN set_aside s ON s.journal_id = $1 AND s.drop_id = g.drop_id AND s.sequence = g.sequence ORDER BY s.sequence";
    let rows = db.session().await?.all(sql, args![journal]).await?;
    let drop = |row: &<D::Session as Session>::Row| {
        Ok(SetAsideDrop {
            drop: DropId(row.id("drop_id")?),
            first_sequence: row.int("sequence")?.cast_unsigned(),
            records: row.int("records")?.cast_unsigned(),
            reason: row.text("reason")?,
        })
    };
    rows.iter().map(drop).collect()
}

pub(in crate::storage) async fn records<D: Database>(
    db: &D,
    journal: Uuid,
    drop: DropId,
    after: u64,
    limit: u32,
) -> Result<Vec<SetAside>, StoreError> {
    let sql = "SELECT sequence, record FROM set_aside WHERE journal_id = $1 AND drop_id = $2 AND sequence > $3 \
               ORDER BY sequence LIMIT $4";
    let rows = db.session().await?.all(sql, args![journal, drop.0, after, limit]).await?;
    let read = |row: &<D::Session as Session>::Row| {
        let sequence = row.int("sequence")?.cast_unsigned();
        let record = DropRecord::decode(&row.bytes("record")?);
        let record = record.map_err(|error| StoreError::Corrupt(format!("set aside, {sequence}: {error}")))?;
        Ok(SetAside { sequence, record })
    };
    rows.iter().map(read).collect()
}

pub(in crate::storage) async fn insert<S: Session>(
    tx: &mut S,
    journal: Uuid,
    rows: Vec<AsideRow>,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO set_aside (journal_id, drop_id, sequence, record, reason) VALUES ($1, $2, $3, $4, $5)";
    for AsideRow { sequence, drop, bytes, reason } in rows {
        let mut args = args![journal, drop.0, sequence];
        args.extend([Value::Bytes(bytes), Value::from(&reason)]);
        tx.run(sql, args).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_can_be_written_where_what_it_quotes_could_not() {
        assert_eq!(plain("no 🎉\nin \"LATIN1\""), "no ??in \"LATIN1\"");
        assert_eq!(plain(&"x".repeat(1_000)).len(), REASON_CHARS_MAX);
    }
}
