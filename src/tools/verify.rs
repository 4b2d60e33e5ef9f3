//! `livedrop verify`: compares the journal with the database. Offline and read-only.
//!
//! It checks every frame, folds the journal through the engine, compares the result at the watermark with SQL row by
//! row, and checks the stock equation of every drop.

use crate::actors::inventory::checkpoint::Origin;
use crate::domain::{DropEvent, DropId, DropRecord, OrderStatus, OrderView, StockBoard};
use crate::engine::DropState;
use crate::journal::{self, FileDevice, RecoveryError};
use crate::storage::{DropFilter, DropRow, SetAsideDrop, Store, StoreError};
use checkpoints::Checkpoints;
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};
use uuid::Uuid;

mod checkpoints;
pub(crate) mod difference;

/// Findings listed in full; the others are counted.
const FINDINGS_MAX: usize = 100;
const PAGE: u32 = 1_000;
/// Attempts to read a stable database. A killed server may have left one commit on its way; if there are more, a server
/// is running.
const ATTEMPTS: u32 = 3;

/// The result of a comparison.
#[derive(Debug, Default, Serialize)]
pub struct VerifyReport {
    /// The id of the journal.
    pub journal_id: String,
    /// The number of segment files read.
    pub segments: usize,
    /// Records read and decoded.
    pub records: u64,
    /// Sequence of the last record.
    pub last_sequence: u64,
    /// Either `sqlite` or `postgres`.
    pub database: String,
    /// The last record that the database has applied.
    pub watermark: u64,
    /// Records that the database does not have yet: the next start projects them.
    pub unprojected_records: u64,
    /// Drops with a record that the database refused permanently: their rows are compared with the journal up to the
    /// record before.
    pub set_aside: Vec<AsideReport>,
    /// The number of drops compared.
    pub drops: u64,
    /// Orders compared row by row.
    pub orders: u64,
    /// Drops whose checkpoint was compared.
    pub checkpoints: u64,
    /// Units of confirmed orders at the journal's end, by drop.
    pub confirmed_units: BTreeMap<String, u64>,
    /// Every difference, in words, up to a bound.
    pub findings: Vec<String>,
    /// The number of differences.
    pub differences: u64,
}

/// A drop with records set aside.
#[derive(Debug, Clone, Serialize)]
pub struct AsideReport {
    pub drop: String,
    /// Sequence of the refused record.
    pub first_sequence: u64,
    /// The number of records set aside, the refused one included.
    pub records: u64,
    pub reason: String,
}

impl VerifyReport {
    /// Whether there are no differences.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.differences == 0
    }

    /// The report for a person.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = format!(
            "journal   {} ({} segments, {} records, last {})\ndatabase  {} (watermark {}, {} records to project)\n\
             compared  {} drops, {} orders, {} checkpoints\n",
            self.journal_id,
            self.segments,
            self.records,
            self.last_sequence,
            self.database,
            self.watermark,
            self.unprojected_records,
            self.drops,
            self.orders,
            self.checkpoints,
        );
        for finding in &self.findings {
            text.push_str(&format!("  - {finding}\n"));
        }
        let verdict = match self.differences {
            0 => "clean: the journal and the database tell the same story".to_owned(),
            n => format!("{n} differences"),
        };
        text + "verdict   " + &verdict + "\n"
    }

    fn find(&mut self, finding: String) {
        self.differences += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

/// Why the comparison was not possible.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The directory has no journal.
    #[error("no journal in {0}")]
    NoJournal(PathBuf),
    /// The journal cannot be read.
    #[error("{0}")]
    Journal(String),
    /// The database cannot be read.
    #[error("cannot read the database: {0}")]
    Store(#[from] StoreError),
    /// The database was taken from this journal.
    #[error(
        "this data directory was taken over: the database was taken from its journal, {journal}, {by}. The database may have gone on without it, \
         so there is nothing to compare. Where that was a mistake, docs/OPERATIONS.md says what undoes it"
    )]
    TakenOver {
        /// The journal in the data directory.
        journal: Uuid,
        /// The database's current owner, in words.
        by: String,
    },
    /// The database does not know this journal.
    #[error(
        "the database does not know this data directory's journal, {0}: they do not belong together, or the database was emptied. Check \
         data_dir and database_url; docs/OPERATIONS.md says what can be done"
    )]
    Strangers(Uuid),
    /// A server is using the journal.
    #[error("a server runs on {0}: stop it first")]
    Running(PathBuf),
    /// The database keeps changing.
    #[error("the database went on from record {from} to {to} while it was read: stop its server first")]
    Moving {
        /// The watermark before the comparison.
        from: u64,
        /// The watermark after the comparison.
        to: u64,
    },
}

