//! What a completed entry has survived.

use std::{fmt, str::FromStr, time::Duration};

/// When an entry counts as durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// After `fdatasync`. Survives a crash of the process, of the operating system, and a power cut, as far as the disk
    /// keeps its word.
    #[default]
    Always,
    /// After the write; a sync follows within the interval. Survives a crash of the process. A crash of the operating
    /// system or a power cut may take back what was acknowledged in the last interval.
    Interval(Duration),
    /// After the write; never synced but at the end. Survives a crash of the process only. For tests.
    Never,
}

/// The text was no durability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("durability is `always`, `interval:<milliseconds>` or `never`")]
pub struct NotADurability;

impl FromStr for Durability {
    type Err = NotADurability;
    fn from_str(text: &str) -> Result<Self, NotADurability> {
        match (text, text.strip_prefix("interval:")) {
            ("always", _) => Ok(Self::Always),
            ("never", _) => Ok(Self::Never),
            (_, Some(millis)) => match millis.parse() {
                Ok(millis @ 1..=60_000) => Ok(Self::Interval(Duration::from_millis(millis))),
                _ => Err(NotADurability),
            },
            _ => Err(NotADurability),
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Interval(every) => write!(f, "interval:{}", every.as_millis()),
            Self::Never => f.write_str("never"),
        }
    }
}
