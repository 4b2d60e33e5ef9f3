//! Dead letters: effects that a target refuses permanently, each with its reason. Nothing is lost, and nothing behind
//! them waits. A file beside the consumer's offset takes them, so that the consumer goes on while SQL is away; from there
//! they are moved into the database, where backups have them. `livedrop consumers list` counts them, `livedrop consumers
//! retry` sends them again.

use super::offsets::{FOLDER, replace};
use crate::domain::limits::DEAD_LETTERS_MAX;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// An event that the target refused, or a record of which this version of the program could not make one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The event's id.
    pub id: String,
    /// The target's answer, or what is wrong with the record.
    pub reason: String,
    /// The event, as it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Box<RawValue>>,
    /// The record as in the journal, in Base64, where there is no event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
}

/// The dead letters of one consumer that are not in the database yet. Clones share it.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    path: PathBuf,
    /// How many are in the database, as far as is known. Locked while the file is changed.
    moved: Arc<Mutex<usize>>,
}

impl DeadLetters {
    /// Opens the file of a consumer, in a data directory.
    #[must_use]
    pub fn new(data_dir: &Path, consumer: &str) -> Self {
        let path = data_dir.join(FOLDER).join(format!("{consumer}.dead.ndjson"));
        Self { path, moved: Arc::default() }
    }

    /// How many there are, with those in the database.
    ///
    /// # Errors
    /// As [`DeadLetters::all`].
    pub fn count(&self) -> io::Result<usize> {
        let moved = self.locked();
        Ok(self.all()?.len() + *moved)
    }

    /// Whether there are some in the file.
    #[must_use]
    pub fn are_waiting(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|file| file.len() > 0)
    }

    /// Forgets dead letters that are in the database now, where there are so many in all.
    ///
    /// # Errors
    /// If the file cannot be read or written; they may be moved again then.
    pub fn are_moved(&self, ids: &[String], all: usize) -> io::Result<()> {
        let mut moved = self.locked();
        if !ids.is_empty() {
            let mut left = self.all()?;
            left.retain(|letter| !ids.contains(&letter.id));
            self.keep(&left)?;
        }
        *moved = all;
        Ok(())
    }

    fn locked(&self) -> MutexGuard<'_, usize> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All dead letters, oldest first, each once.
    ///
    /// # Errors
    /// If the file cannot be read or has another format.
    pub fn all(&self) -> io::Result<Vec<DeadLetter>> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text?,
        };
        let mut letters: Vec<DeadLetter> = Vec::new();
        for line in text.lines() {
            let wrong = |error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", self.path.display()));
            let letter: DeadLetter = serde_json::from_str(line).map_err(wrong)?;
            if letters.iter().all(|known| known.id != letter.id) {
                letters.push(letter);
            }
        }
        Ok(letters)
    }

    /// Adds a dead letter, durably, unless it is there already. Returns how many there are, with those in the database.
    ///
    /// # Errors
    /// If the write to disk failed, or there are [`DEAD_LETTERS_MAX`] already.
    pub fn add(&self, letter: DeadLetter) -> io::Result<usize> {
        let moved = self.locked();
        let mut letters = self.all()?;
        if letters.iter().any(|known| known.id == letter.id) {
            return Ok(letters.len() + *moved);
        }
        if letters.len() + *moved >= DEAD_LETTERS_MAX {
            return Err(io::Error::other(format!("there are {DEAD_LETTERS_MAX} dead letters already")));
        }
        letters.push(letter);
        self.keep(&letters)?;
        Ok(letters.len() + *moved)
    }

    fn keep(&self, letters: &[DeadLetter]) -> io::Result<()> {
        let mut text = Vec::new();
        for letter in letters {
            serde_json::to_writer(&mut text, letter)?;
            text.push(b'\n');
        }
        replace(&self.path, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_kept_in_the_place_of_an_event() {
        let folder = tempfile::tempdir().unwrap();
        let letters = DeadLetters::new(folder.path(), "events");
        let record = || Some("CQE=".to_owned());
        letters
            .add(DeadLetter { id: "7-0".to_owned(), reason: "version".to_owned(), event: None, record: record() })
            .unwrap();
        let all = letters.all().unwrap();
        assert!(all[0].event.is_none() && all[0].record == record());
    }

    fn letter(id: &str, reason: &str) -> DeadLetter {
        DeadLetter {
            id: id.to_owned(),
            reason: reason.to_owned(),
            event: Some(RawValue::from_string("{\"a\":1}".to_owned()).unwrap()),
            record: None,
        }
    }

    #[test]
    fn each_is_kept_once_and_goes_when_it_was_taken() {
        let folder = tempfile::tempdir().unwrap();
        let letters = DeadLetters::new(folder.path(), "events");
        assert!(letters.all().unwrap().is_empty());
        assert_eq!(letters.add(letter("7-0", "400")).unwrap(), 1);
        assert_eq!(letters.add(letter("9-0", "422 \"no\"\n")).unwrap(), 2);
        assert_eq!(letters.add(letter("7-0", "again, after a crash")).unwrap(), 2);
        let all = letters.all().unwrap();
        let said: Vec<(&str, &str, &str)> =
            all.iter().map(|letter| (&*letter.id, &*letter.reason, letter.event.as_ref().unwrap().get())).collect();
        assert_eq!(said, [("7-0", "400", "{\"a\":1}"), ("9-0", "422 \"no\"\n", "{\"a\":1}")]);
        letters.are_moved(&["7-0".to_owned()], 1).unwrap();
        assert_eq!((letters.all().unwrap()[0].id.as_str(), letters.count().unwrap()), ("9-0", 2));
        assert_eq!(letters.clone().add(letter("11-0", "400")).unwrap(), 3, "those in the database are known to clones");
        letters.are_moved(&[], 0).unwrap();
        let full: Vec<DeadLetter> = (0..DEAD_LETTERS_MAX).map(|n| letter(&n.to_string(), "")).collect();
        letters.keep(&full).unwrap();
        assert!(letters.add(letter("one more", "")).is_err());
        assert_eq!(letters.add(letter("9", "")).unwrap(), DEAD_LETTERS_MAX);
    }
}
