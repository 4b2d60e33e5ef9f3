//! Inboxes: the entries of each user, and that stored and computed entries cannot be told apart.

use crate::Database;
use crate::fixtures::{Journal, Sale, at, creator, register, user};
use livedrop::domain::{CreatorId, DropEvent, DropRecord, RefundCause, ReleaseReason, TraceId, UserId};
use livedrop::storage::{Concern, EntryId, InboxEntry, InboxView, Mark, StoreError};
use rand::{Rng, SeedableRng, rngs::StdRng};

const SEEDS: std::ops::Range<u64> = 0..6;
const STEPS: usize = 80;

fn all(user: UserId) -> InboxView {
    InboxView { user, since: at(-1_000_000), unread: false }
}

fn unread(user: UserId) -> InboxView {
    InboxView { unread: true, ..all(user) }
}

async fn kinds(db: &Database, view: InboxView) -> Vec<String> {
    db.store.inbox(view, None, 100).await.unwrap().into_iter().map(|entry| entry.kind).collect()
}

/// A drop of this creator.
fn sale_of(creator: CreatorId) -> Sale {
    let mut sale = Sale::of(&[5]);
    sale.spec.creator_id = creator;
    sale
}

pub async fn a_buyer_finds_what_became_of_an_order(db: Database) {
    let (mut journal, sale) = (Journal::new(&db), Sale::of(&[5]));
    journal.project(sale.opened()).await;
    let (ask, other) = (sale.order(0, 2), sale.order(0, 1));
    journal.project(vec![ask.reserved(1, None), other.reserved(2, None), ask.confirmed(3, Some("pay"), false)]).await;
    journal.project(vec![other.released(4, ReleaseReason::Expired, TraceId::random())]).await;
    journal.project(vec![ask.refund_due(5, "pay", RefundCause::Requested, true), ask.refunded(6)]).await;
    let entries = db.store.inbox(all(ask.line.buyer), None, 100).await.unwrap();
    let told: Vec<_> = entries.iter().map(|entry| (entry.id.sequence, entry.kind.as_str(), entry.at)).collect();
    assert_eq!(told, [(8, "order_refunded", at(6)), (7, "refund_due", at(5)), (5, "order_confirmed", at(3))]);
    let due = &entries[1];
    assert_eq!((due.drop, due.title.as_str(), due.starts_at), (sale.id(), "A drop", at(0)));
    let concern = |reason: Option<&str>| Concern::Buyer {
        order: ask.line.order,
        variant: ask.line.variant,
        quantity: 2,
        reason: reason.map(str::to_owned),
    };
    assert_eq!((&due.concern, &entries[2].concern), (&concern(Some("requested")), &concern(None)));
    assert_eq!(kinds(&db, all(other.line.buyer)).await, ["order_released"]);
    assert_eq!(kinds(&db, all(UserId::new())).await, [] as [&str; 0]);
}

/// Runs twice: with a stored line for each follower, and with none.
pub async fn followers_find_what_lasts_since_they_follow(db: Database) {
    for fan_out_max in [u32::MAX, 0] {
        let db = db.sibling(fan_out_max).await;
        let (fans, star) = register(&db, 3).await;
        let [early, late, fickle] = fans[..] else { unreachable!() };
        for fan in [early, fickle] {
            db.store.follow(fan, star, at(-2_000)).await.unwrap();
        }
        let (mut journal, sale) = (Journal::new(&db), sale_of(star));
        journal.project(sale.opened()).await;
        // A late follower does not get events that no longer matter.
        let low = DropEvent::StockLow { variant: sale.spec.variants[0].id, available: 1 };
        journal.project(vec![sale.event(1, low), sale.event(2, DropEvent::Ended)]).await;
        db.store.follow(late, star, at(3)).await.unwrap();
        let (again, cancelled) = (sale_of(star), DropEvent::Cancelled);
        journal.project(again.opened()).await;
        journal.project(vec![again.event(4, cancelled)]).await;
        db.store.unfollow(fickle, star).await.unwrap();
        let everything = ["drop_cancelled", "drop_started", "drop_scheduled", "drop_started", "drop_scheduled"];
        assert_eq!(kinds(&db, all(early)).await, everything);
        assert_eq!(kinds(&db, all(late)).await, ["drop_cancelled"]);
        assert_eq!(kinds(&db, all(fickle)).await, [] as [&str; 0]);
        db.store.follow(fickle, star, at(5)).await.unwrap();
        assert_eq!(kinds(&db, all(fickle)).await, [] as [&str; 0], "what came before is not theirs again");
        assert_eq!(db.store.inbox_unread(unread(early), 100).await.unwrap(), 5);
        assert_eq!(db.store.inbox_unread(unread(early), 3).await.unwrap(), 3);
        let entries = db.store.inbox(all(early), None, 1).await.unwrap();
        assert_eq!((entries[0].drop, &entries[0].concern), (again.id(), &Concern::Follower(star)));
        let lines = if fan_out_max == 0 { 0 } else { 11 };
        assert_eq!(db.count("SELECT COUNT(*) FROM inbox").await, lines, "nothing is written for the many");
    }
}

