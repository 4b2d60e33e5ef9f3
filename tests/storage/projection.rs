//! The projection as a transaction: watermarks, fences, and records that must not be written.

use crate::Database;
use crate::fixtures::{Journal, Sale};
use livedrop::domain::{DropEvent, DropRecord, RefundCause, Refusal, ReleaseReason, TraceId};
use livedrop::storage::{
    Aside, DropFilter, ProjectionBatch, SetAside, SetAsideDrop, Store, StoreError, UnreadRecord, Watermark,
};
use uuid::Uuid;

pub async fn migrating_twice_changes_nothing(db: Database) {
    let (mut journal, sale) = (Journal::new(&db), Sale::of(&[5]));
    journal.project(sale.opened()).await;
    let before = sale.row(&db).await;
    db.store.migrate().await.unwrap();
    db.another().await.migrate().await.unwrap();
    assert_eq!(sale.row(&db).await, before);
    db.store.ping().await.unwrap();
}

/// A batch with an open drop and one order in every state.
fn story(sale: &Sale) -> Vec<DropRecord> {
    let (held, sold, gone, refunded) = (sale.order(0, 1), sale.order(0, 2), sale.order(0, 3), sale.order(0, 4));
    let refused = sale.order(0, 90);
    let mut records = sale.opened();
    records.extend([
        held.reserved(1, None),
        sold.reserved(2, None),
        gone.reserved(3, None),
        refunded.reserved(4, None),
    ]);
    records.extend([sale.refused(5, &refused, Refusal::SoldOut), sold.confirmed(6, Some("pay_1"), false)]);
    records.extend([gone.released(7, ReleaseReason::Cancelled, TraceId::default())]);
    records.extend([refunded.confirmed(8, Some("pay_2"), false)]);
    records.extend([refunded.refund_due(9, "pay_2", RefundCause::Requested, true), refunded.refunded(10)]);
    records
}

/// All projected rows of a drop, as text.
async fn picture(store: &dyn Store, sale: &Sale) -> String {
    let row = store.drop_row(sale.id()).await.unwrap();
    let orders = store.drop_orders(sale.id(), None, 1_000).await.unwrap();
    format!("{row:#?}\n{orders:#?}")
}

pub async fn a_batch_twice_changes_nothing(db: Database) {
    let (journal, sale) = (Journal::new(&db), Sale::of(&[50]));
    assert_eq!(db.store.watermark(journal.id).await.unwrap(), None);
    let batch = journal.batch(story(&sale));
    db.store.project(&batch).await.unwrap();
    let first = picture(&*db.store, &sale).await;
    assert_eq!(sale.stock(&db, 0).await, (47, 1, 2));
    let watermark = Some(Watermark { sequence: batch.records.len() as u64, epoch: 1 });
    assert_eq!(db.store.watermark(journal.id).await.unwrap(), watermark);
    db.store.project(&batch).await.unwrap();
    assert_eq!(picture(&*db.store, &sale).await, first);
    assert_eq!(db.store.watermark(journal.id).await.unwrap(), watermark);
    let nothing = ProjectionBatch { records: Vec::new(), first_sequence: 99, ..batch };
    db.store.project(&nothing).await.unwrap();
    assert_eq!(db.store.watermark(journal.id).await.unwrap(), watermark);
}

/// The same records in overlapping batches of any size give the same rows.
pub async fn overlapping_batches_apply_each_record_once(db: Database) {
    let mut told = Vec::new();
    for (length, step) in [(100, 100), (1, 1), (3, 2), (5, 1)] {
        let (journal, sale) = (Journal::new(&db), Sale::of(&[50]));
        let records = story(&sale);
        for first in (0..records.len()).step_by(step) {
            let piece = records[first..records.len().min(first + length)].to_vec();
            let batch = ProjectionBatch { first_sequence: first as u64 + 1, ..journal.batch(piece) };
            db.store.project(&batch).await.unwrap();
        }
        let (row, orders) = (sale.row(&db).await, db.store.drop_orders(sale.id(), None, 100).await.unwrap());
        let mut orders: Vec<_> = orders.into_iter().map(|order| (order.quantity, order.status)).collect();
        orders.sort_by_key(|(quantity, _)| *quantity);
        told.push((row.status, row.last_event_at, row.variants[0].stock, orders));
        assert_eq!(told.last(), told.first(), "batches of {length}, {step} apart");
    }
}

