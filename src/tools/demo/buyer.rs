//! One simulated buyer, from the first request to the last.

use super::{
    behaviour::{Behaviour, Dice, Repeat},
    client::{Answer, Call},
    counters::add,
    market::Market,
    wire::{BASE, Order},
};
use crate::domain::{OrderId, OrderStatus};
use std::{sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration};

/// Upper bound of one buyer's orders, so that the loop ends.
const ATTEMPTS_MAX: u32 = 10_000;
/// Answers that one buyer keeps for a repeat at the end.
const LATE_REPEATS_MAX: usize = 4;
/// Refusals that belong to a sale. Any other refusal is a fault of the server or of the demo.
const ORDINARY_REFUSALS: [&str; 9] = [
    "sold_out",
    "not_enough_stock",
    "payment_declined",
    "limit_exceeded",
    "hold_expired",
    "order_not_reserved",
    "order_already_confirmed",
    "drop_ended",
    "drop_not_started",
];

/// An order in a buyer's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub id: OrderId,
    pub quantity: u32,
    /// The status in the last answer.
    pub status: OrderStatus,
}

/// The history of one buyer.
pub struct Story {
    pub token: Arc<str>,
    pub told: Vec<Told>,
    /// Requests with their answers, to be repeated after the rush.
    pub late_repeats: Vec<(Call, Answer)>,
}

/// The end of one order.
enum Step {
    /// The buyer has these units.
    Bought(u32),
    /// Nothing is left; try again later.
    SoldOut,
    /// Nothing was bought (a declined card, a cancelled hold); continue after this time.
    ComeBack(Duration),
    /// The sale is over for this buyer.
    GoHome,
}

struct Buyer {
    market: Arc<Market>,
    number: u32,
    dice: Dice,
    story: Story,
}

/// Runs buyer `number` until they have enough units or the rush is over.
pub async fn play(market: Arc<Market>, number: u32, token: Arc<str>) -> Story {
    let dice = Dice::of(market.seed, number);
    let story = Story { token, told: Vec::new(), late_repeats: Vec::new() };
    let mut buyer = Buyer { market, number, dice, story };
    if buyer.market.started().await {
        buyer.race().await;
    }
    buyer.story
}

impl Buyer {
    async fn race(&mut self) {
        let arrival = self.dice.arrival();
        self.market.pause(arrival).await;
        let mut wanted = self.market.units_wanted + u32::from(self.dice.wants_one_more());
        let mut intent = None;
        for attempt in 0..ATTEMPTS_MAX {
            if wanted == 0 || self.market.is_over() {
                return;
            }
            // After a refusal the buyer repeats the same intent, for a single unit in case only that is left.
            let behaviour = intent.unwrap_or_else(|| self.dice.behaviour());
            let quantity = if intent.is_some() { 1 } else { self.dice.quantity(wanted) };
            match self.order(attempt, behaviour, quantity).await {
                Step::Bought(units) => {
                    wanted = wanted.saturating_sub(units);
                    intent = None;
                }
                Step::SoldOut => {
                    intent = Some(behaviour);
                    let pause = self.dice.about(self.market.polite_pause);
                    self.market.pause(pause).await;
                }
                Step::ComeBack(pause) => {
                    intent = None;
                    self.market.pause(pause).await;
                }
                Step::GoHome => return,
            }
        }
    }

    /// Sends one order request with its repeats, and acts on the answer.
    async fn order(&mut self, attempt: u32, behaviour: Behaviour, quantity: u32) -> Step {
        let key = format!("demo-{}-{}-{attempt}", self.market.seed, self.number);
        let call = self.market.order_call(&self.story.token, key, quantity, behaviour.payment_method());
        let repeat = self.dice.repeat();
        let Some(answer) = self.first_answer(&call, repeat).await else { return Step::GoHome };
        self.count(&answer);
        match repeat {
            Repeat::Soon => {
                let think = self.dice.think();
                tokio::time::sleep(think).await;
                self.market.ask_again(&call, &answer).await;
            }
            Repeat::AtTheEnd if self.story.late_repeats.len() < LATE_REPEATS_MAX => {
                self.story.late_repeats.push((call, answer.clone()));
            }
            Repeat::AtTheEnd | Repeat::AtOnce | Repeat::No => {}
        }
        match answer.status {
            201 => self.accepted(behaviour, quantity, &answer).await,
            _ => self.refused(&answer),
        }
    }

