//! Progress on standard error.

use crate::console::progress_interval;
use std::time::Instant;
use tokio::task::JoinHandle;

/// Says on standard error how far the work is, until it is aborted. `line` gets the seconds
/// so far, and has nothing to say where it returns `None`.
pub(super) fn progress(mut line: impl FnMut(u64) -> Option<String> + Send + 'static) -> JoinHandle<()> {
    let every = progress_interval();
    tokio::spawn(async move {
        let began = Instant::now();
        loop {
            tokio::time::sleep(every).await;
            if let Some(line) = line(began.elapsed().as_secs()) {
                eprintln!("{line}");
            }
        }
    })
}
