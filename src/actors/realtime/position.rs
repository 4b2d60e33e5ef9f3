//! A client's position in what was published, so that it can reconnect and get exactly what it missed.
//!
//! Every event has a position: the sequence of its journal record. The exception is `stock_changed`, which covers all
//! changes up to some record and is published later. So a position is two numbers: records up to `published` have been
//! published, and of their stock changes those up to `stock`. Both come from the journal, so they stay valid across
//! restarts.

use crate::journal::{Durability, JournalReader};
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// Identifies the journal that positions count in. Another journal (a new data directory, or one that lost published
/// records in a power loss) makes every older position invalid.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of an open journal. It stays the same across restarts, unless the journal may lose published records.
    #[must_use]
    pub fn of(journal: &JournalReader) -> Self {
        let id = journal.journal_id().as_u64_pair().1;
        match journal.durability() {
            Durability::Always => Self(id),
            _ => Self(id ^ u64::from(journal.epoch()).rotate_right(16)),
        }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A position in the stream. Ordered as things are published.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct StreamPosition {
    /// Records up to this one have been published.
    pub published: u64,
    /// Stock changes up to this record have been published.
    pub stock: u64,
}

/// A position in the form that clients store: the `id` of an event. `<epoch>-<published>` for events published at once,
/// where the server remembers the stock's part, and `<epoch>-<published>-<stock>` for `stock_changed` and for answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offset {
    /// The journal that the position counts in.
    pub epoch: Epoch,
    /// Records up to this one have been published.
    pub published: u64,
    /// Stock changes up to this record have been published, if the id has this part.
    pub stock: Option<u64>,
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.published)?;
        self.stock.map_or(Ok(()), |stock| write!(f, "-{stock}"))
    }
}

impl From<Offset> for Uuid {
    /// The form in a list's cursor; without the stock's part.
    fn from(since: Offset) -> Self {
        Self::from_u64_pair(since.epoch.0, since.published)
    }
}

impl From<Uuid> for Offset {
    fn from(pair: Uuid) -> Self {
        let (epoch, published) = pair.as_u64_pair();
        Self { epoch: Epoch(epoch), published, stock: None }
    }
}

impl FromStr for Offset {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('-');
        let epoch = parts.next().filter(|hex| hex.len() == 16 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let epoch = Epoch(u64::from_str_radix(epoch.ok_or(())?, 16).map_err(|_| ())?);
        let published = number(parts.next().ok_or(())?)?;
        let stock = parts.next().map(number).transpose()?;
        parts.next().is_none().then_some(Self { epoch, published, stock }).ok_or(())
    }
}

/// Accepts digits only: `parse` alone would accept a sign.
fn number(text: &str) -> Result<u64, ()> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().map_err(|_| ()) } else { Err(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_written() {
        let epoch = Epoch(0x00ab_cdef_0123_4567);
        for since in [
            Offset { epoch, published: 0, stock: None },
            Offset { epoch, published: 41, stock: None },
            Offset { epoch, published: u64::MAX, stock: Some(7) },
        ] {
            assert_eq!(since.to_string().parse(), Ok(since));
        }
        assert_eq!(Offset { epoch, published: 41, stock: Some(40) }.to_string(), "00abcdef01234567-41-40");
        for bad in ["", "-", "1-2", "00abcdef01234567", "00abcdef01234567-", "00abcdef01234567-+1"] {
            assert_eq!(bad.parse::<Offset>(), Err(()), "{bad}");
        }
        for bad in ["00abcdef01234567-1-", "00abcdef01234567-1-2-3", "00abcdef0123456x-1", "00abcdef01234567-1-x"] {
            assert_eq!(bad.parse::<Offset>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn places_follow_the_order_of_telling() {
        let position = |published, stock| StreamPosition { published, stock };
        assert!(position(5, 3) < position(5, 5));
        assert!(position(5, 5) < position(6, 5));
    }
}
