//! Starts a session's subscriptions: missed events, snapshots of topics that cannot be replayed, and the answer after
//! which everything is published.

use super::super::messages::{Attach, Replay, SubscriberId, ToShard};
use super::super::subscriber::Subscription;
use super::{Broadcaster, Watched};
use crate::actors::realtime::event::{Event, Topic};
use crate::actors::realtime::position::{Offset, StreamPosition};
use crate::actors::realtime::wire::{self, Started, Welcome};
use crate::domain::DropId;
use crate::domain::limits::REPLAY_BYTES_MAX;
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;

struct Missed {
    events: Vec<Arc<Event>>,
    /// For each topic, whether all missed events are in `events`.
    recovered: Vec<bool>,
}

impl Broadcaster {
    pub(super) fn attach(&mut self, subscriber: SubscriberId, joining: Attach) {
        let Attach { user, following, complete, expires_at, topics, since } = joining;
        let count = following.len();
        let granted = std::iter::once(Topic::User(user)).chain(following.into_iter().map(Topic::Creator));
        let mut wanted: Vec<(Topic, Subscription)> =
            granted.map(|topic| (topic, Subscription::granted(self.position))).collect();
        let comes_with_account = wanted.len();
        wanted.extend(topics.iter().map(|topic| (*topic, Subscription::asked(self.position))));
        let Missed { events, recovered } = self.missed(&mut wanted, since);
        let lost = |index: usize| !recovered[index];
        let mut snapshots = Vec::new();
        if since.is_some() {
            snapshots = self.snapshots_of_account(&wanted[..comes_with_account], &recovered);
        }
        let named = &wanted[comes_with_account..];
        let mut started = Vec::with_capacity(named.len());
        for (index, (topic, _)) in named.iter().enumerate() {
            let lost = lost(comes_with_account + index);
            if lost {
                snapshots.push(self.snapshot(*topic));
            }
            started.push(Started { topic: topic.to_string(), recovered: !lost });
        }
        let recovered = since.map(|_| recovered[..comes_with_account].iter().all(|recovered| *recovered));
        let id = self.since();
        let welcome = Welcome { id, user, following: count, expires_at, recovered, topics: &started };
        let answer = wire::authenticated(welcome);
        let begin = Replay { joined: complete, kind: "authenticated", topics: wanted, events, snapshots, answer, id };
        self.send(subscriber.shard, ToShard::Replay(subscriber.subscriber, Box::new(begin)));
    }

    pub(super) fn subscribe(&mut self, subscriber: SubscriberId, topics: &[Topic], since: Option<Offset>) {
        let mut wanted: Vec<_> = topics.iter().map(|topic| (*topic, Subscription::asked(self.position))).collect();
        let Missed { events, recovered } = self.missed(&mut wanted, since);
        let (mut snapshots, mut started) = (Vec::new(), Vec::new());
        for (topic, recovered) in topics.iter().zip(recovered) {
            if !recovered {
                snapshots.push(self.snapshot(*topic));
            }
            started.push(Started { topic: topic.to_string(), recovered });
        }
        let id = self.since();
        let answer = wire::subscribed(id, &started);
        let begin = Replay { joined: false, kind: "subscribed", topics: wanted, events, snapshots, answer, id };
        self.send(subscriber.shard, ToShard::Replay(subscriber.subscriber, Box::new(begin)));
    }

    /// The missed events of these topics, each once, in order of publication. A replayable topic then starts from that
    /// position. If there are too many, nothing is replayed.
    fn missed(&self, topics: &mut [(Topic, Subscription)], since: Option<Offset>) -> Missed {
        let mut missed = Missed { events: Vec::new(), recovered: vec![false; topics.len()] };
        let Some(since) = since else { return missed };
        for (recovered, (topic, _)) in missed.recovered.iter_mut().zip(topics.iter()) {
            if let Some(events) = self.history.missed(*topic, &since, self.position) {
                missed.events.extend(events);
                *recovered = true;
            }
        }
        missed.events.sort_by_key(|event| event.position);
        missed.events.dedup_by_key(|event| event.position);
        if missed.events.iter().map(|event| event.json.len()).sum::<usize>() > REPLAY_BYTES_MAX {
            return Missed { events: Vec::new(), recovered: vec![false; topics.len()] };
        }
        let from = StreamPosition { published: since.published, stock: since.stock.unwrap_or(0) };
        for ((_, heard), _) in topics.iter_mut().zip(&missed.recovered).filter(|(_, recovered)| **recovered) {
            heard.from = from;
        }
        missed
    }

    fn snapshot(&mut self, topic: Topic) -> Bytes {
        let drops = match topic {
            Topic::Drop(id) => SmallVec::from_slice(&[id]),
            Topic::Creator(id) => self.by_creator.get(&id).cloned().unwrap_or_default(),
            Topic::User(_) => SmallVec::new(),
        };
        let drops: Vec<Bytes> = drops.iter().filter_map(|id| self.drop_now(*id)).collect();
        wire::snapshot(topic, self.position.published, self.clock.now(), &drops)
    }

    fn drop_now(&mut self, id: DropId) -> Option<Bytes> {
        let Watched { spec, board, now, .. } = self.drops.get_mut(&id)?;
        Some(now.get_or_insert_with(|| wire::drop_now(spec, board)).clone())
    }

    /// Snapshots of the account's topics that could not be recovered: of creators, only those with drops to show.
    fn snapshots_of_account(&mut self, topics: &[(Topic, Subscription)], recovered: &[bool]) -> Vec<Bytes> {
        let (mut snapshots, mut bytes) = (Vec::new(), 0);
        for ((topic, _), recovered) in topics.iter().zip(recovered) {
            let shown = match topic {
                Topic::Creator(id) => self.by_creator.contains_key(id),
                Topic::User(_) | Topic::Drop(_) => true,
            };
            if *recovered || !shown {
                continue;
            }
            let snapshot = self.snapshot(*topic);
            bytes += snapshot.len();
            if bytes > REPLAY_BYTES_MAX {
                snapshots.truncate(usize::from(!recovered));
                snapshots.push(wire::snapshot_elsewhere(self.position.published, self.clock.now()));
                break;
            }
            snapshots.push(snapshot);
        }
        snapshots
    }
}
