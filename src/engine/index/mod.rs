//! Containers and indexes of a drop's orders. Each grows in steps: no order waits until all of it is moved.
//!
//! - `chunked`: a list whose elements never move.
//! - `hash`: slots by a hash, for keys and buyers.
//! - `id`: slots by order id, which rises as orders arrive.
//! - `arena`: texts in contiguous chunks, for payment references.

mod arena;
mod chunked;
mod hash;
mod id;

pub(super) use arena::{StringArena, TextAt};
pub(super) use chunked::Chunked;
pub(super) use hash::{HashIndex, Line};
pub(super) use id::IdIndex;
