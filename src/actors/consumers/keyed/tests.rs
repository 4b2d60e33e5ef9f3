//! Records of a few keys: order within a key, the bound, records that nobody can deal with.

use super::*;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::cell::{Cell, RefCell};

/// A key and a number that grows within it.
type Item = (u32, u64);

/// What workers share.
#[derive(Default)]
struct Target {
    taken: RefCell<Vec<Item>>,
    at_once: Cell<usize>,
    at_once_most: Cell<usize>,
    tries: Cell<usize>,
    refused: RefCell<BTreeSet<u64>>,
    panics: RefCell<BTreeSet<u64>>,
    /// Keys that are unavailable.
    away: RefCell<BTreeSet<u32>>,
    busy: RefCell<BTreeSet<u32>>,
    /// One in so many batches is unavailable by chance.
    luck: RefCell<Option<(StdRng, u32)>>,
}

struct Connection<'a>(&'a Target);

impl Worker<Item> for Connection<'_> {
    async fn bring_about(&mut self, batch: &[Item]) -> Effect {
        let target = self.0;
        target.tries.set(target.tries.get() + 1);
        assert!(!batch.iter().any(|(_, n)| target.panics.borrow().contains(n)), "a poison record");
        let keys: BTreeSet<u32> = batch.iter().map(|(key, _)| *key).collect();
        for key in &keys {
            assert!(target.busy.borrow_mut().insert(*key), "key {key} is on its way twice");
        }
        target.at_once.set(target.at_once.get() + 1);
        target.at_once_most.set(target.at_once_most.get().max(target.at_once.get()));
        for _ in 0..batch.len() % 3 + 1 {
            tokio::task::yield_now().await;
        }
        target.at_once.set(target.at_once.get() - 1);
        target.busy.borrow_mut().retain(|key| !keys.contains(key));
        let unlucky =
            target.luck.borrow_mut().as_mut().is_some_and(|(dice, one_in)| dice.random_range(0..*one_in) == 0);
        if unlucky || batch.iter().any(|(key, _)| target.away.borrow().contains(key)) {
            return Effect::Unavailable("away".to_owned());
        }
        if batch.iter().any(|(_, n)| target.refused.borrow().contains(n)) {
            return Effect::Refused("no".to_owned());
        }
        target.taken.borrow_mut().extend(batch);
        Effect::Done
    }
}

const BOUNDS: Bounds = Bounds { batch: 4, batches: usize::MAX, records: 1_000 };

fn in_flight(bounds: Bounds, records: u64, keys: u32) -> InFlight<u32, Item> {
    let mut in_flight = InFlight::new(bounds);
    for n in 1..=records {
        let key = (n % u64::from(keys)) as u32;
        in_flight.push(n, Timestamp::from_millis(n as i64), key, (key, n));
    }
    in_flight
}

async fn round(
    in_flight: &mut InFlight<u32, Item>,
    target: &Target,
    workers: usize,
) -> (Result<(), String>, Vec<(u64, String)>) {
    let mut workers: Vec<Connection<'_>> = (0..workers).map(|_| Connection(target)).collect();
    let mut aside = Vec::new();
    let result = in_flight
        .round(&mut workers, async |item, reason| {
            aside.push((item.1, reason.to_owned()));
            Ok(())
        })
        .await;
    (result, aside)
}

fn of_key(target: &Target, key: u32) -> Vec<u64> {
    target.taken.borrow().iter().filter(|item| item.0 == key).map(|item| item.1).collect()
}

#[tokio::test]
async fn keys_are_worked_on_at_the_same_time_within_the_bound_each_in_order() {
    for (workers, batch) in [(1, 1), (1, 4), (3, 1), (3, 4), (8, 1)] {
        let target = Target::default();
        let mut in_flight = in_flight(Bounds { batch, ..BOUNDS }, 100, 5);
        assert_eq!(round(&mut in_flight, &target, workers).await, (Ok(()), Vec::new()));
        let most = if batch == 1 { workers.min(5) } else { workers.min(2) };
        assert!(target.at_once_most.get() <= workers && target.at_once_most.get() >= most, "{workers}, {batch}");
        for key in 0..5 {
            let expected: Vec<u64> = (1..=100).filter(|n| n % 5 == u64::from(key)).collect();
            assert_eq!(of_key(&target, key), expected);
        }
        assert!(in_flight.is_empty());
        assert_eq!(in_flight.passed(), Some((100, Timestamp::from_millis(100))));
        if workers == 1 {
            assert!(
                target.taken.borrow().iter().map(|item| item.1).eq(1..=100),
                "one worker keeps the journal's order"
            );
        }
    }
}

