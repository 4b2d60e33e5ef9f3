//! The books of a provider that authorizes before it captures, whatever the server knows of them.

use super::auditor::Finding;
use crate::domain::{OrderId, OrderStatus, OrderView, PaymentProvider};
use std::collections::BTreeMap;

/// What the provider has on its books about an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Book {
    /// The buyer has to act.
    Action,
    Authorized,
    Captured,
    Declined,
    Cancelled,
    /// It was asked about before it came: a late request is refused for ever.
    NotMade,
    Refunded,
}

/// The provider's books, by order and attempt.
#[derive(Default)]
pub(super) struct Books(pub(super) BTreeMap<(OrderId, u32), Book>);

impl Books {
    /// Checks, when everything is settled, that every order that was paid is paid once, that no other is, and that nothing
    /// is reserved on anybody's card.
    pub fn add_up<'a>(&self, orders: impl Iterator<Item = &'a OrderView>) -> Finding {
        for order in orders.filter(|order| order.payment.provider == Some(PaymentProvider::Stripe)) {
            let of_order = self.0.range((order.id, 0)..=(order.id, u32::MAX)).map(|(_, book)| *book);
            let (mut taken, mut open) = (0, 0);
            for book in of_order {
                taken += u32::from(book == Book::Captured);
                open += u32::from(matches!(book, Book::Action | Book::Authorized));
            }
            let owed = u32::from(order.status == OrderStatus::Confirmed);
            if taken != owed || open > 0 {
                let status = order.status.as_str();
                return Err(format!(
                    "order {} is {status}, and its money was kept or never came: paid {taken} times, {open} payments open",
                    order.id
                ));
            }
        }
        Ok(())
    }
}
