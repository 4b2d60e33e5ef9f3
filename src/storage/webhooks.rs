//! The inbox of webhooks: each event of a provider once, until it is worked on and for a while after.

use super::sql::{Columns, Database, Session, args};
use super::store::{SqlStore, timely};
use super::{IncidentRow, StoreError, WebhookRow};
use crate::domain::{OrderId, PaymentIncident, Timestamp};
use async_trait::async_trait;

/// Rows that one statement deletes.
const FORGOTTEN_AT_ONCE: u32 = 1_000;

/// The webhooks that are kept.
#[async_trait]
pub trait WebhookInbox: Send + Sync {
    /// Keeps an event, due at once. Returns whether it is new: of a copy nothing is kept.
    async fn keep_webhook(&self, event: &WebhookRow) -> Result<bool, StoreError>;
    /// Events that are due, the longest-due ones first, at most `limit`.
    async fn webhooks_due(&self, now: Timestamp, limit: u32) -> Result<Vec<WebhookRow>, StoreError>;
    /// Records that an event was worked on.
    async fn webhook_is_done(&self, event: &WebhookRow, at: Timestamp) -> Result<(), StoreError>;
    /// Records that an event is tried again at that time.
    async fn webhook_is_later(&self, event: &WebhookRow, next_at: Timestamp) -> Result<(), StoreError>;
    /// Keeps an incident, once.
    async fn keep_incident(&self, incident: &IncidentRow) -> Result<(), StoreError>;
    /// The incidents of an order's payments, oldest first.
    async fn incidents(&self, order: OrderId) -> Result<Vec<IncidentRow>, StoreError>;
    /// Forgets events that were worked on before then, some at a time. Returns whether there may be more.
    async fn forget_webhooks(&self, before: Timestamp) -> Result<bool, StoreError>;
}

#[async_trait]
impl<D: Database> WebhookInbox for SqlStore<D> {
    async fn keep_webhook(&self, event: &WebhookRow) -> Result<bool, StoreError> {
        timely(keep(self.database(), event)).await
    }
    async fn webhooks_due(&self, now: Timestamp, limit: u32) -> Result<Vec<WebhookRow>, StoreError> {
        timely(due(self.database(), now, limit)).await
    }
    async fn webhook_is_done(&self, event: &WebhookRow, at: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE webhooks SET worked_at = $3 WHERE provider = $1 AND id = $2 AND worked_at IS NULL";
        timely(change(self.database(), sql, event, at)).await
    }
    async fn webhook_is_later(&self, event: &WebhookRow, next_at: Timestamp) -> Result<(), StoreError> {
        let sql =
            "UPDATE webhooks SET next_at = $3, tries = tries + 1 WHERE provider = $1 AND id = $2 AND worked_at IS NULL";
        timely(change(self.database(), sql, event, next_at)).await
    }
    async fn keep_incident(&self, incident: &IncidentRow) -> Result<(), StoreError> {
        timely(keep_incident(self.database(), incident)).await
    }
    async fn incidents(&self, order: OrderId) -> Result<Vec<IncidentRow>, StoreError> {
        timely(incidents(self.database(), order)).await
    }
    async fn forget_webhooks(&self, before: Timestamp) -> Result<bool, StoreError> {
        timely(forget(self.database(), before)).await
    }
}

async fn keep<D: Database>(db: &D, event: &WebhookRow) -> Result<bool, StoreError> {
    let sql = "INSERT INTO webhooks (provider, id, kind, reference, order_id, attempt, received_at, next_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
               ON CONFLICT (provider, id) DO NOTHING";
    let WebhookRow { provider, id, kind, reference, order, attempt, received_at, .. } = event;
    let order = order.map(|order| order.0);
    let values = args![provider, id, kind, reference, order, *attempt, *received_at, *received_at];
    let mut tx = db.transaction().await?;
    let new = tx.run(sql, values).await? > 0;
    tx.commit().await?;
    Ok(new)
}

async fn due<D: Database>(db: &D, now: Timestamp, limit: u32) -> Result<Vec<WebhookRow>, StoreError> {
    let sql = "SELECT provider, id, kind, reference, order_id, attempt, received_at, tries FROM webhooks \
               WHERE worked_at IS NULL AND next_at <= $1 ORDER BY next_at, provider, id LIMIT $2";
    let rows = db.session().await?.all(sql, args![now, limit]).await?;
    rows.iter().map(webhook).collect()
}

fn webhook<R: Columns>(row: &R) -> Result<WebhookRow, StoreError> {
    let tries = row.int("tries")?;
    Ok(WebhookRow {
        provider: row.text("provider")?,
        id: row.text("id")?,
        kind: row.text("kind")?,
        reference: row.maybe_text("reference")?,
        order: row.maybe_id("order_id")?.map(OrderId),
        attempt: row.maybe_int("attempt")?.and_then(|attempt| u32::try_from(attempt).ok()),
        received_at: Timestamp::from_millis(row.int("received_at")?),
        tries: u32::try_from(tries).map_err(|_| StoreError::Corrupt(format!("{tries} tries of a webhook")))?,
    })
}

async fn change<D: Database>(db: &D, sql: &'static str, event: &WebhookRow, at: Timestamp) -> Result<(), StoreError> {
    let mut tx = db.transaction().await?;
    tx.run(sql, args![&event.provider, &event.id, at]).await?;
    tx.commit().await
}

async fn forget<D: Database>(db: &D, before: Timestamp) -> Result<bool, StoreError> {
    let sql = "DELETE FROM webhooks WHERE (provider, id) IN (SELECT provider, id FROM webhooks WHERE worked_at < $1 LIMIT $2)";
    let mut tx = db.transaction().await?;
    let forgotten = tx.run(sql, args![before, FORGOTTEN_AT_ONCE]).await?;
    tx.commit().await?;
    Ok(forgotten >= u64::from(FORGOTTEN_AT_ONCE))
}

async fn keep_incident<D: Database>(db: &D, incident: &IncidentRow) -> Result<(), StoreError> {
    let sql = "INSERT INTO payment_incidents (order_id, provider, id, kind, at) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (order_id, provider, id) DO NOTHING";
    let IncidentRow { order, provider, id, kind, at } = incident;
    let mut tx = db.transaction().await?;
    tx.run(sql, args![order.0, provider, id, kind.as_str(), *at]).await?;
    tx.commit().await
}

async fn incidents<D: Database>(db: &D, order: OrderId) -> Result<Vec<IncidentRow>, StoreError> {
    let sql = "SELECT provider, id, kind, at FROM payment_incidents WHERE order_id = $1 ORDER BY at, provider, id";
    let rows = db.session().await?.all(sql, args![order.0]).await?;
    let incident = |row: &<D::Session as Session>::Row| {
        let kind = row.text("kind")?;
        let known = PaymentIncident::parse(&kind);
        let kind = known.ok_or_else(|| StoreError::Corrupt(format!("{kind} is no incident of a payment")))?;
        let at = Timestamp::from_millis(row.int("at")?);
        Ok(IncidentRow { order, provider: row.text("provider")?, id: row.text("id")?, kind, at })
    };
    rows.iter().map(incident).collect()
}
