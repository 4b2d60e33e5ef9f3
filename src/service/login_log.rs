//! Counts failed logins and writes them to the audit trail. Failures of the same account and network share one line,
//! and the number of lines is bounded, so that an attacker who tries passwords cannot fill the database.

use super::caller::visitors_audit;
use super::{Caller, Code, Failure, Visitor, clock::Clock, identity};
use crate::domain::limits::{FAILED_LOGINS_APART_MAX, FAILED_LOGINS_WRITTEN_EVERY_MS};
use crate::domain::{Timestamp, TraceId, UserId};
use crate::storage::{AuditRow, Store};
use hashbrown::HashMap;
use prometheus::{IntCounterVec, Opts, Registry};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Receives the results of logins. Cheap to clone.
#[derive(Clone)]
pub struct LoginLog(Arc<Inner>);

struct Inner {
    logins: IntCounterVec,
    clock: Clock,
    /// Unknown addresses are distinguished by a hash with this key, which ends with the process: they may be mistyped
    /// addresses, or passwords.
    secret: [u8; 32],
    failed: Mutex<Failed>,
}

/// Failures since the last write.
#[derive(Default)]
struct Failed {
    accounts: HashMap<Attempt, Count>,
    strangers: HashMap<Attempt, Count>,
    /// Failures beyond the bound on separate lines.
    others: Option<Count>,
}

/// Failures that share a line.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Attempt {
    whose: Whose,
    /// Whether a signed-in user gave a wrong current password.
    signed_in: bool,
    origin: Option<IpAddr>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Whose {
    Account(UserId),
    Address([u8; 8]),
}

#[derive(Clone, Copy)]
struct Count {
    attempts: u64,
    /// The trace id of the first failure.
    trace: TraceId,
}

impl LoginLog {
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let help = "Passwords that were compared, by what they were.";
        let logins = IntCounterVec::new(Opts::new("livedrop_logins_total", help), &["result"]);
        let logins = logins.expect("a valid name");
        for result in ["accepted", "refused", "overloaded"] {
            logins.with_label_values(&[result]);
        }
        Self(Arc::new(Inner { logins, clock, secret: rand::random(), failed: Mutex::default() }))
    }

    /// Adds the counters to a registry.
    ///
    /// # Errors
    /// If the names are taken there.
    pub fn register_metrics(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.0.logins.clone()))
    }

    /// Counts a right password.
    pub fn accepted(&self) {
        self.0.logins.with_label_values(&["accepted"]).inc();
    }

    /// Counts a password that could not be verified.
    pub fn failed(&self, why: &Failure) {
        if why.code == Code::Overloaded {
            self.0.logins.with_label_values(&["overloaded"]).inc();
        }
    }

    /// Records a failed login. `account`: the address's account, if there is one.
    pub fn refused(&self, visitor: &Visitor, account: Option<UserId>, email: &str) {
        let whose = account.map_or_else(|| Whose::Address(self.hash(email)), Whose::Account);
        self.count(Attempt { whose, signed_in: false, origin: visitor.origin }, visitor.trace);
    }

    /// Records that a signed-in user gave a wrong current password.
    pub fn refused_again(&self, caller: &Caller) {
        let attempt = Attempt { whose: Whose::Account(caller.user), signed_in: true, origin: caller.origin };
        self.count(attempt, caller.trace);
    }

    fn hash(&self, email: &str) -> [u8; 8] {
        let hash = Sha256::new().chain_update(self.0.secret).chain_update(identity::plain(email)).finalize();
        std::array::from_fn(|n| hash[n])
    }

    fn count(&self, attempt: Attempt, trace: TraceId) {
        self.0.logins.with_label_values(&["refused"]).inc();
        self.lock().add(attempt, Count { attempts: 1, trace });
    }

    /// No code panics while it is held.
    fn lock(&self) -> MutexGuard<'_, Failed> {
        self.0.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes failures periodically. Never ends.
    pub async fn run(self, store: Arc<dyn Store>) {
        let mut ticks = tokio::time::interval(Duration::from_millis(FAILED_LOGINS_WRITTEN_EVERY_MS));
        loop {
            ticks.tick().await;
            self.write(&*store).await;
        }
    }

    /// Writes the failures since the last write. If the database is unavailable they are kept, within the same bound.
    pub async fn write(&self, store: &dyn Store) {
        let at = self.0.clock.now();
        let Failed { accounts, strangers, others } = std::mem::take(&mut *self.lock());
        let mut unwritten = None;
        for (attempt, count) in accounts.into_iter().chain(strangers) {
            if unwritten.is_none() {
                unwritten = store.record_audit(&line(at, attempt, count)).await.err();
            }
            if unwritten.is_some() {
                self.lock().add(attempt, count);
            }
        }
        if let Some(count) = others {
            let row = summary(at, count);
            if unwritten.is_some() || store.record_audit(&row).await.is_err() {
                self.lock().add_other(count);
            }
        }
        if let Some(error) = unwritten {
            tracing::debug!(%error, "failed logins wait for the database");
        }
    }
}

