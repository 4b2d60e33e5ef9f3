//! Room for what comes: the next segment is made ready while the current one fills.

use super::device::{Device, DeviceFile};
use super::segment::NEXT;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Whether new reservations may be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    /// The next segment is reserved, or is being.
    Ok,
    /// It could not be reserved. What is left is for confirms and releases of holds that exist.
    Full,
}

const RETRY: Duration = Duration::from_millis(500);

/// Makes segments ready, one ahead, on a thread of its own.
pub(super) struct Preparer {
    ready: Receiver<io::Result<Arc<dyn DeviceFile>>>,
    renamed: Sender<()>,
    full: Arc<AtomicBool>,
}

impl Preparer {
    pub fn start(device: Arc<dyn Device>, segment_bytes: usize, full: Arc<AtomicBool>) -> io::Result<Self> {
        let (ready_sender, ready) = bounded(1);
        let (renamed, was_renamed) = bounded(1);
        let seen = Arc::clone(&full);
        thread::Builder::new()
            .name("journal-space".to_owned())
            .spawn(move || prepare(&*device, segment_bytes, &seen, &ready_sender, &was_renamed))?;
        Ok(Self { ready, renamed, full })
    }

    /// The prepared file, under [`NEXT`]. Waits while it is being made; fails at once when there is no space.
    pub fn take(&self) -> io::Result<Arc<dyn DeviceFile>> {
        loop {
            match self.ready.recv_timeout(Duration::from_millis(20)) {
                Ok(file) => return file,
                Err(RecvTimeoutError::Timeout) if self.full.load(Ordering::Acquire) => {
                    return Err(io::Error::new(io::ErrorKind::StorageFull, "no space for the next segment"));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("the segment preparer has ended")),
            }
        }
    }

    /// The file that was taken has its own name now: the next may be made.
    pub fn renamed(&self) {
        let _ = self.renamed.try_send(());
    }
}

/// Ends when the journal does: both channels are closed then.
fn prepare(
    device: &dyn Device,
    segment_bytes: usize,
    full: &AtomicBool,
    ready: &Sender<io::Result<Arc<dyn DeviceFile>>>,
    was_renamed: &Receiver<()>,
) {
    loop {
        match device.create(NEXT, segment_bytes) {
            Ok(file) => {
                full.store(false, Ordering::Release);
                // One file at a time has the name.
                if ready.send(Ok(file)).is_err() || was_renamed.recv().is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull || error.raw_os_error() == Some(122) => {
                // What was written of it would only take the space that is missing.
                let _ = device.remove(NEXT);
                if !full.swap(true, Ordering::AcqRel) {
                    tracing::warn!(%error, "no space for the next journal segment; new reservations are refused");
                }
                if !matches!(was_renamed.recv_timeout(RETRY), Err(RecvTimeoutError::Timeout)) {
                    return;
                }
            }
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        }
    }
}
