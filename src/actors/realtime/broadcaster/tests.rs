//! Clients that connect and leave, and broadcasters that restart, in any order: no client misses an event or gets it
//! twice.

use super::*;
use crate::actors::inventory::snapshot::DropSnapshot;
use crate::actors::outage::Outage;
use crate::actors::realtime::event::Topic;
use crate::actors::realtime::hub::Hub;
use crate::actors::realtime::messages::Attach;
use crate::actors::realtime::outbox::Outgoing;
use crate::actors::realtime::shard::{Opening, Shard, Subscriber};
use crate::domain::{
    Fingerprint, KeyDigest, Money, OrderId, OrderLine, ProductId, ReleaseReason, TraceId, VariantId, VariantSpec,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;
use std::rc::Rc;
use std::task::Waker;

const EPOCH: Epoch = Epoch(0xabc);

/// A drop and its events so far.
struct Made {
    spec: Arc<DropSpec>,
    board: StockBoard,
    held: Vec<OrderLine>,
}

/// The client's knowledge of the events and of the stock.
#[derive(Clone, Default)]
struct Belief {
    /// The client has everything up to this record from a snapshot, and everything after it from events.
    known: u64,
    heard: Vec<u64>,
    /// For each drop, the sequence and the free units.
    stock: HashMap<String, (u64, u64)>,
}

/// One client. It reconnects with its last event id and its knowledge at that time, without later snapshots.
struct Client {
    topics: Vec<Topic>,
    subscriber: Option<Rc<Subscriber>>,
    last: Option<String>,
    now: Belief,
    /// The knowledge at `last`.
    at_last: Belief,
}

struct World {
    random: StdRng,
    journal: Vec<DropRecord>,
    /// Records before this one were deleted.
    kept_from: usize,
    published: usize,
    drops: Vec<Made>,
    buyers: Vec<UserId>,
    broadcaster: Broadcaster,
    shard: Rc<Shard>,
    queue: mpsc::Receiver<ToShard>,
    hub: Hub,
    clients: Vec<Client>,
    restarted: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let clock = Clock::default();
        let hub = Hub::new(Broadcaster::new(EPOCH, 0, clock.clone()).start(), clock.clone(), Outage::default());
        let (sender, queue) = mpsc::channel(10_000);
        let mut broadcaster = Broadcaster::new(EPOCH, 0, clock.clone());
        broadcaster.shards = vec![Some(sender)];
        let shard = Rc::new(Shard::new(0, hub.clone(), clock, Outage::default()));
        let buyers: Vec<UserId> = (0..3).map(|_| UserId::new()).collect();
        let mut world = Self {
            journal: Vec::new(),
            kept_from: 0,
            published: 0,
            drops: Vec::new(),
            broadcaster,
            shard,
            queue,
            hub,
            clients: Vec::new(),
            restarted: false,
            buyers,
            random: StdRng::seed_from_u64(random.random()),
        };
        let creators = [CreatorId(UserId::new().0), CreatorId(UserId::new().0)];
        for n in 0..4 {
            world.schedule(creators[n % 2]);
        }
        for n in 0..6 {
            let drop = |n: usize| Topic::Drop(world.drops[n % 4].spec.id);
            let topics = match n {
                0 | 1 => vec![drop(n)],
                2 => vec![Topic::Creator(creators[0]), drop(0), drop(1)],
                3 => vec![Topic::Creator(creators[0]), Topic::Creator(creators[1])],
                _ => vec![Topic::User(world.buyers[n - 4]), drop(n)],
            };
            let (now, at_last) = (Belief::default(), Belief::default());
            world.clients.push(Client { topics, subscriber: None, last: None, now, at_last });
        }
        world
    }

    fn schedule(&mut self, creator: CreatorId) {
        let price = Money { amount: 1, currency: "USD".parse().unwrap() };
        let spec = DropSpec {
            id: DropId::new(),
            creator_id: creator,
            product_id: ProductId::new(),
            title: "t".to_owned(),
            variants: vec![VariantSpec { id: VariantId::new(), name: "v".to_owned(), stock: 3, price }],
            per_buyer_limit: 0,
            low_stock_threshold: 0,
            hold_ms: 1_000,
            starts_at: Timestamp::from_millis(0),
            ends_at: None,
            created_at: Timestamp::from_millis(0),
            shipping: None,
        };
        let board = StockBoard::new(&spec);
        self.drops.push(Made { spec: Arc::new(spec.clone()), board, held: Vec::new() });
        let drop = self.drops.len() - 1;
        self.append(drop, DropEvent::Scheduled(Box::new(spec)));
        self.append(drop, DropEvent::Started);
    }

    fn append(&mut self, drop: usize, event: DropEvent) {
        let made = &mut self.drops[drop];
        if !matches!(event, DropEvent::Scheduled(_)) {
            made.board.fold(&event).expect("an event that can follow");
        }
        self.journal.push(DropRecord { drop: made.spec.id, at: Clock::default().now(), event });
    }

    /// A buyer reserves a free unit.
    fn reserve(&mut self, drop: usize) {
        let variant = self.drops[drop].spec.variants[0].id;
        let buyer = self.buyers[self.random.random_range(0..self.buyers.len())];
        let order = OrderId::for_drop(self.drops[drop].spec.id);
        self.drops[drop].held.push(OrderLine { order, buyer, variant, quantity: 1 });
        let reserved = DropEvent::Reserved {
            order,
            buyer,
            variant,
            quantity: 1,
            unit_price: self.drops[drop].spec.variants[0].price,
            expires_at: Timestamp::from_millis(1),
            key: "k".into(),
            digest: KeyDigest::of(buyer, "k"),
            fingerprint: Fingerprint(1),
            payment_method: None,
            delivery: None,
        };
        self.append(drop, reserved);
    }

    /// A random event of a random drop.
    fn happen(&mut self) {
        let drop = self.random.random_range(0..self.drops.len());
        let variant = self.drops[drop].spec.variants[0].id;
        let free = self.drops[drop].board.total().available;
        match self.random.random_range(0..10) {
            0 => self.append(drop, DropEvent::Restocked { variant, quantity: 1 }),
            1 => self.append(drop, DropEvent::StockLow { variant, available: free }),
            2..=5 if free > 0 => {
                self.reserve(drop);
                if free == 1 {
                    self.append(drop, DropEvent::SoldOut);
                }
            }
            _ => {
                let Some(line) = self.drops[drop].held.pop() else { return };
                if self.random.random() {
                    self.append(drop, DropEvent::Confirmed { line, payment: None, retaken: false });
                } else {
                    let (reason, trace) = (ReleaseReason::Expired, TraceId::random());
                    self.append(drop, DropEvent::Released { line, reason, trace });
                    if free == 0 {
                        self.append(drop, DropEvent::BackInStock);
                    }
                }
            }
        }
    }

    /// Publishes some of the unpublished records.
    fn publish(&mut self, records: usize) {
        for _ in 0..records.min(self.journal.len() - self.published) {
            let record = self.journal[self.published].clone();
            self.published += 1;
            self.broadcaster.on_record(&record, self.published as u64);
        }
        self.broadcaster.hand_over();
    }

    fn tick(&mut self) {
        self.broadcaster.flush();
    }

    fn restart(&mut self) {
        for client in 0..self.clients.len() {
            self.leave(client);
        }
        let clock = Clock::default();
        let last = self.journal.len();
        let (sender, queue) = mpsc::channel(10_000);
        let mut broadcaster = Broadcaster::new(EPOCH, last as u64, clock.clone());
        if self.random.random_range(0..4) == 0 {
            self.kept_from = self.random.random_range(self.kept_from..=self.kept_from + (last - self.kept_from) / 4);
        }
        let mut from = self.kept_from;
        while from < last {
            let to = (from + self.random.random_range(1..20)).min(last);
            let records = self.journal[from..to].to_vec();
            broadcaster.remember(&Run { first_sequence: from as u64 + 1, records });
            from = to;
        }
        let drops = self.drops.iter().map(|made| (Arc::clone(&made.spec), made.board.clone())).collect();
        broadcaster.watch(drops, last as u64);
        broadcaster.shards = vec![Some(sender)];
        (self.broadcaster, self.queue, self.published) = (broadcaster, queue, last);
        self.shard = Rc::new(Shard::new(0, self.hub.clone(), clock, Outage::default()));
        self.restarted = true;
    }

    /// Deletes records before they are published. The drops' snapshots are newer.
    fn gap(&mut self) {
        for client in 0..self.clients.len() {
            self.leave(client);
        }
        let last = self.journal.len();
        let after = self.random.random_range(self.published..=last);
        let published = |made: &Made| DropSnapshot {
            status: made.board.status,
            spec: Arc::clone(&made.spec),
            variants: made.board.variants.iter().copied().collect(),
            position: last as u64,
            started_at: None,
            ended_at: None,
            settled: false,
        };
        self.broadcaster.resynchronize(after as u64, self.drops.iter().map(published).collect());
        assert!(self.broadcaster.shards.iter().all(Option::is_none), "everyone comes back");
        let (sender, queue) = mpsc::channel(10_000);
        self.broadcaster.shards = vec![Some(sender)];
        (self.queue, self.published) = (queue, after);
        self.shard = Rc::new(Shard::new(0, self.hub.clone(), Clock::default(), Outage::default()));
    }

    fn enter(&mut self, client: usize) {
        let subscriber = self.shard.open(Opening { answers: true, abort_handle: None }).expect("room");
        let reference = self.shard.reference(&subscriber);
        let client = &mut self.clients[client];
        let since = client.last.as_deref().map(|id| id.parse().expect("an id of ours"));
        let mut topics = client.topics.clone();
        client.subscriber = Some(subscriber);
        match topics[0] {
            Topic::User(user) => {
                self.broadcaster.own(reference, user);
                let (following, expires_at) = (Vec::new(), Timestamp::from_millis(0));
                topics.remove(0);
                let joining = Attach { user, following, complete: true, expires_at, topics, since };
                self.broadcaster.attach(reference, joining);
            }
            _ => self.broadcaster.subscribe(reference, &topics, since),
        }
    }

    fn leave(&mut self, client: usize) {
        let client = &mut self.clients[client];
        let Some(subscriber) = client.subscriber.take() else { return };
        client.now = client.at_last.clone();
        if let Topic::User(user) = client.topics[0] {
            self.broadcaster.leave(self.shard.reference(&subscriber), user);
        }
        self.shard.leave(&subscriber);
    }

    fn deliver(&mut self) {
        while let Ok(message) = self.queue.try_recv() {
            self.shard.on(message);
        }
    }

    /// A client reads some of its queued messages.
    fn read(&mut self, client: usize, messages: usize) {
        let client = &mut self.clients[client];
        let Some(subscriber) = client.subscriber.clone() else { return };
        let mut context = std::task::Context::from_waker(Waker::noop());
        for _ in 0..messages {
            let Some(Outgoing::Message(message)) = subscriber.next(&mut context) else { return };
            client.hear(&serde_json::from_slice(&message.json).unwrap(), self.restarted);
        }
    }

    /// The events that a client without losses has received.
    fn due(&self, client: &Client) -> Vec<u64> {
        let creator = |drop| self.drops.iter().find(|made| made.spec.id == drop).map(|made| made.spec.creator_id);
        let concerns = |record: &DropRecord| match wire::audience(&record.event) {
            Audience::Drop(..) => [Some(Topic::Drop(record.drop)), creator(record.drop).map(Topic::Creator)],
            Audience::Order(_, line) => [Some(Topic::User(line.buyer)), None],
            Audience::Stock | Audience::Silent => [None, None],
        };
        let ours = |record: &DropRecord| concerns(record).iter().flatten().any(|topic| client.topics.contains(topic));
        let all = (1..).zip(&self.journal).filter(|(sequence, record)| *sequence > client.now.known && ours(record));
        all.map(|(sequence, _)| sequence).collect()
    }

    fn check(&mut self) {
        self.publish(usize::MAX);
        self.tick();
        for client in 0..self.clients.len() {
            if self.clients[client].subscriber.is_none() {
                self.enter(client);
            }
        }
        self.deliver();
        for index in 0..self.clients.len() {
            self.read(index, usize::MAX);
            let client = &self.clients[index];
            assert_eq!(client.now.heard, self.due(client), "client {index}");
            for made in &self.drops {
                let (drop, creator) = (Topic::Drop(made.spec.id), Topic::Creator(made.spec.creator_id));
                if client.topics.contains(&drop) || client.topics.contains(&creator) {
                    let known = client.now.stock.get(&made.spec.id.to_string()).map(|(_, free)| *free);
                    assert_eq!(known, Some(u64::from(made.board.total().available)), "client {index}, stock");
                }
            }
        }
    }
}