impl Failed {
    fn add(&mut self, attempt: Attempt, count: Count) {
        let known = match attempt.whose {
            Whose::Account(_) => &mut self.accounts,
            Whose::Address(_) => &mut self.strangers,
        };
        if let Some(there) = known.get_mut(&attempt) {
            there.attempts += count.attempts;
        } else if known.len() < FAILED_LOGINS_APART_MAX {
            known.insert(attempt, count);
        } else {
            self.add_other(count);
        }
    }

    fn add_other(&mut self, count: Count) {
        match &mut self.others {
            Some(there) => there.attempts += count.attempts,
            none => *none = Some(count),
        }
    }
}

fn line(at: Timestamp, attempt: Attempt, Count { attempts, trace }: Count) -> AuditRow {
    let visitor = Visitor { origin: attempt.origin, trace };
    let act = if attempt.signed_in { "password_refused" } else { "login_refused" };
    match attempt.whose {
        Whose::Account(user) => {
            let actor = attempt.signed_in.then_some(user);
            let role = if attempt.signed_in { "user" } else { "visitor" };
            let row = visitors_audit(at, &visitor, act, Some(user.0), &json!({"attempts": attempts}));
            AuditRow { actor, role: role.to_owned(), ..row }
        }
        Whose::Address(hash) => {
            let hash = format!("{:016x}", u64::from_be_bytes(hash));
            visitors_audit(at, &visitor, act, None, &json!({"attempts": attempts, "address_hash": hash}))
        }
    }
}

/// The line for failures beyond the bound.
fn summary(at: Timestamp, Count { attempts, trace }: Count) -> AuditRow {
    let visitor = Visitor { origin: None, trace };
    visitors_audit(at, &visitor, "login_refused", None, &json!({"attempts": attempts, "others": true}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{self, AuditFilter};
    use uuid::Uuid;

    fn visitor(last: u8) -> Visitor {
        Visitor { origin: Some(IpAddr::from([192, 0, 2, last])), trace: TraceId(Uuid::nil()) }
    }

    async fn written(log: &LoginLog, store: &dyn Store) -> Vec<AuditRow> {
        let before = store.audit(AuditFilter::default(), None, 1_000).await.unwrap().len();
        log.write(store).await;
        let mut rows = store.audit(AuditFilter::default(), None, 1_000).await.unwrap();
        rows.truncate(rows.len() - before);
        rows
    }

    #[tokio::test]
    async fn failures_are_put_together_bounded_and_name_no_address() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("a.db").display());
        let store = storage::connect(&url).await.unwrap();
        // The table does not exist yet.
        let (log, ada) = (LoginLog::new(Clock::default()), UserId::new());
        for _ in 0..3 {
            log.refused(&visitor(1), Some(ada), "ada@example.com");
        }
        log.write(&*store).await;
        store.migrate().await.unwrap();
        for _ in 0..2 {
            log.refused(&visitor(1), Some(ada), "ada@example.com");
        }
        log.refused(&visitor(2), Some(ada), "ada@example.com");
        for _ in 0..4 {
            log.refused(&visitor(1), None, "nobody@example.com");
        }
        let rows = written(&log, &*store).await;
        assert_eq!(rows.len(), 3, "{rows:?}");
        let of_ada = rows.iter().filter(|row| row.object == Some(ada.0)).map(|row| row.origin.as_str());
        assert_eq!(of_ada.collect::<std::collections::BTreeSet<_>>(), ["192.0.2.1", "192.0.2.2"].into());
        assert!(rows.iter().any(|row| row.detail == r#"{"attempts":5}"#), "kept until there was a table: {rows:?}");
        assert!(rows.iter().any(|row| row.detail.contains(r#""attempts":4"#) && row.object.is_none()));
        assert!(rows.iter().all(|row| row.act == "login_refused" && row.role == "visitor" && row.actor.is_none()));
        assert!(rows.iter().all(|row| !format!("{row:?}").contains("example.com")));

        for n in 0..1_000 {
            log.refused(&visitor(1), None, &format!("{n}@example.com"));
            log.refused(&visitor(1), Some(UserId::new()), "x");
        }
        let rows = written(&log, &*store).await;
        assert_eq!(rows.len(), 2 * FAILED_LOGINS_APART_MAX + 1);
        let others = 2_000 - 2 * FAILED_LOGINS_APART_MAX;
        assert!(rows.iter().any(|row| row.detail == format!(r#"{{"attempts":{others},"others":true}}"#)), "{rows:?}");
        assert_eq!(written(&log, &*store).await, []);
    }
}
