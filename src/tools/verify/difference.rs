//! Differences between a drop or an order in the journal and its row, in words.

use crate::domain::{DropStatus, OrderView, StockCounts, VariantId};
use crate::engine::DropState;
use crate::storage::DropRow;

/// A name and a value.
type Field = (String, String);

/// The differences in a drop's status and stock, in the format of [`of_orders`]. `None`: no difference.
pub(crate) fn of_drops(journal: &DropState, row: &DropRow) -> Option<String> {
    let stored = || row.variants.iter().map(|variant| (variant.id, variant.stock));
    if journal.status() == row.status && journal.stock().eq(stored()) {
        return None;
    }
    Some(between(&drop_fields(journal.status(), journal.stock()), &drop_fields(row.status, stored())))
}

fn drop_fields(status: DropStatus, stock: impl Iterator<Item = (VariantId, StockCounts)>) -> Vec<Field> {
    let stock = stock.map(|(variant, counts)| (format!("stock of variant {variant}"), counts.to_string()));
    std::iter::once(("status".to_owned(), status.as_str().to_owned())).chain(stock).collect()
}

/// The fields that differ, each with both values: `status: the journal says confirmed, the database reserved`. `None`:
/// no difference.
pub(crate) fn of_orders(journal: &OrderView, row: &OrderView) -> Option<String> {
    (journal != row).then(|| between(&order_fields(journal), &order_fields(row)))
}

/// The fields that differ. One that only one side has is `nothing` on the other.
fn between(journal: &[Field], row: &[Field]) -> String {
    let value = |fields: &[Field], name: &str| {
        or_none(fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone()))
    };
    let only_in_row = row.iter().filter(|(name, _)| !journal.iter().any(|(other, _)| other == name));
    let fields = journal.iter().chain(only_in_row).map(|(name, _)| (name, value(journal, name), value(row, name)));
    let differences: Vec<String> = fields
        .filter(|(_, journal, row)| journal != row)
        .map(|(name, journal, row)| format!("{name}: the journal says {journal}, the database {row}"))
        .collect();
    differences.join("; ")
}

/// Every field but the id, by its name in the API if it has one.
fn order_fields(order: &OrderView) -> Vec<Field> {
    // A new field of an order does not compile until it is compared here.
    let OrderView {
        id: _,
        drop_id,
        variant_id,
        buyer,
        quantity,
        unit_price,
        status,
        release_reason,
        digest,
        fingerprint,
        created_at,
        expires_at,
        confirmed_at,
        released_at,
        refunded_at,
        payment_ref,
        payment_pending,
        refund_due,
        failed_trace,
        payment,
        delivery,
    } = order;
    let fields = [
        ("drop_id", drop_id.to_string()),
        ("variant_id", variant_id.to_string()),
        ("buyer_id", buyer.to_string()),
        ("quantity", quantity.to_string()),
        ("unit_price", format!("{} {}", unit_price.amount, unit_price.currency)),
        ("status", status.as_str().to_owned()),
        ("release_reason", or_none(release_reason.map(|reason| reason.as_str()))),
        ("key", digest.0.to_string()),
        ("fingerprint", format!("{:016x}", fingerprint.0)),
        ("created_at", created_at.to_string()),
        ("expires_at", expires_at.to_string()),
        ("confirmed_at", or_none(*confirmed_at)),
        ("released_at", or_none(*released_at)),
        ("refunded_at", or_none(*refunded_at)),
        ("payment", format!("{payment:?}")),
        ("payment_ref", or_none(payment_ref.as_deref())),
        ("payment_pending", or_none(payment_pending.as_deref())),
        ("refund_due", or_none(refund_due.map(|cause| cause.as_str()))),
        ("failed_trace", or_none(*failed_trace)),
        ("delivery", format!("{delivery:?}")),
    ];
    fields.map(|(name, value)| (name.to_owned(), value)).into()
}

fn or_none(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::drop_of;
    use crate::domain::{Fingerprint, KeyDigest, OrderId, OrderStatus, Timestamp, UserId};
    use crate::storage::VariantRow;

    #[test]
    fn a_drops_difference_is_told_in_words() {
        let spec = drop_of(2);
        let journal = DropState::scheduled(spec.clone());
        let variant = |id, stock: u32| VariantRow { id, stock: StockCounts::full(stock), low: false };
        let row = |status, variants| DropRow {
            status,
            variants,
            started_at: None,
            ended_at: None,
            last_event_at: spec.created_at,
            spec: spec.clone(),
        };
        let [id, other] = [spec.variants[0].id, VariantId::new()];
        assert_eq!(of_drops(&journal, &row(DropStatus::Scheduled, vec![variant(id, 2)])), None);
        assert_eq!(
            of_drops(&journal, &row(DropStatus::Live, vec![variant(id, 2), variant(other, 1)])).unwrap(),
            format!(
                "status: the journal says scheduled, the database live; \
                 stock of variant {other}: the journal says nothing, the database {}",
                StockCounts::full(1)
            )
        );
    }

    #[test]
    fn an_orders_difference_is_told_in_words() {
        let spec = drop_of(1);
        let journal = OrderView {
            id: OrderId::for_drop(spec.id),
            drop_id: spec.id,
            variant_id: spec.variants[0].id,
            buyer: UserId::new(),
            quantity: 1,
            unit_price: spec.variants[0].price,
            status: OrderStatus::Reserved,
            release_reason: None,
            digest: KeyDigest::of(UserId::new(), "k"),
            fingerprint: Fingerprint(7),
            created_at: Timestamp::from_millis(0),
            expires_at: Timestamp::from_millis(60_000),
            confirmed_at: None,
            released_at: None,
            refunded_at: None,
            payment_ref: None,
            payment_pending: None,
            payment: crate::domain::PaymentFacts::default(),
            refund_due: None,
            failed_trace: None,
            delivery: None,
        };
        assert_eq!(of_orders(&journal, &journal), None);
        let row = OrderView {
            status: OrderStatus::Confirmed,
            confirmed_at: Some(Timestamp::from_millis(1_000)),
            ..journal.clone()
        };
        assert_eq!(
            of_orders(&journal, &row).unwrap(),
            "status: the journal says reserved, the database confirmed; \
             confirmed_at: the journal says nothing, the database 1970-01-01T00:00:01.000Z"
        );
    }
}
