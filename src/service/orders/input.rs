//! What orders and payments are asked with.

use crate::domain::limits::{ADDRESS_REFERENCE_CHARS_MAX, PAYMENT_METHOD_CHARS_MAX, QUANTITY_PER_ORDER_MAX};
use crate::domain::{DropId, VariantId};
use crate::service::addresses::references::Referenced;
use crate::service::input::{Checks, Field, Input};

/// An order to place.
#[derive(Debug, Default)]
pub struct OrderInput {
    /// Which drop. Required.
    pub drop_id: Field<DropId>,
    /// May be left out where the drop has one variant.
    pub variant_id: Field<VariantId>,
    /// 1 to `QUANTITY_PER_ORDER_MAX`. Required.
    pub quantity: Field<i64>,
    /// Charge at once with this.
    pub payment_method: Field<String>,
    /// The reference of an address, see [`crate::service::addresses::references`].
    pub address: Field<String>,
}

/// An [`OrderInput`] that is valid.
#[derive(Clone, Debug)]
pub struct NewOrder {
    /// Which drop.
    pub drop_id: DropId,
    /// May be left out where the drop has one variant.
    pub variant_id: Option<VariantId>,
    /// 1 to `QUANTITY_PER_ORDER_MAX`.
    pub quantity: u32,
    /// Charge at once with this.
    pub payment_method: Option<String>,
    /// Boxed: most orders name none, and thousands wait in a rush.
    pub address: Option<Box<NamedAddress>>,
}

/// How an order names an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NamedAddress {
    /// As the client sent it.
    Reference(Box<str>),
    /// What the reference says, see [`super::Orders::read_address`].
    Known(Referenced),
}

impl NewOrder {
    /// What the reference of its address says.
    pub(super) fn sent_to(&self) -> Option<&Referenced> {
        match self.address.as_deref() {
            Some(NamedAddress::Known(known)) => Some(known),
            _ => None,
        }
    }
}

impl Input for OrderInput {
    type Valid = NewOrder;

    fn check(self, checks: &mut Checks) -> Option<NewOrder> {
        let drop_id = checks.required("/drop_id", self.drop_id);
        let variant_id = checks.optional("/variant_id", self.variant_id);
        let quantity = checks.required_number("/quantity", self.quantity, 1..=QUANTITY_PER_ORDER_MAX);
        let payment_method = checks.optional("/payment_method", self.payment_method);
        let payment_method = checks.line("/payment_method", payment_method, 1..=PAYMENT_METHOD_CHARS_MAX);
        let address = checks.optional("/address", self.address);
        let address = checks.line("/address", address, 1..=ADDRESS_REFERENCE_CHARS_MAX);
        let address = address.map(|text| Box::new(NamedAddress::Reference(text.into())));
        Some(NewOrder { drop_id: drop_id?, variant_id, quantity: quantity?, payment_method, address })
    }
}

/// A payment for a reserved order.
#[derive(Debug, Default)]
pub struct PaymentInput {
    /// Required.
    pub payment_method: Field<String>,
}

impl Input for PaymentInput {
    /// The payment method.
    type Valid = String;

    fn check(self, checks: &mut Checks) -> Option<String> {
        let method = checks.required("/payment_method", self.payment_method);
        checks.line("/payment_method", method, 1..=PAYMENT_METHOD_CHARS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::input::Unvalidated;

    #[test]
    fn without_json_an_order_has_the_same_errors() {
        let asked = |quantity: i64, method: &str| {
            let fields = OrderInput {
                drop_id: Field::Given(DropId::new()),
                quantity: Field::Given(quantity),
                payment_method: Field::Given(method.to_owned()),
                ..OrderInput::default()
            };
            Unvalidated::from(fields).validate::<OrderInput>()
        };
        let new = asked(3, " pm_sandbox_ok ").unwrap();
        assert_eq!((new.quantity, new.variant_id, new.payment_method.as_deref()), (3, None, Some("pm_sandbox_ok")));
        let errors = asked(0, "").unwrap_err().fields;
        let shown: Vec<_> = errors.iter().map(|error| (error.pointer.as_str(), error.detail.as_str())).collect();
        assert_eq!(shown, [("/quantity", "must be 1 to 1000"), ("/payment_method", "must have 1 to 64 characters")]);
        let nothing = Unvalidated::from(OrderInput::default()).validate::<OrderInput>().unwrap_err().fields;
        assert_eq!(nothing.into_iter().map(|error| error.pointer).collect::<Vec<_>>(), ["/drop_id", "/quantity"]);
    }
}
