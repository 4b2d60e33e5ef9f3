//! A journal without threads: its owner moves it, on its own thread, and can stop it between a write and its sync.
//! Simulations crash it exactly there, thousands of times a second.

use super::device::{Device, DeviceLock};
use super::error::{JournalError, RecoveryError};
use super::handle::{JournalHandle, JournalOptions, Opened, Recovered};
use super::writer::{Completion, Writer};
use std::sync::Arc;

/// An open journal that only [`SteppedJournal::write`] and [`SteppedJournal::finish`] move. Its bytes, recovery,
/// handles and readers are those of [`super::Journal`]. Dropping it leaves the device as a killed process would.
pub struct SteppedJournal<C: Completion> {
    handle: JournalHandle<C>,
    writer: Writer<C>,
    /// The last sequence before the frame that is written and not synced.
    unsynced: Option<u64>,
    _lock: DeviceLock,
}

impl<C: Completion> SteppedJournal<C> {
    /// Locks, verifies and repairs the journal, as [`super::Journal::open`] does.
    ///
    /// # Errors
    /// [`RecoveryError`]; the lock is free again.
    pub fn open(
        options: &JournalOptions,
        device: Arc<dyn Device>,
        proven_durable: u64,
    ) -> Result<(Self, Recovered), RecoveryError> {
        let (Opened { handle, writer, lock }, recovered) = Opened::open(options, device, proven_durable, false)?;
        Ok((Self { handle, writer, unsynced: None, _lock: lock }, recovered))
    }

    /// A handle to append with.
    #[must_use]
    pub fn handle(&self) -> JournalHandle<C> {
        self.handle.clone()
    }

    /// Whether a frame is written and not synced.
    #[must_use]
    pub fn is_syncing(&self) -> bool {
        self.unsynced.is_some()
    }

    /// Writes the queued entries as one frame, unless a frame still waits for its sync. A failure poisons the journal
    /// and is reported to all waiters.
    pub fn write(&mut self) {
        if self.unsynced.is_none() {
            self.unsynced = self.writer.write_queued();
        }
    }

    /// Syncs the written frame, publishes it and completes its entries. A failure poisons the journal, as above.
    pub fn finish(&mut self) {
        if let Some(before) = self.unsynced.take() {
            self.writer.finish_queued(before);
        }
    }

    /// Closes cleanly: all queued entries become durable first.
    ///
    /// # Errors
    /// The failure that poisoned the journal, now or earlier.
    pub fn close(mut self) -> Result<(), JournalError> {
        loop {
            self.finish();
            self.write();
            if !self.is_syncing() {
                return self.writer.close_queued();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MemoryDevice, Records};
    use super::*;
    use std::sync::Mutex;

    type Outcome = Result<u64, JournalError>;
    type Outcomes = Arc<Mutex<Vec<Outcome>>>;
    type Teller = Box<dyn FnOnce(Outcome) + Send>;

    fn open(device: &MemoryDevice) -> SteppedJournal<Teller> {
        SteppedJournal::open(&JournalOptions::in_memory(), Arc::new(device.clone()), 0).unwrap().0
    }

    fn submit(journal: &SteppedJournal<Teller>, outcomes: &Outcomes) {
        let (mut records, outcomes) = (Records::new(), Arc::clone(outcomes));
        records.push(|buffer| buffer.extend_from_slice(b"a record")).unwrap();
        let handle = journal.handle();
        handle.try_permit().unwrap().submit(records, Box::new(move |outcome| outcomes.lock().unwrap().push(outcome)));
    }

    #[test]
    fn nothing_is_told_between_a_write_and_its_sync() {
        let (device, outcomes) = (MemoryDevice::new(), Outcomes::default());
        let mut journal = open(&device);
        submit(&journal, &outcomes);
        assert!(!journal.is_syncing(), "it moves when it is outcomes to");
        journal.write();
        submit(&journal, &outcomes);
        assert!(journal.is_syncing() && outcomes.lock().unwrap().is_empty());
        let lost = device.crash(None);
        journal.finish();
        assert_eq!(*outcomes.lock().unwrap(), [Ok(1)]);
        assert_eq!(journal.handle().durable(), 1);
        journal.close().unwrap();
        assert_eq!(*outcomes.lock().unwrap(), [Ok(1), Ok(2)]);
        assert_eq!(open(&lost).handle().durable(), 0, "what was not synced is gone");
        assert_eq!(open(&device.crash(None)).handle().durable(), 2);
    }

    #[test]
    fn segments_follow_each_other_and_a_dropped_journal_answers() {
        let (device, outcomes) = (MemoryDevice::new(), Outcomes::default());
        let options = JournalOptions { segment_bytes: 8_192, ..JournalOptions::in_memory() };
        let (mut journal, _) = SteppedJournal::open(&options, Arc::new(device.clone()), 0).unwrap();
        for _ in 0..200 {
            submit(&journal, &outcomes);
            journal.write();
            journal.finish();
        }
        assert_eq!(journal.handle().durable(), 200);
        submit(&journal, &outcomes);
        drop(journal);
        assert_eq!(outcomes.lock().unwrap().last(), Some(&Err(JournalError::Closed)));
        assert_eq!(open(&device.crash(None)).handle().durable(), 200);
    }
}
