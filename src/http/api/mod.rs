//! The API, one folder a resource: `routes` are its handlers (read the request, ask a use case, write the answer), `dto` the bodies of its
//! requests and answers. A request's `validate` names every bad field at once; what only the use case can know (whose product, which
//! currency) is checked there.

pub mod accounts;
mod changing;
pub mod creators;
pub mod drops;
pub mod money;
pub mod notifications;
pub mod operations;
pub mod orders;
pub mod plain;
pub mod products;
pub mod sales;
