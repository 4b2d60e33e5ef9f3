//! Commands for tests outside the engine.

use super::Reserve;
use crate::domain::{DropSpec, Fingerprint, KeyDigest, OrderId, UserId};

/// One unit of the only variant for a new buyer, to be paid later.
pub fn reserve_in(spec: &DropSpec) -> Reserve {
    let (buyer, variant) = (UserId::new(), spec.variants[0].id);
    Reserve {
        order: OrderId::for_drop(spec.id),
        buyer,
        digest: KeyDigest::of(buyer, "k"),
        key: "k".into(),
        fingerprint: Fingerprint::of_order(spec.id, variant, 1, None),
        variant: Some(variant),
        quantity: 1,
        payment_method: None,
        network: None,
        delivery: None,
    }
}