pub async fn a_gap_is_refused(db: Database) {
    let (mut journal, sale) = (Journal::new(&db), Sale::of(&[5]));
    let late = ProjectionBatch { first_sequence: 5, ..journal.batch(sale.opened()) };
    let error = db.store.project(&late).await;
    assert!(matches!(error, Err(StoreError::Gap { first: 5, watermark: 0 })), "{error:?}");
    assert_eq!(db.store.watermark(journal.id).await.unwrap(), None);
    journal.project(sale.opened()).await;
    journal.next += 1;
    let error = journal.try_project(vec![sale.order(0, 1).reserved(1, None)]).await;
    assert!(matches!(error, Err(StoreError::Gap { first: 4, watermark: 2 })), "{error:?}");
    assert_eq!(sale.stock(&db, 0).await, (5, 0, 0));
}

pub async fn a_newer_epoch_fences_the_older(db: Database) {
    let (mut journal, sale) = (Journal::new(&db), Sale::of(&[5]));
    journal.project(sale.opened()).await;
    journal.epoch = 3;
    journal.project(vec![sale.order(0, 1).reserved(1, None)]).await;
    journal.epoch = 2;
    let error = journal.try_project(vec![sale.order(0, 1).reserved(2, None)]).await;
    assert!(matches!(error, Err(StoreError::Fenced { ours: 2, theirs: 3 })), "{error:?}");
    assert_eq!(sale.stock(&db, 0).await, (4, 1, 0));
    // A batch without new records still claims the watermark for its epoch.
    let again = ProjectionBatch { epoch: 4, first_sequence: 1, ..journal.batch(sale.opened()) };
    db.store.project(&again).await.unwrap();
    let watermark = db.store.watermark(journal.id).await.unwrap();
    assert_eq!(watermark, Some(Watermark { sequence: 3, epoch: 4 }));
}

pub async fn journals_do_not_share_watermarks(db: Database) {
    let (mut one, mut two) = (Journal::new(&db), Journal::new(&db));
    let (here, there) = (Sale::of(&[5]), Sale::of(&[5]));
    one.project(here.opened()).await;
    two.epoch = 9;
    two.project(there.opened()).await;
    one.project(vec![here.order(0, 1).reserved(1, None)]).await;
    assert_eq!(db.store.watermark(one.id).await.unwrap(), Some(Watermark { sequence: 3, epoch: 1 }));
    assert_eq!(db.store.watermark(two.id).await.unwrap(), Some(Watermark { sequence: 2, epoch: 9 }));
    assert_eq!(db.store.watermark(Uuid::new_v4()).await.unwrap(), None);
}

pub async fn a_database_with_unsettled_drops_has_one_journal(db: Database) {
    let (mut first, second) = (Journal::new(&db), Uuid::new_v4());
    assert_eq!(db.store.claim(first.id, first.epoch).await.unwrap(), 0);
    first.project(Sale::of(&[5]).opened()).await;
    let refused = db.store.claim(second, 1).await;
    assert!(matches!(refused, Err(StoreError::Owned { by }) if by == first.id), "{refused:?}");
    assert_eq!(db.store.watermark(second).await.unwrap(), None, "a refused claim leaves nothing");
    first.epoch += 1;
    assert_eq!(db.store.claim(first.id, first.epoch).await.unwrap(), 2);
    assert_eq!(db.store.watermark(first.id).await.unwrap(), Some(Watermark { sequence: 2, epoch: first.epoch }));

    assert_eq!(db.store.disown().await.unwrap(), 1);
    assert_eq!(db.store.disown().await.unwrap(), 0);
    db.store.claim(second, 1).await.unwrap();
    let error = first.try_project(Sale::of(&[5]).opened()).await;
    assert!(matches!(error, Err(StoreError::Fenced { .. })), "{error:?}");
    assert!(matches!(db.store.claim(first.id, 9).await, Err(StoreError::Retired { .. })));
}

