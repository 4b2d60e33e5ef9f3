//! Removes deleted data from files: the database overwrites it, and the write-ahead log, which has the old contents of
//! pages, is truncated.

use crate::storage::StoreError;
use crate::storage::failure::from_sqlx;
use crate::storage::sql::Slots;
use sqlx::{Row, SqlitePool};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tracing::warn;

/// Attempts to truncate the log: another connection may be reading from it.
const ATTEMPTS_MAX: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);

/// Truncates the log after deletions, once for deletions that come together. Cheap to clone.
#[derive(Clone)]
pub(super) struct Eraser {
    writer: SqlitePool,
    place: Slots,
    /// Whether a truncation is due and has not begun.
    due: Arc<AtomicBool>,
}

impl Eraser {
    pub fn new(writer: SqlitePool, place: Slots) -> Self {
        Self { writer, place, due: Arc::default() }
    }

    /// Truncates the log, in a task of its own.
    pub fn erase(&self) {
        // A truncation that has not begun covers this deletion too.
        if !self.due.swap(true, Ordering::AcqRel) {
            tokio::spawn(self.clone().run());
        }
    }

    async fn run(self) {
        for _ in 0..ATTEMPTS_MAX {
            match self.cut().await {
                Ok(true) | Err(StoreError::Unavailable(sqlx::Error::PoolClosed)) => return,
                Ok(false) | Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        self.due.store(false, Ordering::Release);
        warn!(
            "the write-ahead log of SQLite still has what was deleted: another process reads the database; a stop cuts it"
        );
    }

    /// Whether the log is empty now.
    async fn cut(&self) -> Result<bool, StoreError> {
        let _place = self.place.take().await?;
        self.due.store(false, Ordering::Release);
        // Waits for readers as long as any statement waits for another process.
        let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.writer).await.map_err(from_sqlx)?;
        Ok(row.try_get::<i64, _>(0).map_err(from_sqlx)? == 0)
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::{Timestamp, TraceId, UserId};
    use crate::storage::{self, AuditRow, Creator, User, UserChange};
    use std::time::{Duration, Instant};
    use uuid::Uuid;

    /// How often a text occurs in the files of a directory.
    fn found(folder: &tempfile::TempDir, text: &str) -> usize {
        let files = std::fs::read_dir(folder.path()).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap());
        files.map(|bytes| bytes.windows(text.len()).filter(|window| *window == text.as_bytes()).count()).sum()
    }

    #[tokio::test]
    async fn a_deleted_account_is_in_no_file_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let store = storage::connect(&format!("sqlite://{}", folder.path().join("a.db").display())).await.unwrap();
        store.migrate().await.unwrap();
        let at = Timestamp::from_millis(1_800_000_000_000);
        let mark = "Zaphod-Beeblebrox";
        let user = User {
            id: UserId::new(),
            email: format!("{mark}@example.com"),
            email_key: Some(format!("{mark}@example.com")),
            display_name: mark.to_owned(),
            password_hash: mark.to_owned(),
            role: "user".to_owned(),
            created_at: at,
            private_follows: true,
            token_version: 0,
        };
        let audit = |act: &str| AuditRow {
            id: Uuid::now_v7(),
            at,
            actor: Some(user.id),
            role: "user".to_owned(),
            origin: format!("{mark}-origin"),
            act: act.to_owned(),
            object_kind: "user".to_owned(),
            object: Some(user.id.0),
            detail: "{}".to_owned(),
            trace: TraceId::default(),
        };
        let lines = [audit("account_changed"), audit("creator_changed"), audit("account_deleted")];
        store.insert_user(&user).await.unwrap();
        let display_name = Some(format!("{mark} the second"));
        let change = UserChange { display_name, ..UserChange::default() };
        store.update_user(user.id, &change, &lines[0]).await.unwrap();
        // Long enough for overflow pages, which are freed later.
        let creator = Creator {
            id: user.id.into(),
            handle: mark.to_owned(),
            display_name: mark.to_owned(),
            bio: format!("{mark} ").repeat(1_000),
            follower_count: 0,
            created_at: at,
        };
        store.insert_creator(&creator).await.unwrap();
        let shorter = Creator { bio: mark.to_owned(), ..creator.clone() };
        assert!(store.update_creator(&shorter, &creator, &lines[1]).await.unwrap());
        assert!(found(&folder, mark) > 5);
        store.delete_user(user.id, mark, &lines[2]).await.unwrap().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while found(&folder, mark) > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(found(&folder, mark), 0);
        store.close().await;
        assert_eq!(found(&folder, mark), 0, "nor after a clean end");
    }
}