pub async fn marks_are_kept_and_are_nobody_elses(db: Database) {
    for fan_out_max in [u32::MAX, 0] {
        let db = db.sibling(fan_out_max).await;
        let (fans, star) = register(&db, 2).await;
        let [ann, bob] = fans[..] else { unreachable!() };
        for fan in [ann, bob] {
            db.store.follow(fan, star, at(-2_000)).await.unwrap();
        }
        let (mut journal, sale) = (Journal::new(&db), sale_of(star));
        journal.project(sale.opened()).await;
        let id = |sequence| EntryId { journal: journal.id, sequence };
        for _ in 0..2 {
            db.store.inbox_mark(Mark::Read, &[(ann, id(1))], at(10)).await.unwrap();
        }
        let entries = db.store.inbox(all(ann), None, 9).await.unwrap();
        assert_eq!((entries[0].read_at, entries[1].read_at), (None, Some(at(10))));
        assert_eq!(kinds(&db, unread(ann)).await, ["drop_started"]);
        db.store.inbox_mark(Mark::Acknowledged, &[(ann, id(1)), (bob, id(2))], at(11)).await.unwrap();
        assert_eq!(kinds(&db, all(ann)).await, ["drop_started"]);
        assert_eq!(kinds(&db, all(bob)).await, ["drop_scheduled"]);
        // A user who does not follow, an unknown record and an unknown journal: nothing to mark.
        let strangers = EntryId { journal: uuid::Uuid::now_v7(), sequence: 1 };
        let stranger = user("stranger@example.com");
        db.store.insert_user(&stranger).await.unwrap();
        let marks = [(stranger.id, id(1)), (ann, id(99)), (ann, strangers)];
        db.store.inbox_mark(Mark::Acknowledged, &marks, at(12)).await.unwrap();
        assert_eq!(kinds(&db, all(stranger.id)).await, [] as [&str; 0]);
        db.store.inbox_mark_read_up_to(all(bob), id(1), at(13)).await.unwrap();
        assert_eq!(db.store.inbox_unread(unread(bob), 100).await.unwrap(), 0);
        db.store.inbox_mark_read_up_to(all(ann), id(1), at(13)).await.unwrap();
        assert_eq!(db.store.inbox_unread(unread(ann), 100).await.unwrap(), 1);
        assert_eq!(db.store.inbox(all(bob), None, 9).await.unwrap()[0].read_at, Some(at(13)));
    }
}