pub async fn a_database_without_unsettled_drops_changes_hands(db: Database) {
    let (mut first, mut second) = (Journal::new(&db), Journal::new(&db));
    db.store.claim(first.id, first.epoch).await.unwrap();
    db.store.claim(second.id, second.epoch).await.unwrap();
    let error = first.try_project(Sale::of(&[5]).opened()).await;
    assert!(matches!(error, Err(StoreError::Fenced { .. })), "{error:?}");
    second.project(Sale::of(&[5]).opened()).await;
}

/// The last record of a batch contradicts the others: none of it is stored, and the batch can be projected without that
/// record.
pub async fn a_batch_that_fails_leaves_nothing(db: Database) {
    let (mut journal, sale, other) = (Journal::new(&db), Sale::of(&[5]), Sale::of(&[5]));
    let earlier = sale.order(0, 1);
    journal.project([sale.opened(), vec![earlier.reserved(0, None)]].concat()).await;
    let before = picture(&*db.store, &sale).await;
    let ask = sale.order(0, 2);
    let mut records = other.opened();
    records.extend([ask.reserved(1, None), sale.refused(2, &sale.order(0, 9), Refusal::SoldOut)]);
    // The fold does not know orders of earlier batches that are placed again: this one fails in the database.
    for last in [earlier.reserved(3, None), sale.order(0, 1).confirmed(3, None, false)] {
        let mut records = records.clone();
        records.push(last);
        let error = journal.try_project(records).await;
        assert!(matches!(error, Err(StoreError::Unacceptable(_))), "{error:?}");
        assert_eq!(picture(&*db.store, &sale).await, before);
        assert_eq!(db.store.drop_row(other.id()).await.unwrap(), None);
        assert_eq!(db.store.order(ask.line.order).await.unwrap(), None);
        assert_eq!(db.store.watermark(journal.id).await.unwrap().unwrap().sequence, 3);
    }
    journal.project(records).await;
    assert_eq!(sale.stock(&db, 0).await, (2, 3, 0));
}

pub async fn what_is_set_aside_waits_with_its_drop_and_is_applied_later(db: Database) {
    let (mut journal, sale, other) = (Journal::new(&db), Sale::of(&[5]), Sale::of(&[5]));
    journal.project([sale.opened(), other.opened()].concat()).await;
    let first = journal.batch(Vec::new()).first_sequence;
    let (held, there) = (sale.order(0, 1), other.order(0, 2));
    let records = vec![held.reserved(1, None), there.reserved(1, None), held.confirmed(2, Some("p"), false)];
    let aside = Aside::from([(first, "no 🎉 here".to_owned()), (first + 2, "it follows".to_owned())]);
    let before = picture(&*db.store, &sale).await;
    let batch = journal.batch(records.clone());
    db.store.project_around(&batch, &aside).await.unwrap();
    // A repeated batch changes nothing.
    db.store.project_around(&batch, &aside).await.unwrap();
    assert_eq!(picture(&*db.store, &sale).await, before);
    assert_eq!(other.stock(&db, 0).await, (3, 2, 0));
    assert_eq!(db.store.applied(journal.id).await.unwrap(), first + 2);

    let drop = SetAsideDrop { drop: sale.id(), first_sequence: first, records: 2, reason: "no ? here".to_owned() };
    assert_eq!(db.store.set_aside_drops(journal.id).await.unwrap(), [drop]);
    assert_eq!(db.store.set_aside_drops(Uuid::now_v7()).await.unwrap(), []);
    let kept = |at: u64| SetAside { sequence: first + at, record: records[usize::try_from(at).unwrap()].clone() };
    let (one, two) = (kept(0), kept(2));
    assert_eq!(db.store.set_aside(journal.id, sale.id(), 0, 9).await.unwrap(), [one.clone(), two.clone()]);
    assert_eq!(db.store.set_aside(journal.id, sale.id(), first, 9).await.unwrap(), std::slice::from_ref(&two));

    // Not before its predecessor, and not by an older epoch.
    assert!(db.store.apply_set_aside(journal.id, 1, std::slice::from_ref(&two)).await.is_err());
    assert!(matches!(
        db.store.apply_set_aside(journal.id, 0, std::slice::from_ref(&one)).await,
        Err(StoreError::Fenced { ours: 0, theirs: 1 })
    ));
    db.store.apply_set_aside(journal.id, 1, std::slice::from_ref(&one)).await.unwrap();
    assert_eq!(sale.stock(&db, 0).await, (4, 1, 0));
    assert!(db.store.apply_set_aside(journal.id, 1, &[one]).await.is_err(), "once only");
    db.store.apply_set_aside(journal.id, 1, &[two]).await.unwrap();
    assert_eq!(sale.stock(&db, 0).await, (4, 0, 1));
    assert_eq!(db.store.set_aside_drops(journal.id).await.unwrap(), []);
    assert_eq!(db.store.applied(journal.id).await.unwrap(), first + 2);
}

