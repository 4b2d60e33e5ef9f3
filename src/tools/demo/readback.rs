//! After the rush: checks that no acknowledged order is lost, and that there are no orders without an answer.

use super::{
    buyer::{Story, Told},
    client::Call,
    market::Market,
    promises::Promise,
    wire::{BASE, Order, Page, may_follow},
};
use crate::domain::{OrderId, OrderStatus};
use futures_util::{StreamExt, stream};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use tokio::time;

/// Buyers who read their orders concurrently.
const READERS: usize = 64;
/// Pages of one buyer's orders: more than any buyer of the demo fills.
const PAGES_MAX: usize = 200;
/// How long an order may take to appear in a list, which the projector fills.
const LIST_PATIENCE: Duration = Duration::from_secs(20);

/// Has every buyer send the late repeats, read each of their orders, and check their list.
pub async fn read_back(market: &Market, stories: &[Story]) {
    let counters = &market.counters;
    counters.enter("reading every order back", stories.len() as u64);
    let list_deadline = Instant::now() + LIST_PATIENCE;
    stream::iter(stories)
        .for_each_concurrent(READERS, |story| async move {
            for (call, answer) in &story.late_repeats {
                market.ask_again(call, answer).await;
            }
            for told in &story.told {
                read_order(market, story, told).await;
            }
            read_list(market, story, list_deadline).await;
            counters.step();
        })
        .await;
    let last = counters.stock();
    let told = counters.confirmed_units.load(std::sync::atomic::Ordering::Relaxed);
    if told != u64::from(last.sold) {
        let text =
            format!("buyers were told that {told} units are theirs, the server says that {} are sold", last.sold);
        counters.broke(Promise::ToldEqualsSold, text);
    }
}

async fn read_order(market: &Market, story: &Story, told: &Told) {
    let call = Call::get(format!("{BASE}/orders/{}", told.id), &story.token);
    let Some(answer) = market.ask(&call).await else { return };
    let found = if answer.is_success() { answer.json::<Order>() } else { Err(answer.text()) };
    let wrong = match found {
        Err(why) => Some(format!("order {} was acknowledged and is now {why}", told.id)),
        Ok(order) => mismatch(told, &order),
    };
    if let Some(text) = wrong {
        market.counters.broke(Promise::NothingLost, text);
    }
}

fn mismatch(told: &Told, found: &Order) -> Option<String> {
    let same = found.id == told.id && found.quantity == told.quantity && may_follow(told.status, found.status);
    (!same).then(|| format!("a buyer was told {told:?} and finds {found:?}"))
}

/// Reads the list until it is right or the time limit passes.
async fn read_list(market: &Market, story: &Story, deadline: Instant) {
    loop {
        let listed = match list(market, story).await {
            Ok(listed) => listed,
            Err(why) => return market.unlike_the_contract(&format!("a buyer's list of orders: {why}")),
        };
        let wrong = list_mismatch(&story.told, &listed);
        match wrong {
            None => return,
            Some(text) if Instant::now() > deadline => return market.counters.broke(Promise::NothingLost, text),
            Some(_) => time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn list(market: &Market, story: &Story) -> Result<Vec<Order>, String> {
    let mut orders = Vec::new();
    let mut cursor: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let from = cursor.map_or_else(String::new, |cursor| format!("&cursor={}", escape(&cursor)));
        let call = Call::get(format!("{BASE}/users/me/orders?limit=100{from}"), &story.token);
        let answer = market.ask(&call).await.ok_or("no answer")?;
        if !answer.is_success() {
            return Err(answer.text());
        }
        let page: Page<Order> = answer.json()?;
        orders.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(orders);
        }
    }
    Err(format!("more than {PAGES_MAX} pages"))
}

/// The fault of a buyer's list: an order that is missing, listed twice, or in an impossible state; or an unknown one
/// that holds units. (A declined card leaves a released order whose id is not in the refusal.)
fn list_mismatch(told: &[Told], listed: &[Order]) -> Option<String> {
    let mut found: HashMap<OrderId, Vec<&Order>> = HashMap::new();
    for order in listed {
        found.entry(order.id).or_default().push(order);
    }
    for told in told {
        match found.remove(&told.id).as_deref() {
            None => return Some(format!("order {} was acknowledged and is not in its buyer's list", told.id)),
            Some([order]) if mismatch(told, order).is_none() => {}
            Some([order]) => return mismatch(told, order),
            Some(orders) => return Some(format!("order {} is listed {} times", told.id, orders.len())),
        }
    }
    let ghost = found.values().flatten().find(|order| order.status != OrderStatus::Released);
    ghost.map(|order| format!("a buyer finds an order that they were never told of: {order:?}"))
}

/// Percent-encodes characters that are not allowed in a query.
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::DropId;
    use OrderStatus::{Confirmed, Refunded, Released, Reserved};

    fn told(status: OrderStatus) -> Told {
        Told { id: OrderId::for_drop(DropId::new()), quantity: 1, status }
    }

    fn found(told: Told, status: OrderStatus) -> Order {
        Order { id: told.id, drop_id: DropId::new(), quantity: told.quantity, status, release_reason: None }
    }

    #[test]
    fn a_right_list_has_every_order_once() {
        let (bought, expired) = (told(Confirmed), told(Reserved));
        let listed = [found(bought, Confirmed), found(expired, Released), found(told(Released), Released)];
        assert_eq!(list_mismatch(&[bought, expired], &listed), None);
        assert_eq!(list_mismatch(&[], &[]), None);
    }

    #[test]
    fn a_lost_a_doubled_and_an_undone_order_are_found() {
        let bought = told(Confirmed);
        assert!(list_mismatch(&[bought], &[]).unwrap().contains("not in its buyer's list"));
        let twice = [found(bought, Confirmed), found(bought, Confirmed)];
        assert!(list_mismatch(&[bought], &twice).unwrap().contains("2 times"));
        assert!(list_mismatch(&[bought], &[found(bought, Released)]).is_some());
        assert!(list_mismatch(&[bought], &[found(bought, Refunded)]).is_none());
        let other_quantity = Order { quantity: 2, ..found(bought, Confirmed) };
        assert!(list_mismatch(&[bought], &[other_quantity]).is_some());
    }

    #[test]
    fn an_order_that_nobody_was_told_of_is_found() {
        let ghost = told(Confirmed);
        assert!(list_mismatch(&[], &[found(ghost, Confirmed)]).unwrap().contains("never told"));
        assert!(list_mismatch(&[], &[found(ghost, Reserved)]).is_some());
    }

    #[test]
    fn a_cursor_survives_a_query() {
        assert_eq!(escape("aZ09-._~"), "aZ09-._~");
        assert_eq!(escape("a+b/c="), "a%2Bb%2Fc%3D");
    }
}
