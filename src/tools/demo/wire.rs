//! The parts of the API's messages that the demo reads, as in docs/API.md.
//!
//! They are written from the contract and not shared with the server: with the server's own types, the demo would
//! accept any format that the server produces.

use crate::domain::{DropId, OrderId, OrderStatus, ReleaseReason, StockCounts, Timestamp};
use serde::Deserialize;
use std::borrow::Cow;

/// The path prefix of every call.
pub const BASE: &str = "/api/v1";

/// The answer to a registration or a login.
#[derive(Debug, Deserialize)]
pub struct Session {
    pub access_token: String,
}

/// A created object with an id.
#[derive(Debug, Deserialize)]
pub struct Made<T> {
    pub id: T,
}

/// The answer of `GET /drops/{id}/stock`. A variant is read as its counts; its id does not matter here.
#[derive(Debug, Deserialize)]
pub struct StockReading {
    #[serde(flatten)]
    pub stock: StockCounts,
    #[serde(default)]
    pub variants: Vec<StockCounts>,
}

/// An order in the view of its buyer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Order {
    pub id: OrderId,
    pub drop_id: DropId,
    pub quantity: u32,
    pub status: OrderStatus,
    pub release_reason: Option<ReleaseReason>,
}

/// One page of a list.
#[derive(Debug, Deserialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next_cursor: Option<String>,
}

/// Why an answer is not 2xx (RFC 9457).
#[derive(Debug, Deserialize)]
pub struct Problem {
    pub code: String,
}

/// Any message on a WebSocket.
#[derive(Debug, Deserialize)]
pub struct Message<'a> {
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
    pub at: Option<Timestamp>,
    pub drop_id: Option<DropId>,
    pub stock: Option<StockCounts>,
    #[serde(default)]
    pub variants: Vec<StockCounts>,
    pub following: Option<u32>,
}

/// Whether every count adds up and the variants make up the whole. An event without variants has only the whole.
#[must_use]
pub fn adds_up(stock: StockCounts, variants: &[StockCounts]) -> bool {
    let whole = stock.balances() && variants.iter().all(|variant| variant.balances());
    whole && (variants.is_empty() || variants.iter().fold(StockCounts::default(), |sum, v| sum.plus(*v)) == stock)
}

/// Whether an order in the state `told` may later be in the state `found`, without a request in between.
#[must_use]
pub fn may_follow(told: OrderStatus, found: OrderStatus) -> bool {
    use OrderStatus::{Confirmed, Refunded, Released, Reserved};
    match told {
        Reserved => matches!(found, Reserved | Released),
        Confirmed => matches!(found, Confirmed | Refunded),
        // Money that came too late for the hold is refunded.
        Released => matches!(found, Released | Refunded),
        Refunded => matches!(found, Refunded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stock(total: u32, available: u32, held: u32, sold: u32) -> StockCounts {
        StockCounts { total, available, held, sold }
    }

    #[test]
    fn a_stock_reading_is_read_with_its_variants() {
        let id = DropId::new();
        let text = format!(
            r#"{{"drop_id":"{id}","status":"sold_out","total":5,"available":0,"held":1,"sold":4,
                "variants":[{{"id":"{id}","total":5,"available":0,"held":1,"sold":4}}],"position":9}}"#
        );
        let reading: StockReading = serde_json::from_str(&text).unwrap();
        assert_eq!(reading.stock, stock(5, 0, 1, 4));
        assert!(adds_up(reading.stock, &reading.variants));
    }

    #[test]
    fn every_kind_of_message_is_read() {
        let drop = DropId::new();
        let hello = r#"{"type":"hello","session_id":"x","heartbeat_ms":25000}"#;
        assert_eq!(serde_json::from_str::<Message>(hello).unwrap().kind, "hello");
        let ready = r#"{"type":"authenticated","user_id":"x","following":1}"#;
        assert_eq!(serde_json::from_str::<Message>(ready).unwrap().following, Some(1));
        let event = format!(
            r#"{{"id":"1","type":"drop_started","topic":"drop:{drop}","at":"2026-01-01T00:00:00.000Z","position":3,
                "drop_id":"{drop}","creator_id":"{drop}","status":"live",
                "stock":{{"total":1,"available":1,"held":0,"sold":0}},"variants":[]}}"#
        );
        let event: Message = serde_json::from_str(&event).unwrap();
        assert_eq!((event.drop_id, event.stock), (Some(drop), Some(stock(1, 1, 0, 0))));
        assert!(event.at.is_some());
    }

    #[test]
    fn stock_that_does_not_add_up_is_seen() {
        assert!(adds_up(stock(3, 1, 1, 1), &[]));
        assert!(adds_up(stock(3, 1, 1, 1), &[stock(1, 0, 0, 1), stock(2, 1, 1, 0)]));
        assert!(!adds_up(stock(3, 1, 1, 2), &[]));
        assert!(!adds_up(stock(3, 1, 1, 1), &[stock(3, 3, 0, 0)]));
        assert!(!adds_up(stock(3, 1, 1, 1), &[stock(3, 2, 1, 1)]));
    }

    #[test]
    fn an_order_only_moves_forward() {
        use OrderStatus::{Confirmed, Refunded, Released, Reserved};
        let allowed = [
            (Reserved, Reserved),
            (Reserved, Released),
            (Confirmed, Confirmed),
            (Confirmed, Refunded),
            (Released, Released),
            (Released, Refunded),
            (Refunded, Refunded),
        ];
        for &told in OrderStatus::ALL {
            for &found in OrderStatus::ALL {
                assert_eq!(may_follow(told, found), allowed.contains(&(told, found)), "{told:?} → {found:?}");
            }
        }
    }
}
