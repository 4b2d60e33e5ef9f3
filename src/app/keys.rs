//! The command `livedrop keys`: the keys that encrypt personal data in SQL.
//!
//! A rotation adds a key to the file, which is in use at once, also in a running server, and then wraps each row's data key
//! anew. Earlier keys stay in the file, so that it may end anywhere and go on later. `prune` removes them.

use super::projection::resting_journal;
use crate::config::{Config, ServeArgs};
use crate::domain::limits::REWRAPPED_AT_ONCE;
use crate::service::addresses::{place, sealed_part};
use crate::service::encryption::key_file::{self, Locked};
use crate::service::encryption::{KeyId, Keyring};
use crate::storage::{AddressRow, Store};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

#[derive(clap::Subcommand)]
pub enum KeysTask {
    /// List the keys, and how many rows each of them encrypts
    List(Box<ServeArgs>),
    /// Make a new key and encrypt all rows' data keys with it, beside a running server or a stopped one. It finishes a
    /// rotation that was interrupted, and makes no new key then
    Rotate(Box<ServeArgs>),
    /// Remove keys that encrypt nothing any more. The server must not run
    Prune(Box<ServeArgs>),
}

impl KeysTask {
    /// The server's settings.
    #[must_use]
    pub fn settings(&self) -> &ServeArgs {
        match self {
            Self::List(args) | Self::Rotate(args) | Self::Prune(args) => args,
        }
    }
}

/// Runs one of the commands, and prints its result.
///
/// # Errors
/// One readable line.
pub async fn run(task: &KeysTask, config: &Config, store: &dyn Store) -> Result<(), String> {
    let path = &config.encryption_key_file;
    match task {
        KeysTask::List(_) => print!("{}", list(path, store).await?),
        KeysTask::Rotate(_) => {
            let rotated = rotate(path, store).await?;
            println!("{}", rotated.rendered());
            rotated.complete()?;
        }
        KeysTask::Prune(_) => {
            resting_journal(config)?;
            let removed = prune(path, store).await?;
            println!("removed {} keys", removed.len());
            removed.iter().for_each(|key| println!("{key}"));
        }
    }
    Ok(())
}

async fn list(path: &Path, store: &dyn Store) -> Result<String, String> {
    let keys = key_file::read(path).map_err(|error| error.to_string())?;
    let mut wrapped = in_use(store).await?;
    let mut text = String::new();
    for key in keys.all() {
        let id = key.id();
        let rows = wrapped.remove(&id.to_string()).unwrap_or(0);
        let state = if id == keys.current().id() { "in use" } else { "earlier" };
        let _ = writeln!(text, "{id}  {state}  {rows} rows");
    }
    for (id, rows) in wrapped {
        let _ = writeln!(text, "{id}  MISSING  {rows} rows, which cannot be read");
    }
    Ok(text)
}

/// The result of a rotation.
#[derive(PartialEq, Eq, Debug)]
struct Rotated {
    key: KeyId,
    /// Whether it was begun by an earlier command.
    resumed: bool,
    /// Rows whose data key was wrapped anew.
    rows: u64,
    /// Rows that could not be, and the first reason.
    unreadable: Option<(u64, String)>,
    /// Rows that were written with an earlier key while the rotation ran.
    left: u64,
}

impl Rotated {
    fn rendered(&self) -> String {
        let Self { key, resumed, rows, .. } = self;
        let what = if *resumed { "finished the earlier rotation to key" } else { "rotated to the new key" };
        format!("{what} {key}: {rows} rows; earlier keys are still in the file, see `livedrop keys prune`")
    }

    fn complete(&self) -> Result<(), String> {
        match (&self.unreadable, self.left) {
            (Some((rows, first)), _) => Err(format!("{rows} rows cannot be decrypted and are as before: {first}")),
            (None, 0) => Ok(()),
            (None, left) => Err(format!("{left} rows were written with an earlier key meanwhile: run it again")),
        }
    }
}