pub async fn a_record_that_cannot_be_read_is_set_aside_in_its_place(db: Database) {
    let (mut journal, sale) = (Journal::new(&db), Sale::of(&[5]));
    journal.project(sale.opened()).await;
    let sequence = journal.batch(Vec::new()).first_sequence;
    let unread = |sequence, epoch| {
        let bytes = vec![9, 0xff, 0x00];
        let record = UnreadRecord { sequence, drop: sale.id(), bytes, reason: "record version 9 🎉".to_owned() };
        let (store, id) = (db.store.clone(), journal.id);
        async move { store.set_aside_unread(id, epoch, &record).await }
    };
    assert!(matches!(unread(sequence + 1, 1).await, Err(StoreError::Gap { .. })));
    assert!(matches!(unread(sequence, 0).await, Err(StoreError::Fenced { ours: 0, theirs: 1 })));
    unread(sequence, 1).await.unwrap();
    unread(sequence, 1).await.unwrap();
    assert_eq!(db.store.applied(journal.id).await.unwrap(), sequence);
    let reason = "record version 9 ?".to_owned();
    let drop = SetAsideDrop { drop: sale.id(), first_sequence: sequence, records: 1, reason };
    assert_eq!(db.store.set_aside_drops(journal.id).await.unwrap(), [drop]);
    let read = db.store.set_aside(journal.id, sale.id(), 0, 9).await;
    assert!(matches!(&read, Err(StoreError::Corrupt(what)) if what.contains("version 9")), "{read:?}");
    // It may be the first of a journal.
    let record = UnreadRecord { sequence: 1, drop: sale.id(), bytes: vec![9], reason: String::new() };
    db.store.set_aside_unread(Uuid::now_v7(), 1, &record).await.unwrap();
}

pub async fn contradictions_are_refused(db: Database) {
    let (mut journal, sale, other) = (Journal::new(&db), Sale::of(&[5]), Sale::of(&[5]));
    journal.project(sale.opened()).await;
    let (held, sold) = (sale.order(0, 1), sale.order(0, 1));
    journal.project(vec![held.reserved(1, None), sold.reserved(1, None), sold.confirmed(2, Some("p"), false)]).await;
    let before = picture(&*db.store, &sale).await;
    let mut larger = held.clone();
    larger.line.quantity = 2;
    let trace = TraceId::default();
    let unknown = sale.order(0, 1);
    let mut stray = sale.order(0, 1);
    stray.line.order = other.order(0, 1).line.order;
    for (wrong, what) in [
        (sale.opened().remove(0), "scheduled twice"),
        (other.event(3, DropEvent::Started), "never scheduled"),
        (sale.order(0, 6).reserved(3, None), "more than there is"),
        (unknown.confirmed(3, None, false), "never placed"),
        (larger.confirmed(3, None, false), "another quantity"),
        (held.confirmed(3, None, true), "retaken while held"),
        (sold.confirmed(3, None, false), "confirmed twice"),
        (sold.released(3, ReleaseReason::Expired, trace), "released when sold"),
        (sold.refunded(3), "no refund owed"),
        (held.refund_due(3, "p", RefundCause::Requested, true), "refunded while held"),
        (held.reserved(3, None), "placed twice"),
        (stray.reserved(3, None), "an id of another drop"),
    ] {
        let error = journal.try_project(vec![wrong]).await;
        assert!(matches!(error, Err(StoreError::Unacceptable(_))), "{what}: {error:?}");
    }
    assert_eq!(picture(&*db.store, &sale).await, before);
}

