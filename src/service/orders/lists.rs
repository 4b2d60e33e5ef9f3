//! Lists of a buyer's own orders.

use super::Orders;
use crate::actors::Answer;
use crate::domain::{OrderId, OrderNumber, OrderStatus, OrderView, UserId};
use crate::engine::{Command, Outcome};
use crate::service::creators::page;
use crate::service::failure::ensure_projected;
use crate::service::{Code, Failure, Page};
use futures_util::future::join_all;
use std::time::Duration;
use uuid::Uuid;

/// How long a list waits until the buyer's own orders are in SQL, which lags some seconds in a rush.
pub(super) const LISTING_PATIENCE: Duration = Duration::from_secs(5);
/// Orders read at once where one is searched for by its number: those of one buyer in one millisecond.
const NUMBERED_READ: u32 = 16;

impl Orders {
    /// The buyer's own orders, newest first, in their current state.
    ///
    /// # Errors
    /// `database_unavailable` if the database is away, or lacks some of this buyer's own orders: an incomplete list
    /// would be wrong.
    pub async fn list(&self, buyer: UserId, after: Option<OrderId>, limit: u32) -> Result<Page<OrderView>, Failure> {
        ensure_projected(&self.projection).await?;
        self.own_are_projected(buyer).await?;
        let watermark = self.projection.watermark();
        let rows = self.store.orders_of(buyer, after, limit + 1).await?;
        let Page { items, more, .. } = page(rows, limit);
        let items = join_all(items.into_iter().map(|row| self.as_it_is_now(row, watermark))).await;
        Ok(Page { items, more, stopped_at: None })
    }

    /// The buyer's own order with a number, in its current state: one, or none.
    ///
    /// # Errors
    /// As [`Orders::list`].
    pub async fn numbered(&self, buyer: UserId, number: OrderNumber) -> Result<Page<OrderView>, Failure> {
        ensure_projected(&self.projection).await?;
        self.own_are_projected(buyer).await?;
        let watermark = self.projection.watermark();
        let ids = number.ids();
        let (mut items, mut after) = (Vec::new(), ids.end().0.as_u128().saturating_add(1));
        loop {
            let rows = self.store.orders_of(buyer, Some(OrderId(Uuid::from_u128(after))), NUMBERED_READ).await?;
            let last = rows.last().filter(|last| last.id > *ids.start()).map(|last| last.id.0.as_u128());
            let is_full = rows.len() == NUMBERED_READ as usize;
            items.extend(rows.into_iter().find(|row| row.id.number() == number));
            match last.filter(|_| is_full && items.is_empty()) {
                Some(last) => after = last,
                None => break,
            }
        }
        let items = join_all(items.into_iter().map(|row| self.as_it_is_now(row, watermark))).await;
        Ok(Page { items, more: false, stopped_at: None })
    }

    /// Waits until SQL has every acknowledged order of a buyer.
    async fn own_are_projected(&self, buyer: UserId) -> Result<(), Failure> {
        let newest = self.recent.newest(buyer);
        // A stuck projector is not waited for.
        let timeout = self.projection.trouble().map_or(LISTING_PATIENCE, |_| Duration::ZERO);
        if self.projection.reached(newest, timeout).await {
            return Ok(());
        }
        let detail = "The database has not caught up with your orders yet";
        Err(Failure { detail: detail.into(), ..Failure::retry(Code::DatabaseUnavailable, 2) })
    }

    /// The current state of a row's order. Asks the drop if the order can still change and the drop has decisions that
    /// SQL lacks.
    async fn as_it_is_now(&self, row: OrderView, watermark: u64) -> OrderView {
        if matches!(row.status, OrderStatus::Released | OrderStatus::Refunded) {
            return row;
        }
        for handle in self.registry.of_order(row.id).into_iter().filter(|handle| handle.cell.position() > watermark) {
            if let Ok(Answer { outcome: Outcome::Order { order, .. }, .. }) =
                handle.ask(Command::Find { order: row.id }).await
            {
                return *order;
            }
        }
        row
    }
}
