use super::*;
use crate::actors::broadcaster::Broadcaster;
use crate::actors::outbox::Outgoing;
use crate::actors::place::Epoch;
use crate::domain::{DropId, Timestamp};
use actix::Actor;
use std::task::Waker;

fn shard() -> Rc<Shard> {
    let clock = Clock::default();
    let hub = Hub::new(Broadcaster::new(Epoch(1), 0, clock.clone()).start(), clock, Outage::default());
    hub.open_shard()
}

fn open(shard: &Shard) -> Rc<Seat> {
    shard.open(Opening { answers: true, lifeline: None }).unwrap()
}

fn event(told: u64, topics: &[Topic], stock_of: Option<DropId>) -> Arc<Event> {
    Arc::new(Event {
        kind: "test",
        at: Timestamp::from_millis(0),
        place: Place { told, stock: if stock_of.is_some() { told } else { 0 } },
        epoch: Epoch(1),
        topics: SmallVec::from_slice(topics),
        stock_of,
        json: Bytes::from(told.to_string()),
    })
}

fn everyone(events: &[Arc<Event>]) -> ToShard {
    ToShard::Told(events.iter().map(|event| (Arc::clone(event), u128::MAX)).collect())
}

fn begin(seat: &Seat, joined: bool, topics: &[(Topic, Heard)], events: &[Arc<Event>]) -> ToShard {
    let begin = Begin {
        joined,
        kind: "answer",
        topics: topics.to_vec(),
        events: events.to_vec(),
        snapshots: Vec::new(),
        answer: Bytes::from_static(b"answer"),
        id: Since { epoch: Epoch(1), told: 0, stock: None },
    };
    ToShard::Begin(seat.id(), Box::new(begin))
}

fn heard(seat: &Seat) -> Vec<String> {
    let mut context = std::task::Context::from_waker(Waker::noop());
    std::iter::from_fn(|| seat.next(&mut context))
        .map(|one| match one {
            Outgoing::Message(message) => String::from_utf8(message.json.to_vec()).unwrap(),
            other => format!("{other:?}"),
        })
        .collect()
}

const START: Place = Place { told: 0, stock: 0 };

#[actix::test]
async fn each_event_once_to_whoever_hears_one_of_its_topics() {
    let shard = shard();
    let (drop, creator) = (Topic::Drop(DropId::new()), Topic::Creator(CreatorId(UserId::new().0)));
    let seats = [open(&shard), open(&shard), open(&shard)];
    shard.on(begin(&seats[0], false, &[(drop, Heard::asked(START))], &[]));
    shard.on(begin(&seats[1], false, &[(drop, Heard::asked(START)), (creator, Heard::granted(START))], &[]));
    let both = [drop, creator];
    shard.on(everyone(&[event(1, &both, None), event(2, &both, None), event(3, &[creator], None)]));
    assert_eq!(heard(&seats[0]), ["answer", "1", "2"]);
    assert_eq!(heard(&seats[1]), ["answer", "1", "2", "3"]);
    assert!(heard(&seats[2]).is_empty());
    shard.on(ToShard::Told(Arc::from([(event(4, &both, None), 0)])));
    assert!(heard(&seats[0]).is_empty(), "for another shard");
}

#[actix::test]
async fn what_another_topic_has_brought_is_not_told_again() {
    let shard = shard();
    let seat = open(&shard);
    let (drop, creator) = (Topic::Drop(DropId::new()), Topic::Creator(CreatorId(UserId::new().0)));
    let missed = [event(4, &[drop, creator], None), event(6, &[drop, creator], None)];
    let from = |told| Place { told, stock: 0 };
    shard.on(begin(&seat, true, &[(creator, Heard::granted(from(5)))], &missed[1..]));
    shard.on(begin(&seat, false, &[(drop, Heard::asked(from(3)))], &missed));
    assert_eq!(heard(&seat), ["6", "answer", "4", "answer"]);
}

#[actix::test]
async fn one_reason_to_hear_a_topic_does_not_end_with_the_other() {
    let shard = shard();
    let seat = open(&shard);
    let creator = CreatorId(UserId::new().0);
    let topic = Topic::Creator(creator);
    shard.on(begin(&seat, true, &[(topic, Heard::granted(START))], &[]));
    shard.on(begin(&seat, false, &[(topic, Heard::asked(START))], &[]));
    shard.on(ToShard::End { seat: seat.id(), topics: vec![topic], answer: Bytes::from_static(b"ended") });
    shard.on(everyone(&[event(1, &[topic], None)]));
    shard.on(ToShard::Follow { seat: seat.id(), creator, follows: false, from: START });
    shard.on(everyone(&[event(2, &[topic], None)]));
    assert_eq!(heard(&seat), ["answer", "answer", "ended", "1"]);
    assert!(shard.topics.borrow().is_empty());
}

#[actix::test]
async fn follows_that_change_while_the_list_loads_count() {
    let shard = shard();
    let seat = open(&shard);
    let (left, found, back) = (CreatorId(UserId::new().0), CreatorId(UserId::new().0), CreatorId(UserId::new().0));
    let follow = |creator, follows| ToShard::Follow { seat: seat.id(), creator, follows, from: START };
    shard.on(follow(left, false));
    shard.on(follow(found, true));
    shard.on(follow(back, false));
    shard.on(follow(back, true));
    // The list was read before all that.
    let list = [left, back].map(|creator| (Topic::Creator(creator), Heard::granted(START)));
    shard.on(begin(&seat, true, &list, &[]));
    for (told, creator) in [(1, left), (2, found), (3, back)] {
        shard.on(everyone(&[event(told, &[Topic::Creator(creator)], None)]));
    }
    assert_eq!(heard(&seat), ["answer", "2", "3"]);
}

#[actix::test]
async fn a_session_that_leaves_is_forgotten_entirely() {
    let shard = shard();
    let seat = open(&shard);
    let drop = Topic::Drop(DropId::new());
    shard.on(begin(&seat, false, &[(drop, Heard::asked(START))], &[]));
    assert_eq!(shard.hub().sessions(), 1);
    shard.leave(&seat);
    assert!(shard.topics.borrow().is_empty() && shard.seats.borrow().is_empty());
    assert_eq!((shard.hub().sessions(), Rc::strong_count(&seat)), (0, 1));
}

#[actix::test]
async fn one_who_does_not_read_is_cut_and_the_others_hear_on() {
    let shard = shard();
    let (slow, quick) = (open(&shard), open(&shard));
    let drop = Topic::Drop(DropId::new());
    for seat in [&slow, &quick] {
        shard.on(begin(seat, false, &[(drop, Heard::asked(START))], &[]));
    }
    heard(&quick);
    let large = |told| Arc::new(Event { json: vec![b'x'; 10_000].into(), ..(*event(told, &[drop], None)).clone() });
    for told in 1..100 {
        shard.on(everyone(&[large(told)]));
        assert_eq!(heard(&quick).len(), 1);
    }
    assert!(slow.is_closing() && !quick.is_closing());
    assert_eq!(heard(&slow), ["Close(TooSlow)"]);
}

#[actix::test]
async fn a_drain_closes_everyone_within_its_window_and_lets_nobody_in() {
    let shard = shard();
    let seats: Vec<_> = (0..50).map(|_| open(&shard)).collect();
    let began = Instant::now();
    shard.drain(Duration::from_millis(200)).await;
    assert!(seats.iter().all(|seat| seat.is_closing()));
    assert!(began.elapsed() >= Duration::from_millis(100), "spread, not at once");
    assert_eq!(shard.open(Opening { answers: true, lifeline: None }).err(), Some(JoinError::Full));
}
