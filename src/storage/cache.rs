//! Caches rows that are read often. A cached row is never older than the last write that was acknowledged.
//!
//! A row is loaded once for all concurrent readers. A write announces its beginning and its end; a row loaded in
//! between, or before its end, is not cached. A write without an observed end (its caller was dropped, the database
//! does not answer) counts as running for as long as the database may still execute it.

use super::StoreError;
use super::sql::OPERATION_TIMEOUT;
use prometheus::IntCounter;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Lock stripes: two keys on one stripe only contend.
const SLOTS: usize = 256;

/// A cache of rows by key, bounded in bytes.
pub(super) struct Cache<K, V> {
    shared: Arc<Shared<K, V>>,
}

struct Shared<K, V> {
    rows: moka::sync::Cache<K, V>,
    hash: RandomState,
    slots: Vec<Slot>,
    hits: IntCounter,
    misses: IntCounter,
}

#[derive(Default)]
struct Slot {
    /// Held while a row is loaded.
    flight: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Writes that have begun and not ended.
    writers: u32,
    /// Writes that have ended.
    written: u64,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> Cache<K, V>
where
    K: Copy + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Caches at most `bytes`, measured by `weigh`.
    pub fn new(bytes: u64, weigh: fn(&V) -> usize, [hits, misses]: [IntCounter; 2]) -> Self {
        let weigh = move |_: &K, row: &V| u32::try_from(weigh(row)).unwrap_or(u32::MAX);
        let rows = moka::sync::Cache::builder().max_capacity(bytes).weigher(weigh).build();
        let slots = (0..SLOTS).map(|_| Slot::default()).collect();
        Self { shared: Arc::new(Shared { rows, hash: RandomState::new(), slots, hits, misses }) }
    }

    /// The row, from the cache or else from `load`. A missing row is not cached, nor is one that `keep` rejects.
    pub async fn get(
        &self,
        key: K,
        keep: fn(&V) -> bool,
        load: impl Future<Output = Result<Option<V>, StoreError>>,
    ) -> Result<Option<V>, StoreError> {
        if let Some(row) = self.shared.rows.get(&key) {
            self.shared.hits.inc();
            return Ok(Some(row));
        }
        let slot = self.shared.slot(&key);
        let _flight = slot.flight.lock().await;
        // Another reader may have loaded it in the meantime.
        if let Some(row) = self.shared.rows.get(&key) {
            self.shared.hits.inc();
            return Ok(Some(row));
        }
        self.shared.misses.inc();
        let before = slot.state().written;
        let loaded = load.await?;
        if let Some(row) = loaded.as_ref().filter(|row| keep(row)) {
            let state = slot.state();
            if state.writers == 0 && state.written == before {
                self.shared.rows.insert(key, row.clone());
            }
        }
        Ok(loaded)
    }

    /// Runs a write of these rows.
    pub async fn write<T>(
        &self,
        keys: impl IntoIterator<Item = K>,
        write: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.run(Rows::Named(keys.into_iter().collect()), write).await
    }

    /// Runs a write of unknown rows: the whole cache is invalidated.
    pub async fn write_any<T>(&self, write: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.run(Rows::Any, write).await
    }

    async fn run<T>(&self, rows: Rows<K>, write: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let mut writing = Writing::begin(&self.shared, rows);
        let result = write.await;
        writing.seen = !matches!(result, Err(StoreError::Unavailable(_)));
        result
    }
}

/// The rows that a write may change.
enum Rows<K> {
    Named(Vec<K>),
    Any,
}

impl<K, V> Shared<K, V>
where
    K: Copy + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn slot(&self, key: &K) -> &Slot {
        &self.slots[self.hash.hash_one(key) as usize % SLOTS]
    }

    fn each_state(&self, rows: &Rows<K>, change: impl Fn(&mut State)) {
        match rows {
            Rows::Named(keys) => keys.iter().for_each(|key| change(&mut self.slot(key).state())),
            Rows::Any => self.slots.iter().for_each(|slot| change(&mut slot.state())),
        }
    }

    fn forget(&self, rows: &Rows<K>) {
        match rows {
            Rows::Named(keys) => keys.iter().for_each(|key| self.rows.invalidate(key)),
            Rows::Any => self.rows.invalidate_all(),
        }
    }

    fn end(&self, rows: &Rows<K>) {
        self.each_state(rows, |state| {
            state.writers -= 1;
            state.written += 1;
        });
        // From here on no row loaded earlier is cached; cached ones are dropped.
        self.forget(rows);
    }
}

/// A write that has begun; its drop ends it.
struct Writing<K, V>
where
    K: Copy + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    shared: Arc<Shared<K, V>>,
    rows: Rows<K>,
    /// Whether its end was observed, so that the database cannot execute it later.
    seen: bool,
}

