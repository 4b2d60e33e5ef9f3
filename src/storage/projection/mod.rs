//! From journal records to rows.
//!
//! - `fold`: a pure function: a batch of records and the rows that it touches in, final rows out.
//! - `apply`: the transaction: rows and the journal's watermark, all or nothing.
//! - `aside`: records that the database refuses permanently, with the later ones of their drops. `retry`: these applied
//!   after all.

pub(in crate::storage) mod apply;
pub(in crate::storage) mod aside;
pub(in crate::storage) mod fold;
pub(in crate::storage) mod retry;
