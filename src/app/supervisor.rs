//! Supervises background tasks: a panic or an end is logged in one line, counted and shown in `/readyz`, and the task
//! restarts after a pause. If a vital task fails too often, the process ends: its next start recovers.

use crate::actors::Backoff;
use crate::actors::consumers::keyed::panic_text;
use crate::http::KeepTask;
use futures_util::FutureExt;
use prometheus::{IntCounterVec, Opts, Registry};
use std::{
    any::Any,
    collections::BTreeSet,
    future::{pending, poll_fn},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio::{sync::watch, time::sleep};
use tracing::{error, info, warn};

/// Pauses before a task restarts.
const RETRIES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
/// A task that has run for this long since its restart counts as steady.
const STEADY: Duration = Duration::from_secs(10);

/// Whether the process needs a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Need {
    /// The process runs without it; the task is restarted forever.
    Useful,
    /// After this many failures in a row the process ends.
    Vital {
        /// The number of restarts before that.
        restarts_max: u32,
    },
}

/// The task that ends the process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lost {
    pub task: &'static str,
    /// The last panic or end.
    pub reason: String,
}

/// Runs the background tasks. Cheap to clone.
#[derive(Clone)]
pub(super) struct Supervisor(Arc<Inner>);

struct Inner {
    /// Tasks that have failed and are not steady again.
    failing: Mutex<BTreeSet<&'static str>>,
    restarts: IntCounterVec,
    lost: watch::Sender<Option<Lost>>,
    /// Whether tasks may end: the process is shutting down.
    ending: AtomicBool,
}

impl Default for Supervisor {
    fn default() -> Self {
        let help =
            "Background tasks that panicked or ended, by name. Each but those that end the process was begun again.";
        let restarts = IntCounterVec::new(Opts::new("livedrop_task_restarts_total", help), &["task"]);
        Self(Arc::new(Inner {
            failing: Mutex::default(),
            restarts: restarts.expect("a valid name"),
            lost: watch::Sender::new(None),
            ending: AtomicBool::new(false),
        }))
    }
}

