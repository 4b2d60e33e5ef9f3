//! Effects of several records at the same time, in order within a key (a drop), for consumers whose targets take them one by one or in
//! batches.
//!
//! A consumer [pushes](InFlight::push) records and runs [rounds](InFlight::round). As many batches are on their way as there are
//! [workers](Worker); the records of one key never are in two of them. A record that is refused, or that makes its worker panic each time,
//! is found by halving its batch and set aside: neither other keys nor the later records of its own wait for it. A record whose target is
//! unavailable keeps back the later ones of its key, and with several workers no other key.

use crate::domain::Timestamp;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::Future,
    panic::AssertUnwindSafe,
};

/// How often a record may make its worker panic before it is set aside.
const PANICS_MAX: u32 = 3;

/// The outcome of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// All of it is done.
    Done,
    /// At least one record of it can never be done, for this reason, and none of it counts as done.
    Refused(String),
    /// Unknown, or not now, for this reason.
    Unavailable(String),
}

/// Brings about the effects of one batch at a time: a connection, for instance. It must be usable after its own panic.
pub trait Worker<T> {
    /// The same batch, or a part of it, may come again.
    fn bring_about(&mut self, batch: &[T]) -> impl Future<Output = Effect>;
}

/// How much is done at once.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Records of a batch, at most.
    pub batch: usize,
    /// Batches that one round begins, at most.
    pub batches: usize,
    /// From so many records in hand on, no more are to be pushed.
    pub records: usize,
}

/// Records in hand, in the journal's order.
pub struct InFlight<K, T> {
    bounds: Bounds,
    marks: VecDeque<Mark>,
    /// What is not done, in order within each key.
    waiting: BTreeMap<K, VecDeque<(u64, T)>>,
    /// Keys whose last try found the target unavailable.
    unavailable: BTreeSet<K>,
    passed: Option<(u64, Timestamp)>,
}

struct Mark {
    sequence: u64,
    at: Timestamp,
    done: bool,
}

/// A batch that has come back.
struct Tried<K, T> {
    keys: Vec<(u64, K)>,
    items: Vec<T>,
    /// How many of them are done or refused: the first ones.
    through: usize,
    /// Which are refused, and why.
    refused: Vec<(usize, String)>,
    unavailable: Option<String>,
}

