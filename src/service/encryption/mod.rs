//! Encryption at rest of personal data in SQL, see docs/adr/0040.
//!
//! Each row has a data key of its own, which encrypts its text and is kept beside it, wrapped by a key of the key file
//! ([`key_file`]). A rotation wraps the data keys anew and leaves the texts alone. Both ciphertexts are bound to table,
//! column and row, so that a row moved to another place is refused.

pub mod key_file;
mod keyring;
#[cfg(test)]
mod tests;

pub use keyring::{Key, KeyId, Keyring};

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use std::fmt;
use uuid::Uuid;

/// Bytes of a nonce: so many that random ones do not repeat.
const NONCE_BYTES: usize = 24;
/// Bytes that a ciphertext is longer than its text.
const TAG_BYTES: usize = 16;
/// Bytes of a data key.
const DATA_KEY_BYTES: usize = 32;

/// The place of an encrypted value in SQL. It is authenticated with the value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub table: &'static str,
    pub column: &'static str,
    /// The id of the row.
    pub id: Uuid,
    /// The user whose data it is.
    pub owner: Uuid,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} of {}", self.table, self.column, self.id)
    }
}

/// An encrypted text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// The key that wraps the data key.
    pub key: KeyId,
    /// Nonce and ciphertext of the data key.
    pub data_key: Vec<u8>,
    /// Nonce and ciphertext of the text.
    pub text: Vec<u8>,
}

/// Why an encrypted value cannot be read. Says nothing of its contents.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EncryptionError {
    /// The key file lacks the key.
    #[error("{place}: its key {key} is not in the key file: put the file back that has it")]
    UnknownKey { key: KeyId, place: Place },
    /// Too short to be a ciphertext.
    #[error("{place}: the {part} is cut off: {bytes} bytes")]
    Cut { part: &'static str, bytes: usize, place: Place },
    /// Altered, or of another row.
    #[error("{place}: the {part} does not belong here or was altered")]
    Altered { part: &'static str, place: Place },
}

impl Keyring {
    /// Encrypts a text under a new data key, which the current key wraps.
    #[must_use]
    pub fn seal(&self, place: Place, text: &[u8]) -> Sealed {
        let key = self.current();
        let data_key: [u8; DATA_KEY_BYTES] = rand::random();
        let text = encrypt(&data_key, &context("text", None, place), text);
        Sealed { key: key.id(), data_key: wrap(key, place, &data_key), text }
    }

    /// Decrypts a text.
    ///
    /// # Errors
    /// [`EncryptionError`]: an unknown key, or bytes that are not what was written at this place.
    pub fn open(&self, place: Place, sealed: &Sealed) -> Result<Vec<u8>, EncryptionError> {
        let data_key = self.unwrap(place, sealed)?;
        decrypt(&data_key, "text", &context("text", None, place), place, &sealed.text)
    }

    /// The data key, wrapped by the current key; the text stays as it is. `None` if the current key wraps it already.
    ///
    /// # Errors
    /// As [`Keyring::open`], for the data key.
    pub fn rewrap(&self, place: Place, sealed: &Sealed) -> Result<Option<(KeyId, Vec<u8>)>, EncryptionError> {
        let current = self.current();
        if sealed.key == current.id() {
            return Ok(None);
        }
        let data_key = self.unwrap(place, sealed)?;
        Ok(Some((current.id(), wrap(current, place, &data_key))))
    }

    fn unwrap(&self, place: Place, sealed: &Sealed) -> Result<[u8; DATA_KEY_BYTES], EncryptionError> {
        let key = self.key(sealed.key).ok_or(EncryptionError::UnknownKey { key: sealed.key, place })?;
        let part = "data key";
        let data_key = decrypt(key.bytes(), part, &context(part, Some(key.id()), place), place, &sealed.data_key)?;
        data_key.try_into().map_err(|_| EncryptionError::Altered { part, place })
    }
}

fn wrap(key: &Key, place: Place, data_key: &[u8; DATA_KEY_BYTES]) -> Vec<u8> {
    encrypt(key.bytes(), &context("data key", Some(key.id()), place), data_key)
}

/// What is authenticated with a ciphertext. No name has a zero byte, so no two places give the same bytes.
fn context(part: &str, key: Option<KeyId>, Place { table, column, id, owner }: Place) -> Vec<u8> {
    let mut context = Vec::with_capacity(112);
    for name in ["livedrop 1", part, table, column] {
        context.extend_from_slice(name.as_bytes());
        context.push(0);
    }
    context.extend_from_slice(id.as_bytes());
    context.extend_from_slice(owner.as_bytes());
    context.extend(key.map(KeyId::to_bytes).unwrap_or_default());
    context
}

/// Nonce and ciphertext.
fn encrypt(key: &[u8; 32], context: &[u8], text: &[u8]) -> Vec<u8> {
    let nonce: [u8; NONCE_BYTES] = rand::random();
    let cipher = XChaCha20Poly1305::new(key.into());
    let sealed = cipher.encrypt((&nonce).into(), Payload { msg: text, aad: context });
    // Only texts of 256 GiB are refused.
    let mut bytes = nonce.to_vec();
    bytes.extend(sealed.expect("a text of a bounded length"));
    bytes
}

fn decrypt(
    key: &[u8; 32],
    part: &'static str,
    context: &[u8],
    place: Place,
    bytes: &[u8],
) -> Result<Vec<u8>, EncryptionError> {
    let cut = EncryptionError::Cut { part, bytes: bytes.len(), place };
    let Some((nonce, sealed)) = bytes.split_first_chunk::<NONCE_BYTES>() else { return Err(cut) };
    if sealed.len() < TAG_BYTES {
        return Err(cut);
    }
    let cipher = XChaCha20Poly1305::new(key.into());
    let text = cipher.decrypt(nonce.into(), Payload { msg: sealed, aad: context });
    text.map_err(|_| EncryptionError::Altered { part, place })
}