impl Supervisor {
    /// Adds the restart counters to a registry.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.0.restarts.clone()))
    }

    /// Tasks that have failed and are not steady again, by name.
    pub fn failing(&self) -> Vec<&'static str> {
        self.locked().iter().copied().collect()
    }

    /// Becomes `Some` when the process must end.
    pub fn lost(&self) -> watch::Receiver<Option<Lost>> {
        self.0.lost.subscribe()
    }

    /// Lets tasks end from now on: the process is shutting down.
    pub fn let_end(&self) {
        self.0.ending.store(true, Ordering::Release);
    }

    /// Runs the endless task that `begin` creates, and restarts it when it ends. `begin` gets `true` on a restart.
    pub async fn keep<T: Future<Output = ()>>(self, task: &'static str, need: Need, mut begin: impl FnMut(bool) -> T) {
        // Exported from the start, so that rates have a first value.
        self.0.restarts.with_label_values(&[task]);
        let (mut retries, mut failures) = (RETRIES, 0);
        loop {
            let again = failures > 0;
            // `begin` runs inside, so that its panics count too.
            let life = AssertUnwindSafe(async { with_failpoint(task, begin(again)).await }).catch_unwind();
            let mut life = pin!(life);
            let ended = tokio::select! {
                ended = &mut life => ended,
                () = sleep(STEADY), if again => {
                    self.locked().remove(task);
                    info!(task, "a background task is steady again");
                    (retries, failures) = (RETRIES, 0);
                    life.await
                }
            };
            if self.0.ending.load(Ordering::Acquire) {
                return;
            }
            let reason = ended.err().map_or_else(|| "it ended".to_owned(), |panic| text(panic.as_ref()));
            failures += 1;
            self.0.restarts.with_label_values(&[task]).inc();
            self.locked().insert(task);
            if let Need::Vital { restarts_max } = need
                && failures > restarts_max
            {
                error!(task, %reason, failures, "a background task that must not be missing does not stay up");
                self.0.lost.send_replace(Some(Lost { task, reason }));
                return;
            }
            let pause = retries.step();
            warn!(task, %reason, again_in_ms = pause.as_millis(), "a background task ended; it begins again");
            sleep(pause).await;
        }
    }

    /// Like [`Self::keep`], for tasks of the server's workers.
    pub fn for_workers(&self) -> KeepTask {
        let supervisor = self.clone();
        Arc::new(move |task, mut begin| Box::pin(supervisor.clone().keep(task, Need::Useful, move |_| begin())))
    }

    /// Runs the task that `begin` creates, which ends by itself, and restarts it if it panics.
    pub async fn finish<T: Future<Output = ()>>(self, task: &'static str, mut begin: impl FnMut(bool) -> T) {
        let done = AtomicBool::new(false);
        let finished = &done;
        let once = self.clone().keep(task, Need::Useful, |again| {
            let life = begin(again);
            async move {
                life.await;
                finished.store(true, Ordering::Release);
                pending::<()>().await;
            }
        });
        let mut once = pin!(once);
        // Checked after each poll: only the task itself can set it.
        poll_fn(|context| {
            let polled = once.as_mut().poll(context);
            if done.load(Ordering::Acquire) { Poll::Ready(()) } else { polled }
        })
        .await;
        self.locked().remove(task);
    }

    fn locked(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        self.0.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets a test make a task panic at its n-th poll.
async fn with_failpoint(task: &'static str, life: impl Future<Output = ()>) {
    let mut life = pin!(life);
    poll_fn(move |context| {
        failpoint!(task);
        life.as_mut().poll(context)
    })
    .await;
}

fn text(panic: &(dyn Any + Send)) -> String {
    format!("it panicked: {}", panic_text(panic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use tokio::time::Instant;

    fn restarts(supervisor: &Supervisor, task: &str) -> u64 {
        supervisor.0.restarts.with_label_values(&[task]).get()
    }

    #[tokio::test(start_paused = true)]
    async fn what_panics_or_ends_begins_again_after_a_growing_pause_and_is_named_until_it_is_steady() {
        let supervisor = Supervisor::default();
        let began = Instant::now();
        let lives = Arc::new(Mutex::new(Vec::new()));
        let task = supervisor.clone().keep("wobbly", Need::Useful, |again| {
            lives.lock().unwrap().push((began.elapsed().as_millis(), again));
            let life = lives.lock().unwrap().len();
            async move {
                match life {
                    1 => panic!("the first life"),
                    2 => {}
                    3 => panic!("{}", "the third"),
                    _ => pending().await,
                }
            }
        });
        let watch = async {
            sleep(Duration::from_millis(750)).await;
            assert_eq!((supervisor.failing(), restarts(&supervisor, "wobbly")), (vec!["wobbly"], 3));
            sleep(STEADY).await;
            assert!(supervisor.failing().is_empty());
            assert_eq!(*supervisor.lost().borrow(), None);
        };
        tokio::select! {
            () = task => panic!("it is kept"),
            () = watch => {}
        }
        assert_eq!(*lives.lock().unwrap(), [(0, false), (100, true), (300, true), (700, true)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_must_not_be_missing_ends_the_process_when_it_does_not_stay_up() {
        let supervisor = Supervisor::default();
        let lives = AtomicU32::new(0);
        let dies = |_| {
            lives.fetch_add(1, Ordering::Relaxed);
            async { panic!("again") }
        };
        supervisor.clone().keep("heart", Need::Vital { restarts_max: 2 }, dies).await;
        assert_eq!((lives.load(Ordering::Relaxed), restarts(&supervisor, "heart")), (3, 3));
        let lost = Lost { task: "heart", reason: "it panicked: again".to_owned() };
        assert_eq!(*supervisor.lost().borrow(), Some(lost));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_that_are_far_apart_do_not_add_up() {
        let supervisor = Supervisor::default();
        let lives = AtomicU32::new(0);
        let long = |_| {
            let life = lives.fetch_add(1, Ordering::Relaxed);
            async move { sleep(if life < 20 { 2 * STEADY } else { Duration::ZERO }).await }
        };
        supervisor.clone().keep("heart", Need::Vital { restarts_max: 1 }, long).await;
        assert_eq!(lives.load(Ordering::Relaxed), 21, "all that are far apart are forgiven");
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_end_a_task_may_end() {
        let supervisor = Supervisor::default();
        supervisor.let_end();
        supervisor.clone().keep("task", Need::Vital { restarts_max: 0 }, |_| async {}).await;
        assert_eq!((restarts(&supervisor, "task"), supervisor.failing()), (0, vec![]));
        assert_eq!(*supervisor.lost().borrow(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_by_itself_is_begun_again_only_if_it_panicked() {
        let supervisor = Supervisor::default();
        let lives = AtomicU32::new(0);
        let once = |_| {
            let life = lives.fetch_add(1, Ordering::Relaxed);
            async move { assert_ne!(life, 0, "at first") }
        };
        supervisor.clone().finish("once", once).await;
        assert_eq!((lives.load(Ordering::Relaxed), restarts(&supervisor, "once")), (2, 1));
        assert!(supervisor.failing().is_empty());
    }
}
