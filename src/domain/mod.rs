//! The vocabulary that every other layer shares: ids, money, time, limits and the journal's events.
//!
//! Nothing here has a clock, does I/O or knows its callers.

#[macro_use]
mod named;

pub mod country;
pub mod delivery;
pub mod event;
#[cfg(test)]
pub mod fixtures;
pub mod fulfilment;
pub mod ids;
pub mod limits;
pub mod login;
pub mod money;
pub mod order;
pub mod order_number;
pub mod payment;
pub mod product;
pub mod revision;
pub mod stock;
pub mod timestamp;

pub use country::Country;
pub use delivery::{CountryPrice, Delivery, ShippingTable};
pub use event::{AdminAction, DropEvent, DropRecord, DropSpec, KeyedRequest, OrderLine, Principal, VariantSpec};
pub use fulfilment::FulfilmentStatus;
pub use ids::{
    AddressId, AddressVersionId, CreatorId, DropId, Fingerprint, KeyDigest, OrderId, ProductId, TraceId, UserId,
    VariantId,
};
pub use login::{Login, Revocation};
pub use money::{Currency, Money};
pub use order::{OrderStatus, OrderView, RefundCause, RefundRequestStatus, Refusal, ReleaseReason};
pub use order_number::{Mistyped, OrderNumber};
pub use payment::{
    DeclineReason, Payment, PaymentEnd, PaymentFacts, PaymentIncident, PaymentMethod, PaymentProvider, PaymentStep,
};
pub use product::{Attribute, Attributes, Image, ProductStatus, ProductVariant};
pub use revision::DropRevision;
pub use stock::{DropStatus, StockBoard, StockCounts};
pub use timestamp::{Moment, Timestamp};
