//! The write-behind transaction: applies journal records to rows and moves the journal's watermark, all or nothing.

use super::aside;
use super::aside::AsideRow;
use super::fold::{DropImage, DropNotification, Fold, Rows, Touched};
use crate::domain::limits::PROJECTOR_FAN_OUT_MAX;
use crate::domain::{DropEvent, DropRecord, OrderId};
use crate::storage::failure::in_projection;
use crate::storage::rows::{self, drop_columns};
use crate::storage::sql::{Columns, Database, Session, args};
use crate::storage::{Aside, ProjectionBatch, StoreError, UnreadRecord, Watermark};
use crate::storage::{audit, inbox, keys};
use uuid::Uuid;

/// The sequence in a watermark's row before the first record is applied.
pub(in crate::storage) const NOTHING_APPLIED: i64 = -1;

pub(in crate::storage) async fn watermark<D: Database>(db: &D, journal: Uuid) -> Result<Option<Watermark>, StoreError> {
    let sql = "SELECT epoch, sequence FROM watermarks WHERE journal_id = $1";
    let Some(row) = db.session().await?.one(sql, args![journal]).await? else { return Ok(None) };
    let epoch = epoch_of(&row)?;
    // Below zero: nothing was ever applied.
    Ok(u64::try_from(row.int("sequence")?).ok().map(|sequence| Watermark { sequence, epoch }))
}

pub(in crate::storage) fn epoch_of<R: Columns>(row: &R) -> Result<u32, StoreError> {
    let epoch = row.int("epoch")?;
    u32::try_from(epoch).map_err(|_| StoreError::Corrupt(format!("column epoch holds {epoch}")))
}

/// The epoch of a journal whose database another journal has taken over: no real epoch is as high.
pub(in crate::storage) const RETIRED: u32 = u32::MAX;
/// Key of the lock that serialises claims.
pub(in crate::storage) const CLAIM_LOCK: Uuid = Uuid::from_u128(0x6c69_7665_6472_6f70_0000_636c_6169_6d00);

pub(in crate::storage) async fn claim<D: Database>(db: &D, journal: Uuid, epoch: u32) -> Result<u64, StoreError> {
    let mut tx = db.transaction().await?;
    tx.lock(CLAIM_LOCK).await?;
    let retired = "SELECT journal_id FROM watermarks WHERE journal_id = $1 AND epoch = $2";
    if tx.one(retired, args![journal, RETIRED]).await?.is_some() {
        return Err(StoreError::Retired { journal });
    }
    let others = "SELECT journal_id FROM watermarks WHERE journal_id <> $1 AND epoch <> $2 ORDER BY journal_id LIMIT 1";
    if let Some(other) = tx.one(others, args![journal, RETIRED]).await?
        && tx.one("SELECT id FROM drops WHERE NOT settled LIMIT 1", args![]).await?.is_some()
    {
        return Err(StoreError::Owned { by: other.id("journal_id")? });
    }
    retire(&mut tx, Some(journal)).await?;
    let applied = take_watermark(&mut tx, journal, epoch).await?;
    tx.run("UPDATE watermarks SET epoch = $2 WHERE journal_id = $1", args![journal, epoch]).await?;
    tx.commit().await?;
    match applied {
        NOTHING_APPLIED => Ok(0),
        _ => u64::try_from(applied).map_err(|_| StoreError::Corrupt(format!("the watermark is {applied}"))),
    }
}

pub(in crate::storage) async fn disown<D: Database>(db: &D) -> Result<u64, StoreError> {
    let mut tx = db.transaction().await?;
    tx.lock(CLAIM_LOCK).await?;
    let retired = retire(&mut tx, None).await?;
    tx.commit().await?;
    Ok(retired)
}

/// Takes the database away from every journal but this one: servers that still run with another are fenced.
async fn retire<S: Session>(tx: &mut S, except: Option<Uuid>) -> Result<u64, StoreError> {
    let sql = "UPDATE watermarks SET epoch = $2 WHERE journal_id <> $1 AND epoch <> $2";
    tx.run(sql, args![except.unwrap_or_default(), RETIRED]).await
}

