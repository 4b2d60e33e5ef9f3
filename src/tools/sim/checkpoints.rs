//! The checkpoint files of a story, and the copy that becomes the next of them.

use crate::actors::inventory::snapshot::{Answer, AskError};
use crate::domain::DropId;
use crate::engine::checkpoint::{CopyStart, Rows};
use std::collections::BTreeMap;
use tokio::sync::oneshot;

/// A copy that is under way.
pub(super) struct Copy {
    pub drop: DropId,
    pub start: CopyStart,
    pub rows: Vec<Rows>,
    pub behind: oneshot::Receiver<Result<Answer, AskError>>,
    pub position: Option<u64>,
}

/// The files of a story, and the copy that becomes the next of them.
#[derive(Default)]
pub(super) struct Checkpoints {
    pub files: BTreeMap<DropId, Vec<u8>>,
    pub copy: Option<Copy>,
}
