//! A provider that authorizes before it captures, and asks some buyers to act. Its answers come late, twice or not at all.

use super::auditor::Finding;
use super::books::Book;
use super::world::World;
use crate::domain::{DeclineReason, OrderId, OrderStatus, OrderView, PaymentEnd, PaymentProvider};
use crate::engine::Command;
use rand::Rng;

impl World {
    pub(super) fn is_of_provider(&self, drop: usize, order: OrderId) -> bool {
        self.view(drop, order).is_some_and(|order| order.payment.provider == Some(PaymentProvider::Stripe))
    }

    pub(super) fn view(&self, drop: usize, order: OrderId) -> Option<OrderView> {
        self.life.as_ref()?.drops.get(&self.specs[drop].id)?.state().order(order)
    }

    /// The provider answers about a pending attempt.
    pub(super) fn provider_answers(&mut self, drop: usize, order: OrderId) -> Finding {
        let Some(view) = self.view(drop, order).filter(|view| view.payment_pending.is_some()) else { return Ok(()) };
        let attempt = view.attempt();
        let first = [Book::Action, Book::Action, Book::Authorized, Book::Authorized, Book::Declined, Book::NotMade];
        let first = first[self.dice.random_range(0..first.len())];
        let mut book = *self.books.0.entry((order, attempt)).or_insert(first);
        if book == Book::Action {
            self.count("a buyer has to act");
            book = match self.dice.random_range(0..10) {
                // The hold is lost: what the buyer could still authorize is cancelled.
                _ if view.status != OrderStatus::Reserved => Book::Cancelled,
                0..4 => Book::Authorized,
                4..6 => Book::Declined,
                _ => Book::Action,
            };
            self.books.0.insert((order, attempt), book);
        }
        if self.dice.random_bool(0.1) {
            self.count("an answer of the provider is lost");
            self.ask_again(drop, order);
            return Ok(());
        }
        self.tell(drop, &view, book)
    }

    fn ask_again(&mut self, drop: usize, order: OrderId) {
        if !self.charging.contains(&(drop, order)) {
            self.charging.push((drop, order));
        }
    }

    /// Records an answer, perhaps twice.
    fn tell(&mut self, drop: usize, view: &OrderView, book: Book) -> Finding {
        let (order, attempt) = (view.id, view.attempt());
        let reference = || format!("pi_{attempt}").into();
        let end = |end| Command::EndPayment { order, attempt, end };
        let command = match book {
            Book::Action => Command::AwaitPayment { order, attempt, reference: reference(), action: true },
            Book::Authorized => Command::Authorize { order, payment_ref: reference() },
            Book::Captured | Book::Refunded => Command::Confirm { order, payment_ref: reference() },
            Book::Declined => end(PaymentEnd::Declined(DeclineReason::CardDeclined)),
            Book::Cancelled => end(PaymentEnd::Cancelled),
            Book::NotMade => end(PaymentEnd::NotMade),
        };
        if book == Book::Action {
            self.ask_again(drop, order);
        } else {
            self.charging.retain(|asked| *asked != (drop, order));
        }
        if self.dice.random_bool(0.1) {
            self.count("an answer of the provider comes twice");
            self.submit(drop, command.clone(), None)?;
        }
        self.submit(drop, command, None)
    }

    /// Asks the provider what became of an attempt. At the end of a story, buyers who have not acted never will.
    pub(super) fn look_up_attempt(&mut self, drop: usize, order: OrderId, is_end: bool) -> Finding {
        let Some(view) = self.view(drop, order).filter(|view| view.payment_pending.is_some()) else { return Ok(()) };
        let book = self.books.0.entry((order, view.attempt())).or_insert(Book::NotMade);
        if is_end && *book == Book::Action {
            *book = Book::Cancelled;
        }
        let book = *book;
        self.tell(drop, &view, book)
    }

    /// The relay of captures: takes what is authorized for confirmed orders, and settles it.
    pub(super) fn settle_captures(&mut self) -> Finding {
        self.land_all()?;
        match self.any_order(|order| order.payment.capture_due) {
            Some((drop, order)) => self.capture(drop, order),
            None => Ok(()),
        }
    }

    pub(super) fn capture(&mut self, drop: usize, order: OrderId) -> Finding {
        let Some(view) = self.view(drop, order) else { return Ok(()) };
        let key = (order, view.attempt());
        let lapses = self.dice.random_bool(0.1);
        let book = self.books.0.get_mut(&key).ok_or_else(|| format!("order {order} is captured without a payment"))?;
        match *book {
            Book::Authorized if lapses => *book = Book::Cancelled,
            Book::Authorized => *book = Book::Captured,
            Book::Captured | Book::Cancelled => {}
            other => return Err(format!("order {order} is captured, and its payment is {other:?}")),
        }
        let is_taken = *book == Book::Captured;
        self.count(if is_taken { "a capture" } else { "a capture that comes too late" });
        if self.dice.random_bool(0.1) {
            self.count("the answer to a capture is lost");
            return Ok(());
        }
        let command = if is_taken { Command::SettleCapture { order } } else { Command::FailCapture { order } };
        if self.dice.random_bool(0.1) {
            self.submit(drop, command.clone(), None)?;
        }
        self.submit(drop, command, None)
    }

    /// What is only authorized is cancelled, what was captured is refunded. Returns whether it was before.
    pub(super) fn provider_gives_back(&mut self, drop: usize, order: OrderId) -> Result<bool, String> {
        let attempt = self.view(drop, order).map_or(1, |view| view.attempt());
        let book = self.books.0.get_mut(&(order, attempt));
        let book = book.ok_or_else(|| format!("money goes back for order {order}, which was never authorized"))?;
        match *book {
            Book::Authorized => *book = Book::Cancelled,
            Book::Captured => *book = Book::Refunded,
            Book::Cancelled | Book::Refunded => return Ok(true),
            other => return Err(format!("money goes back for order {order}, and its payment is {other:?}")),
        }
        Ok(false)
    }
}
