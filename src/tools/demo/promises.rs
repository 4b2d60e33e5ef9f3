//! The promises that the demo checks.

use serde::Serialize;

/// One promise. The order is that of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// No reading and no event had `sold + held` above `total`, and buyers did not get more confirmations.
    NeverOversold,
    /// `available + held + sold = total` in every reading and every event.
    StockAddsUp,
    /// Every order that a client has an answer about exists, once, in the last known state or a legal successor.
    NothingLost,
    /// The buyers' confirmations add up to the server's sold units.
    ToldEqualsSold,
    /// Repeats with the same key got identical answers.
    RetriesIdentical,
    /// Every request was answered in the end, as the API's contract allows.
    EveryoneAnswered,
    /// Every connected follower received the drop's start, sell-out and end.
    EveryoneHeard,
    /// The stopped server's journal and database agree with each other and with the answers.
    AuditClean,
    /// After SIGTERM the server finished its work and exited with code 0.
    CleanShutdown,
}

impl Promise {
    /// Every promise, in the report's order.
    pub const ALL: [Self; 9] = [
        Self::NeverOversold,
        Self::StockAddsUp,
        Self::NothingLost,
        Self::ToldEqualsSold,
        Self::RetriesIdentical,
        Self::EveryoneAnswered,
        Self::EveryoneHeard,
        Self::AuditClean,
        Self::CleanShutdown,
    ];

    /// The promise in a few words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::NeverOversold => "never oversold",
            Self::StockAddsUp => "available + held + sold = total, always",
            Self::NothingLost => "nothing acknowledged was lost",
            Self::ToldEqualsSold => "units sold = units confirmed to buyers",
            Self::RetriesIdentical => "same key, same answer",
            Self::EveryoneAnswered => "every request was answered as the API says",
            Self::EveryoneHeard => "every follower heard everything",
            Self::AuditClean => "journal = database = what clients were told",
            Self::CleanShutdown => "a clean shutdown",
        }
    }
}

/// One promise with its breaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    pub promise: Promise,
    pub kept: bool,
    /// The number of breaches.
    pub times: u64,
    /// The first few breaches.
    pub broken: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_promise_is_listed_once_and_has_its_own_words() {
        let mut texts: Vec<_> = Promise::ALL.iter().map(|promise| promise.text()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Promise::ALL.len());
        assert!(Promise::ALL.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