impl Client {
    fn hear(&mut self, message: &Value, restarted: bool) {
        let sequence = message["position"].as_u64();
        match message["type"].as_str().unwrap() {
            "snapshot" => {
                // A client loses all its topics together or none: it subscribes to them in one request.
                self.now.known = sequence.unwrap();
                self.now.heard.clear();
                for drop in message["drops"].as_array().into_iter().flatten() {
                    self.learn(drop, sequence.unwrap());
                }
            }
            "subscribed" | "authenticated" => {}
            "stock_changed" => {
                let before =
                    self.now.stock.get(message["drop_id"].as_str().unwrap()).map_or(0, |(sequence, _)| *sequence);
                let new = sequence.unwrap() > before || (restarted && sequence.unwrap() == before);
                assert!(new || sequence.unwrap() <= self.now.known, "{message} is older than {before}");
                self.learn(message, sequence.unwrap());
            }
            _ => {
                assert!(self.now.heard.last().is_none_or(|last| *last < sequence.unwrap()), "{message} out of order");
                self.now.heard.push(sequence.unwrap());
                if message.get("stock").is_some() {
                    self.learn(message, sequence.unwrap());
                }
            }
        }
        if let Some(id) = message["id"].as_str() {
            self.last = Some(id.to_owned());
            self.at_last = self.now.clone();
        }
    }