/// `fan_out_max`: above this number of followers, a creator's followers get no inbox entries of their own.
pub(in crate::storage) async fn project<D: Database>(
    db: &D,
    batch: &ProjectionBatch,
    aside: &Aside,
    fan_out_max: u32,
) -> Result<(), StoreError> {
    let mut tx = db.transaction().await?;
    let applied = take_watermark(&mut tx, batch.journal, batch.epoch).await?;
    if batch.records.is_empty() {
        return Ok(());
    }
    let (first, records) = notifications(batch, applied)?;
    let (taken, left) = around(first, records, aside);
    if !taken.is_empty() {
        apply(&mut tx, batch.journal, &taken, fan_out_max).await.map_err(in_projection)?;
    }
    aside::insert(&mut tx, batch.journal, left).await?;
    let last = first.saturating_add(records.len() as u64);
    let sequence = i64::try_from(last).map_err(|_| StoreError::Corrupt(format!("sequence {last}")))? - 1;
    // An order that is set aside has its number, too.
    let newest = records.iter().filter_map(placed).max().map(|id| id.0);
    let sql = "UPDATE watermarks SET epoch = $2, sequence = $3, \
               newest_order = CASE WHEN newest_order > $4 THEN newest_order ELSE COALESCE($4, newest_order) END \
               WHERE journal_id = $1";
    tx.run(sql, args![batch.journal, batch.epoch, sequence, newest]).await?;
    failpoint!("sql.before_commit");
    tx.commit().await?;
    failpoint!("sql.after_commit");
    Ok(())
}

/// The order that a record places.
fn placed(record: &DropRecord) -> Option<OrderId> {
    record.event.order().filter(|_| matches!(record.event, DropEvent::Reserved { .. }))
}

pub(in crate::storage) async fn newest_order<D: Database>(db: &D) -> Result<Option<OrderId>, StoreError> {
    let sql = "SELECT newest_order FROM watermarks WHERE newest_order IS NOT NULL ORDER BY newest_order DESC LIMIT 1";
    let row = db.session().await?.one(sql, args![]).await?;
    row.map(|row| row.id("newest_order").map(OrderId)).transpose()
}

/// Locks the watermark until the transaction ends, and checks that no newer epoch owns it. Returns the last applied
/// sequence.
pub(in crate::storage) async fn take_watermark<S: Session>(
    tx: &mut S,
    journal: Uuid,
    epoch: u32,
) -> Result<i64, StoreError> {
    let row = match tx.lock_watermark(journal).await? {
        Some(row) => row,
        None => {
            let sql = "INSERT INTO watermarks (journal_id, epoch, sequence) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
            tx.run(sql, args![journal, epoch, NOTHING_APPLIED]).await?;
            let row = tx.lock_watermark(journal).await?;
            row.ok_or_else(|| StoreError::Corrupt("a watermark vanished".to_owned()))?
        }
    };
    let theirs = epoch_of(&row)?;
    if theirs > epoch {
        return Err(StoreError::Fenced { ours: epoch, theirs });
    }
    row.int("sequence")
}

/// The part of a batch that has not been applied yet, and the sequence of its first record. A journal that was never
/// applied may begin at 0 or 1.
pub(in crate::storage) fn notifications(
    batch: &ProjectionBatch,
    applied: i64,
) -> Result<(u64, &[DropRecord]), StoreError> {
    let first = batch.first_sequence;
    let Ok(watermark) = u64::try_from(applied) else {
        let begins = first <= 1;
        return if begins { Ok((first, &batch.records)) } else { Err(StoreError::Gap { first, watermark: 0 }) };
    };
    let next = watermark + 1;
    if first > next {
        return Err(StoreError::Gap { first, watermark });
    }
    let known = usize::try_from(next - first).unwrap_or(usize::MAX);
    Ok((next, batch.records.get(known..).unwrap_or_default()))
}

/// Whether a record is the next one; `false` if it has been applied already.
pub(in crate::storage) fn is_next(sequence: u64, applied: i64) -> Result<bool, StoreError> {
    let Ok(watermark) = u64::try_from(applied) else {
        return if sequence <= 1 { Ok(true) } else { Err(StoreError::Gap { first: sequence, watermark: 0 }) };
    };
    let gap = StoreError::Gap { first: sequence, watermark };
    if sequence > watermark + 1 { Err(gap) } else { Ok(sequence > watermark) }
}