/// One drop, folded from its events.
struct JournalDrop {
    board: StockBoard,
    state: DropState,
}

/// Compares the journal under `data_dir` with a database.
///
/// # Errors
/// [`VerifyError`] if one of them cannot be read, or a server still writes to one.
pub async fn verify(data_dir: &Path, store: &dyn Store) -> Result<VerifyReport, VerifyError> {
    let dir = data_dir.join("journal");
    let device = FileDevice::existing(&dir).map_err(|_| VerifyError::NoJournal(dir.clone()))?;
    let stopped = || match device.is_locked() {
        Ok(false) => Ok(()),
        Ok(true) => Err(VerifyError::Running(data_dir.to_owned())),
        Err(error) => Err(VerifyError::Journal(format!("cannot see whether a server runs: {error}"))),
    };
    stopped()?;
    let known = journal::read_identity(&device).map_err(journal_error)?.ok_or(VerifyError::NoJournal(dir))?;
    require_together(known.journal_id, store).await?;
    let origin = Origin { journal: known.journal_id, epoch: known.epoch };
    let compared = compare_at_rest((data_dir, &device), origin, store).await;
    // A server may have started meanwhile, and its writes can look like damage.
    stopped()?;
    compared
}

/// Refuses a retired journal, and one that the database does not know: neither can be compared.
async fn require_together(journal: Uuid, store: &dyn Store) -> Result<(), VerifyError> {
    let owners = store.owners().await?;
    match owners.iter().find(|owner| owner.journal == journal) {
        None => return Err(VerifyError::Strangers(journal)),
        Some(owner) if !owner.retired => return Ok(()),
        Some(_) => {}
    }
    let by = match owners.iter().find(|owner| !owner.retired) {
        Some(other) => format!("and belongs to journal {} now", other.journal),
        None => "by `livedrop adopt`, and no other has it yet".to_owned(),
    };
    Err(VerifyError::TakenOver { journal, by })
}

async fn compare_at_rest(
    place: (&Path, &FileDevice),
    origin: Origin,
    store: &dyn Store,
) -> Result<VerifyReport, VerifyError> {
    let journal = origin.journal;
    let mut attempts = 0;
    loop {
        let from = store.applied(journal).await?;
        let report = compare_at(from, place, origin, store).await?;
        // Rows change only with the watermark: if it did not move, they are consistent.
        let to = store.applied(journal).await?;
        if to == from {
            return Ok(report);
        }
        attempts += 1;
        if attempts == ATTEMPTS {
            return Err(VerifyError::Moving { from, to });
        }
    }
}

async fn compare_at(
    watermark: u64,
    (data_dir, device): (&Path, &FileDevice),
    origin: Origin,
    store: &dyn Store,
) -> Result<VerifyReport, VerifyError> {
    let journal = origin.journal;
    let mut report = VerifyReport {
        journal_id: journal.to_string(),
        database: store.kind().to_owned(),
        watermark,
        ..VerifyReport::default()
    };
    let mut drops: HashMap<DropId, JournalDrop> = HashMap::new();
    let aside = set_aside(&mut report, journal, store).await?;
    let in_sql = |sequence: u64, bytes: &[u8]| {
        let is_aside = || {
            let drop = DropRecord::drop_of(bytes).ok();
            drop.and_then(|drop| aside.get(&drop)).is_some_and(|first| sequence >= *first)
        };
        sequence <= watermark && (aside.is_empty() || !is_aside())
    };
    let ends = journal::scan(device, &mut |_, _| {}).map_err(journal_error)?;
    let extent = (ends.first_sequence, ends.last_sequence);
    let mut checkpoints = Checkpoints::read(data_dir, origin, extent, &mut |finding| report.find(finding));
    report.checkpoints = checkpoints.len();
    let mut up_to = |sequence: u64, bytes: &[u8]| {
        if in_sql(sequence, bytes) {
            fold(&mut report, &mut drops, sequence, bytes);
            checkpoints.replay(&mut |finding| report.find(finding), sequence, bytes);
        }
    };
    let survey = journal::scan(device, &mut up_to).map_err(journal_error)?;
    report.segments = survey.segments.len();
    report.last_sequence = survey.last_sequence;
    compare(&mut report, &drops, store).await?;
    let is_aside = |drop| aside.contains_key(&drop);
    checkpoints.compare_rows(&mut |finding| report.find(finding), watermark, is_aside, store).await?;
    // Records that SQL does not have yet are read in a second pass: there may be an hour's worth, and this way they
    // need no memory.
    if survey.last_sequence > watermark || !aside.is_empty() {
        let mut after = |sequence: u64, bytes: &[u8]| {
            if !in_sql(sequence, bytes) {
                fold(&mut report, &mut drops, sequence, bytes);
                checkpoints.replay(&mut |finding| report.find(finding), sequence, bytes);
            }
        };
        journal::scan(device, &mut after).map_err(journal_error)?;
    }
    let folded = |drop| drops.get(&drop).map(|drop: &JournalDrop| &drop.state);
    checkpoints.compare_journal(&mut |finding| report.find(finding), folded);
    if report.watermark > report.last_sequence {
        let (watermark, last) = (report.watermark, report.last_sequence);
        report.find(format!("the database is at record {watermark}, the journal ends at {last}"));
    }
    report.unprojected_records = report.last_sequence.saturating_sub(report.watermark);
    for (id, drop) in &drops {
        let sold = drop.state.stock().map(|(_, counts)| u64::from(counts.sold)).sum();
        report.confirmed_units.insert(id.to_string(), sold);
    }
    Ok(report)
}

