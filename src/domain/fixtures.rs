//! Fixtures that many tests share.

use super::{CreatorId, DropId, DropSpec, Money, ProductId, Timestamp, VariantId, VariantSpec};

/// A drop of one variant that costs 1 EUR, live since 1970 if it is started, with holds of ten minutes.
pub fn drop_of(stock: u32) -> DropSpec {
    let price = Money { amount: 100, currency: "EUR".parse().unwrap() };
    DropSpec {
        id: DropId::new(),
        creator_id: CreatorId(uuid::Uuid::now_v7()),
        product_id: ProductId::new(),
        title: "a drop".to_owned(),
        variants: vec![VariantSpec { id: VariantId::new(), name: "one".to_owned(), stock, price }],
        per_buyer_limit: 0,
        low_stock_threshold: 0,
        hold_ms: 600_000,
        starts_at: Timestamp::from_millis(0),
        ends_at: None,
        created_at: Timestamp::from_millis(0),
        shipping: None,
    }
}
