//! Inboxes: a user's notifications, kept until one of the user's devices acknowledges them.
//!
//! One task writes the marks of all users, many in one transaction: when a drop starts, a crowd acknowledges at once.
//! Marks wait until the database has the event itself, so that an acknowledgement that comes early is not lost.

mod input;

pub use input::{AcknowledgementInput, InboxListInput, ReadMarkInput, Which};

use super::clock::Clock;
use super::creators::page;
use super::failure::ensure_projected;
use super::{Code, Failure, Hub, Page};
use crate::actors::Projection;
use crate::actors::realtime::messages::{InboxChange, SubscriberId};
use crate::actors::realtime::position::{Epoch, Offset};
use crate::domain::UserId;
use crate::domain::limits::{
    ACKNOWLEDGEMENTS_AT_ONCE_MAX, ACKNOWLEDGEMENTS_MAX, INBOX_MARKED_MAX, INBOX_MS_MAX, INBOX_UNREAD_MAX,
};
use crate::journal::JournalReader;
use crate::storage::{EntryId, InboxEntry, InboxView, Mark, Store, StoreError};
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};

/// How long a listing waits for events published just now.
const LISTING_PATIENCE: Duration = Duration::from_millis(250);
/// How long marks wait for the database to have the marked events.
const MARKING_PATIENCE: Duration = Duration::from_secs(5);
/// How often expired entries are deleted.
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// Pause between two deleting transactions.
const FORGET_PAUSE: Duration = Duration::from_millis(50);

/// An inbox entry with its public id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notification {
    /// The id of the published event.
    pub id: Offset,
    pub entry: InboxEntry,
}

/// A page of an inbox.
#[derive(Clone, Debug)]
pub struct InboxPage {
    /// The entries, newest first.
    pub page: Page<Notification>,
    /// The number of all unread entries, counted up to `INBOX_UNREAD_MAX`.
    pub unread: u32,
}

/// The inbox use cases. Cheap to clone.
#[derive(Clone)]
pub struct Inbox {
    store: Arc<dyn Store>,
    reader: JournalReader,
    projection: Projection,
    hub: Hub,
    clock: Clock,
    marks: mpsc::Sender<Marking>,
}

/// Marks of one user, waiting to be written.
struct Marking {
    mark: Mark,
    user: UserId,
    entries: Vec<EntryId>,
    names: Vec<Offset>,
    /// The session that made the marks; it is not informed.
    asked_by: Option<SubscriberId>,
    done: oneshot::Sender<Result<(), Failure>>,
}

/// Writes the queued marks, see [`Inbox::new`].
pub struct MarkWriter {
    inbox: Inbox,
    marks: mpsc::Receiver<Marking>,
}

