//! Inboxes: notifications that are not acknowledged yet.
//!
//! Buyers and the followers of small creators have an entry of their own, written with the event. Followers of a
//! creator with more than a set number of followers have none until they acknowledge or read it: theirs is computed on
//! reading. Both give the same result: a notification of a creator's drop is for accounts that followed the creator
//! when it happened and still do.

use super::sql::{Columns, Database, Session, args};
use super::{EntryId, InboxEntry, InboxView, Mark, StoreError, rows};
use crate::domain::{CreatorId, Timestamp, UserId};
use crate::storage::projection::fold::DropNotification;
use hashbrown::HashMap;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

/// Entries deleted by one statement, so that it blocks nobody for long.
const FORGOTTEN_AT_ONCE: u32 = 5_000;

/// Follower counts of the creators of these notifications.
pub(super) async fn followers<S: Session>(
    tx: &mut S,
    notifications: &[DropNotification],
) -> Result<HashMap<CreatorId, u32>, StoreError> {
    let mut creators: Vec<Uuid> = notifications.iter().map(|notifications| notifications.creator.0).collect();
    creators.sort_unstable();
    creators.dedup();
    let mut followers = notifications.iter().map(|notifications| (notifications.creator, 0)).collect::<HashMap<_, _>>();
    if !creators.is_empty() {
        for row in tx.all_of("SELECT id, follower_count FROM creators WHERE id", &creators, "").await? {
            let count = u32::try_from(row.int("follower_count")?).unwrap_or(u32::MAX);
            followers.insert(CreatorId(row.id("id")?), count);
        }
    }
    Ok(followers)
}

/// Stores notifications of drops, and gives each follower an entry if a creator has at most `fan_out` of them. Existing
/// entries are kept: a database that lost other rows and is filled again keeps the marks of its users.
///
/// Only the latest times count: rescheduling a drop withdraws the notifications of its earlier times from followers who
/// have neither read nor acknowledged them.
pub(super) async fn tell_followers<S: Session>(
    tx: &mut S,
    journal: Uuid,
    notifications: &DropNotification,
    fan_out: Option<u32>,
) -> Result<(), StoreError> {
    let DropNotification { sequence, kind, at, drop, creator } = *notifications;
    if notifications.replaces_earlier() {
        take_back(tx, journal, notifications).await?;
    }
    let (followers, fan_out) = (fan_out.unwrap_or(0), fan_out.is_some());
    let sql = "INSERT INTO drop_news (journal_id, sequence, kind, at, drop_id, creator_id, fanned_out) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
    tx.run(sql, args![journal, sequence, kind, at, drop.0, creator.0, fan_out]).await?;
    if fan_out && followers > 0 {
        let sql = "INSERT INTO inbox (user_id, journal_id, sequence, kind, at, drop_id, creator_id) \
                   SELECT user_id, $1, $2, $3, $4, $5, $6 FROM follows WHERE creator_id = $6 AND created_at <= $4 \
                   ON CONFLICT DO NOTHING";
        tx.run(sql, args![journal, sequence, kind, at, drop.0, creator.0]).await?;
    }
    Ok(())
}

async fn take_back<S: Session>(tx: &mut S, journal: Uuid, notifications: &DropNotification) -> Result<(), StoreError> {
    let earlier = "SELECT journal_id, sequence FROM drop_news WHERE drop_id = $1 AND kind = 'drop_rescheduled' \
                   AND (journal_id, sequence) < ($2, $3)";
    for row in tx.all(earlier, args![notifications.drop.0, journal, notifications.sequence]).await? {
        let id = args![row.id("journal_id")?, row.int("sequence")?];
        let lines = "DELETE FROM inbox WHERE journal_id = $1 AND sequence = $2 AND read_at IS NULL AND acknowledged_at IS NULL \
                     AND user_id IN (SELECT user_id FROM follows WHERE creator_id = $3)";
        tx.run(lines, [id.clone(), args![notifications.creator.0]].concat()).await?;
        tx.run("DELETE FROM drop_news WHERE journal_id = $1 AND sequence = $2", id).await?;
    }
    Ok(())
}

