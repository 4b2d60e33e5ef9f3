//! Does each checkpoint, with the journal's records after it, give what the database and the whole journal say?

use super::difference;
use crate::actors::inventory::checkpoint::loading::{self, Extent};
use crate::actors::inventory::checkpoint::{FOLDER, Origin, Unusable};
use crate::domain::{DropId, DropRecord};
use crate::engine::DropState;
use crate::storage::{Store, StoreError};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Rows read in one query.
const PAGE: u32 = 1_000;

/// The drops of the checkpoint, each as far as records were replayed on it.
#[derive(Default)]
pub(super) struct Checkpoints {
    drops: HashMap<DropId, Restored>,
}

struct Restored {
    state: DropState,
    /// The record at which its file is true.
    position: u64,
}

impl Checkpoints {
    /// Reads the files that a start would use, and names those that it could not use.
    pub fn read(data_dir: &Path, origin: Origin, (oldest, last): (u64, u64), find: &mut impl FnMut(String)) -> Self {
        let loaded = loading::read(&data_dir.join(FOLDER), Extent { origin, oldest, last });
        for (name, why) in loaded.unusable {
            // A process that ended before its first list was written, and a journal that has gone on for long: a start loads from SQL.
            if !matches!(why, Unusable::Behind { .. } | Unusable::Missing) {
                find(format!("checkpoint file {name}: {why}"));
            }
        }
        let restored = |(state, position): (DropState, u64)| (state.spec().id, Restored { state, position });
        Self { drops: loaded.drops.into_iter().map(restored).collect() }
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.drops.len() as u64
    }

    /// Replays a record on the drop that it is about.
    pub fn replay(&mut self, find: &mut impl FnMut(String), sequence: u64, bytes: &[u8]) {
        if self.drops.is_empty() {
            return;
        }
        // What is no record has been named already.
        let Ok(record) = DropRecord::decode(bytes) else { return };
        let Some(drop) = self.drops.get_mut(&record.drop) else { return };
        if sequence <= drop.position {
            return;
        }
        let evolved = catch_unwind(AssertUnwindSafe(|| drop.state.evolve(record.at, &record.event)));
        if evolved.is_err() {
            find(format!("drop {}: record {sequence} cannot follow on its checkpoint", record.drop));
            self.drops.remove(&record.drop);
        }
    }

    /// Compares what the records up to the database's watermark make of the checkpoint with the rows. Drops whose files are true at later records
    /// are compared with the journal alone.
    pub async fn compare_rows(
        &self,
        find: &mut impl FnMut(String),
        watermark: u64,
        is_aside: impl Fn(DropId) -> bool,
        store: &dyn Store,
    ) -> Result<(), StoreError> {
        for (id, Restored { state, position }) in &self.drops {
            if *position > watermark || is_aside(*id) {
                continue;
            }
            let Some(row) = store.drop_row(*id).await? else {
                find(format!("drop {id} is in the checkpoint and not in the database"));
                continue;
            };
            if let Some(difference) = difference::of_drops(state, &row) {
                find(format!("the checkpoint of drop {id} differs in {difference}"));
            }
            let (mut seen, mut after) = (0, None);
            loop {
                let rows = store.drop_orders(*id, after, PAGE).await?;
                let Some(last) = rows.last() else { break };
                after = Some(last.id);
                seen += rows.len();
                for row in rows {
                    match state.order(row.id) {
                        None => find(format!("order {} is in the database and not in the checkpoint", row.id)),
                        Some(order) => {
                            if let Some(difference) = difference::of_orders(&order, &row) {
                                find(format!("order {}, by its checkpoint, differs in {difference}", row.id));
                            }
                        }
                    }
                }
            }
            if seen != state.order_count() {
                find(format!("drop {id}: {} orders by its checkpoint, {seen} in the database", state.order_count()));
            }
        }
        Ok(())
    }

    /// Compares what all records make of the checkpoint with what they make of nothing, where the journal has a drop's beginning.
    pub fn compare_journal<'a>(&self, find: &mut impl FnMut(String), folded: impl Fn(DropId) -> Option<&'a DropState>) {
        for (id, Restored { state, .. }) in &self.drops {
            let Some(folded) = folded(*id) else { continue };
            let same_drop = state.status() == folded.status() && state.stock().eq(folded.stock());
            if !same_drop {
                find(format!("drop {id}: its checkpoint and the journal disagree about its status or stock"));
            }
            if state.order_count() != folded.order_count() {
                let counts = (state.order_count(), folded.order_count());
                find(format!("drop {id}: {} orders by its checkpoint, {} by the journal", counts.0, counts.1));
            }
            // By id: a drop that was loaded from SQL has its orders in another sequence than they were placed in.
            for order in state.orders() {
                match folded.order(order.id) {
                    None => find(format!("order {} is in the checkpoint and not in the journal", order.id)),
                    Some(by_journal) => {
                        if let Some(difference) = difference::of_orders(&order, &by_journal) {
                            find(format!(
                                "order {}, by its checkpoint and by the journal, differs in {difference}",
                                order.id
                            ));
                        }
                    }
                }
            }
        }
    }
}
