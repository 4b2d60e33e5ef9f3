//! Who may hash a password next. Each network has a share of its own, so that one that asks for more than the machine can
//! do waits for itself; logins and registrations have a queue each, so that neither is starved by the other.

use super::{Code, Failure};
use crate::domain::limits::{PASSWORD_HASHES_AT_ONCE_MAX, PASSWORD_LOGINS_PER_REGISTRATION, PASSWORD_QUEUE_MAX};
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// What a password is hashed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// To compare it, or to replace that of somebody who is signed in.
    Login = 0,
    /// For a new account.
    Registration = 1,
}

/// A bounded number of permits, and fair queues for them. Cheap to clone.
#[derive(Clone)]
pub struct HashQueue(Arc<Shared>);

struct Shared {
    at_once: usize,
    /// How many may wait for each purpose.
    waiting_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: usize,
    /// By [`Purpose`].
    lanes: [Lane; 2],
    /// Logins that had a turn since a registration had one.
    logins_in_a_row: u32,
}

/// Those who wait for one purpose.
#[derive(Default)]
struct Lane {
    /// By network, the first to come first. None is empty.
    networks: HashMap<u128, VecDeque<oneshot::Sender<HashPermit>>>,
    /// The networks that wait, in the order of their turns.
    turns: VecDeque<u128>,
    waiting: usize,
}

/// Permission to hash one password. It goes to the next in line when dropped.
#[derive(Debug)]
pub struct HashPermit(Option<Arc<Shared>>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HashQueue").field("at_once", &self.at_once).finish_non_exhaustive()
    }
}

/// How many passwords are hashed at once on a machine with so many cores: one core stays for everything else.
#[must_use]
pub fn hashes_at_once(cores: usize) -> usize {
    cores.saturating_sub(1).clamp(1, PASSWORD_HASHES_AT_ONCE_MAX)
}

impl HashQueue {
    /// For this machine.
    #[must_use]
    pub fn for_this_machine() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new(hashes_at_once(cores), PASSWORD_QUEUE_MAX)
    }

    /// `at_once` permits, and at most `waiting_max` who wait for one for each purpose.
    #[must_use]
    pub fn new(at_once: usize, waiting_max: usize) -> Self {
        Self(Arc::new(Shared { at_once, waiting_max, state: Mutex::default() }))
    }

    /// Waits for a permit. Networks take turns. When too many wait, the network that has most of them loses its latest.
    ///
    /// # Errors
    /// `overloaded`, at once where there is no room, or when the place is lost to another network.
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

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.lock().lanes.iter().map(|lane| lane.waiting).sum()
    }
}

fn overloaded() -> Failure {
    Failure::retry(Code::Overloaded, 1)
}

impl Shared {
    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes the next in line out of it.
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

    /// Clients that hung up.
    fn forget_those_who_left(&mut self) {
        self.networks.retain(|_, line| {
            line.retain(|waiter| !waiter.is_closed());
            !line.is_empty()
        });
        self.turns.retain(|network| self.networks.contains_key(network));
        self.waiting = self.networks.values().map(VecDeque::len).sum();
    }

    /// Sends the latest of the network with the most away, unless the newcomer's would have as many then.
    fn make_room(&mut self, newcomer: u128) -> Result<(), Failure> {
        let own = self.networks.get(&newcomer).map_or(0, VecDeque::len);
        let longest = self.networks.values_mut().max_by_key(|line| line.len());
        let Some(longest) = longest.filter(|line| line.len() > own + 1) else { return Err(overloaded()) };
        // More than one is left, so the network keeps its turn. Dropped, the sender tells whoever waits.
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
                // Gone in this moment: the permit is for the one after.
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

    /// Gives the running permit back until `whose` has one; how many others had one before.
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
        // Whoever left is nobody's concern.
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
        // Both have a permit now; one of them never looks.
        drop(unheard);
        assert!(now(&queue, Purpose::Registration, VICTIM).unwrap().is_ok());
        assert!((&mut granted).now_or_never().unwrap().is_ok());
    }
}
