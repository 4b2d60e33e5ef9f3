//! What `/healthz` and `/readyz` answer.

use serde::Serialize;
use utoipa::ToSchema;

/// How a part of the system does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// As it should.
    Ready,
    /// Serving, but not all of it: traffic may come.
    Degraded,
    /// Traffic must not come.
    Unavailable,
}

/// What `/healthz` answers.
#[derive(Serialize, ToSchema)]
pub struct Alive {
    /// `ok`.
    #[schema(example = "ok")]
    pub status: &'static str,
}

/// What `/readyz` answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// All in all. Not simply the worst of the checks: without its database a node is degraded and takes orders.
    pub status: Health,
    /// Who takes the money. `sandbox` is play money.
    #[schema(example = "sandbox")]
    pub payments: &'static str,
    /// Part by part.
    pub checks: Checks,
}

/// See [`Readiness`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Checks {
    /// The journal.
    pub journal: JournalCheck,
    /// The database.
    pub database: DatabaseCheck,
    /// The cursor between them.
    pub projector: ProjectorCheck,
    /// What follows the journal.
    pub consumers: ConsumersCheck,
    /// What runs in the background.
    pub tasks: TasksCheck,
}

/// The journal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct JournalCheck {
    /// Unavailable once it is poisoned.
    pub status: Health,
    /// As configured: `always`, `interval:<ms>`, `never`.
    #[schema(example = "always")]
    pub durability: String,
}

/// The database.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct DatabaseCheck {
    /// At the last look, not at the time of the request: a probe must not hang on what it probes.
    pub status: Health,
    /// `sqlite` or `postgres`.
    #[schema(example = "sqlite")]
    pub kind: &'static str,
}

/// The projector.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct ProjectorCheck {
    /// Degraded while it is far behind, or the database refuses records for good.
    pub status: Health,
    /// Durable journal records that are not in SQL yet.
    #[schema(minimum = 0)]
    pub lag_records: u64,
    /// Records that the database refused for good, with those of the same drops after them.
    #[schema(minimum = 0)]
    pub set_aside_records: u64,
    /// The first ten of these drops.
    pub set_aside_drops: Vec<String>,
}

/// The consumers of the journal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct ConsumersCheck {
    /// The worst of them.
    pub status: Health,
    /// One by one.
    pub each: Vec<ConsumerCheck>,
}

/// A consumer of the journal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct ConsumerCheck {
    /// As metrics and the log call it.
    #[schema(example = "projector")]
    pub name: &'static str,
    /// Degraded while it makes no progress or is more than 30 s behind, has effects set aside, or has lost or skipped records and not caught up
    /// since.
    pub status: Health,
    /// Durable journal records that it has not passed.
    #[schema(minimum = 0)]
    pub lag_records: u64,
    /// About how many bytes of journal these are.
    #[schema(minimum = 0)]
    pub lag_bytes: u64,
    /// The oldest of them is not older than so many milliseconds.
    #[schema(minimum = 0)]
    pub lag_ms: u64,
    /// How often it failed since the process began.
    #[schema(minimum = 0)]
    pub errors: u64,
    /// Why it last did.
    pub last_error: Option<String>,
    /// How many of them the journal has no more: they will be skipped when it comes to them.
    #[schema(minimum = 0)]
    pub lost_records: u64,
    /// How often it skipped records that the journal did not keep for it any longer.
    #[schema(minimum = 0)]
    pub gaps: u64,
    /// How many records these were.
    #[schema(minimum = 0)]
    pub skipped_records: u64,
    /// Effects that its target refused for good, and that are set aside.
    #[schema(minimum = 0)]
    pub dead_letters: u64,
    /// The first and the last record of the latest gap.
    pub last_gap: Option<[u64; 2]>,
}

/// The background tasks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct TasksCheck {
    /// Degraded while one of them has failed and does not run steadily again.
    pub status: Health,
    /// Their names.
    pub failing: Vec<&'static str>,
}

/// Knows how the parts do. Must answer at once, from memory.
pub trait HealthSource: Send + Sync {
    /// The state of now.
    fn readiness(&self) -> Readiness;
}
