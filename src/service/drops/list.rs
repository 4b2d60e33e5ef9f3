//! Lists of drops, from SQL, or from memory while the database is away.

use super::{Drops, view_of, view_of_row};
use crate::actors::inventory::snapshot::DropSnapshot;
use crate::domain::{DropId, DropStatus};
use crate::service::creators::{ROW_BYTES, page_found};
use crate::service::failure::ensure_projected;
use crate::service::{Code, DropView, Failure, Page};
use crate::storage::{DropFilter, DropRow, Phase};

impl Drops {
    /// Newest first, those before `after`. Drops in memory show their current stock and status.
    ///
    /// # Errors
    /// `database_unavailable`, except for drops on sale: memory has all of them.
    pub async fn list(&self, filter: DropFilter, after: Option<DropId>, limit: u32) -> Result<Page<DropView>, Failure> {
        if in_memory(&filter) {
            // Without a query, for which a crowd would wait.
            return match self.revocations.outage().is_on() {
                true => Ok(self.list_in_memory(&filter, after, limit)),
                false => match self.list_in_sql(filter, after, limit).await {
                    Err(Failure { code: Code::DatabaseUnavailable, .. }) => {
                        Ok(self.list_in_memory(&filter, after, limit))
                    }
                    answer => answer,
                },
            };
        }
        self.list_in_sql(filter, after, limit).await
    }

    /// Lists drops on sale, which are all in memory.
    fn list_in_memory(&self, filter: &DropFilter, after: Option<DropId>, limit: u32) -> Page<DropView> {
        let mut drops = filter.creator.map_or_else(|| self.registry.all(), |creator| self.registry.of_creator(creator));
        drops.retain(|drop| after.is_none_or(|after| drop.spec.id < after) && fits(filter, &drop.cell.read()));
        drops.sort_unstable_by_key(|drop| std::cmp::Reverse(drop.spec.id));
        let more = drops.len() > limit as usize;
        drops.truncate(limit as usize);
        Page { items: drops.iter().map(|drop| view_of(drop)).collect(), more, stopped_at: None }
    }

    async fn list_in_sql(
        &self,
        filter: DropFilter,
        after: Option<DropId>,
        limit: u32,
    ) -> Result<Page<DropView>, Failure> {
        ensure_projected(&self.projection).await?;
        let weigh = |row: &DropRow| {
            let variants = row.spec.variants.iter().map(|variant| ROW_BYTES / 2 + variant.name.len()).sum::<usize>();
            ROW_BYTES + row.spec.title.len() + variants
        };
        let found = self.store.drops(filter, after, limit + 1).await?;
        let Page { items, more, stopped_at } = page_found(found, limit, weigh);
        let live = |row: DropRow| match self.registry.get(row.spec.id) {
            Some(handle) => view_of(&handle),
            None => view_of_row(row),
        };
        Ok(Page { items: items.into_iter().map(live).collect(), more, stopped_at })
    }
}

/// Whether memory has every matching drop: all drops on sale are there, but only SQL has follows.
fn in_memory(filter: &DropFilter) -> bool {
    let live = matches!(filter.status, Some(DropStatus::Live | DropStatus::SoldOut));
    filter.followed_by.is_none() && (live || filter.phase == Some(Phase::Live))
}

/// Whether a drop on sale matches the filter. The creator was checked before.
fn fits(filter: &DropFilter, drop: &DropSnapshot) -> bool {
    let DropFilter { status, phase, creator: _, starts_from, starts_before, followed_by: _ } = *filter;
    matches!(drop.status, DropStatus::Live | DropStatus::SoldOut)
        && status.is_none_or(|status| drop.status == status)
        && phase.is_none_or(|phase| phase == Phase::Live)
        && starts_from.is_none_or(|from| drop.spec.starts_at >= from)
        && starts_before.is_none_or(|before| drop.spec.starts_at < before)
}
