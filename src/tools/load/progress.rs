//! Progress lines on standard error.

use crate::console::progress_interval;
use std::time::Instant;
use tokio::task::JoinHandle;

/// Prints progress on standard error until it is aborted. `line` gets the elapsed seconds; `None` prints nothing.
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
