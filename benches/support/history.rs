//! A journal with a history: drops and their orders, decided by the engine.

use super::{START_MS, journal, reserve, spec};
use livedrop::domain::{DropEvent, DropId, DropRecord, DropSpec, Timestamp};
use livedrop::engine::{Command, DropState};
use livedrop::journal::{Durability, Journal, JournalError, JournalHandle, Records};
use std::path::Path;

/// Called when an entry is written.
pub type Reply = Box<dyn FnOnce(Result<u64, JournalError>) + Send>;

/// A journal that does not wait for the disk.
pub fn open(dir: &Path) -> Journal<Reply> {
    journal(dir, Durability::Never)
}

/// Submits an entry as soon as there is room for it.
pub fn submit(journal: &JournalHandle<Reply>, entry: Records, reply: Reply) {
    let permit = loop {
        match journal.try_permit() {
            Some(permit) => break permit,
            None => std::thread::yield_now(),
        }
    };
    permit.submit(entry, reply);
}

/// Writes the decisions of drops into a journal.
pub struct History {
    journal: Journal<Reply>,
    written: u64,
}

impl History {
    pub fn new(journal: Journal<Reply>) -> Self {
        Self { journal, written: 0 }
    }

    /// The number of records so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    pub fn journal(&self) -> &Journal<Reply> {
        &self.journal
    }

    /// Waits for the last record.
    pub fn close(self) {
        self.journal.close().expect("a clean end");
    }

    fn submit(&mut self, records: &[DropRecord]) {
        let mut entry = Records::new();
        for record in records {
            entry.push(|buffer| record.encode(buffer)).expect("a small record");
        }
        self.written += records.len() as u64;
        submit(&self.journal.handle(), entry, Box::new(|outcome| assert!(outcome.is_ok(), "written")));
    }

    /// One drop: its schedule, its orders, held and perhaps paid, and its end unless it stays live.
    pub fn sale(&mut self, orders: u32, pays: bool, ends: bool) {
        self.sell(spec(orders), orders, pays, ends);
    }

    /// The same of a drop with that much stock, which stays live.
    pub fn sale_of(&mut self, stock: u32, orders: u32, pays: bool) -> DropId {
        let spec = spec(stock);
        let id = spec.id;
        self.sell(spec, orders, pays, false);
        id
    }

    fn sell(&mut self, spec: DropSpec, orders: u32, pays: bool, ends: bool) {
        let mut state = DropState::scheduled(spec.clone());
        let scheduled =
            DropRecord { drop: spec.id, at: spec.created_at, event: DropEvent::Scheduled(Box::new(spec.clone())) };
        self.submit(&[scheduled]);
        let mut events = Vec::new();
        let mut apply = |history: &mut Self, command: Command| {
            events.clear();
            let (_, at) = state.apply(Timestamp::from_millis(START_MS), command, &mut events);
            let records: Vec<_> = events.drain(..).map(|event| DropRecord { drop: spec.id, at, event }).collect();
            history.submit(&records);
        };
        for _ in 0..orders {
            let ask = reserve(&spec);
            let pay = Command::Confirm { order: ask.order, payment_ref: "ch_0123456789abcdef".into() };
            apply(self, Command::Reserve(Box::new(ask)));
            if pays {
                apply(self, pay);
            }
        }
        if ends {
            apply(self, Command::End);
        }
    }
}
