//! Makes a backup, beside a running or a stopped server.

use super::manifest::Manifest;
use super::{
    BackupError, DATABASE, DATABASE_DIRECTORY, JOURNAL, KEYS, SECRET, empty_directory, private_directory, private_file,
    sync_directory,
};
use crate::actors::Clock;
use crate::journal::{self, Copied, CopyError, FileDevice, HeldSegments};
use crate::service::encryption::key_file::Locked;
use crate::storage::{self, Store, StoreError};
use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;
use tokio::process::Command;
use uuid::Uuid;

/// Attempts after changes of the journal that a copy cannot follow, such as a restart of the server.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);
/// How often new segments are searched while the database is copied. Even the smallest segment is not filled, projected
/// and deleted in this time.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The environment variable with the directory for the command's files.
const DIRECTORY_VARIABLE: &str = "LIVEDROP_BACKUP_DATABASE_DIR";

/// The source and the target of a backup.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// The server's data directory.
    pub data_dir: PathBuf,
    /// The URL of the server's database.
    pub database_url: String,
    /// The backup's directory: empty, or not existing yet.
    pub to: PathBuf,
    /// The program that copies a Postgres database, and its arguments; empty for SQLite.
    pub command: Vec<String>,
}

/// Makes a backup, beside a running server or a stopped one.
///
/// # Errors
/// [`BackupError`]; the target is left empty then.
pub async fn take(options: &BackupOptions) -> Result<Manifest, BackupError> {
    let store = storage::connect_existing(&options.database_url).await?;
    let made = match fit(options, &*store) {
        Ok(()) => into_empty(options, &*store).await,
        Err(error) => Err(error),
    };
    store.close().await;
    made
}

fn fit(options: &BackupOptions, store: &dyn Store) -> Result<(), BackupError> {
    match (store.kind(), options.command.is_empty()) {
        ("sqlite", false) => {
            Err(BackupError::Unfit("a SQLite database is copied by livedrop itself: leave the command out".to_owned()))
        }
        ("sqlite", true) | (_, false) => Ok(()),
        (_, true) => Err(BackupError::Unfit(
            "the database is Postgres: name the command that copies it, which runs while the journal is held, such as \
             `livedrop backup --to DIR -- sh -c 'pg_dump --format=custom --file=\"$LIVEDROP_BACKUP_DATABASE_DIR/livedrop.dump\" …'`. \
             A copy that was made before could need records that the journal has deleted since"
                .to_owned(),
        )),
    }
}

async fn into_empty(options: &BackupOptions, store: &dyn Store) -> Result<Manifest, BackupError> {
    let made = empty_directory(&options.to)?;
    let taken = attempts(options, store).await;
    if taken.is_err() {
        // It was empty before: everything in it was written here.
        clear(&options.to);
        if made {
            let _ = fs::remove_dir(&options.to);
        }
    }
    taken
}

async fn attempts(options: &BackupOptions, store: &dyn Store) -> Result<Manifest, BackupError> {
    let mut attempt = 1;
    loop {
        match attempt_once(options, store).await {
            Err(BackupError::Copy(CopyError::Overtaken(_))) if attempt < ATTEMPTS => {
                clear(&options.to);
                tokio::time::sleep(PAUSE).await;
            }
            taken => return taken,
        }
        attempt += 1;
    }
}

/// Removes the contents of a directory that this program wrote.
fn clear(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }
}

