//! The answers of `/healthz` and `/readyz`.

use crate::domain::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// The state of a part of the system.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Fully working: send traffic.
    Ready,
    /// Working in part: send traffic, but look at the checks.
    Degraded,
    /// Not working: send no traffic.
    Unavailable,
}

/// The answer of `/healthz`: the process is running.
#[derive(Serialize, ToSchema)]
pub struct Alive {
    /// Always `ok`; a process that is not running does not answer.
    #[schema(example = "ok")]
    pub status: &'static str,
}

/// The state of the server and of its parts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// The state of the server. Not simply the worst of the checks: without its database a node is degraded and takes
    /// orders.
    pub status: Health,
    /// The payment provider. `sandbox` takes no real money.
    #[schema(example = "sandbox")]
    pub payments: String,
    /// The state of each part.
    pub checks: Checks,
}

/// The parts of the server, each with its state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Checks {
    /// Makes decisions durable. Without it the server takes no orders.
    pub journal: JournalCheck,
    /// Accounts, catalogue and projected orders. Without it orders go on.
    pub database: DatabaseCheck,
    /// Copies the journal's records into the database.
    pub projector: ProjectorCheck,
    /// Every consumer of the journal, such as the projector.
    pub consumers: ConsumersCheck,
    /// The payment providers.
    pub payments: PaymentsCheck,
    /// Supervised background tasks, such as the scheduler.
    pub tasks: TasksCheck,
}

/// The state of the journal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct JournalCheck {
    /// `unavailable` once it has failed or shuts down, `degraded` while the disk is full.
    pub status: Health,
    /// When answers are durable: `always`, `interval:<ms>` or `never`.
    #[schema(example = "always")]
    pub durability: String,
}

/// The state of the database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct DatabaseCheck {
    /// As of the last ping, a moment ago: a probe must not wait for the database.
    pub status: Health,
    /// Either `sqlite` or `postgres`.
    #[schema(example = "sqlite")]
    pub kind: &'static str,
}

/// The state of the projector.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct ProjectorCheck {
    /// `degraded` while it is far behind, or the database refuses records permanently.
    pub status: Health,
    /// Durable journal records that are not in the database yet.
    #[schema(minimum = 0)]
    pub lag_records: u64,
    /// Records that the database refused permanently, and later ones of the same drops.
    #[schema(minimum = 0)]
    pub set_aside_records: u64,
    /// Ids of up to ten of these drops.
    pub set_aside_drops: Vec<String>,
}

/// The state of the journal's consumers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct ConsumersCheck {
    /// The worst state of any consumer.
    pub status: Health,
    /// The consumers, one entry each.
    pub each: Vec<ConsumerCheck>,
}

/// The state of one consumer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct ConsumerCheck {
    /// The consumer's name, as in metrics and the log.
    #[schema(example = "projector")]
    pub name: &'static str,
    /// `degraded` while it makes no progress or is more than 30 s behind, has dead letters, or has lost or skipped
    /// records and not caught up since.
    pub status: Health,
    /// Durable journal records that it has not processed yet.
    #[schema(minimum = 0)]
    pub lag_records: u64,
    /// Their size in the journal, approximately.
    #[schema(minimum = 0)]
    pub lag_bytes: u64,
    /// Upper bound of the age of the oldest of them, in milliseconds.
    #[schema(minimum = 0)]
    pub lag_ms: u64,
    /// Failed steps since the process started.
    #[schema(minimum = 0)]
    pub errors: u64,
    /// The last error, even if later steps succeeded; `null` if there was none.
    pub last_error: Option<String>,
    /// Unprocessed records that the journal has deleted: the consumer will skip them.
    #[schema(minimum = 0)]
    pub lost_records: u64,
    /// How often it skipped records that the journal had deleted.
    #[schema(minimum = 0)]
    pub gaps: u64,
    /// The number of records skipped in all gaps.
    #[schema(minimum = 0)]
    pub skipped_records: u64,
    /// Effects that its target refused permanently.
    #[schema(minimum = 0)]
    pub dead_letters: u64,
    /// The first and the last record of the latest gap; `null` if there was none.
    pub last_gap: Option<[u64; 2]>,
}

/// The state of the payment providers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct PaymentsCheck {
    /// The worst state of any provider.
    pub status: Health,
    /// The providers, one entry each.
    pub each: Vec<PaymentCheck>,
}

/// The state of one payment provider.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct PaymentCheck {
    /// The provider's name.
    #[schema(example = "stripe")]
    pub provider: &'static str,
    /// `degraded` while it is not asked, because it did not answer lately.
    pub status: Health,
    /// Since when; `null` if it is not.
    pub down_since: Option<Timestamp>,
    /// When it is asked again; `null` if it is not down.
    pub retry_at: Option<Timestamp>,
}

/// The state of the background tasks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct TasksCheck {
    /// `degraded` while a task has failed and is not steady again.
    pub status: Health,
    /// The names of failed tasks.
    pub failing: Vec<&'static str>,
}

/// Reports the state of all parts. Must answer at once, from memory.
pub trait HealthSource: Send + Sync {
    /// The current state, for `/readyz`.
    fn readiness(&self) -> Readiness;
}