async fn rotate(path: &Path, store: &dyn Store) -> Result<Rotated, String> {
    let file = Locked::to_change(path).map_err(|error| error.to_string())?;
    let mut keys = file.keys().map_err(|error| error.to_string())?;
    let known = |keys: &Keyring, id: &str| id.parse().is_ok_and(|id| keys.key(id).is_some());
    let unfinished = |keys: &Keyring, id: &str| known(keys, id) && id != keys.current().id().to_string();
    let resumed = in_use(store).await?.keys().any(|id| unfinished(&keys, id));
    if !resumed {
        keys = file.add().map_err(|error| error.to_string())?;
    }
    let key = keys.current().id();
    let (mut rows, mut unreadable, mut after) = (0, None, None);
    loop {
        let found = store.wrapped_by_others(&key.to_string(), after, REWRAPPED_AT_ONCE).await;
        let found = found.map_err(|error| error.to_string())?;
        let Some(last) = found.last() else { break };
        after = Some(last.version);
        for row in &found {
            match wrapped_anew(&keys, row) {
                Ok((key, data_key)) => {
                    let done = store.rewrap(row.version, &row.key, &key.to_string(), &data_key).await;
                    // A row that was changed or deleted meanwhile needs nothing.
                    rows += u64::from(done.map_err(|error| error.to_string())?);
                }
                Err(error) => unreadable.get_or_insert((0, error)).0 += 1,
            }
        }
    }
    let left = in_use(store).await?.into_iter().filter(|(id, _)| unfinished(&keys, id));
    let left = if unreadable.is_some() { 0 } else { left.map(|(_, rows)| rows).sum() };
    Ok(Rotated { key, resumed, rows, unreadable, left })
}

fn wrapped_anew(keys: &Keyring, row: &AddressRow) -> Result<(KeyId, Vec<u8>), String> {
    let place = place(row);
    let rewrapped = keys.rewrap(place, &sealed_part(row)?).map_err(|error| error.to_string())?;
    rewrapped.ok_or_else(|| format!("{place}: it has the current key already"))
}

async fn prune(path: &Path, store: &dyn Store) -> Result<Vec<KeyId>, String> {
    let file = Locked::to_change(path).map_err(|error| error.to_string())?;
    let needed: Vec<KeyId> = in_use(store).await?.keys().filter_map(|id| id.parse().ok()).collect();
    file.retain(&needed).map_err(|error| error.to_string())
}