/// Entries waiting for `$1` below (`$2`, `$3`), since `$4`, newest first: at most `$5` of either kind. `$condition`
/// narrows the stored entries; computed ones are all unread.
macro_rules! waiting {
    ($condition:literal) => {
        concat!(
            "(SELECT * FROM (SELECT i.journal_id, i.sequence, i.kind, i.at, i.drop_id, i.creator_id, i.order_id, \
             i.variant_id, i.quantity, i.reason, i.read_at FROM inbox i \
             WHERE {of inbox}i.user_id = $1 AND (i.journal_id, i.sequence) < ($2, $3) AND i.at >= $4 \
             AND i.acknowledged_at IS NULL",
            $condition,
            " AND (i.creator_id IS NULL OR EXISTS (SELECT 1 FROM follows f \
             WHERE f.creator_id = i.creator_id AND f.user_id = $1 AND f.created_at <= i.at)) \
             ORDER BY i.journal_id DESC, i.sequence DESC LIMIT $5) AS written \
             UNION ALL \
             SELECT * FROM (SELECT e.journal_id, e.sequence, e.kind, e.at, e.drop_id, e.creator_id, \
             CAST(NULL AS UUID) AS order_id, CAST(NULL AS UUID) AS variant_id, CAST(NULL AS BIGINT) AS quantity, \
             CAST(NULL AS TEXT) AS reason, CAST(NULL AS BIGINT) AS read_at \
             FROM follows f JOIN drop_news e ON e.creator_id = f.creator_id AND e.fanned_out = 0 \
             WHERE f.user_id = $1 AND (e.journal_id, e.sequence) < ($2, $3) AND e.at >= $4 AND f.created_at <= e.at \
             AND NOT EXISTS (SELECT 1 FROM inbox i \
             WHERE i.user_id = $1 AND i.journal_id = e.journal_id AND i.sequence = e.sequence) \
             ORDER BY e.journal_id DESC, e.sequence DESC LIMIT $5) AS computed)"
        )
    };
}

macro_rules! page {
    ($condition:literal) => {
        concat!(
            "SELECT n.*, d.title, d.starts_at FROM ",
            waiting!($condition),
            " AS n JOIN drops d ON d.id = n.drop_id ORDER BY n.journal_id DESC, n.sequence DESC LIMIT $5"
        )
    };
}

/// Replaces `{of inbox}` by this database's prefix of a condition on a user.
fn of_inbox<D: Database>(sql: &'static str) -> AssertSqlSafe<String> {
    AssertSqlSafe(sql.replace("{of inbox}", D::OF_INBOX))
}

/// Deletes all stored entries of a user.
pub(super) async fn delete<D: Database>(tx: &mut D::Session, user: UserId) -> Result<(), StoreError> {
    tx.run(of_inbox::<D>("DELETE FROM inbox WHERE {of inbox}user_id = $1"), args![user.0]).await.map(|_| ())
}

/// The exclusive upper bound of a page: the largest possible for the first page.
fn below(after: Option<EntryId>) -> (Uuid, i64) {
    after.map_or((Uuid::max(), i64::MAX), |EntryId { journal, sequence }| (journal, sequence.cast_signed()))
}

pub(super) async fn list<D: Database>(
    db: &D,
    view: InboxView,
    after: Option<EntryId>,
    limit: u32,
) -> Result<Vec<InboxEntry>, StoreError> {
    let sql = if view.unread { page!(" AND i.read_at IS NULL") } else { page!("") };
    let (journal, sequence) = below(after);
    let rows =
        db.session().await?.all(of_inbox::<D>(sql), args![view.user.0, journal, sequence, view.since, limit]).await?;
    rows.iter().map(rows::inbox_entry).collect()
}

pub(super) async fn unread<D: Database>(db: &D, view: InboxView, max: u32) -> Result<u32, StoreError> {
    const SQL: &str = concat!("SELECT COUNT(*) AS unread FROM ", waiting!(" AND i.read_at IS NULL"), " AS n");
    let (journal, sequence) = below(None);
    let row =
        db.session().await?.one(of_inbox::<D>(SQL), args![view.user.0, journal, sequence, view.since, max]).await?;
    let counted = row.map_or(Ok(0), |row| row.int("unread"))?;
    Ok(u32::try_from(counted).unwrap_or(max).min(max))
}

