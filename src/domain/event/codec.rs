//! The binary form of a record: one byte with the version, then that version's types in postcard.
//!
//! Every version begins with the drop's id, so that [`DropRecord::drop_of`] reads any of them. An enum of a released
//! version never gets another variant, not even at its end: an older program would report such a record as damaged
//! instead of naming the unknown version.

use super::{DropId, DropRecord, v1, v2, v3};
use serde::de::DeserializeOwned;

/// A record that cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The first byte names a version that this program does not know.
    #[error("record version {0} is not known to this version of livedrop")]
    Version(u8),
    /// The bytes are not a record.
    #[error("not a record: {0}")]
    Malformed(#[from] postcard::Error),
    /// This many bytes follow the record, so it does not have its version's form.
    #[error("not a record: {0} bytes too many")]
    Trailing(usize),
    /// The input is empty.
    #[error("an empty record")]
    Empty,
}

impl DropRecord {
    /// The version of new records: their first byte.
    pub const VERSION: u8 = 4;

    /// Appends the binary form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(Self::VERSION);
        let start = std::mem::take(out);
        *out = postcard::to_extend(self, start).expect("a record always encodes into memory");
    }

    /// Reads only which drop a record is about.
    ///
    /// # Errors
    /// [`RecordError`]; a record may still be malformed after its drop.
    pub fn drop_of(bytes: &[u8]) -> Result<DropId, RecordError> {
        match bytes.split_first() {
            None => Err(RecordError::Empty),
            Some((1..=Self::VERSION, rest)) => Ok(postcard::take_from_bytes(rest)?.0),
            Some((&version, _)) => Err(RecordError::Version(version)),
        }
    }

    /// The drop of a record that [`DropRecord::decode`] may not read, such as one of a later version, if it can be told.
    #[must_use]
    pub fn drop_of_any_version(bytes: &[u8]) -> Option<DropId> {
        let (version, rest) = bytes.split_first()?;
        Some(postcard::take_from_bytes(rest).ok().filter(|_| *version > 0)?.0)
    }

    /// Reads records written by [`DropRecord::encode`] of this program version or any earlier one.
    ///
    /// # Errors
    /// [`RecordError`] for anything else; never panics and never allocates more than the input's length.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            None => Err(RecordError::Empty),
            Some((&Self::VERSION, rest)) => whole(rest),
            Some((3, rest)) => Ok(whole::<v3::Record>(rest)?.into()),
            Some((2, rest)) => Ok(whole::<v2::Record>(rest)?.into()),
            Some((1, rest)) => Ok(whole::<v1::Record>(rest)?.into()),
            Some((&version, _)) => Err(RecordError::Version(version)),
        }
    }
}

/// Decodes a record that takes all of `bytes`. Bytes left over would be a field that this version does not have.
pub(super) fn whole<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    match postcard::take_from_bytes(bytes)? {
        (record, []) => Ok(record),
        (_, rest) => Err(RecordError::Trailing(rest.len())),
    }
}