#[tokio::test]
async fn a_poison_record_is_set_aside_and_holds_up_nobody() {
    for workers in [1, 3] {
        let target = Target::default();
        target.refused.borrow_mut().insert(7);
        target.panics.borrow_mut().insert(8);
        let mut in_flight = in_flight(BOUNDS, 40, 4);
        let (result, mut aside) = round(&mut in_flight, &target, workers).await;
        aside.sort();
        assert_eq!(result, Ok(()));
        let said: Vec<(u64, &str)> = aside.iter().map(|(n, reason)| (*n, reason.as_str())).collect();
        assert_eq!(said, [(7, "no"), (8, "it panicked: a poison record")]);
        for key in 0..4 {
            let expected: Vec<u64> = (1..=40).filter(|n| n % 4 == u64::from(key) && ![7, 8].contains(n)).collect();
            assert_eq!(of_key(&target, key), expected, "everything else, once, and in order");
        }
        assert_eq!(in_flight.passed().map(|(sequence, _)| sequence), Some(40));
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_set_aside_is_not_passed() {
    let target = Target::default();
    target.refused.borrow_mut().insert(7);
    let mut in_flight = in_flight(BOUNDS, 12, 3);
    let full = in_flight.round(&mut [Connection(&target)], async |_, _| Err("full".to_owned())).await;
    assert_eq!((full, in_flight.passed().map(|(sequence, _)| sequence)), (Err("full".to_owned()), Some(6)));
    let (result, aside) = round(&mut in_flight, &target, 1).await;
    assert_eq!((result, aside), (Ok(()), vec![(7, "no".to_owned())]));
    assert_eq!(in_flight.passed().map(|(sequence, _)| sequence), Some(12));
}

#[tokio::test]
async fn an_unavailable_key_keeps_back_no_other_and_comes_last_until_it_is_back() {
    let target = Target::default();
    target.away.borrow_mut().insert(1);
    let mut in_flight = in_flight(Bounds { batch: 1, ..BOUNDS }, 30, 3);
    assert_eq!(round(&mut in_flight, &target, 2).await.0, Err("away".to_owned()));
    assert_eq!((of_key(&target, 0).len(), of_key(&target, 1).len(), of_key(&target, 2).len()), (10, 0, 10));
    assert_eq!(in_flight.passed(), None, "record 1 is one of its");
    assert!(!in_flight.is_empty());
    // What comes later goes on, too.
    for n in 31..=60 {
        let key = (n % 3) as u32;
        in_flight.push(n, Timestamp::EPOCH, key, (key, n));
    }
    assert_eq!(round(&mut in_flight, &target, 2).await.0, Err("away".to_owned()));
    assert_eq!((of_key(&target, 0).len(), of_key(&target, 2).len()), (20, 20));
    target.away.borrow_mut().clear();
    assert_eq!(round(&mut in_flight, &target, 2).await.0, Ok(()));
    assert!(of_key(&target, 1).into_iter().eq((1..=60).filter(|n| n % 3 == 1)));
    assert_eq!(in_flight.passed().map(|(sequence, _)| sequence), Some(60));
}

#[tokio::test]
async fn a_target_that_is_away_is_not_asked_for_everything_and_bounds_hold() {
    for workers in [1, 3] {
        let target = Target::default();
        target.away.borrow_mut().extend(0..50);
        let mut in_flight = in_flight(Bounds { batch: 1, ..BOUNDS }, 500, 50);
        assert_eq!(round(&mut in_flight, &target, workers).await.0, Err("away".to_owned()));
        assert!(target.tries.get() < 2 * workers, "{} tries", target.tries.get());
        assert_eq!(in_flight.passed(), None);
    }
    let target = Target::default();
    let mut in_flight = in_flight(Bounds { batch: 10, batches: 2, records: 50 }, 50, 7);
    assert!(!in_flight.has_room());
    assert_eq!(round(&mut in_flight, &target, 1).await.0, Ok(()));
    assert_eq!((target.taken.borrow().len(), in_flight.passed().map(|(sequence, _)| sequence)), (20, Some(20)));
    assert!(in_flight.has_room());
}

#[tokio::test]
async fn whatever_happens_each_record_is_done_in_order_or_set_aside() {
    for seed in 0..200 {
        let mut dice = StdRng::seed_from_u64(seed);
        let target = Target::default();
        *target.luck.borrow_mut() = Some((StdRng::seed_from_u64(dice.random()), 4));
        let bad: BTreeSet<u64> = (0..5).map(|_| dice.random_range(1..200)).collect();
        target.refused.borrow_mut().extend(&bad);
        let (keys, workers) = (dice.random_range(1..9), dice.random_range(1..5));
        let mut in_flight = in_flight(Bounds { batch: dice.random_range(1..20), ..BOUNDS }, 200, keys);
        let (mut aside, mut passed) = (BTreeSet::new(), 0);
        while !in_flight.is_empty() {
            aside.extend(round(&mut in_flight, &target, workers).await.1.into_iter().map(|(n, _)| n));
            let now = in_flight.passed().map_or(0, |(sequence, _)| sequence);
            let known: BTreeSet<u64> = target.taken.borrow().iter().map(|item| item.1).chain(aside.clone()).collect();
            assert!(now >= passed && (1..=now).all(|n| known.contains(&n)), "seed {seed}: passed what is not done");
            passed = now;
        }
        assert_eq!((aside, passed), (bad.clone(), 200), "seed {seed}");
        for key in 0..keys {
            let expected: Vec<u64> =
                (1..=200).filter(|n| n % u64::from(keys) == u64::from(key) && !bad.contains(n)).collect();
            assert_eq!(of_key(&target, key), expected, "seed {seed}");
        }
    }
}
