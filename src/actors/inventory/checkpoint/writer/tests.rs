use super::*;
use crate::actors::inventory::checkpoint::loading::{self, Extent, Loaded};
use crate::actors::inventory::checkpoint::{EXTENSION, Unusable};
use crate::actors::{Decisions, Scheduler};
use crate::domain::fixtures::drop_of;
use crate::domain::{DropEvent, DropRecord};
use crate::engine::fixtures::reserve_in;
use crate::engine::{Command, DropState, Outcome};
use crate::journal::{Journal, JournalOptions, MemoryDevice};
use crate::whole_file::DRAFT_EXTENSION;
use std::fs;
use tempfile::TempDir;

/// A journal, drops, and who writes them.
struct World {
    journal: Journal<Decisions>,
    registry: Registry,
    writer: Checkpointer,
    folder: PathBuf,
    _place: TempDir,
}

impl World {
    fn new() -> Self {
        let options = JournalOptions { tail_bytes: 16 << 20, segment_bytes: 16 << 20, ..JournalOptions::in_memory() };
        let (journal, _) = Journal::open(&options, Arc::new(MemoryDevice::new()), 0).unwrap();
        let registry = Registry::new(journal.handle(), Clock::default(), Scheduler::default(), 1);
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("checkpoint");
        let files = (HashMap::new(), CheckpointMetrics::default());
        let interval = Duration::from_secs(3_600);
        let reader = journal.handle().reader();
        let writer = Checkpointer::new(folder.clone(), registry.clone(), reader, Clock::default(), interval, files);
        Self { journal, registry, writer, folder, _place: place }
    }

    async fn live(&self, stock: u32) -> Arc<DropHandle> {
        let (drop, _) = self.registry.schedule(drop_of(stock)).await.unwrap();
        drop.ask(Command::Start).await.unwrap();
        drop
    }

    fn extent(&self) -> Extent {
        let reader = self.journal.handle().reader();
        let origin = Origin { journal: reader.journal_id(), epoch: reader.epoch() };
        Extent { origin, oldest: 1, last: reader.durable() }
    }

    fn read(&self) -> Loaded {
        loading::read(&self.folder, self.extent())
    }

    fn written(&self) -> u64 {
        self.writer.metrics.written_bytes.get()
    }

    /// A drop as the journal has it after `from`, on top of `state`.
    fn replayed(&self, drop: DropId, state: Option<DropState>, from: u64) -> DropState {
        let (mut state, mut cursor) = (state, self.journal.handle().cursor(from));
        while let Some(batch) = cursor.next_batch(1_000).unwrap() {
            for record in batch.iter().map(|(_, bytes)| DropRecord::decode(bytes).unwrap()) {
                match record.event {
                    _ if record.drop != drop => {}
                    DropEvent::Scheduled(spec) => state = Some(DropState::scheduled(*spec)),
                    event => state.as_mut().unwrap().evolve(record.at, &event),
                }
            }
        }
        state.unwrap()
    }

    /// Each drop's file and the journal after it give what the whole journal gives.
    fn is_exact(&self, drops: usize) {
        let loaded = self.read();
        assert_eq!((loaded.drops.len(), loaded.unusable.len()), (drops, 0), "{:?}", loaded.unusable);
        for (state, position) in loaded.drops {
            let id = state.spec().id;
            let (back, all) = (self.replayed(id, Some(state), position), self.replayed(id, None, 0));
            back.assert_invariants();
            assert!(back.orders().eq(all.orders()) && back.stock().eq(all.stock()));
            assert_eq!((back.status(), back.last_at()), (all.status(), all.last_at()));
        }
    }
}

async fn reserve(drop: &DropHandle) -> crate::domain::OrderId {
    match drop.ask(Command::Reserve(Box::new(reserve_in(&drop.spec)))).await.unwrap().outcome {
        Outcome::Order { order, .. } => order.id,
        other => panic!("{other:?}"),
    }
}

fn file_of(world: &World, drop: &DropHandle) -> PathBuf {
    world.folder.join(format!("{}.{EXTENSION}", drop.spec.id))
}

#[actix::test]
async fn the_files_and_the_journal_after_them_are_the_drops() {
    let mut world = World::new();
    let (one, other) = (world.live(10).await, world.live(20).await);
    let order = reserve(&one).await;
    world.writer.round().await.unwrap();
    world.is_exact(2);
    one.ask(Command::Confirm { order, payment_ref: "ch_1".into() }).await.unwrap();
    reserve(&other).await;
    world.is_exact(2);
    world.writer.round().await.unwrap();
    world.is_exact(2);
    world.registry.stop();
}

