//! Schedules password hashing. Each network has its own share, so that one with too many requests only delays itself;
//! logins and registrations have separate queues, so that neither starves the other.

use super::{Code, Failure};
use crate::domain::limits::{PASSWORD_HASHES_AT_ONCE_MAX, PASSWORD_LOGINS_PER_REGISTRATION, PASSWORD_QUEUE_MAX};
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The reason for hashing a password.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// To verify it, or to replace the password of a signed-in user.
    Login = 0,
    /// To register a new account.
    Registration = 1,
}

/// A bounded number of permits, with fair queues for them. Cheap to clone.
#[derive(Clone)]
pub struct HashQueue(Arc<Shared>);

struct Shared {
    at_once: usize,
    /// Length limit of each purpose's queue.
    waiting_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: usize,
    lanes: [Lane; 2],
    /// Logins served since the last registration.
    logins_in_a_row: u32,
}

/// The queue of one purpose.
#[derive(Default)]
struct Lane {
    /// Waiting requests by network, the first one first. No queue is empty.
    networks: HashMap<u128, VecDeque<oneshot::Sender<HashPermit>>>,
    /// The waiting networks, in the order of their turns.
    turns: VecDeque<u128>,
    waiting: usize,
}

/// The right to hash one password. On drop it passes to the next request.
#[derive(Debug)]
pub struct HashPermit(Option<Arc<Shared>>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HashQueue").field("at_once", &self.at_once).finish_non_exhaustive()
    }
}

/// How many passwords are hashed concurrently on a machine with this many cores: one core stays free for everything
/// else.
#[must_use]
pub fn hashes_at_once(cores: usize) -> usize {
    cores.saturating_sub(1).clamp(1, PASSWORD_HASHES_AT_ONCE_MAX)
}

impl HashQueue {
    /// Sized for this machine's cores.
    #[must_use]
    pub fn for_this_machine() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new(hashes_at_once(cores), PASSWORD_QUEUE_MAX)
    }

    /// `at_once` permits, and at most `waiting_max` waiting requests for each purpose.
    #[must_use]
    pub fn new(at_once: usize, waiting_max: usize) -> Self {
        Self(Arc::new(Shared { at_once, waiting_max, state: Mutex::default() }))
    }

    /// Waits for a permit. Networks take turns. When the queue is full, the network with the most waiting requests
    /// loses its latest.
    ///
    /// # Errors
    /// `overloaded`, at once if the queue is full, or later if the slot is lost to another network.
    pub async fn permit(&self, purpose: Purpose, network: u128) -> Result<HashPermit, Failure> {
        let turn = {
            let mut state = self.0.lock();
            if state.running < self.0.at_once && state.lanes.iter().all(|lane| lane.waiting == 0) {
                state.running += 1;
                return Ok(HashPermit(Some(Arc::clone(&self.0))));
            }
            state.lanes[purpose as usize].join(network, self.0.waiting_max)?
        };
        turn.await.map_err(|_| overloaded())
    }

    /// The number of waiting requests.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.lock().lanes.iter().map(|lane| lane.waiting).sum()
    }
}

fn overloaded() -> Failure {
    Failure::retry(Code::Overloaded, 1)
}

impl Shared {
    /// No code panics while it is held.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Removes the next waiting request.
    fn next(&mut self) -> Option<oneshot::Sender<HashPermit>> {
        let registration_first = self.logins_in_a_row >= PASSWORD_LOGINS_PER_REGISTRATION;
        let mut order = [Purpose::Login, Purpose::Registration];
        if registration_first {
            order.reverse();
        }
        for purpose in order {
            if let Some(next) = self.lanes[purpose as usize].next() {
                self.logins_in_a_row = if purpose == Purpose::Login { self.logins_in_a_row + 1 } else { 0 };
                return Some(next);
            }
        }
        None
    }
}