impl<K, V> Writing<K, V>
where
    K: Copy + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn begin(shared: &Arc<Shared<K, V>>, rows: Rows<K>) -> Self {
        shared.each_state(&rows, |state| state.writers += 1);
        Self { shared: Arc::clone(shared), rows, seen: false }
    }
}

impl<K, V> Drop for Writing<K, V>
where
    K: Copy + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        if self.seen {
            return self.shared.end(&self.rows);
        }
        let (shared, rows) = (Arc::clone(&self.shared), std::mem::replace(&mut self.rows, Rows::Any));
        shared.forget(&rows);
        // Outside a runtime there are no readers.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(OPERATION_TIMEOUT).await;
                shared.end(&rows);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;
    use tokio::sync::oneshot;

    type Numbers = Cache<u32, u32>;

    fn cache() -> Arc<Numbers> {
        let counter = |name: &str| IntCounter::new(name, "of a test").unwrap();
        Arc::new(Cache::new(1_000, |_| 1, ["hits", "misses"].map(counter)))
    }

    async fn read(cache: &Numbers, database: &AtomicU32) -> u32 {
        cache.get(1, |_| true, async { Ok(Some(database.load(Ordering::SeqCst))) }).await.unwrap().unwrap()
    }

    async fn stores(database: &AtomicU32, number: u32) -> Result<(), StoreError> {
        database.store(number, Ordering::SeqCst);
        Ok(())
    }

    #[tokio::test]
    async fn what_is_read_again_is_not_loaded_again() {
        let (cache, database) = (cache(), AtomicU32::new(7));
        assert_eq!(read(&cache, &database).await, 7);
        database.store(8, Ordering::SeqCst);
        assert_eq!(read(&cache, &database).await, 7);
        assert_eq!((cache.shared.hits.get(), cache.shared.misses.get()), (1, 1));
        cache.write([1], async { Ok(()) }).await.unwrap();
        assert_eq!(read(&cache, &database).await, 8);
        cache.write_any(stores(&database, 9)).await.unwrap();
        assert_eq!(read(&cache, &database).await, 9);
    }

    #[tokio::test]
    async fn a_crowd_loads_once() {
        let (cache, loads) = (cache(), Arc::new(AtomicU32::new(0)));
        let readers = (0..100).map(|_| {
            let (cache, loads) = (Arc::clone(&cache), Arc::clone(&loads));
            tokio::spawn(async move {
                let load = async {
                    tokio::task::yield_now().await;
                    Ok(Some(loads.fetch_add(1, Ordering::SeqCst)))
                };
                cache.get(1, |_| true, load).await.unwrap().unwrap()
            })
        });
        for reader in readers.collect::<Vec<_>>() {
            assert_eq!(reader.await.unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn what_was_loaded_before_a_write_ended_is_not_kept() {
        let (cache, database) = (cache(), Arc::new(AtomicU32::new(1)));
        let (go, gone) = oneshot::channel::<()>();
        let slow = tokio::spawn({
            let (cache, database) = (Arc::clone(&cache), Arc::clone(&database));
            async move {
                let load = async {
                    let old = database.load(Ordering::SeqCst);
                    gone.await.unwrap();
                    Ok(Some(old))
                };
                cache.get(1, |_| true, load).await.unwrap().unwrap()
            }
        });
        tokio::task::yield_now().await;
        cache.write([1], stores(&database, 2)).await.unwrap();
        go.send(()).unwrap();
        assert_eq!(slow.await.unwrap(), 1, "it asked before");
        assert_eq!(read(&cache, &database).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_of_any_row_that_nobody_saw_end_is_no_exception() {
        let (cache, database) = (cache(), Arc::new(AtomicU32::new(1)));
        assert_eq!(read(&cache, &database).await, 1);
        let never = cache.write_any(std::future::pending::<Result<(), StoreError>>());
        assert!(tokio::time::timeout(Duration::from_millis(1), never).await.is_err());
        assert_eq!(read(&cache, &database).await, 1);
        database.store(2, Ordering::SeqCst);
        assert_eq!(read(&cache, &database).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_nobody_saw_end_keeps_the_row_out_for_a_while() {
        let (cache, database) = (cache(), Arc::new(AtomicU32::new(1)));
        assert_eq!(read(&cache, &database).await, 1);
        let never = cache.write([1], std::future::pending::<Result<(), StoreError>>());
        assert!(tokio::time::timeout(Duration::from_millis(1), never).await.is_err());
        assert_eq!(read(&cache, &database).await, 1);
        // The database executes it after all.
        database.store(2, Ordering::SeqCst);
        assert_eq!(read(&cache, &database).await, 2);
        tokio::time::sleep(OPERATION_TIMEOUT * 2).await;
        assert_eq!(read(&cache, &database).await, 2);
        database.store(3, Ordering::SeqCst);
        assert_eq!(read(&cache, &database).await, 2, "it is kept again");
    }
}