async fn attempt_once(options: &BackupOptions, store: &dyn Store) -> Result<Manifest, BackupError> {
    let to = &options.to;
    // `livedrop keys prune` would remove keys that the database's copy needs.
    let _unchanged = Locked::to_copy(&options.data_dir.join(KEYS))?;
    let place = options.data_dir.join(JOURNAL);
    let absent = || CopyError::Absent { place: place.display().to_string() };
    let source = FileDevice::existing(&place).map_err(|_| absent())?;
    let known = journal::read_identity(&source)?.ok_or_else(absent)?;
    require_together(&place, known.journal_id, store).await?;
    // Read before the copy begins: the copy has this record or later ones, and the held segments have everything after
    // it.
    let watermark = store.applied(known.journal_id).await?;
    let mut held = HeldSegments::hold(&source, watermark)?;
    match store.kind() {
        "sqlite" => {
            let path = to.join(DATABASE);
            drop(private_file(&path)?);
            beside(&mut held, &source, async { Ok(store.copy_into(&path).await?) }).await?;
            File::open(&path).and_then(|file| file.sync_all()).map_err(BackupError::io("sync", &path))?;
        }
        _ => beside(&mut held, &source, run(&options.command, &to.join(DATABASE_DIRECTORY))).await?,
    }
    private_directory(&to.join(JOURNAL))?;
    let copy = FileDevice::existing(to.join(JOURNAL)).map_err(BackupError::io("read", to))?;
    let copied = held.copy(&source, &copy)?;
    copy_secret(SECRET, &options.data_dir, to)?;
    // After the database: keys are only added while a server runs.
    copy_secret(KEYS, &options.data_dir, to)?;
    checked(&copied, &copy, watermark)?;
    let manifest = Manifest {
        format: Manifest::format(),
        livedrop_version: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: Clock::default().now(),
        journal_id: copied.identity.journal_id,
        epoch: copied.identity.epoch,
        database: store.kind().to_owned(),
        watermark,
        first_sequence: copied.first_sequence,
        last_sequence: copied.last_sequence,
        files: Vec::new(),
    };
    manifest.write(to)
}

/// Refuses a database that belongs to another journal, or does not know this one: the two cannot be restored together.
async fn require_together(place: &Path, journal: Uuid, store: &dyn Store) -> Result<(), BackupError> {
    let owners = store.owners().await?;
    match owners.iter().find(|owner| owner.journal == journal) {
        Some(owner) if owner.retired => Err(StoreError::Retired { journal }.into()),
        Some(_) => Ok(()),
        None => Err(BackupError::Unfit(format!(
            "the database does not know the journal in {}: they do not belong together",
            place.display()
        ))),
    }
}

/// Copies the database, and meanwhile opens every segment that the journal adds.
async fn beside(
    held: &mut HeldSegments,
    source: &FileDevice,
    copy: impl Future<Output = Result<(), BackupError>>,
) -> Result<(), BackupError> {
    let mut copy = pin!(copy);
    loop {
        tokio::select! {
            done = &mut copy => return done,
            () = tokio::time::sleep(LOOK_EVERY) => held.extend(source)?,
        }
    }
}

async fn run(command: &[String], directory: &Path) -> Result<(), BackupError> {
    private_directory(directory)?;
    let (program, arguments) = command.split_first().expect("it was looked at");
    // Killed if the copy is given up: it writes into a directory that is about to be emptied.
    let mut command = Command::new(program);
    command.args(arguments).env(DIRECTORY_VARIABLE, directory).kill_on_drop(true);
    let ended = command.status().await.map_err(BackupError::io("run", Path::new(program)))?;
    if ended.success() {
        return sync_directory(directory);
    }
    Err(BackupError::Unfit(format!("{program} did not copy the database ({ended}): there is no backup")))
}

/// Copies a file of keys of the data directory. There is none if it is configured.
fn copy_secret(name: &str, data_dir: &Path, to: &Path) -> Result<(), BackupError> {
    let (from, path) = (data_dir.join(name), to.join(name));
    let mut secret = match File::open(&from) {
        Ok(secret) => secret,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(BackupError::io("read", &from)(error)),
    };
    let mut copy = private_file(&path)?;
    io::copy(&mut secret, &mut copy).and_then(|_| copy.sync_all()).map_err(BackupError::io("write", &path))
}

/// Reads the copy as recovery will.
fn checked(copied: &Copied, copy: &FileDevice, watermark: u64) -> Result<(), BackupError> {
    let survey = journal::scan(copy, &mut |_, _| {})?;
    if survey.last_sequence != copied.last_sequence || survey.last_sequence < watermark {
        return Err(BackupError::Unfit(format!(
            "the database holds this journal up to record {watermark}, but the journal ends at {}: they do not belong together",
            survey.last_sequence
        )));
    }
    Ok(())
}