/// Runs twice: with a stored line for each follower, and with none.
pub async fn a_drop_that_is_rescheduled_takes_its_earlier_times_back(db: Database) {
    for fan_out_max in [u32::MAX, 0] {
        let db = db.sibling(fan_out_max).await;
        let (fans, star) = register(&db, 3).await;
        let [reads, acknowledges, sleeps] = fans[..] else { unreachable!() };
        for fan in [reads, acknowledges, sleeps] {
            db.store.follow(fan, star, at(-2_000)).await.unwrap();
        }
        let (mut journal, sale, other) = (Journal::new(&db), sale_of(star), sale_of(star));
        let moved =
            |sale: &Sale, millis| sale.event(millis, DropEvent::Rescheduled { starts_at: at(millis), ends_at: None });
        let scheduled = |sale: &Sale| sale.opened().remove(0);
        journal.project(vec![scheduled(&sale), scheduled(&other), moved(&sale, 1), moved(&other, 1)]).await;
        let id = |sequence| EntryId { journal: journal.id, sequence };
        db.store.inbox_mark(Mark::Read, &[(reads, id(3))], at(2)).await.unwrap();
        db.store.inbox_mark(Mark::Acknowledged, &[(acknowledges, id(3))], at(2)).await.unwrap();
        // Of one batch only the last change has an entry; it replaces the one before.
        journal.project(vec![moved(&sale, 3), moved(&sale, 4)]).await;
        let told = async |fan| -> Vec<u64> {
            db.store.inbox(all(fan), None, 100).await.unwrap().iter().map(|entry| entry.id.sequence).collect()
        };
        assert_eq!(told(sleeps).await, [6, 4, 2, 1]);
        assert_eq!(told(acknowledges).await, [6, 4, 2, 1]);
        assert_eq!(told(reads).await, [6, 4, 3, 2, 1], "what somebody has read stays");
        for millis in 5..25 {
            journal.project(vec![moved(&sale, millis)]).await;
        }
        assert_eq!(told(sleeps).await, [26, 4, 2, 1]);
        let lines = db.count("SELECT COUNT(*) FROM inbox").await;
        assert!(lines <= 3 * 4 + 2, "{lines} lines");
    }
}

pub async fn a_batch_that_tells_too_many_people_is_for_two_transactions(db: Database) {
    let (fans, star) = register(&db, 100).await;
    for fan in fans {
        db.store.follow(fan, star, at(-2_000)).await.unwrap();
    }
    let mut journal = Journal::new(&db);
    let records: Vec<DropRecord> = (0..101).map(|_| sale_of(star).opened().remove(0)).collect();
    assert!(matches!(journal.try_project(records.clone()).await, Err(StoreError::TooLarge)));
    assert_eq!(db.count("SELECT (SELECT COUNT(*) FROM drops) + (SELECT COUNT(*) FROM inbox)").await, 0);
    for half in records.chunks(51) {
        journal.project(half.to_vec()).await;
    }
    assert_eq!(db.count("SELECT COUNT(*) FROM inbox").await, 10_100);
}

pub async fn what_is_old_is_forgotten(db: Database) {
    let (fans, star) = register(&db, 1).await;
    db.store.follow(fans[0], star, at(-2_000)).await.unwrap();
    let (mut journal, sale) = (Journal::new(&db), sale_of(star));
    journal.project(sale.opened()).await;
    let since_start = InboxView { since: at(0), ..all(fans[0]) };
    assert_eq!(kinds(&db, since_start).await, ["drop_started"]);
    assert!(!db.store.inbox_forget(at(0)).await.unwrap());
    assert_eq!(kinds(&db, all(fans[0])).await, ["drop_started"]);
    let left = "SELECT (SELECT COUNT(*) FROM inbox) + (SELECT COUNT(*) FROM drop_news)";
    assert_eq!(db.count(left).await, 2);
    let after = db.store.journals().await.unwrap();
    assert_eq!(after, [journal.id]);
}

/// The state of one random run.
struct Story {
    people: Vec<UserId>,
    creators: Vec<CreatorId>,
    sales: Vec<Sale>,
    /// Decided and not projected yet.
    waiting: Vec<DropRecord>,
}

impl Story {
    /// A random event: of a creator's drop, or the end of an order.
    fn happens(&mut self, rng: &mut StdRng, millis: i64) {
        let began = self.waiting.len();
        match rng.random_range(0..3) {
            0 => {
                let mut sale = sale_of(self.creators[rng.random_range(0..self.creators.len())]);
                sale.spec.created_at = at(millis);
                let scheduled = DropEvent::Scheduled(Box::new(sale.spec.clone()));
                self.waiting.push(sale.event(millis, scheduled));
                self.waiting.push(sale.event(millis, DropEvent::Started));
                self.sales.push(sale);
            }
            1 if !self.sales.is_empty() => {
                let sale = &self.sales[rng.random_range(0..self.sales.len())];
                let (starts_at, ends_at) = (sale.spec.starts_at, Some(at(rng.random_range(0..1_000_000))));
                self.waiting.push(sale.event(millis, DropEvent::Rescheduled { starts_at, ends_at }));
            }
            _ if !self.sales.is_empty() => {
                let sale = &self.sales[rng.random_range(0..self.sales.len())];
                let mut ask = sale.order(0, 1);
                ask.line.buyer = self.people[rng.random_range(0..self.people.len())];
                let reserved = ask.reserved(millis, None);
                let released = ask.released(millis, ReleaseReason::Cancelled, TraceId::random());
                self.waiting.extend([reserved, released]);
            }
            _ => {}
        }
        assert!(self.waiting.len() >= began);
    }
}

