//! Dead letters on their way from the file into the database, and from there to the target once more.

use super::{ABOUT, Target};
use crate::actors::consumers::cloud_event::CloudEvent;
use crate::actors::consumers::dead_letters::{DeadLetter, DeadLetters};
use crate::actors::consumers::keyed::Effect;
use crate::domain::DropRecord;
use crate::domain::limits::DEAD_LETTERS_MAX;
use crate::storage::{DeadLetterRow, Store};
use crate::whole_file::on_disk;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use uuid::Uuid;

/// How many are read at once: what was moved before a crash is there twice at most.
const LETTERS_MAX: u32 = 2 * DEAD_LETTERS_MAX as u32;

/// The result of sending dead letters again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Retried {
    /// Events that the target accepted now.
    pub taken: usize,
    /// The number of events still refused, and the last reason.
    pub left: Option<(usize, String)>,
}

/// Moves dead letters from the file into the database. Returns how many there are in all.
///
/// # Errors
/// Of the file or of the database, in a readable line. Nothing is lost then, and the next try goes on.
pub async fn file_into(store: &dyn Store, dead: &DeadLetters, journal: Uuid) -> Result<usize, String> {
    let file = dead.clone();
    let letters = on_disk(move || file.all()).await.map_err(|error| error.to_string())?;
    if !letters.is_empty() {
        let rows = letters.iter().map(row).collect::<Result<Vec<_>, _>>()?;
        store.keep_dead_letters(ABOUT.name, journal, &rows).await.map_err(|error| error.to_string())?;
    }
    let all = store.dead_letter_count(ABOUT.name, journal).await.map_err(|error| error.to_string())?;
    let (all, ids) =
        (usize::try_from(all).unwrap_or(usize::MAX), letters.into_iter().map(|letter| letter.id).collect());
    let file = dead.clone();
    let moved = on_disk(move || {
        let ids: Vec<String> = ids;
        file.are_moved(&ids, all)?;
        file.count()
    });
    moved.await.map_err(|error| error.to_string())
}

fn row(letter: &DeadLetter) -> Result<DeadLetterRow, String> {
    let DeadLetter { id, reason, .. } = letter;
    let text = serde_json::to_string(letter).map_err(|error| error.to_string())?;
    let sequence = CloudEvent::sequence_of(id).unwrap_or(0);
    Ok(DeadLetterRow { id: id.clone(), sequence, reason: reason.clone(), letter: text })
}

/// Sends dead letters again, one by one. Accepted ones are removed, and records that say nothing to the world.
///
/// # Errors
/// Of the file or of the database, in a readable line; accepted events may be sent again then.
pub async fn retry(
    store: &dyn Store,
    dead: &DeadLetters,
    journal: Uuid,
    target: &mut impl Target,
) -> Result<Retried, String> {
    file_into(store, dead, journal).await?;
    let rows = store.dead_letters(ABOUT.name, journal, LETTERS_MAX).await.map_err(|error| error.to_string())?;
    let mut retried = Retried { taken: 0, left: None };
    for known in rows {
        let letter: DeadLetter = serde_json::from_str(&known.letter).map_err(|error| error.to_string())?;
        let sent = match batch(&letter, journal) {
            Ok(Some(batch)) => target.send(batch).await,
            Ok(None) => Effect::Done,
            Err(reason) => Effect::Refused(reason),
        };
        let done = match sent {
            Effect::Done => {
                retried.taken += 1;
                store.remove_dead_letter(ABOUT.name, journal, &known).await
            }
            Effect::Refused(reason) | Effect::Unavailable(reason) => {
                let left = retried.left.map_or(1, |(left, _)| left + 1);
                retried.left = Some((left, reason.clone()));
                let again = row(&DeadLetter { reason, ..letter })?;
                store
                    .keep_dead_letters(ABOUT.name, journal, &[DeadLetterRow { sequence: known.sequence, ..again }])
                    .await
            }
        };
        done.map_err(|error| error.to_string())?;
    }
    Ok(retried)
}

/// The event as a batch, if there is one in a letter. That of a record is made now: this version of the program may know it.
fn batch(letter: &DeadLetter, journal: Uuid) -> Result<Option<Bytes>, String> {
    if let Some(event) = &letter.event {
        return Ok(Some(format!("[{event}]").into()));
    }
    let bytes = BASE64_STANDARD.decode(letter.record.as_deref().unwrap_or_default());
    let record = DropRecord::decode(&bytes.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    let sequence = CloudEvent::sequence_of(&letter.id).ok_or("its id names no record")?;
    let event = CloudEvent::of(journal, sequence, &record);
    let batch = event.map(|event| serde_json::to_vec(&[event]).map(Bytes::from));
    batch.transpose().map_err(|error| error.to_string())
}