/// Stores computed entries of `$1`, marked at `$4`; `$which` selects them by `$2` and `$3`.
macro_rules! make_lines {
    ($column:literal, $which:literal) => {
        concat!(
            "INSERT INTO inbox (user_id, journal_id, sequence, kind, at, drop_id, creator_id, ",
            $column,
            ") SELECT f.user_id, e.journal_id, e.sequence, e.kind, e.at, e.drop_id, e.creator_id, $4 \
             FROM follows f JOIN drop_news e ON e.creator_id = f.creator_id AND e.fanned_out = 0 \
             WHERE f.user_id = $1 AND f.created_at <= e.at AND ",
            $which,
            " ON CONFLICT DO NOTHING"
        )
    };
}

/// The two statements of a mark: for a stored entry, and for a computed one.
macro_rules! mark {
    ($column:literal) => {
        (
            concat!(
                "UPDATE inbox SET ",
                $column,
                " = $4 WHERE user_id = $1 AND journal_id = $2 AND sequence = $3 AND ",
                $column,
                " IS NULL"
            ),
            make_lines!($column, "e.journal_id = $2 AND e.sequence = $3"),
        )
    };
}

pub(super) async fn mark<D: Database>(
    db: &D,
    mark: Mark,
    entries: &[(UserId, EntryId)],
    at: Timestamp,
) -> Result<(), StoreError> {
    let (there, computed) = match mark {
        Mark::Acknowledged => mark!("acknowledged_at"),
        Mark::Read => mark!("read_at"),
    };
    // Sorted, so that two concurrent calls do not deadlock.
    let mut entries = entries.to_vec();
    entries.sort_unstable();
    let mut tx = db.transaction().await?;
    for (user, EntryId { journal, sequence }) in &entries {
        let args = args![user.0, *journal, *sequence, at];
        if tx.run(there, args.clone()).await? == 0 {
            tx.run(computed, args).await?;
        }
    }
    tx.commit().await
}

pub(super) async fn mark_read_up_to<D: Database>(
    db: &D,
    view: InboxView,
    last: EntryId,
    at: Timestamp,
) -> Result<(), StoreError> {
    let args = args![view.user.0, last.journal, last.sequence, at, view.since];
    let mut tx = db.transaction().await?;
    let sql = "UPDATE inbox SET read_at = $4 WHERE {of inbox}user_id = $1 AND (journal_id, sequence) <= ($2, $3) AND at >= $5 \
               AND read_at IS NULL AND acknowledged_at IS NULL";
    tx.run(of_inbox::<D>(sql), args.clone()).await?;
    tx.run(make_lines!("read_at", "(e.journal_id, e.sequence) <= ($2, $3) AND e.at >= $5"), args).await?;
    tx.commit().await
}

/// Deletes some entries older than `before`; returns whether there may be more.
pub(super) async fn forget<D: Database>(db: &D, before: Timestamp) -> Result<bool, StoreError> {
    let mut tx = db.transaction().await?;
    let sql = "DELETE FROM inbox WHERE (user_id, journal_id, sequence) IN \
               (SELECT user_id, journal_id, sequence FROM inbox WHERE at < $1 ORDER BY at LIMIT $2)";
    let lines = tx.run(sql, args![before, FORGOTTEN_AT_ONCE]).await?;
    let sql = "DELETE FROM drop_news WHERE (journal_id, sequence) IN \
               (SELECT journal_id, sequence FROM drop_news WHERE at < $1 ORDER BY at LIMIT $2)";
    let notifications = tx.run(sql, args![before, FORGOTTEN_AT_ONCE]).await?;
    tx.commit().await?;
    Ok(lines.max(notifications) == u64::from(FORGOTTEN_AT_ONCE))
}

pub(super) async fn journals<D: Database>(db: &D) -> Result<Vec<Uuid>, StoreError> {
    let rows = db.session().await?.all("SELECT journal_id FROM watermarks ORDER BY journal_id", args![]).await?;
    rows.iter().map(|row| row.id("journal_id")).collect()
}
