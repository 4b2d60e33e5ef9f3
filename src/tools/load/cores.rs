//! Runs the crowd's tasks: on each core a thread with its own sockets and timers. A task that moved between cores would
//! take the caches of both along, and wake other threads to look for work.

use std::io;
use std::num::NonZeroUsize;
use tokio::runtime::Builder;

/// The number of cores.
pub fn count() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// The core of a task: tasks are assigned in turn.
pub fn core_of(task: u32, cores: usize) -> usize {
    task as usize % cores
}

/// Runs this many tasks to their ends, and returns their results in any order. Call it within a runtime.
///
/// # Errors
/// If a thread cannot create a runtime.
pub async fn run<T, F>(tasks: u32, begin: impl Fn(u32) -> F + Clone + Send + 'static) -> io::Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let cores = count();
    let threads: Vec<_> = (0..cores)
        .map(|core| {
            let begin = begin.clone();
            tokio::task::spawn_blocking(move || {
                let here = (0..tasks).filter(|task| core_of(*task, cores) == core);
                Builder::new_current_thread().enable_all().build().map(|runtime| {
                    runtime.block_on(async {
                        let begun: Vec<_> = here.map(|task| tokio::spawn(begin(task))).collect();
                        let mut results = Vec::with_capacity(begun.len());
                        for task in begun {
                            results.push(task.await.expect("a task of the crowd does not panic"));
                        }
                        results
                    })
                })
            })
        })
        .collect();
    let mut all = Vec::with_capacity(tasks as usize);
    for thread in threads {
        all.extend(thread.await.expect("a thread of the crowd does not panic")?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_task_runs_once() {
        for tasks in [0, 1, 7] {
            let mut ran = run(tasks, async |task| task).await.unwrap();
            ran.sort_unstable();
            assert_eq!(ran, (0..tasks).collect::<Vec<_>>());
        }
    }
}