/// Reports the records set aside. Returns each drop's first such record.
async fn set_aside(
    report: &mut VerifyReport,
    journal: Uuid,
    store: &dyn Store,
) -> Result<HashMap<DropId, u64>, VerifyError> {
    let drops = store.set_aside_drops(journal).await?;
    for SetAsideDrop { drop, first_sequence, records, reason } in &drops {
        report.find(format!(
            "drop {drop}: {records} records from {first_sequence} on are set aside, because the database refused it: {reason}; \
             `livedrop projection retry` applies them once that is repaired"
        ));
        report.set_aside.push(AsideReport {
            drop: drop.to_string(),
            first_sequence: *first_sequence,
            records: *records,
            reason: reason.clone(),
        });
    }
    Ok(drops.into_iter().map(|drop| (drop.drop, drop.first_sequence)).collect())
}

fn journal_error(error: RecoveryError) -> VerifyError {
    VerifyError::Journal(error.to_string())
}

fn fold(report: &mut VerifyReport, journal: &mut HashMap<DropId, JournalDrop>, sequence: u64, bytes: &[u8]) {
    report.records += 1;
    let record = match DropRecord::decode(bytes) {
        Ok(record) => record,
        Err(error) => return report.find(format!("record {sequence}: {error}")),
    };
    if let DropEvent::Scheduled(spec) = &record.event {
        let drop = JournalDrop { board: StockBoard::new(spec), state: DropState::scheduled((**spec).clone()) };
        journal.insert(record.drop, drop);
        return;
    }
    // The drop's first records were in a deleted segment: only SQL has its whole history.
    let Some(drop) = journal.get_mut(&record.drop) else { return };
    if let Some(problem) = impossible(drop, &record.event) {
        report.find(format!("record {sequence}, drop {}: {problem}", record.drop));
        journal.remove(&record.drop);
        return;
    }
    drop.state.evolve(record.at, &record.event);
    for ((variant, journal), (_, folded)) in drop.board.variants.iter().zip(drop.state.stock()) {
        if !folded.balances() || *journal != folded {
            report.find(format!("record {sequence}: the stock of variant {variant} is {folded}"));
        }
    }
}

/// Why an event cannot follow; `None` if it can. Folds the board.
fn impossible(drop: &mut JournalDrop, event: &DropEvent) -> Option<&'static str> {
    let status = match (event, event.order().map(|id| drop.state.order(id))) {
        (DropEvent::Reserved { .. }, Some(Some(_))) => return Some("an order is reserved twice"),
        (DropEvent::Reserved { digest, .. }, _) if drop.state.knows_key(*digest) => {
            return Some("a key makes two orders");
        }
        (DropEvent::Reserved { .. }, _) | (_, None) => None,
        (_, Some(None)) => return Some("an event about an order that was never reserved"),
        (_, Some(Some(order))) => Some(order.status),
    };
    match (event, status) {
        (DropEvent::Confirmed { .. }, Some(OrderStatus::Confirmed | OrderStatus::Refunded)) => {
            return Some("an order is confirmed twice");
        }
        (DropEvent::Released { .. }, Some(status)) if status != OrderStatus::Reserved => {
            return Some("a hold is released that is not held");
        }
        _ => {}
    }
    if drop.board.fold(event).is_none() { Some("more units are taken than there are") } else { None }
}

