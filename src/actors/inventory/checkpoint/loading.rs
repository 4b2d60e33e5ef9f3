//! Reads a checkpoint at a start.

use super::file::{self, Header};
use super::manifest::{Entry, Manifest};
use super::metrics::CheckpointMetrics;
use super::{EXTENSION, MANIFEST, Origin, SavedDrop, Unusable, path_of};
use crate::actors::inventory::all_cores::on_all_cores;
use crate::domain::DropId;
use crate::engine::DropState;
use crate::whole_file::DRAFT_EXTENSION;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind};
use std::path::Path;
use tracing::warn;

/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;
/// Threads that read files beside each other, at most.
const THREADS_MAX: usize = 8;

/// The journal that a checkpoint is to be used with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Whose it is, as it is open now.
    pub origin: Origin,
    /// The oldest record that it has; one more than the last where it has none.
    pub oldest: u64,
    /// The last record.
    pub last: u64,
}

/// What could be used.
#[derive(Default)]
pub struct Loaded {
    /// The drops, and the journal record after which replay begins for each.
    pub drops: Vec<(DropState, u64)>,
    /// Their files.
    pub saved: HashMap<DropId, SavedDrop>,
    /// What could not be used, and why, by the file's name.
    pub unusable: Vec<(String, Unusable)>,
    /// The record at which the drops are all that were in memory, if the manifest says so and each of its files could be
    /// used. The journal has every record after it.
    pub complete_at: Option<u64>,
}

/// Reads all files that count. What cannot be used is told in a line each, and deleted: no later start may take it for good.
///
/// # Errors
/// Where a file that is ahead of the journal cannot be deleted. Once the journal has grown past it, it would pass for true.
pub fn load(folder: &Path, journal: Extent, metrics: &CheckpointMetrics) -> io::Result<Loaded> {
    let loaded = read(folder, journal);
    for (name, why) in &loaded.unusable {
        metrics.found(why);
        let path = folder.join(name);
        warn!(file = %path.display(), reason = %why, "a checkpoint file cannot be used; its drops are loaded from the database");
        match fs::remove_file(&path) {
            Err(error) if matches!(why, Unusable::Ahead { .. }) && error.kind() != ErrorKind::NotFound => {
                return Err(error);
            }
            _ => {}
        }
    }
    Ok(loaded)
}

/// The same, changing nothing.
#[must_use]
pub fn read(folder: &Path, journal: Extent) -> Loaded {
    let manifest = match read_manifest(folder, journal) {
        Ok(manifest) => manifest,
        // None was ever written, or its journal is new.
        Err(Unusable::Missing) if !has_files(folder) => return Loaded::default(),
        Err(why) => return Loaded { unusable: vec![(MANIFEST.to_owned(), why)], ..Loaded::default() },
    };
    let read = on_all_cores(&manifest.entries, THREADS_MAX, |entry| (entry.drop, read_drop(folder, entry, journal)));
    let mut loaded = Loaded::default();
    for (drop, read) in read {
        match read {
            Ok((state, saved)) => {
                loaded.saved.insert(drop, saved);
                loaded.drops.push((state, saved.position));
            }
            Err(why) => loaded.unusable.push((file_name(folder, drop), why)),
        }
    }
    let is_complete = manifest.is_complete && loaded.unusable.is_empty() && manifest.position + 1 >= journal.oldest;
    loaded.complete_at = is_complete.then_some(manifest.position);
    loaded
}

/// The record at which a checkpoint of an earlier opening of this journal is complete, as its manifest says; none of the
/// files is read. `Ok(None)`: it is not complete.
///
/// # Errors
/// [`Unusable`].
pub fn complete_at(folder: &Path, journal: Origin) -> Result<Option<u64>, Unusable> {
    let manifest = Manifest::decode(&fs::read(folder.join(MANIFEST)).map_err(unreadable)?)?;
    if !journal.has_written(manifest.origin) {
        return Err(Unusable::Foreign);
    }
    Ok(manifest.is_complete.then_some(manifest.position))
}

fn file_name(folder: &Path, drop: DropId) -> String {
    path_of(folder, drop).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn has_files(folder: &Path) -> bool {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    names.into_iter().any(|path| path.extension().is_some_and(|extension| extension == EXTENSION))
}

fn read_manifest(folder: &Path, journal: Extent) -> Result<Manifest, Unusable> {
    let bytes = fs::read(folder.join(MANIFEST)).map_err(unreadable)?;
    let manifest = Manifest::decode(&bytes)?;
    if !journal.origin.has_written(manifest.origin) {
        return Err(Unusable::Foreign);
    }
    // It would pass for true once the journal has grown past it, and so would its files.
    if manifest.position > journal.last {
        return Err(Unusable::Ahead { position: manifest.position, last: journal.last });
    }
    Ok(manifest)
}

fn read_drop(folder: &Path, entry: &Entry, journal: Extent) -> Result<(DropState, SavedDrop), Unusable> {
    let file = File::open(path_of(folder, entry.drop)).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    let mut input = BufReader::with_capacity(READ_BYTES, file);
    let header = file::read_header(&mut input)?;
    if !journal.origin.has_written(header.origin) || header.drop != entry.drop {
        return Err(Unusable::Foreign);
    }
    let position = true_at(&header, entry)?;
    if position > journal.last {
        return Err(Unusable::Ahead { position, last: journal.last });
    }
    if position + 1 < journal.oldest {
        return Err(Unusable::Behind { position, oldest: journal.oldest });
    }
    let state = file::read_rest(&header, &mut input)?;
    let saved = SavedDrop { file_position: header.position, position, changes: state.changes(), bytes };
    Ok((state, saved))
}

/// Up to which record a file is true. It may be newer than the manifest, where the process ended between the two.
fn true_at(header: &Header, entry: &Entry) -> Result<u64, Unusable> {
    match header.position.cmp(&entry.file_position) {
        std::cmp::Ordering::Equal => Ok(entry.position.max(header.position)),
        std::cmp::Ordering::Greater => Ok(header.position),
        std::cmp::Ordering::Less => Err(Unusable::Damaged("it is older than the manifest says".to_owned())),
    }
}

fn unreadable(error: io::Error) -> Unusable {
    match error.kind() {
        ErrorKind::NotFound => Unusable::Missing,
        _ => Unusable::Unreadable(error.to_string()),
    }
}

/// Deletes the files of drops that `stay` does not want, and drafts that a crash has left. Returns how many files were deleted.
///
/// # Errors
/// Those of the disk; what is left is tried again with the next round.
pub(super) fn delete_others(folder: &Path, stay: impl Fn(DropId) -> bool) -> io::Result<usize> {
    let mut deleted = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let of_drop = || path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        let goes = match extension {
            Some(EXTENSION) => of_drop().is_none_or(|drop: DropId| !stay(drop)),
            Some(DRAFT_EXTENSION) => true,
            _ => false,
        };
        if goes {
            fs::remove_file(&path)?;
            failpoint!("checkpoint.after_delete", error);
            deleted += 1;
        }
    }
    Ok(deleted)
}

/// Deletes all of it: who does not use checkpoints must not find an old one later.
///
/// # Errors
/// Those of the disk.
pub fn delete(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