/// Rows are copied while others are sold, paid and given back.
#[actix::test]
async fn a_drop_is_copied_while_it_sells() {
    let mut world = World::new();
    let drop = world.live(20_000).await;
    let mut orders = Vec::new();
    for _ in 0..5 {
        let some = (0..1_000).map(|_| reserve(&drop));
        orders.extend(futures_util::future::join_all(some).await);
    }
    let registry = world.registry.clone();
    let (handle, writer) = (Arc::clone(&drop), &mut world.writer);
    let sells = async {
        for (at, &order) in orders.iter().enumerate().rev() {
            let command = if at % 3 == 0 {
                let trace = crate::domain::TraceId::default();
                Command::Release { order, reason: crate::domain::ReleaseReason::Cancelled, trace }
            } else {
                Command::Confirm { order, payment_ref: format!("ch_{at}").into() }
            };
            handle.ask(command).await.unwrap();
            reserve(&handle).await;
        }
    };
    let (written, ()) = futures_util::future::join(writer.round(), sells).await;
    written.unwrap();
    world.is_exact(1);
    let (state, position) = world.read().drops.pop().unwrap();
    assert!(state.order_count() >= 5_000 && position < world.journal.handle().durable(), "it sold meanwhile");
    registry.stop();
}

#[actix::test]
async fn what_has_not_changed_is_not_written_again_and_its_position_moves_on() {
    let mut world = World::new();
    let (quiet, busy) = (world.live(10).await, world.live(10).await);
    reserve(&quiet).await;
    world.writer.round().await.unwrap();
    let (written, before) = (world.written(), fs::read(file_of(&world, &quiet)).unwrap());
    world.writer.round().await.unwrap();
    assert_eq!(world.written(), written, "nothing at all has happened");
    reserve(&busy).await;
    world.writer.round().await.unwrap();
    // Too little for another copy of it, before its time.
    assert_eq!(world.written(), written);
    assert_eq!(fs::read(file_of(&world, &quiet)).unwrap(), before);
    let saved = world.read().saved;
    assert_eq!(saved[&quiet.spec.id].position, world.journal.handle().durable());
    assert!(saved[&busy.spec.id].position < world.journal.handle().durable());
    world.writer.interval = Duration::ZERO;
    world.writer.round().await.unwrap();
    assert!(world.written() > written, "its time has come");
    assert_eq!(world.read().saved[&busy.spec.id].position, world.journal.handle().durable());
    assert_eq!(fs::read(file_of(&world, &quiet)).unwrap(), before);
    world.is_exact(2);
    world.registry.stop();
}

