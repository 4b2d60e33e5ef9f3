//! Behaviour of simulated buyers, from a seeded generator: only what real buyers do.

use rand::{Rng, SeedableRng, rngs::StdRng};
use std::time::Duration;

/// How a buyer handles one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Orders and pays in one call.
    BuyAtOnce,
    /// Orders and pays in one call, with a card that is declined.
    DeclinedCard,
    /// Reserves, waits, then pays.
    ReserveThenPay,
    /// Reserves and does nothing more: the hold expires.
    Abandon,
    /// Reserves, waits, then cancels.
    Cancel,
}

/// When an order request is sent a second time with the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// The request is sent once.
    No,
    /// A double click: both requests run at the same time.
    AtOnce,
    /// Soon after the answer, as from a reloaded page.
    Soon,
    /// After the rush, as from a client that lost the answer (and after the crash, if there is one).
    AtTheEnd,
}

/// Shares out of 100 orders.
const MIX: [(Behaviour, u32); 5] = [
    (Behaviour::BuyAtOnce, 60),
    (Behaviour::DeclinedCard, 10),
    (Behaviour::ReserveThenPay, 15),
    (Behaviour::Abandon, 10),
    (Behaviour::Cancel, 5),
];
const REPEATS: [(Repeat, u32); 4] = [(Repeat::No, 80), (Repeat::AtOnce, 8), (Repeat::Soon, 6), (Repeat::AtTheEnd, 6)];

const _: () = assert!(MIX[0].1 + MIX[1].1 + MIX[2].1 + MIX[3].1 + MIX[4].1 == 100);
const _: () = assert!(REPEATS[0].1 + REPEATS[1].1 + REPEATS[2].1 + REPEATS[3].1 == 100);

/// The crowd's first clicks fall into this time after the start: human reaction times differ.
const ARRIVAL_MS: u64 = 400;

impl Behaviour {
    /// The payment method in the order's request, if any.
    #[must_use]
    pub fn payment_method(self) -> Option<&'static str> {
        match self {
            Self::BuyAtOnce => Some("pm_sandbox_ok"),
            Self::DeclinedCard => Some("pm_sandbox_declined"),
            Self::ReserveThenPay | Self::Abandon | Self::Cancel => None,
        }
    }
}

/// One buyer's random numbers. The same run seed and buyer give the same ones; the race decides which stock they meet.
pub struct Dice(StdRng);

impl Dice {
    /// The random numbers of buyer number `buyer`.
    #[must_use]
    pub fn of(seed: u64, buyer: u32) -> Self {
        // An odd multiplier spreads neighbouring buyers over the seed space (Knuth's multiplicative hash).
        Self(StdRng::seed_from_u64(seed ^ (u64::from(buyer) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }

    /// The behaviour for the next order.
    pub fn behaviour(&mut self) -> Behaviour {
        self.pick(&MIX)
    }

    /// Whether and when the request is repeated.
    pub fn repeat(&mut self) -> Repeat {
        self.pick(&REPEATS)
    }

    /// Units of the next order of a buyer who still wants `wanted` (at least 1): mostly one, sometimes two.
    pub fn quantity(&mut self, wanted: u32) -> u32 {
        let two = self.0.random_ratio(1, 5);
        if two { wanted.min(2) } else { 1 }
    }

    /// Whether a buyer wants one unit more than the others.
    pub fn wants_one_more(&mut self) -> bool {
        self.0.random_ratio(1, 5)
    }

    /// When the first click comes after the start.
    pub fn arrival(&mut self) -> Duration {
        Duration::from_millis(self.0.random_range(0..ARRIVAL_MS))
    }

    /// Time between two clicks.
    pub fn think(&mut self) -> Duration {
        Duration::from_millis(self.0.random_range(50..600))
    }

    /// `pause`, varied by half in both directions: a crowd does not move in step.
    pub fn about(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(self.0.random_range(0.5..1.5))
    }

    fn pick<T: Copy>(&mut self, weights: &[(T, u32)]) -> T {
        let mut roll = self.0.random_range(0..weights.iter().map(|(_, weight)| weight).sum());
        for &(choice, weight) in weights {
            if roll < weight {
                return choice;
            }
            roll -= weight;
        }
        unreachable!("the roll is below the sum of the weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLLS: u32 = 20_000;

    fn share<T: PartialEq>(rolls: &[T], of: &T) -> f64 {
        rolls.iter().filter(|roll| *roll == of).count() as f64 * 100.0 / rolls.len() as f64
    }

    #[test]
    fn the_crowd_behaves_in_the_given_shares() {
        let rolls: Vec<_> = (0..ROLLS).map(|buyer| Dice::of(7, buyer).behaviour()).collect();
        for (behaviour, percent) in MIX {
            let share = share(&rolls, &behaviour);
            assert!((share - f64::from(percent)).abs() < 1.5, "{behaviour:?}: {share} %");
        }
    }

    #[test]
    fn one_request_in_five_is_repeated() {
        let mut dice = Dice::of(7, 0);
        let rolls: Vec<_> = (0..ROLLS).map(|_| dice.repeat()).collect();
        for (repeat, percent) in REPEATS {
            let share = share(&rolls, &repeat);
            assert!((share - f64::from(percent)).abs() < 1.5, "{repeat:?}: {share} %");
        }
    }

    #[test]
    fn the_same_seed_is_the_same_crowd() {
        let story = |seed| {
            let mut dice = Dice::of(seed, 3);
            (0..50).map(|_| (dice.behaviour(), dice.repeat(), dice.think())).collect::<Vec<_>>()
        };
        assert_eq!(story(1), story(1));
        assert_ne!(story(1), story(2));
    }

    #[test]
    fn nobody_orders_more_than_wanted() {
        let mut dice = Dice::of(1, 1);
        for wanted in 1..5 {
            assert!((0..100).all(|_| (1..=wanted.min(2)).contains(&dice.quantity(wanted))));
        }
        assert!((0..100).all(|_| dice.arrival() < Duration::from_millis(ARRIVAL_MS)));
    }

    #[test]
    fn only_one_call_orders_carry_a_card() {
        assert_eq!(Behaviour::BuyAtOnce.payment_method(), Some("pm_sandbox_ok"));
        assert_eq!(Behaviour::DeclinedCard.payment_method(), Some("pm_sandbox_declined"));
        assert!(
            [Behaviour::ReserveThenPay, Behaviour::Abandon, Behaviour::Cancel].map(Behaviour::payment_method)
                == [None; 3]
        );
    }
}