async fn in_use(store: &dyn Store) -> Result<BTreeMap<String, u64>, String> {
    Ok(store.wrapping_keys().await.map_err(|error| error.to_string())?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::Clock;
    use crate::domain::UserId;
    use crate::service::addresses::references::References;
    use crate::service::addresses::{Addresses, fixtures};
    use crate::service::encryption::key_file::KeyFile;
    use crate::storage::{connect, sqlite_url};
    use std::path::PathBuf;
    use std::sync::Arc;
    use tempfile::TempDir;

    struct Shop {
        folder: TempDir,
        store: Arc<dyn Store>,
        addresses: Addresses,
        users: Vec<UserId>,
    }

    impl Shop {
        /// A database with an address of each of some users.
        async fn with_users(count: usize) -> Self {
            let folder = TempDir::new().unwrap();
            let store = connect(&sqlite_url(&folder.path().join("a.db"))).await.unwrap();
            store.migrate().await.unwrap();
            let (keys, _) = KeyFile::open(&folder.path().join(key_file::FILE)).unwrap();
            let addresses = Addresses::new(Arc::clone(&store), keys, Clock::default(), References::new(&[7; 32]));
            let mut shop = Self { folder, store, addresses, users: Vec::new() };
            for _ in 0..count {
                shop.add_user().await;
            }
            shop
        }

        async fn add_user(&mut self) {
            let caller = fixtures::user_in(&*self.store).await;
            self.addresses.add(&caller, fixtures::address(self.users.len())).await.unwrap();
            self.users.push(caller.user);
        }

        fn file(&self) -> PathBuf {
            self.folder.path().join(key_file::FILE)
        }

        async fn rotate(&self) -> Rotated {
            rotate(&self.file(), &*self.store).await.unwrap()
        }

        /// Each address is what it was.
        async fn check(&self) {
            for (number, user) in self.users.iter().enumerate() {
                let known = self.addresses.list(*user).await.unwrap();
                assert_eq!((known.len(), &known[0].address), (1, &fixtures::address(number)));
            }
        }
    }

    #[tokio::test]
    async fn a_rotation_wraps_every_row_and_changes_none() {
        let mut shop = Shop::with_users(REWRAPPED_AT_ONCE as usize + 3).await;
        let rows = shop.users.len() as u64;
        let first = key_file::read(&shop.file()).unwrap().current().id();
        let rotated = shop.rotate().await;
        assert_eq!((rotated.resumed, rotated.rows, rotated.complete()), (false, rows, Ok(())));
        assert_ne!(rotated.key, first);
        shop.check().await;
        // A server that has run since before writes with the new key.
        shop.add_user().await;
        let listed = list(&shop.file(), &*shop.store).await.unwrap();
        let lines = format!("{first}  earlier  0 rows\n{}  in use  {} rows\n", rotated.key, rows + 1);
        assert_eq!(listed, lines);
        assert_eq!(prune(&shop.file(), &*shop.store).await.unwrap(), [first]);
        shop.check().await;
    }

    #[tokio::test]
    async fn an_interrupted_rotation_goes_on_and_makes_no_new_key() {
        let shop = Shop::with_users(3).await;
        let first = key_file::read(&shop.file()).unwrap().current().id();
        // As a process leaves it that was killed after the first row.
        let keys = Locked::to_change(&shop.file()).unwrap().add().unwrap();
        let rows = shop.store.wrapped_by_others(&keys.current().id().to_string(), None, 1).await.unwrap();
        let (key, data_key) = wrapped_anew(&keys, &rows[0]).unwrap();
        assert!(shop.store.rewrap(rows[0].version, &rows[0].key, &key.to_string(), &data_key).await.unwrap());
        assert!(!shop.store.rewrap(rows[0].version, &rows[0].key, &key.to_string(), b"again").await.unwrap());
        shop.check().await;
        assert_eq!(prune(&shop.file(), &*shop.store).await.unwrap(), [], "both keys are needed");
        let rotated = shop.rotate().await;
        assert_eq!((rotated.resumed, rotated.rows, rotated.key), (true, 2, key));
        shop.check().await;
        assert!(!shop.rotate().await.resumed, "the next one is new");
        assert_eq!(prune(&shop.file(), &*shop.store).await.unwrap(), [first, key]);
        shop.check().await;
    }

    #[tokio::test]
    async fn rows_of_a_lost_key_are_named_and_left_alone() {
        let mut shop = Shop::with_users(2).await;
        let lost = std::fs::read_to_string(shop.file()).unwrap();
        std::fs::remove_file(shop.file()).unwrap();
        let (keys, made) = KeyFile::open(&shop.file()).unwrap();
        assert!(made);
        shop.addresses = Addresses::new(Arc::clone(&shop.store), keys, Clock::default(), References::new(&[7; 32]));
        let failure = shop.addresses.list(shop.users[0]).await.unwrap_err();
        assert_eq!(failure.code, crate::service::Code::AddressUnreadable);
        let rotated = shop.rotate().await;
        let error = rotated.complete().unwrap_err();
        assert!(error.starts_with("2 rows cannot") && error.contains("is not in the key file"), "{error}");
        assert!(list(&shop.file(), &*shop.store).await.unwrap().contains("MISSING  2 rows"));
        // The old file's lines above the new ones repair it.
        let new = std::fs::read_to_string(shop.file()).unwrap();
        std::fs::write(shop.file(), lost + &new).unwrap();
        shop.check().await;
        assert_eq!((shop.rotate().await.rows, shop.rotate().await.rows), (2, 2));
        shop.check().await;
    }
}