#[actix::test]
async fn a_drop_that_leaves_memory_takes_its_file_with_it() {
    let mut world = World::new();
    let (gone, stays) = (world.live(1).await, world.live(1).await);
    world.writer.round().await.unwrap();
    fs::write(world.folder.join("a.new"), "a draft of before").unwrap();
    world.registry.remove(&gone);
    reserve(&stays).await;
    world.writer.round().await.unwrap();
    let mut left: Vec<_> = fs::read_dir(&world.folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    left.sort_unstable();
    let mut expected = vec![file_of(&world, &stays), world.folder.join(MANIFEST)];
    expected.sort_unstable();
    assert_eq!(left, expected);
    world.registry.stop();
}

/// SQL has all of it: the others are all that a start needs.
#[actix::test]
async fn a_drop_that_leaves_memory_during_a_round_is_not_missing() {
    let mut world = World::new();
    let drops = [world.live(1).await, world.live(1).await];
    let (registry, folder) = (world.registry.clone(), world.folder.clone());
    let is_begun = |drop: &DropHandle| folder.join(format!("{}.{DRAFT_EXTENSION}", drop.spec.id)).exists();
    let leaves = async {
        while !drops.iter().any(|drop| is_begun(drop)) {
            tokio::task::yield_now().await;
        }
        registry.remove(drops.iter().find(|drop| !is_begun(drop)).unwrap());
    };
    let (written, ()) = futures_util::future::join(world.writer.round(), leaves).await;
    written.unwrap();
    let loaded = world.read();
    assert_eq!((loaded.drops.len(), loaded.unusable.len()), (1, 0));
    assert_eq!(loaded.complete_at, Some(world.journal.handle().durable()));
    world.registry.stop();
}

/// Its changes are counted anew: the same number says nothing.
#[actix::test]
async fn a_drop_that_came_back_is_written_anew() {
    let mut world = World::new();
    let drop = world.live(5).await;
    world.writer.round().await.unwrap();
    reserve(&drop).await;
    let state = world.replayed(drop.spec.id, None, 0);
    world.registry.remove(&drop);
    // As from SQL: with all of its orders, and no change since.
    let mut copy = state;
    let start = copy.begin_copy();
    let mut decoder = crate::engine::checkpoint::CheckpointDecoder::begin(&start.image).unwrap();
    decoder.rows(&copy.copy_rows(10).unwrap().bytes).unwrap();
    world.registry.restore(decoder.finish().unwrap(), world.journal.handle().durable());
    let written = world.written();
    world.writer.round().await.unwrap();
    assert!(world.written() > written);
    world.is_exact(1);
    world.registry.stop();
}

/// Takes the world's files, changes them, and tells why the drop's file or the list cannot be used.
async fn spoilt(spoil: impl FnOnce(&World, &Path), extent: impl FnOnce(Extent) -> Extent) -> Vec<&'static str> {
    let mut world = World::new();
    let (drop, other) = (world.live(3).await, world.live(4).await);
    reserve(&drop).await;
    world.writer.round().await.unwrap();
    reserve(&other).await;
    let file = file_of(&world, &drop);
    spoil(&world, &file);
    let extent = extent(world.extent());
    let metrics = CheckpointMetrics::default();
    let loaded = loading::load(&world.folder, extent, &metrics).unwrap();
    assert_eq!(loaded.drops.len(), loaded.saved.len());
    for (name, why) in &loaded.unusable {
        assert!(!world.folder.join(name).exists(), "{name} is deleted: {why}");
    }
    // What was unusable once is not used later: the next start finds nothing there.
    let again = loading::read(&world.folder, Extent { last: u64::MAX, ..extent });
    assert_eq!(again.drops.len(), loaded.drops.len());
    world.registry.stop();
    loaded.unusable.iter().map(|(_, why)| why.as_str()).collect()
}

#[actix::test]
async fn what_cannot_be_used_is_named_and_deleted() {
    let same = |extent: Extent| extent;
    assert!(spoilt(|_, _| {}, same).await.is_empty());
    assert_eq!(spoilt(|_, file| fs::remove_file(file).unwrap(), same).await, ["missing"]);
    let cut = |_: &World, file: &Path| fs::write(file, &fs::read(file).unwrap()[..200]).unwrap();
    assert_eq!(spoilt(cut, same).await, ["damaged"]);
    let flip = |_: &World, file: &Path| {
        let mut bytes = fs::read(file).unwrap();
        let at = bytes.len() - 30;
        bytes[at] ^= 4;
        fs::write(file, bytes).unwrap();
    };
    assert_eq!(spoilt(flip, same).await, ["damaged"]);
    let other_file = |world: &World, file: &Path| {
        let all = fs::read_dir(&world.folder).unwrap().map(|entry| entry.unwrap().path());
        let other = all.filter(|path| path.extension().is_some_and(|end| end == EXTENSION)).find(|path| path != file);
        fs::copy(other.unwrap(), file).unwrap();
    };
    assert_eq!(spoilt(other_file, same).await, ["foreign"]);
    assert_eq!(spoilt(|world, _| fs::remove_file(world.folder.join(MANIFEST)).unwrap(), same).await, ["missing"]);
    assert_eq!(
        spoilt(|world, _| fs::write(world.folder.join(MANIFEST), "x").unwrap(), same).await,
        ["not_a_checkpoint"]
    );
    let foreign = |extent: Extent| Extent { origin: Origin { journal: uuid::Uuid::nil(), ..extent.origin }, ..extent };
    assert_eq!(spoilt(|_, _| {}, foreign).await, ["foreign"]);
    let restored = |extent: Extent| {
        let epoch = extent.origin.epoch + crate::journal::identity::RESTORE_EPOCHS;
        Extent { origin: Origin { epoch, ..extent.origin }, ..extent }
    };
    assert_eq!(spoilt(|_, _| {}, restored).await, ["foreign"]);
    assert_eq!(spoilt(|_, _| {}, |extent| Extent { last: 1, ..extent }).await, ["ahead"]);
    assert_eq!(spoilt(|_, _| {}, |extent| Extent { oldest: extent.last + 9, ..extent }).await, ["behind", "behind"]);
}

#[test]
fn only_a_journal_that_has_the_records_may_use_a_file() {
    let behind = Unusable::Behind { position: 4, oldest: 9 };
    assert_eq!(behind.to_string(), "it is true at record 4, and the journal begins with record 9");
}
