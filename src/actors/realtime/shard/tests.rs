use super::*;
use crate::actors::realtime::broadcaster::Broadcaster;
use crate::actors::realtime::outbox::Outgoing;
use crate::actors::realtime::position::Epoch;
use crate::actors::realtime::position::Offset;
use crate::domain::{DropId, Timestamp};
use actix::Actor;
use std::task::Waker;

fn shard() -> Rc<Shard> {
    let clock = Clock::default();
    let hub = Hub::new(Broadcaster::new(Epoch(1), 0, clock.clone()).start(), clock, Outage::default());
    hub.open_shard()
}

fn open(shard: &Shard) -> Rc<Subscriber> {
    shard.open(Opening { answers: true, abort_handle: None }).unwrap()
}

fn event(published: u64, topics: &[Topic], stock_of: Option<DropId>) -> Arc<Event> {
    Arc::new(Event {
        kind: "test",
        at: Timestamp::from_millis(0),
        position: StreamPosition { published, stock: if stock_of.is_some() { published } else { 0 } },
        epoch: Epoch(1),
        topics: SmallVec::from_slice(topics),
        stock_of,
        json: Bytes::from(published.to_string()),
    })
}

fn everyone(events: &[Arc<Event>]) -> ToShard {
    ToShard::Publish(events.iter().map(|event| (Arc::clone(event), u128::MAX)).collect())
}

fn begin(subscriber: &Subscriber, joined: bool, topics: &[(Topic, Subscription)], events: &[Arc<Event>]) -> ToShard {
    let begin = Replay {
        joined,
        kind: "answer",
        topics: topics.to_vec(),
        events: events.to_vec(),
        snapshots: Vec::new(),
        answer: Bytes::from_static(b"answer"),
        id: Offset { epoch: Epoch(1), published: 0, stock: None },
    };
    ToShard::Replay(subscriber.id(), Box::new(begin))
}

fn heard(subscriber: &Subscriber) -> Vec<String> {
    let mut context = std::task::Context::from_waker(Waker::noop());
    std::iter::from_fn(|| subscriber.next(&mut context))
        .map(|one| match one {
            Outgoing::Message(message) => String::from_utf8(message.json.to_vec()).unwrap(),
            other => format!("{other:?}"),
        })
        .collect()
}

const START: StreamPosition = StreamPosition { published: 0, stock: 0 };

#[actix::test]
async fn each_event_once_to_whoever_hears_one_of_its_topics() {
    let shard = shard();
    let (drop, creator) = (Topic::Drop(DropId::new()), Topic::Creator(CreatorId(UserId::new().0)));
    let subscribers = [open(&shard), open(&shard), open(&shard)];
    shard.on(begin(&subscribers[0], false, &[(drop, Subscription::asked(START))], &[]));
    shard.on(begin(
        &subscribers[1],
        false,
        &[(drop, Subscription::asked(START)), (creator, Subscription::granted(START))],
        &[],
    ));
    let both = [drop, creator];
    shard.on(everyone(&[event(1, &both, None), event(2, &both, None), event(3, &[creator], None)]));
    assert_eq!(heard(&subscribers[0]), ["answer", "1", "2"]);
    assert_eq!(heard(&subscribers[1]), ["answer", "1", "2", "3"]);
    assert!(heard(&subscribers[2]).is_empty());
    shard.on(ToShard::Publish(Arc::from([(event(4, &both, None), 0)])));
    assert!(heard(&subscribers[0]).is_empty(), "for another shard");
}

#[actix::test]
async fn what_another_topic_has_brought_is_not_told_again() {
    let shard = shard();
    let subscriber = open(&shard);
    let (drop, creator) = (Topic::Drop(DropId::new()), Topic::Creator(CreatorId(UserId::new().0)));
    let missed = [event(4, &[drop, creator], None), event(6, &[drop, creator], None)];
    let from = |published| StreamPosition { published, stock: 0 };
    shard.on(begin(&subscriber, true, &[(creator, Subscription::granted(from(5)))], &missed[1..]));
    shard.on(begin(&subscriber, false, &[(drop, Subscription::asked(from(3)))], &missed));
    assert_eq!(heard(&subscriber), ["6", "answer", "4", "answer"]);
}

