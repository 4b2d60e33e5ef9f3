//! Checks a backup, then writes a data directory.

use super::manifest::Manifest;
use super::{
    BackupError, DATABASE, JOURNAL, KEYS, SECRET, empty_directory, private_directory, private_file, sync_directory,
};
use crate::journal::{self, FileDevice, META_FILE};
use std::fs::File;
use std::io;
use std::path::Path;

/// The result of a restore.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    pub manifest: Manifest,
}

impl Restored {
    /// The result and the remaining steps, for people.
    #[must_use]
    pub fn rendered(&self, data_dir: &Path) -> String {
        let Manifest { journal_id, first_sequence, last_sequence, watermark, created_at, .. } = &self.manifest;
        let database = match self.manifest.database.as_str() {
            "sqlite" => format!("sqlite, {}", data_dir.join(DATABASE).display()),
            kind => format!(
                "{kind}: restore the copy that was made with this backup before you start the server. It must be at record \
                 {watermark} to {last_sequence} of the journal; the start refuses any other"
            ),
        };
        let secret = match self.manifest.has(SECRET) {
            true => "restored",
            false => {
                "not in the backup: start with the jwt_secret that was configured, or every login made before is void"
            }
        };
        let keys = match self.manifest.has(KEYS) {
            true => "restored",
            false => {
                "not in the backup: put the configured encryption_key_file in its place, or encrypted addresses cannot be read"
            }
        };
        format!(
            "restored  {} (as of {created_at})\njournal   {journal_id}, records {first_sequence} to {last_sequence}\n\
             database  {database}\nsecret    {secret}\nkeys      {keys}\n",
            data_dir.display()
        )
    }
}

/// Writes the backup in `from` into `data_dir`, which is empty or does not exist. Every file is checked first.
///
/// `journal.meta` is written last: a data directory without it refuses to start, so a partial restore is never mistaken
/// for a complete one.
///
/// # Errors
/// [`BackupError::Refused`] for a backup that is incomplete, truncated, altered or mixed: nothing was written.
pub fn restore(from: &Path, data_dir: &Path) -> Result<Restored, BackupError> {
    let manifest = Manifest::read_checked(from)?;
    let identity = check_journal(from, &manifest)?;
    if manifest.database == "sqlite" && !manifest.has(DATABASE) {
        return Err(BackupError::refused(&from.join(DATABASE), "the file is missing"));
    }
    empty_directory(data_dir)?;
    let journal_dir = data_dir.join(JOURNAL);
    private_directory(&journal_dir)?;
    let meta = format!("{JOURNAL}/{META_FILE}");
    for entry in &manifest.files {
        let of_the_journal = entry.name.starts_with(&format!("{JOURNAL}/")) && entry.name != meta;
        if of_the_journal || entry.name == DATABASE || entry.name == SECRET || entry.name == KEYS {
            copy(&from.join(&entry.name), &data_dir.join(&entry.name))?;
        }
    }
    sync_directory(&journal_dir)?;
    sync_directory(data_dir)?;
    let device = FileDevice::existing(&journal_dir).map_err(BackupError::io("read", &journal_dir))?;
    let restored = identity.restored(manifest.last_sequence, rand::random());
    let Some(restored) = restored else {
        return Err(BackupError::Unfit(format!("the journal's epoch, {}, cannot be raised any more", identity.epoch)));
    };
    restored.write(&device).map_err(BackupError::io("write", &journal_dir.join(META_FILE)))?;
    Ok(Restored { manifest })
}

/// Checks the journal against the manifest. Files with right checksums may still be from two backups.
fn check_journal(from: &Path, manifest: &Manifest) -> Result<journal::Identity, BackupError> {
    let place = from.join(JOURNAL);
    let refused = |what: String| BackupError::refused(&place, what);
    let device = FileDevice::existing(&place).map_err(|_| refused("the journal is missing".to_owned()))?;
    let survey = journal::scan(&device, &mut |_, _| {}).map_err(|error| refused(error.to_string()))?;
    let identity = survey.identity.ok_or_else(|| refused(format!("{META_FILE} is missing")))?;
    let found = (identity.journal_id, identity.epoch, survey.first_sequence, survey.last_sequence);
    let said = (manifest.journal_id, manifest.epoch, manifest.first_sequence, manifest.last_sequence);
    if found != said {
        return Err(refused(format!(
            "the journal is {} at epoch {} with records {} to {}, and the manifest says {} at epoch {} with records {} to {}",
            found.0, found.1, found.2, found.3, said.0, said.1, said.2, said.3
        )));
    }
    Ok(identity)
}

fn copy(from: &Path, to: &Path) -> Result<(), BackupError> {
    let mut source = File::open(from).map_err(BackupError::io("read", from))?;
    let mut file = private_file(to)?;
    io::copy(&mut source, &mut file).and_then(|_| file.sync_all()).map_err(BackupError::io("write", to))
}