impl Inbox {
    /// The writer has to [run](MarkWriter::run).
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        reader: JournalReader,
        projection: Projection,
        hub: Hub,
        clock: Clock,
    ) -> (Self, MarkWriter) {
        let (sender, marks) = mpsc::channel(ACKNOWLEDGEMENTS_MAX);
        let inbox = Self { store, reader, projection, hub, clock, marks: sender };
        (inbox.clone(), MarkWriter { inbox, marks })
    }

    /// The unacknowledged entries, newest first, those published before `after`.
    ///
    /// # Errors
    /// `database_unavailable`.
    pub async fn list(
        &self,
        user: UserId,
        unread: bool,
        after: Option<Offset>,
        limit: u32,
    ) -> Result<InboxPage, Failure> {
        ensure_projected(&self.projection).await?;
        self.projection.reached(self.reader.durable(), LISTING_PATIENCE).await;
        let view = InboxView { unread, ..self.view(user) };
        let rows = match after {
            None => self.store.inbox(view, None, limit + 1).await?,
            Some(after) => match self.entry(after).await? {
                Some(after) => self.store.inbox(view, Some(after), limit + 1).await?,
                // An id of an unknown journal: nothing is older.
                None => Vec::new(),
            },
        };
        let Page { items, more, .. } = page(rows, limit);
        let items = items.into_iter().map(|entry| Notification { id: self.name(entry.id), entry }).collect();
        Ok(InboxPage { page: Page { items, more, stopped_at: None }, unread: self.unread(user).await? })
    }

    /// The number of unread entries, counted up to `INBOX_UNREAD_MAX`.
    ///
    /// # Errors
    /// `database_unavailable`.
    pub async fn unread(&self, user: UserId) -> Result<u32, Failure> {
        Ok(self.store.inbox_unread(self.view(user), INBOX_UNREAD_MAX).await?)
    }

    /// Acknowledges entries: they are no longer listed. Ids that are not in the inbox are ignored.
    ///
    /// # Errors
    /// `validation_failed` for too many at once, `overloaded`, `database_unavailable`: then the entries stay.
    pub async fn acknowledge(
        &self,
        user: UserId,
        names: Vec<Offset>,
        asked_by: Option<SubscriberId>,
    ) -> Result<(), Failure> {
        self.mark(Mark::Acknowledged, user, names, asked_by).await
    }

    /// Marks entries as read, on all of the user's devices.
    ///
    /// # Errors
    /// As [`Inbox::acknowledge`].
    pub async fn read(&self, user: UserId, which: Which) -> Result<(), Failure> {
        match which {
            Which::These(names) => self.mark(Mark::Read, user, names, None).await,
            Which::UpTo(name) => {
                let Some(last) = self.known(name).await? else { return Ok(()) };
                self.arrived(last).await?;
                self.store.inbox_mark_read_up_to(self.view(user), last, self.clock.now()).await?;
                self.hub.inbox_changed(vec![InboxChange::read_up_to(user, name)]);
                Ok(())
            }
        }
    }

    async fn mark(
        &self,
        mark: Mark,
        user: UserId,
        names: Vec<Offset>,
        asked_by: Option<SubscriberId>,
    ) -> Result<(), Failure> {
        if names.len() > INBOX_MARKED_MAX {
            return Err(Failure::with(Code::ValidationFailed, format!("At most {INBOX_MARKED_MAX} ids at once")));
        }
        let mut entries = Vec::with_capacity(names.len());
        for name in &names {
            entries.extend(self.known(*name).await?);
        }
        if entries.is_empty() {
            return Ok(());
        }
        let (done, outcome) = oneshot::channel();
        let marking = Marking { mark, user, entries, names, asked_by, done };
        self.marks.try_send(marking).map_err(|_| Failure::retry(Code::Overloaded, 1))?;
        outcome.await.unwrap_or_else(|_| Err(Failure::retry(Code::ShuttingDown, 1)))
    }

    /// Waits until the database has the event of an entry.
    async fn arrived(&self, last: EntryId) -> Result<(), Failure> {
        let ours = last.journal == self.reader.journal_id();
        if !ours || self.projection.reached(last.sequence, MARKING_PATIENCE).await {
            return Ok(());
        }
        Err(Failure::retry(Code::DatabaseUnavailable, 2))
    }

    fn view(&self, user: UserId) -> InboxView {
        InboxView { user, since: self.clock.now().plus_millis(-INBOX_MS_MAX), unread: false }
    }

    /// The id of an entry's published event.
    fn name(&self, id: EntryId) -> Offset {
        let ours = id.journal == self.reader.journal_id();
        let epoch = if ours { Epoch::of(&self.reader) } else { Epoch(id.journal.as_u64_pair().1) };
        Offset { epoch, published: id.sequence, stock: None }
    }

    /// The entry of a published event's id, if its journal is known.
    async fn entry(&self, name: Offset) -> Result<Option<EntryId>, StoreError> {
        if name.epoch == Epoch::of(&self.reader) {
            return Ok(Some(EntryId { journal: self.reader.journal_id(), sequence: name.published }));
        }
        // Another journal owned this database before.
        let journal = self.store.journals().await?.into_iter().find(|journal| journal.as_u64_pair().1 == name.epoch.0);
        Ok(journal.map(|journal| EntryId { journal, sequence: name.published }))
    }

    /// The entry of an id, unless the event is not published yet.
    async fn known(&self, name: Offset) -> Result<Option<EntryId>, StoreError> {
        let entry = self.entry(name).await?;
        Ok(entry.filter(|id| id.journal != self.reader.journal_id() || id.sequence <= self.reader.durable()))
    }
}

impl MarkWriter {
    /// Writes marks and deletes expired entries, as long as the task runs.
    pub async fn run(&mut self) {
        let mut forget = tokio::time::interval(FORGET_EVERY);
        let mut waiting = Vec::new();
        loop {
            tokio::select! {
                count = self.marks.recv_many(&mut waiting, ACKNOWLEDGEMENTS_AT_ONCE_MAX) => {
                    if count == 0 {
                        return;
                    }
                    self.write(std::mem::take(&mut waiting)).await;
                }
                _ = forget.tick() => self.forget().await,
            }
        }
    }

    async fn write(&self, waiting: Vec<Marking>) {
        let (acknowledged, read): (Vec<Marking>, Vec<Marking>) =
            waiting.into_iter().partition(|marking| marking.mark == Mark::Acknowledged);
        for (mark, markings) in [(Mark::Acknowledged, acknowledged), (Mark::Read, read)] {
            if markings.is_empty() {
                continue;
            }
            let written = self.write_all(mark, &markings).await;
            if written.is_ok() {
                let changes = markings.iter().map(|marking| {
                    let Marking { user, names, asked_by, .. } = marking;
                    InboxChange::marked(mark, *user, names, *asked_by)
                });
                self.inbox.hub.inbox_changed(changes.collect());
            }
            for marking in markings {
                // The request may have been cancelled.
                let _ = marking.done.send(written.clone());
            }
        }
    }

    async fn write_all(&self, mark: Mark, markings: &[Marking]) -> Result<(), Failure> {
        let entries: Vec<(UserId, EntryId)> =
            markings.iter().flat_map(|marking| marking.entries.iter().map(|entry| (marking.user, *entry))).collect();
        let ours = self.inbox.reader.journal_id();
        if let Some((_, newest)) = entries.iter().filter(|(_, id)| id.journal == ours).max_by_key(|(_, id)| *id) {
            self.inbox.arrived(*newest).await?;
        }
        Ok(self.inbox.store.inbox_mark(mark, &entries, self.inbox.clock.now()).await?)
    }

    async fn forget(&self) {
        let before = self.inbox.clock.now().plus_millis(-INBOX_MS_MAX);
        loop {
            match self.inbox.store.inbox_forget(before).await {
                Ok(true) => tokio::time::sleep(FORGET_PAUSE).await,
                Ok(false) => return,
                Err(error) => return tracing::debug!(%error, "old inbox entries stay until the next round"),
            }
        }
    }
}