impl Lane {
    fn join(&mut self, network: u128, waiting_max: usize) -> Result<oneshot::Receiver<HashPermit>, Failure> {
        if self.waiting >= waiting_max {
            self.forget_those_who_left();
        }
        if self.waiting >= waiting_max {
            self.make_room(network)?;
        }
        let (sender, turn) = oneshot::channel();
        let line = self.networks.entry(network).or_default();
        if line.is_empty() {
            self.turns.push_back(network);
        }
        line.push_back(sender);
        self.waiting += 1;
        Ok(turn)
    }

    /// Removes the requests of clients that have disconnected.
    fn forget_those_who_left(&mut self) {
        self.networks.retain(|_, line| {
            line.retain(|waiter| !waiter.is_closed());
            !line.is_empty()
        });
        self.turns.retain(|network| self.networks.contains_key(network));
        self.waiting = self.networks.values().map(VecDeque::len).sum();
    }

    /// Removes the latest request of the network with the most, unless the newcomer's network would then have as many.
    fn make_room(&mut self, newcomer: u128) -> Result<(), Failure> {
        let own = self.networks.get(&newcomer).map_or(0, VecDeque::len);
        let longest = self.networks.values_mut().max_by_key(|line| line.len());
        let Some(longest) = longest.filter(|line| line.len() > own + 1) else { return Err(overloaded()) };
        // More than one is left, so the network keeps its turn. Dropping the sender fails the waiting request.
        longest.pop_back();
        self.waiting -= 1;
        Ok(())
    }

    fn next(&mut self) -> Option<oneshot::Sender<HashPermit>> {
        while let Some(network) = self.turns.pop_front() {
            let Some(line) = self.networks.get_mut(&network) else { continue };
            let mut next = None;
            while let Some(waiter) = line.pop_front() {
                self.waiting -= 1;
                if !waiter.is_closed() {
                    next = Some(waiter);
                    break;
                }
            }
            if line.is_empty() {
                self.networks.remove(&network);
            } else {
                self.turns.push_back(network);
            }
            if next.is_some() {
                return next;
            }
        }
        None
    }
}

