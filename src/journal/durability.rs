//! When a reply may be sent: latency against what a failure can lose.

use std::fmt;

/// What survives which failure. A *crash* is the end of the process (`kill -9`, a panic); a *power loss* takes the operating
/// system's memory with it.
///
/// | | a crash loses | a power loss loses |
/// |---|---|---|
/// | [`Always`](Self::Always) | nothing that was answered | nothing that was answered |
/// | [`Interval`](Self::Interval) | nothing that was answered | answers of about the last `millis` |
/// | [`Never`](Self::Never) | nothing that was answered | everything since the last rotation, and it may refuse to start |
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// Every frame is synced before its replies. The default, and the only right one for money.
    #[default]
    Always,
    /// Replies are sent once the frame is handed to the operating system; a sync follows within `millis`. Consumers
    /// (SQL, broadcast) still see only synced records, so nothing downstream runs ahead of the journal.
    Interval {
        /// The longest time between a reply and the sync that makes it durable.
        millis: u64,
    },
    /// Syncs only at a rotation, at a clean close and at the next open. Consumers see unsynced records, so after a
    /// power loss SQL may be ahead of the journal, which then refuses to start. For tests.
    Never,
}

/// In the form of the configuration.
impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Interval { millis } => write!(f, "interval:{millis}"),
            Self::Never => f.write_str("never"),
        }
    }
}