    fn learn(&mut self, drop: &Value, sequence: u64) {
        let (id, free) = (drop["drop_id"].as_str().unwrap(), drop["stock"]["available"].as_u64().unwrap());
        self.now.stock.insert(id.to_owned(), (sequence, free));
    }
}

/// Snapshots of single topics would need a client that tracks each topic; these clients have one position for all.
fn all_or_nothing(world: &World, client: &Client) -> bool {
    let Some(since) = client.last.as_deref().map(|id| id.parse().unwrap()) else { return true };
    let recovered =
        |topic: &Topic| world.broadcaster.history.missed(*topic, &since, world.broadcaster.position).is_some();
    let count = client.topics.iter().filter(|topic| recovered(topic)).count();
    count == 0 || count == client.topics.len()
}

fn story(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..400 {
        let client = world.random.random_range(0..world.clients.len());
        match world.random.random_range(0..100) {
            0..45 => world.happen(),
            45..60 => {
                let records = world.random.random_range(1..10);
                world.publish(records);
            }
            60..68 => world.tick(),
            68..78 => world.deliver(),
            78..88 => {
                let messages = world.random.random_range(1..6);
                world.read(client, messages);
            }
            88..93 => world.leave(client),
            93..97 if world.clients[client].subscriber.is_none() => {
                if !all_or_nothing(&world, &world.clients[client]) {
                    world.clients[client].last = None;
                }
                world.enter(client);
            }
            97 => {
                for client in 0..world.clients.len() {
                    if world.clients[client].subscriber.is_none() && !all_or_nothing(&world, &world.clients[client]) {
                        world.clients[client].last = None;
                    }
                }
                world.check();
            }
            98 if world.random.random_range(0..3) == 0 => world.restart(),
            99 if world.random.random_range(0..3) == 0 => world.gap(),
            _ => {}
        }
    }
    assert_eq!(world.broadcaster.contradictions.get(), 0);
    for client in 0..world.clients.len() {
        world.leave(client);
        if !all_or_nothing(&world, &world.clients[client]) {
            world.clients[client].last = None;
        }
    }
    world.check();
}