async fn compare(
    report: &mut VerifyReport,
    journal: &HashMap<DropId, JournalDrop>,
    store: &dyn Store,
) -> Result<(), VerifyError> {
    let mut after = None;
    loop {
        let rows = store.drops(DropFilter::default(), after, PAGE).await?.rows;
        let Some(last) = rows.last() else { break };
        after = Some(last.spec.id);
        for row in rows {
            report.drops += 1;
            compare_drop(report, journal.get(&row.spec.id), &row, store).await?;
        }
    }
    for (id, drop) in journal {
        if store.drop_row(*id).await?.is_none() {
            let orders = drop.state.order_count();
            report.find(format!("drop {id} with {orders} orders is in the journal and not in the database"));
        }
    }
    Ok(())
}

async fn compare_drop(
    report: &mut VerifyReport,
    journal: Option<&JournalDrop>,
    row: &DropRow,
    store: &dyn Store,
) -> Result<(), VerifyError> {
    let id = row.spec.id;
    // Rows may have any values: summed in 64 bits.
    let mut sums: HashMap<_, (u64, u64)> = HashMap::new();
    let (mut seen, mut after) = (0, None);
    loop {
        let orders = store.drop_orders(id, after, PAGE).await?;
        let Some(last) = orders.last() else { break };
        after = Some(last.id);
        for order in orders {
            seen += 1;
            report.orders += 1;
            let (held, sold) = sums.entry(order.variant_id).or_default();
            match order.status {
                OrderStatus::Reserved => *held += u64::from(order.quantity),
                OrderStatus::Confirmed if order.refund_due.is_none() => *sold += u64::from(order.quantity),
                _ => {}
            }
            if let Some(journal) = journal {
                compare_order(report, journal.state.order(order.id), order);
            }
        }
    }
    for variant in &row.variants {
        let ((held, sold), stock) = (sums.remove(&variant.id).unwrap_or_default(), variant.stock);
        if !stock.balances() || (u64::from(stock.held), u64::from(stock.sold)) != (held, sold) {
            report.find(format!(
                "drop {id}, variant {}: its stock is {stock}, its orders hold {held} and own {sold}",
                variant.id
            ));
        }
    }
    let Some(journal) = journal else { return Ok(()) };
    if journal.state.order_count() != seen {
        report
            .find(format!("drop {id}: {} orders in the journal, {seen} in the database", journal.state.order_count()));
    }
    if let Some(difference) = difference::of_drops(&journal.state, row) {
        report.find(format!("drop {id} differs in {difference}"));
    }
    Ok(())
}

fn compare_order(report: &mut VerifyReport, journal: Option<OrderView>, row: OrderView) {
    let id = row.id;
    let Some(journal) = journal else {
        return report.find(format!("order {id} is in the database and not in the journal"));
    };
    if let Some(difference) = difference::of_orders(&journal, &row) {
        report.find(format!("order {id} differs in {difference}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::drop_of;
    use crate::domain::{Fingerprint, KeyDigest, OrderId, Refusal, Timestamp, TraceId, UserId};

    /// No index of the database would report it.
    #[test]
    fn a_key_that_makes_two_orders_is_found() {
        let (spec, buyer, fingerprint) = (drop_of(5), UserId::new(), Fingerprint(1));
        let digest = KeyDigest::of(buyer, "k");
        let reserved = |digest| DropEvent::Reserved {
            order: OrderId::for_drop(spec.id),
            buyer,
            variant: spec.variants[0].id,
            quantity: 1,
            unit_price: spec.variants[0].price,
            expires_at: Timestamp::from_millis(9),
            key: "k".into(),
            digest,
            fingerprint,
            payment_method: None,
            delivery: None,
        };
        let refused = |digest| DropEvent::Refused {
            buyer,
            key: "k".into(),
            digest,
            fingerprint,
            refusal: Refusal::SoldOut,
            trace: TraceId::default(),
        };
        let other = KeyDigest::of(buyer, "another");
        let differences = |answers: [DropEvent; 2]| {
            let (mut report, mut drops) = (VerifyReport::default(), HashMap::new());
            let events = [DropEvent::Scheduled(Box::new(spec.clone())), DropEvent::Started];
            for (sequence, event) in (1..).zip(events.into_iter().chain(answers)) {
                let record = DropRecord { drop: spec.id, at: Timestamp::from_millis(0), event };
                let mut bytes = Vec::new();
                record.encode(&mut bytes);
                fold(&mut report, &mut drops, sequence, &bytes);
            }
            report.findings
        };
        assert_eq!(differences([reserved(digest), reserved(other)]), Vec::<String>::new());
        // Only older journals have it; the key stays free.
        assert_eq!(differences([refused(digest), reserved(digest)]), Vec::<String>::new());
        assert_eq!(differences([refused(digest), refused(digest)]), Vec::<String>::new());
        let found = differences([reserved(digest), reserved(digest)]);
        assert!(found.len() == 1 && found[0].ends_with("a key makes two orders"), "{found:?}");
    }
}
