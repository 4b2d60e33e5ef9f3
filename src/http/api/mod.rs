//! The API, one folder a resource: `routes` has its handlers (read the request, call a use case, write the answer),
//! `dto` the bodies of its requests and answers. A request's `validate` names every invalid field at once; rules that
//! need data (the product's owner, its currency) are checked by the use case.

pub mod accounts;
pub mod addresses;
mod changing;
pub mod creators;
pub mod drops;
pub mod money;
pub mod notifications;
pub mod operations;
pub mod orders;
pub mod plain;
pub mod products;
pub mod refunds;
pub mod sales;
pub mod webhooks;
