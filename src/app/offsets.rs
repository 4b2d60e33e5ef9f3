//! The command `livedrop consumers`: lists the journal's consumers and their offsets, and moves them. For a stopped
//! server; for a running one `/readyz` and `/metrics` show more.

use super::consumers::ALL;
use super::projection::resting_journal;
use crate::actors::consumers::offsets::AT_THE_END;
use crate::actors::consumers::{About, projector};
use crate::config::Config;
use crate::journal::Identity;
use crate::service::events::{self, HttpTarget, Kept, Retried};
use crate::storage::Store;
use std::{collections::BTreeSet, fmt, str::FromStr};

/// The new position of a consumer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Position {
    /// The oldest record of the journal at the next start.
    Start,
    /// The journal's end at the next start.
    End,
    /// Directly after this record.
    After(u64),
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "start" => Ok(Self::Start),
            "end" => Ok(Self::End),
            number => number
                .parse()
                .ok()
                .filter(|sequence| *sequence > 0)
                .map(Self::After)
                .ok_or_else(|| "start, end, or the last record that needs nothing any more".to_owned()),
        }
    }
}

/// A line of `livedrop consumers list`.
pub struct Listed {
    about: &'static About,
    /// The stored offset, if there is one.
    offset: Option<u64>,
    dead_letters: usize,
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let About { name, effect, offset, retention } = self.about;
        let at = match self.offset {
            None => "-".to_owned(),
            Some(AT_THE_END) => "end".to_owned(),
            Some(sequence) => sequence.to_string(),
        };
        let retention = format!("{retention:?}").to_lowercase();
        write!(f, "{name:<12} {retention:<8} {at:>12} {:>6}  {effect}; offset {offset}", self.dead_letters)
    }
}

/// All consumers (`livedrop consumers list`).
///
/// # Errors
/// One readable line: a running server, no journal, a file, or the database.
pub async fn list(config: &Config, store: &dyn Store) -> Result<Vec<Listed>, String> {
    let Identity { journal_id, epoch, .. } = resting_journal(config)?;
    let kept = Kept::new(&config.data_dir);
    let mut listed = Vec::new();
    for about in ALL {
        let (mut offset, mut dead_letters) = (None, 0);
        if about == &projector::ABOUT {
            let watermark = store.watermark(journal_id).await.map_err(|error| error.to_string())?;
            offset = watermark.map(|watermark| watermark.sequence);
        } else if about == &events::ABOUT {
            let copy = store.consumer_offset(about.name, journal_id).await.map_err(|error| error.to_string())?;
            let file = kept.offset.load(journal_id, epoch).map_err(|error| error.to_string())?;
            offset = file.or(copy.map(|copy| copy.sequence));
            let known =
                store.dead_letters(about.name, journal_id, u32::MAX).await.map_err(|error| error.to_string())?;
            let mut ids: BTreeSet<String> = known.into_iter().map(|letter| letter.id).collect();
            // Not moved yet.
            let file = kept.dead.all().map_err(|error| error.to_string())?;
            ids.extend(file.into_iter().map(|letter| letter.id));
            dead_letters = ids.len();
        }
        listed.push(Listed { about, offset, dead_letters });
    }
    Ok(listed)
}

/// Moves a consumer (`livedrop consumers reset`).
///
/// # Errors
/// As [`list`]; and for a consumer without an offset of its own.
pub fn reset(config: &Config, name: &str, to: Position) -> Result<(), String> {
    let Identity { journal_id, epoch, .. } = resting_journal(config)?;
    let about = ALL.into_iter().find(|about| about.name == name);
    let about = about.ok_or_else(|| format!("there is no consumer {name}"))?;
    if about != &events::ABOUT {
        return Err(format!("{name} cannot be moved: its offset is kept {}", about.offset));
    }
    let offset = Kept::new(&config.data_dir).offset;
    let moved = match to {
        Position::Start => offset.store(journal_id, epoch, 0),
        Position::End => offset.store(journal_id, epoch, AT_THE_END),
        Position::After(sequence) => offset.store(journal_id, epoch, sequence),
    };
    moved.map_err(|error| format!("the offset cannot be written: {error}"))
}

/// Sends a consumer's dead letters again (`livedrop consumers retry`).
///
/// # Errors
/// As [`list`]; and for a consumer without dead letters in a file.
pub async fn retry(config: &Config, store: &dyn Store, name: &str) -> Result<Retried, String> {
    let Identity { journal_id, .. } = resting_journal(config)?;
    if name != events::ABOUT.name {
        return Err(format!("{name} has no dead letters; what SQL refuses is `livedrop projection`"));
    }
    let url = config.events_url.clone().ok_or("events_url is not set: where to send them?")?;
    let dead = Kept::new(&config.data_dir).dead;
    events::retry(store, &dead, journal_id, &mut HttpTarget::new(url)).await
}