#[actix::test]
async fn nobody_misses_anything_and_nobody_hears_it_twice() {
    for seed in 0..300 {
        let published = std::panic::catch_unwind(|| story(seed));
        assert!(published.is_ok(), "seed {seed}");
    }
}

#[actix::test]
async fn a_crowd_that_watches_hears_of_the_stock_less_often() {
    let mut world = World::new(7);
    world.publish(usize::MAX);
    let published = |world: &mut World| {
        let mut stock = 0;
        while let Ok(message) = world.queue.try_recv() {
            if let ToShard::Publish(published) = message {
                stock += published.iter().filter(|(event, _)| event.stock_of.is_some()).count();
            }
        }
        stock
    };
    world.broadcaster.flush();
    published(&mut world);
    let per_beat = u64::from(STOCK_MESSAGES_PER_SECOND_MAX / STOCK_CHANGED_PER_SECOND_MAX);
    world.broadcaster.stock_messages.store(3 * per_beat + 1, Ordering::Relaxed);
    world.reserve(0);
    world.publish(usize::MAX);
    for flush in 0..3 {
        world.broadcaster.flush();
        assert_eq!(published(&mut world), 0, "flush {flush}");
    }
    world.broadcaster.flush();
    assert_eq!(published(&mut world), 1, "late, and once");
}
