//! How far a copy of a drop has come, see [`super::checkpoint`].

use super::orders::Slot;
use hashbrown::HashMap;

/// A copy of a drop that is being made.
pub(super) struct Copying {
    /// The orders before this slot belong to it.
    pub end: Slot,
    /// The first order that is not copied yet.
    pub next: Slot,
    /// Rows of orders that changed since it began, as they were then.
    pub kept: HashMap<Slot, Box<[u8]>>,
}