#[actix::test]
async fn one_reason_to_hear_a_topic_does_not_end_with_the_other() {
    let shard = shard();
    let subscriber = open(&shard);
    let creator = CreatorId(UserId::new().0);
    let topic = Topic::Creator(creator);
    shard.on(begin(&subscriber, true, &[(topic, Subscription::granted(START))], &[]));
    shard.on(begin(&subscriber, false, &[(topic, Subscription::asked(START))], &[]));
    shard.on(ToShard::End { subscriber: subscriber.id(), topics: vec![topic], answer: Bytes::from_static(b"ended") });
    shard.on(everyone(&[event(1, &[topic], None)]));
    shard.on(ToShard::Follow { subscriber: subscriber.id(), creator, follows: false, from: START });
    shard.on(everyone(&[event(2, &[topic], None)]));
    assert_eq!(heard(&subscriber), ["answer", "answer", "ended", "1"]);
    assert!(shard.topics.borrow().is_empty());
}

#[actix::test]
async fn follows_that_change_while_the_list_loads_count() {
    let shard = shard();
    let subscriber = open(&shard);
    let (left, found, back) = (CreatorId(UserId::new().0), CreatorId(UserId::new().0), CreatorId(UserId::new().0));
    let follow = |creator, follows| ToShard::Follow { subscriber: subscriber.id(), creator, follows, from: START };
    shard.on(follow(left, false));
    shard.on(follow(found, true));
    shard.on(follow(back, false));
    shard.on(follow(back, true));
    // The list was read before all that.
    let list = [left, back].map(|creator| (Topic::Creator(creator), Subscription::granted(START)));
    shard.on(begin(&subscriber, true, &list, &[]));
    for (published, creator) in [(1, left), (2, found), (3, back)] {
        shard.on(everyone(&[event(published, &[Topic::Creator(creator)], None)]));
    }
    assert_eq!(heard(&subscriber), ["answer", "2", "3"]);
}

#[actix::test]
async fn a_session_that_leaves_is_forgotten_entirely() {
    let shard = shard();
    let subscriber = open(&shard);
    let drop = Topic::Drop(DropId::new());
    shard.on(begin(&subscriber, false, &[(drop, Subscription::asked(START))], &[]));
    assert_eq!(shard.hub().sessions(), 1);
    shard.leave(&subscriber);
    assert!(shard.topics.borrow().is_empty() && shard.subscribers.borrow().is_empty());
    assert_eq!((shard.hub().sessions(), Rc::strong_count(&subscriber)), (0, 1));
}

#[actix::test]
async fn one_who_does_not_read_is_cut_and_the_others_hear_on() {
    let shard = shard();
    let (slow, quick) = (open(&shard), open(&shard));
    let drop = Topic::Drop(DropId::new());
    for subscriber in [&slow, &quick] {
        shard.on(begin(subscriber, false, &[(drop, Subscription::asked(START))], &[]));
    }
    heard(&quick);
    let large =
        |published| Arc::new(Event { json: vec![b'x'; 10_000].into(), ..(*event(published, &[drop], None)).clone() });
    for published in 1..100 {
        shard.on(everyone(&[large(published)]));
        assert_eq!(heard(&quick).len(), 1);
    }
    assert!(slow.is_closing() && !quick.is_closing());
    assert_eq!(heard(&slow), ["Close(TooSlow)"]);
}

#[actix::test]
async fn a_drain_closes_everyone_within_its_window_and_lets_nobody_in() {
    let shard = shard();
    let subscribers: Vec<_> = (0..50).map(|_| open(&shard)).collect();
    let began = Instant::now();
    shard.drain(Duration::from_millis(200)).await;
    assert!(subscribers.iter().all(|subscriber| subscriber.is_closing()));
    assert!(began.elapsed() >= Duration::from_millis(100), "spread, not at once");
    assert_eq!(shard.open(Opening { answers: true, abort_handle: None }).err(), Some(JoinError::Full));
}