    async fn first_answer(&self, call: &Call, repeat: Repeat) -> Option<Answer> {
        if repeat != Repeat::AtOnce {
            return self.market.ask(call).await;
        }
        let (first, second) = tokio::join!(self.market.ask(call), self.market.ask(call));
        if let (Some(first), Some(second)) = (&first, &second) {
            self.market.compare(first, second);
        }
        first
    }

    fn count(&self, answer: &Answer) {
        let counters = &self.market.counters;
        add(&counters.answered);
        if answer.status == 201 {
            add(&counters.accepted);
            counters.accepted_latency.record(answer.took);
        } else {
            counters.refused(answer.code());
            counters.refused_latency.record(answer.took);
        }
    }

    fn refused(&mut self, answer: &Answer) -> Step {
        let code = answer.code();
        if !ORDINARY_REFUSALS.contains(&code.as_str()) {
            self.market.unlike_the_contract(&format!("an order was answered {}", answer.text()));
            return Step::GoHome;
        }
        match code.as_str() {
            "sold_out" | "not_enough_stock" => Step::SoldOut,
            "drop_ended" => Step::GoHome,
            // Waits until the buyer's own hold, which reaches the limit, expires.
            "limit_exceeded" => Step::ComeBack(self.market.hold),
            _ => Step::ComeBack(self.dice.think()),
        }
    }

    async fn accepted(&mut self, behaviour: Behaviour, quantity: u32, answer: &Answer) -> Step {
        let Some(order) = self.market.read_order(answer) else { return Step::GoHome };
        let expected = match behaviour {
            Behaviour::BuyAtOnce => OrderStatus::Confirmed,
            _ => OrderStatus::Reserved,
        };
        if order.status != expected || order.quantity != quantity || order.drop_id != self.market.drop_id {
            self.market.unlike_the_contract(&format!("{behaviour:?} of {quantity} became {}", answer.text()));
        }
        let index = self.story.told.len();
        self.story.told.push(Told { id: order.id, quantity: order.quantity, status: OrderStatus::Reserved });
        self.told(index, &order);
        match behaviour {
            Behaviour::BuyAtOnce | Behaviour::DeclinedCard => {}
            Behaviour::ReserveThenPay => {
                let call = self.market.pay_call(&self.story.token, order.id);
                self.think_and_ask(index, &call).await;
            }
            Behaviour::Cancel => {
                let call = self.market.cancel_call(&self.story.token, order.id);
                self.think_and_ask(index, &call).await;
            }
            Behaviour::Abandon => return Step::ComeBack(self.dice.about(self.market.hold)),
        }
        match self.story.told[index] {
            Told { status: OrderStatus::Confirmed, quantity, .. } => Step::Bought(quantity),
            _ => Step::ComeBack(self.dice.think()),
        }
    }

    /// Pays or cancels after a while. If that is refused (the hold expired, or an earlier attempt with a lost answer
    /// had succeeded), reads the order itself.
    async fn think_and_ask(&mut self, index: usize, call: &Call) {
        let think = self.dice.think();
        tokio::time::sleep(think).await;
        let Some(mut answer) = self.market.ask(call).await else { return };
        if !answer.is_success() {
            let code = answer.code();
            if !ORDINARY_REFUSALS.contains(&code.as_str()) {
                self.market.unlike_the_contract(&format!("{} was answered {}", call.path, answer.text()));
            }
            self.market.counters.refused(code);
            let read = Call::get(format!("{BASE}/orders/{}", self.story.told[index].id), &self.story.token);
            match self.market.ask(&read).await {
                Some(found) if found.is_success() => answer = found,
                // The readback after the rush reports it as lost.
                _ => return,
            }
        }
        if let Some(order) = self.market.read_order(&answer) {
            self.told(index, &order);
        }
    }

    /// Records an answer about an order, and counts its units once when they are bought.
    fn told(&mut self, index: usize, order: &Order) {
        let told = &mut self.story.told[index];
        if order.status == OrderStatus::Confirmed && told.status != OrderStatus::Confirmed {
            self.market.counters.confirmed_units.fetch_add(u64::from(order.quantity), Relaxed);
        }
        told.status = order.status;
    }
}
