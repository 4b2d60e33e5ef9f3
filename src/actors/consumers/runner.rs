//! Drives a consumer: step after step while there are records, with pauses after failures, until it is stopped.

use super::{Consumer, Step, Tail};
use crate::actors::Backoff;
use std::time::Duration;
use tokio::{sync::watch, time::Instant};
use tracing::{error, info, warn};

/// Pauses of a consumer that cannot read, or whose effect fails.
const RETRIES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// How long failures are retried after `stop`: they may pass in a moment.
pub(super) const LAST_TRIES: Duration = Duration::from_secs(5);

/// Runs until one of these: `stop` is set and everything that was durable then is done, or cannot be done; the journal
/// is gone; the consumer cannot go on. It may be run again afterwards, also after a panic.
pub async fn run<C: Consumer>(consumer: &mut C, mut stop: watch::Receiver<bool>) {
    let mut durable = consumer.tail().journal().durable_watch();
    let (mut retries, mut last_try) = (RETRIES, None);
    loop {
        // Read before the journal: nothing becomes durable after `stop` is set, but until then it may.
        let ending = *stop.borrow();
        durable.mark_unchanged();
        let step = consumer.work().await;
        note(consumer.tail(), &step);
        match step {
            Step::Worked => {
                retries.reset();
                rest(consumer, &mut stop).await;
            }
            Step::Again => retries.reset(),
            Step::Idle if ending => return,
            Step::Idle => tokio::select! {
                changed = durable.changed() => if changed.is_err() { return },
                changed = stop.changed() => if changed.is_err() { return },
                () = consumer.idle() => {}
            },
            Step::Unavailable(_) if ending => {
                let last_try = *last_try.get_or_insert_with(|| {
                    retries.reset();
                    Instant::now() + LAST_TRIES
                });
                if Instant::now() >= last_try {
                    let consumer = consumer.tail().about().name;
                    warn!(consumer, "the target does not get the rest; the journal keeps it for the next start");
                    return;
                }
                retries.pause().await;
            }
            Step::Unavailable(_) => tokio::select! {
                () = retries.pause() => {}
                Ok(_) = stop.wait_for(|stop| *stop) => {}
            },
            Step::Stopped(_) => return,
        }
    }
}

/// Lets a consumer sleep, unless `stop` is set.
pub(super) async fn rest<C: Consumer>(consumer: &mut C, stop: &mut watch::Receiver<bool>) {
    tokio::select! {
        biased;
        () = consumer.rest() => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

#[cfg(test)]
mod tests;

fn note(tail: &Tail, step: &Step) {
    let (consumer, progress) = (tail.about().name, tail.progress());
    match step {
        Step::Worked | Step::Idle => {
            if progress.works() {
                info!(consumer, passed = progress.passed(), "the consumer makes progress again");
            }
            if *step == Step::Idle {
                progress.catches_up();
            }
        }
        Step::Again => {}
        Step::Unavailable(reason) => {
            if progress.fails(reason) {
                warn!(consumer, %reason, "records wait in the journal; trying again");
            }
        }
        Step::Stopped(reason) => {
            progress.fails(reason);
            error!(consumer, %reason, "the consumer stops");
        }
    }
}
