//! Use cases shared by REST and WebSocket: authorize, load, ask, answer.

pub mod drops;
pub mod failure;
pub mod orders;
pub mod payments;
pub mod settle;
pub mod views;

pub use failure::{Code, Failure, FieldError};
pub use views::{DropView, Page, StockView};