pub(in crate::storage) async fn set_aside_unread<D: Database>(
    db: &D,
    journal: Uuid,
    epoch: u32,
    record: &UnreadRecord,
) -> Result<(), StoreError> {
    let mut tx = db.transaction().await?;
    let applied = take_watermark(&mut tx, journal, epoch).await?;
    if !is_next(record.sequence, applied)? {
        return Ok(());
    }
    aside::insert(&mut tx, journal, vec![AsideRow::of_unread(record)]).await?;
    let sql = "UPDATE watermarks SET epoch = $2, sequence = $3 WHERE journal_id = $1";
    tx.run(sql, args![journal, epoch, record.sequence]).await?;
    tx.commit().await
}

/// Splits records, with their sequences, into those to apply and those to set aside.
pub(in crate::storage) fn around<'a>(
    first: u64,
    records: &'a [DropRecord],
    aside: &Aside,
) -> (Vec<(u64, &'a DropRecord)>, Vec<AsideRow>) {
    let (mut taken, mut left) = (Vec::with_capacity(records.len()), Vec::new());
    for (sequence, record) in (first..).zip(records) {
        match aside.get(&sequence) {
            None => taken.push((sequence, record)),
            Some(reason) => left.push(AsideRow::of(sequence, record, reason)),
        }
    }
    (taken, left)
}

pub(in crate::storage) async fn apply<S: Session>(
    tx: &mut S,
    journal: Uuid,
    records: &[(u64, &DropRecord)],
    fan_out_max: u32,
) -> Result<(), StoreError> {
    let mut fold = read(tx, records).await?;
    for (sequence, record) in records {
        fold.apply(*sequence, record).map_err(|contradiction| StoreError::Unacceptable(contradiction.to_string()))?;
    }
    let rows = fold.finish();
    let followers = inbox::followers(tx, &rows.drop_notifications).await?;
    let fan_out = |notifications: &DropNotification| {
        followers.get(&notifications.creator).copied().filter(|count| *count <= fan_out_max)
    };
    let lines: u64 = rows.drop_notifications.iter().filter_map(fan_out).map(u64::from).sum();
    if lines > PROJECTOR_FAN_OUT_MAX && records.len() > 1 {
        return Err(StoreError::TooLarge);
    }
    write(tx, journal, &rows).await?;
    for notifications in &rows.drop_notifications {
        inbox::tell_followers(tx, journal, notifications, fan_out(notifications)).await?;
    }
    Ok(())
}

async fn read<S: Session>(tx: &mut S, records: &[(u64, &DropRecord)]) -> Result<Fold, StoreError> {
    let touched = Touched::by(records.iter().map(|(_, record)| *record));
    let mut drops = Vec::new();
    if !touched.drops.is_empty() {
        let ids: Vec<Uuid> = touched.drops.iter().map(|id| id.0).collect();
        const SQL: &str = concat!(
            "SELECT ",
            drop_columns!(),
            " FROM drops d LEFT JOIN drop_variants v ON v.drop_id = d.id WHERE d.id"
        );
        drops = rows::drops(&tx.all_of(SQL, &ids, " ORDER BY d.id, v.ordinal").await?)?;
    }
    let mut orders = Vec::new();
    if !touched.orders.is_empty() {
        let rows = tx.orders(&touched.orders).await?;
        orders = rows.iter().map(rows::order).collect::<Result<_, _>>()?;
    }
    Ok(Fold::new(drops, orders))
}

async fn write<S: Session>(tx: &mut S, journal: Uuid, rows: &Rows) -> Result<(), StoreError> {
    let (new, known): (Vec<&DropImage>, Vec<&DropImage>) = rows.drops.iter().partition(|drop| drop.is_new());
    if !new.is_empty() {
        tx.insert_drops(&new).await?;
    }
    if !known.is_empty() {
        tx.update_drops(&known).await?;
    }
    if !rows.variants.is_empty() {
        tx.update_variants(&rows.variants).await?;
    }
    if !rows.placed.is_empty() {
        tx.insert_orders(&rows.placed).await?;
    }
    if !rows.orders.is_empty() {
        tx.update_orders(&rows.orders).await?;
    }
    if !rows.notes.is_empty() {
        tx.insert_notes(&rows.notes).await?;
    }
    if !rows.steps.is_empty() {
        tx.insert_payment_notes(&rows.steps).await?;
    }
    if !rows.order_notifications.is_empty() {
        tx.insert_order_news(journal, &rows.order_notifications).await?;
    }
    for line in &rows.audits {
        audit::add(tx, line).await?;
    }
    for attempt in &rows.keyed {
        keys::done(tx, *attempt).await?;
    }
    Ok(())
}
