//! Where an order is sent: decided from the reference of an address and the drop's own table, without SQL.

use super::{NamedAddress, NewOrder, NotPlaced, OrderRequest, Orders};
use crate::actors::DropHandle;
use crate::domain::{Delivery, UserId};
use crate::service::{Code, Failure, FieldError};

impl Orders {
    /// Reads the reference of an order's address, before the order is placed. It may have ended.
    ///
    /// # Errors
    /// `address_reference_invalid`, for whatever this server did not make for this buyer.
    pub fn read_address(&self, buyer: UserId, new: &mut NewOrder) -> Result<(), Failure> {
        let Some(address) = new.address.as_deref_mut() else { return Ok(()) };
        if let NamedAddress::Reference(reference) = address {
            let known = self.references.read(buyer, reference);
            *address = NamedAddress::Known(known.ok_or_else(|| Failure::new(Code::AddressReferenceInvalid))?);
        }
        Ok(())
    }

    /// Refuses a reference that has ended. Only for a key that has made no order: a retry gets its order all the same.
    pub(super) fn check_end(&self, asked: &OrderRequest<'_>) -> Result<(), Failure> {
        match asked.new.sent_to() {
            Some(sent_to) if sent_to.expires_at <= self.registry.clock().now() => {
                let detail = "The reference of the address has ended: read the address again";
                Err(Failure::with(Code::AddressReferenceInvalid, detail))
            }
            _ => Ok(()),
        }
    }
}

/// Where the order is sent, and for how much. What a drop is shipped to never changes, so a retry gets the same answer.
///
/// # Errors
/// `address_required`, `not_shipped_there`; `conflicting_fields` for an address where nothing is shipped.
pub(super) fn delivery(drop: &DropHandle, asked: &OrderRequest<'_>) -> Result<Option<Box<Delivery>>, NotPlaced> {
    match (&drop.spec.shipping, asked.new.sent_to()) {
        (None, None) => Ok(None),
        (None, Some(_)) => {
            let detail = "must be left out: this drop is not shipped".to_owned();
            Err(Failure::conflicting(vec![FieldError { pointer: "/address".to_owned(), detail }]).into())
        }
        (Some(_), None) => Err(Failure::new(Code::AddressRequired).into()),
        (Some(table), Some(sent_to)) => {
            let (address, country) = (sent_to.address, sent_to.country);
            let shipping = table.price_to(country).ok_or_else(|| Failure::new(Code::NotShippedThere))?;
            Ok(Some(Box::new(Delivery { address, country, shipping })))
        }
    }
}