pub async fn two_projectors_at_once_apply_each_record_once(db: Database) {
    let (journal, sale) = (Journal::new(&db), Sale::of(&[1_000]));
    let mut records = sale.opened();
    records.extend((0..60).map(|i| sale.order(0, 1).reserved(i, None)));
    let other = db.another().await;
    let tasks: Vec<_> = [db.store.clone(), other]
        .into_iter()
        .map(|store| {
            let (records, id) = (records.clone(), journal.id);
            tokio::spawn(async move {
                for (first, piece) in (1..).step_by(7).zip(records.chunks(7)) {
                    let batch =
                        ProjectionBatch { journal: id, epoch: 1, first_sequence: first, records: piece.to_vec() };
                    store.project(&batch).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(sale.stock(&db, 0).await, (940, 60, 0));
    assert_eq!(db.store.drop_orders(sale.id(), None, 100).await.unwrap().len(), 60);
}

/// SQL runs behind, so the same key can be sent to two drops before either is projected. Both orders are valid.
pub async fn a_key_that_raced_at_two_drops_does_not_stop_the_projection(db: Database) {
    let (mut journal, here, there) = (Journal::new(&db), Sale::of(&[5]), Sale::of(&[5]));
    let (first, mut second) = (here.order(0, 1), there.order(0, 1));
    (second.line.buyer, second.key) = (first.line.buyer, first.key.clone());
    let mut records = [here.opened(), there.opened()].concat();
    records.extend([first.reserved(5, None), second.reserved(6, None)]);
    journal.project(records).await;
    let order = db.store.order_of_key(first.line.buyer, &first.key).await.unwrap().expect("an order");
    assert_eq!(order.id, first.line.order, "the first counts");
}

pub async fn text_that_a_database_cannot_hold_does_not_stop_the_projection(db: Database) {
    let (mut journal, mut sale) = (Journal::new(&db), Sale::of(&[5]));
    sale.spec.title = "zero \0 here, and 🛒".to_owned();
    let ask = sale.order(0, 1);
    let mut records = sale.opened();
    records.extend([ask.reserved(1, Some("pm\0")), ask.confirmed(2, Some("\0"), false)]);
    journal.project(records).await;
    let title = sale.row(&db).await.spec.title;
    let expected =
        if db.store.kind() == "sqlite" { sale.spec.title } else { sale.spec.title.replace('\0', "\u{fffd}") };
    assert_eq!(title, expected);
}

pub async fn a_projection_survives_reopening(db: Database) {
    let (mut journal, sale) = (Journal::new(&db), Sale::of(&[50]));
    journal.project(story(&sale)).await;
    let before = picture(&*db.store, &sale).await;
    db.store.close().await;
    assert!(matches!(db.store.ping().await, Err(StoreError::Unavailable(_))));
    let store = db.another().await;
    store.migrate().await.unwrap();
    assert_eq!(picture(&*store, &sale).await, before);
    assert_eq!(store.watermark(journal.id).await.unwrap().unwrap().sequence, journal.next - 1);
    assert_eq!(store.drops(DropFilter::default(), None, 10).await.unwrap().rows.len(), 1);
}
