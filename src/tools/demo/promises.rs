//! The promises that the demo holds the server to.

use serde::Serialize;

/// One promise. The order is the report's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// `sold + held` never exceeded `total`, in no reading and no event, and no more was confirmed to buyers.
    NeverOversold,
    /// `available + held + sold = total` in every reading and every event.
    StockAddsUp,
    /// Every order that a client was told of is there, once, in the state last told or a legal successor.
    NothingLost,
    /// What buyers were told adds up to what the server says is sold.
    ToldEqualsSold,
    /// The same key got the same answer, to the letter.
    RetriesIdentical,
    /// Every request got an answer in the end, and one that the API's contract has for it.
    EveryoneAnswered,
    /// Every connected follower heard the drop start, sell out and end.
    EveryoneHeard,
    /// The stopped server's journal and database agree with each other and with the rest.
    AuditClean,
    /// Asked to stop, the server finished its work and left with exit code 0.
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

    /// What it says, in a few words.
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

/// One promise and how it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    pub promise: Promise,
    pub kept: bool,
    /// How often it was broken.
    pub times: u64,
    /// The first few times.
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
