//! Work on many items at a start, shared among the cores.

use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Does some work on each item, on all cores, but in `threads_max` threads at most. The results are in no order.
///
/// # Panics
/// If the work does.
pub fn on_all_cores<T: Sync, R: Send>(items: &[T], threads_max: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    // Each thread takes the next item: some take much longer than others.
    let share = || {
        let mut results = Vec::new();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            results.push(work(item));
        }
        results
    };
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    thread::scope(|scope| {
        let others: Vec<_> = (1..cores.min(threads_max).min(items.len())).map(|_| scope.spawn(share)).collect();
        let mut all = share();
        for other in others {
            all.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_is_worked_on_once() {
        for threads_max in [1, 8] {
            let mut doubled = on_all_cores(&(0..1_000).collect::<Vec<u32>>(), threads_max, |item| item * 2);
            doubled.sort_unstable();
            assert_eq!(doubled, (0..1_000).map(|item| item * 2).collect::<Vec<_>>());
        }
        assert!(on_all_cores(&[] as &[u32], 8, |item| *item).is_empty());
    }
}