impl Drop for HashPermit {
    fn drop(&mut self) {
        let Some(shared) = self.0.take() else { return };
        loop {
            let next = {
                let mut state = shared.lock();
                let next = state.next();
                if next.is_none() {
                    state.running -= 1;
                }
                next
            };
            let Some(next) = next else { return };
            match next.send(Self(Some(Arc::clone(&shared)))) {
                Ok(()) => return,
                // The request was cancelled at this moment: the permit goes to the next one.
                Err(mut returned) => drop(returned.0.take()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::pin::Pin;

    const CROWD: u128 = 1;
    const VICTIM: u128 = 2;

    type Waiting = Pin<Box<dyn Future<Output = Result<HashPermit, Failure>>>>;

    /// Joins the queue and waits there.
    fn join(queue: &HashQueue, purpose: Purpose, network: u128) -> Waiting {
        let queue = queue.clone();
        let mut waiting: Waiting = Box::pin(async move { queue.permit(purpose, network).await });
        assert!((&mut waiting).now_or_never().is_none(), "there is a permit already, or no room");
        waiting
    }

    fn now(queue: &HashQueue, purpose: Purpose, network: u128) -> Option<Result<HashPermit, Failure>> {
        queue.permit(purpose, network).now_or_never()
    }

    /// Passes the running permit on until `whose` has one; returns how many others had one before.
    fn turns_before(mut running: HashPermit, others: &mut Vec<Waiting>, whose: &mut Waiting) -> usize {
        for turn in 0.. {
            drop(running);
            if let Some(permit) = (&mut *whose).now_or_never() {
                permit.unwrap();
                return turn;
            }
            let served = others.iter_mut().enumerate().find_map(|(at, other)| Some((at, other.now_or_never()?)));
            let (at, permit) = served.expect("somebody has the permit");
            drop(others.swap_remove(at));
            running = permit.unwrap();
        }
        unreachable!()
    }

    #[test]
    fn one_core_stays_free() {
        assert_eq!([0, 1, 2, 3, 5, 64].map(hashes_at_once), [1, 1, 1, 2, 4, PASSWORD_HASHES_AT_ONCE_MAX]);
    }

    #[test]
    fn networks_take_turns_however_many_of_one_wait() {
        let queue = HashQueue::new(1, 64);
        for purpose in [Purpose::Login, Purpose::Registration] {
            let running = now(&queue, purpose, CROWD).unwrap().unwrap();
            let mut crowd: Vec<Waiting> = (0..64).map(|_| join(&queue, purpose, CROWD)).collect();
            assert!(now(&queue, purpose, CROWD).unwrap().is_err(), "the crowd has its share");
            let mut victim = join(&queue, purpose, VICTIM);
            let lost = crowd.pop().unwrap().now_or_never().unwrap().unwrap_err();
            assert_eq!((lost.code, lost.retry_after), (Code::Overloaded, Some(1)), "the crowd's latest made room");
            assert!(turns_before(running, &mut crowd, &mut victim) <= 1);
            drop(crowd);
        }
        // Cancelled requests do not matter.
        assert!(now(&queue, Purpose::Login, VICTIM).unwrap().is_ok());
        assert_eq!(queue.waiting(), 0);
    }

    #[test]
    fn registrations_do_not_hold_up_logins_of_the_same_network_and_are_not_starved_by_them() {
        let queue = HashQueue::new(1, 64);
        let running = now(&queue, Purpose::Login, CROWD).unwrap().unwrap();
        let mut registrations: Vec<Waiting> = (0..64).map(|_| join(&queue, Purpose::Registration, CROWD)).collect();
        assert!(now(&queue, Purpose::Registration, CROWD).unwrap().is_err());
        let mut login = join(&queue, Purpose::Login, CROWD);
        assert!(turns_before(running, &mut registrations, &mut login) <= 1);
        drop(registrations);

        let running = now(&queue, Purpose::Login, CROWD).unwrap().unwrap();
        let mut logins: Vec<Waiting> = (0..64).map(|_| join(&queue, Purpose::Login, CROWD)).collect();
        let mut registration = join(&queue, Purpose::Registration, CROWD);
        let turns = turns_before(running, &mut logins, &mut registration);
        assert!(turns <= PASSWORD_LOGINS_PER_REGISTRATION as usize, "{turns}");
    }

    #[test]
    fn every_network_has_as_much_as_the_others_when_there_is_no_room() {
        let queue = HashQueue::new(1, 8);
        let _running = now(&queue, Purpose::Login, CROWD).unwrap().unwrap();
        let mut waiting: Vec<Waiting> = (0..8).map(|_| join(&queue, Purpose::Login, CROWD)).collect();
        for network in 2..=8 {
            waiting.push(join(&queue, Purpose::Login, network));
        }
        assert!(now(&queue, Purpose::Login, 9).unwrap().is_err(), "one each is all there is");
        assert_eq!(queue.waiting(), 8);
        let lost = waiting.iter_mut().filter_map(|waiting| waiting.now_or_never()).count();
        assert_eq!(lost, 7);
    }

    #[test]
    fn whoever_hangs_up_gives_the_place_back_in_line_and_with_a_permit() {
        let queue = HashQueue::new(2, 2);
        let permits = [CROWD, CROWD].map(|network| now(&queue, Purpose::Login, network).unwrap().unwrap());
        let gone = [join(&queue, Purpose::Login, CROWD), join(&queue, Purpose::Login, CROWD)];
        assert!(now(&queue, Purpose::Login, CROWD).unwrap().is_err());
        drop(gone);
        let mut granted = join(&queue, Purpose::Login, CROWD);
        let unheard = join(&queue, Purpose::Login, CROWD);
        drop(permits);
        // Both have a permit now; one of them is never polled.
        drop(unheard);
        assert!(now(&queue, Purpose::Registration, VICTIM).unwrap().is_ok());
        assert!((&mut granted).now_or_never().unwrap().is_ok());
    }
}