/// The same records go into two databases: one stores a line for every follower, the other for none. All users see the
/// same inbox at every step, page by page.
pub async fn nobody_can_tell_whether_it_was_written_or_computed(db: Database) {
    for seed in SEEDS {
        let databases = [db.sibling(u32::MAX).await, db.sibling(0).await];
        let mut rng = StdRng::seed_from_u64(seed);
        let mut story = Story { people: Vec::new(), creators: Vec::new(), sales: Vec::new(), waiting: Vec::new() };
        for n in 0..4 {
            let someone = user(&format!("{n}@example.com"));
            for db in &databases {
                db.store.insert_user(&someone).await.unwrap();
                if n < 2 {
                    db.store.insert_creator(&creator(someone.id, &format!("star{n}"))).await.unwrap();
                }
            }
            story.people.push(someone.id);
            if n < 2 {
                story.creators.push(someone.id.into());
            }
        }
        let mut journals = databases.each_ref().map(Journal::new);
        journals[1].id = journals[0].id;
        for step in 0..STEPS {
            let now = at(step as i64 * 10);
            let who = story.people[rng.random_range(0..story.people.len())];
            let whom = story.creators[rng.random_range(0..story.creators.len())];
            match rng.random_range(0..10) {
                0..2 => {
                    for db in &databases {
                        db.store.follow(who, whom, now).await.unwrap();
                    }
                }
                2 => {
                    for db in &databases {
                        db.store.unfollow(who, whom).await.unwrap();
                    }
                }
                3..6 => story.happens(&mut rng, step as i64 * 10),
                6 => {
                    let records = std::mem::take(&mut story.waiting);
                    for journal in &mut journals {
                        if !records.is_empty() {
                            journal.project(records.clone()).await;
                        }
                    }
                }
                mark => {
                    let sequence = rng.random_range(1..=journals[0].next);
                    let id = EntryId { journal: journals[0].id, sequence };
                    for db in &databases {
                        match mark {
                            7 => db.store.inbox_mark_read_up_to(all(who), id, now).await.unwrap(),
                            8 => db.store.inbox_mark(Mark::Read, &[(who, id)], now).await.unwrap(),
                            _ => db.store.inbox_mark(Mark::Acknowledged, &[(who, id)], now).await.unwrap(),
                        }
                    }
                }
            }
            for &who in &story.people {
                let seen = [seen(&databases[0], who).await, seen(&databases[1], who).await];
                assert_eq!(seen[0], seen[1], "seed {seed}, step {step}");
            }
        }
    }
}

/// One user's inbox: all entries in pages of two, the unread entries, and their count.
async fn seen(db: &Database, who: UserId) -> (Vec<InboxEntry>, Vec<InboxEntry>, u32) {
    let mut pages: Vec<InboxEntry> = Vec::new();
    loop {
        let page = db.store.inbox(all(who), pages.last().map(|entry| entry.id), 2).await.unwrap();
        let last = page.len() < 2;
        pages.extend(page);
        if last {
            break;
        }
    }
    assert!(pages.is_sorted_by(|one, next| one.id > next.id), "newest first, each once");
    let fresh = db.store.inbox(unread(who), None, 1_000).await.unwrap();
    let still: Vec<_> = pages.iter().filter(|entry| entry.read_at.is_none()).cloned().collect();
    assert_eq!(fresh, still);
    (pages, fresh, db.store.inbox_unread(unread(who), 1_000).await.unwrap())
}