impl<K: Copy + Ord, T> InFlight<K, T> {
    /// Nothing in hand.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let (marks, waiting, unavailable) = (VecDeque::new(), BTreeMap::new(), BTreeSet::new());
        Self { bounds, marks, waiting, unavailable, passed: None }
    }

    /// Takes a record in hand. Sequence numbers grow.
    pub fn push(&mut self, sequence: u64, at: Timestamp, key: K, item: T) {
        debug_assert!(self.marks.back().is_none_or(|last| last.sequence < sequence));
        self.marks.push_back(Mark { sequence, at, done: false });
        self.waiting.entry(key).or_default().push_back((sequence, item));
    }

    /// Whether more records may be pushed.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.marks.len() < self.bounds.records
    }

    /// Whether everything is done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// The last record up to which everything that was pushed is done or set aside, and the latest time in these.
    #[must_use]
    pub fn passed(&self) -> Option<(u64, Timestamp)> {
        self.passed
    }

    /// Tries what is in hand, in the journal's order with one worker, and with several in order within each key; then keys that were
    /// unavailable in the last round come last. Ends when there is nothing left to try, with `bounds.batches`, or when as many batches in a row as
    /// there are workers find the target unavailable. `set_aside` keeps a refused record durably, with the reason.
    ///
    /// # Errors
    /// The last reason for which records are left that were tried.
    pub async fn round<W: Worker<T>>(
        &mut self,
        workers: &mut [W],
        mut set_aside: impl AsyncFnMut(&T, &str) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut free: Vec<&mut W> = workers.iter_mut().collect();
        let at_once = free.len();
        let mut ready: BTreeSet<(bool, u64, K)> = BTreeSet::new();
        for (key, queue) in &self.waiting {
            let last = at_once > 1 && self.unavailable.contains(key);
            ready.extend(queue.front().map(|(sequence, _)| (last, *sequence, *key)));
        }
        let (mut running, mut begun, mut failures, mut result) = (FuturesUnordered::new(), 0, 0, Ok(()));
        loop {
            while failures < at_once
                && begun < self.bounds.batches
                && !ready.is_empty()
                && let Some(worker) = free.pop()
            {
                begun += 1;
                running.push(attempt(worker, self.take(&mut ready)));
            }
            let Some((worker, tried)) = running.next().await else { return result };
            free.push(worker);
            match self.settle(tried, &mut ready, &mut set_aside).await {
                Ok(()) => failures = 0,
                Err(reason) => {
                    failures += 1;
                    result = Err(reason);
                }
            }
        }
    }

    /// The next batch. Its keys are not ready while it is on its way.
    fn take(&mut self, ready: &mut BTreeSet<(bool, u64, K)>) -> Vec<(u64, K, T)> {
        let (mut batch, mut keys) = (Vec::new(), BTreeSet::new());
        let begins_with = ready.first().is_some_and(|(last, ..)| *last);
        while batch.len() < self.bounds.batch
            && let Some(&(last, _, key)) = ready.first()
            && last == begins_with
        {
            ready.pop_first();
            let Some(queue) = self.waiting.get_mut(&key) else { continue };
            batch.extend(queue.pop_front().map(|(sequence, item)| (sequence, key, item)));
            ready.extend(queue.front().map(|(sequence, _)| (last, *sequence, key)));
            keys.insert(key);
        }
        ready.retain(|(.., key)| !keys.contains(key));
        batch
    }

    /// Sets aside what was refused, and takes in hand again what is left.
    async fn settle(
        &mut self,
        tried: Tried<K, T>,
        ready: &mut BTreeSet<(bool, u64, K)>,
        set_aside: &mut impl AsyncFnMut(&T, &str) -> Result<(), String>,
    ) -> Result<(), String> {
        let Tried { keys, items, mut through, refused, unavailable } = tried;
        let mut result = unavailable.map_or(Ok(()), Err);
        for (index, reason) in refused {
            if let Err(error) = set_aside(&items[index], &reason).await {
                // This one and all after it are tried again.
                (through, result) = (index, Err(error));
                break;
            }
        }
        for (sequence, _) in &keys[..through] {
            if let Ok(index) = self.marks.binary_search_by_key(sequence, |mark| mark.sequence) {
                self.marks[index].done = true;
            }
        }
        let left: BTreeSet<K> = keys[through..].iter().map(|(_, key)| *key).collect();
        let back: Vec<((u64, K), T)> = keys.iter().copied().zip(items).skip(through).collect();
        for ((sequence, key), item) in back.into_iter().rev() {
            self.waiting.entry(key).or_default().push_front((sequence, item));
        }
        for (_, key) in keys {
            if left.contains(&key) {
                self.unavailable.insert(key);
                continue;
            }
            self.unavailable.remove(&key);
            match self.waiting.get(&key).and_then(VecDeque::front) {
                Some((sequence, _)) => _ = ready.insert((false, *sequence, key)),
                None => _ = self.waiting.remove(&key),
            }
        }
        while let Some(mark) = self.marks.pop_front_if(|mark| mark.done) {
            let at = self.passed.map_or(mark.at, |(_, at)| at.max(mark.at));
            self.passed = Some((mark.sequence, at));
        }
        result
    }
}

/// Tries a batch, and its halves where one is refused, in order.
async fn attempt<W: Worker<T>, K, T>(worker: &mut W, batch: Vec<(u64, K, T)>) -> (&mut W, Tried<K, T>) {
    let (keys, items): (Vec<(u64, K)>, Vec<T>) =
        batch.into_iter().map(|(sequence, key, item)| ((sequence, key), item)).unzip();
    let (mut through, mut refused, mut unavailable) = (0, Vec::new(), None);
    let mut parts = vec![(0, items.len())];
    while let Some((from, to)) = parts.pop() {
        match isolated(worker, &items[from..to]).await {
            Effect::Done => through = to,
            Effect::Refused(_) if to - from > 1 => {
                let middle = from.midpoint(to);
                parts.extend([(middle, to), (from, middle)]);
            }
            Effect::Refused(reason) => {
                refused.push((from, reason));
                through = to;
            }
            Effect::Unavailable(reason) => {
                unavailable = Some(reason);
                break;
            }
        }
    }
    (worker, Tried { keys, items, through, refused, unavailable })
}

/// A record that makes the worker panic is refused like one that the target refuses.
async fn isolated<W: Worker<T>, T>(worker: &mut W, batch: &[T]) -> Effect {
    let mut panics = 0;
    loop {
        let panic = match AssertUnwindSafe(worker.bring_about(batch)).catch_unwind().await {
            Ok(effect) => return effect,
            Err(panic) => format!("it panicked: {}", panic_text(&*panic)),
        };
        tracing::error!(records = batch.len(), "the effect of records panics: {panic}");
        panics += 1;
        if batch.len() > 1 || panics == PANICS_MAX {
            return Effect::Refused(panic);
        }
    }
}

/// What a panic said.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}

#[cfg(test)]
mod tests;
