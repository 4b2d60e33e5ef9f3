//! The keys that wrap data keys.

use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

/// The id of a key: the first eight bytes of a hash of it. So a key has the same id in every file, and files can be merged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 8]);

impl KeyId {
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not 16 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this is not the id of a key")]
pub struct NotAKeyId;

impl FromStr for KeyId {
    type Err = NotAKeyId;

    fn from_str(text: &str) -> Result<Self, NotAKeyId> {
        let digits = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let number = u64::from_str_radix(text, 16).ok().filter(|_| digits).ok_or(NotAKeyId)?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// A key of the key file.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    #[must_use]
    pub(super) fn of(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key itself; keep it out of logs.
    #[must_use]
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    #[must_use]
    pub fn id(&self) -> KeyId {
        let digest = Sha256::new().chain_update(b"livedrop key id\0").chain_update(self.0).finalize();
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        KeyId(id)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(key {})", self.id())
    }
}

/// All keys of the key file; never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keyring {
    earlier: Vec<Key>,
    current: Key,
}

impl Keyring {
    /// A keyring with one key.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self { earlier: Vec::new(), current: key }
    }

    /// Makes another key the current one.
    #[must_use]
    pub fn with(mut self, key: Key) -> Self {
        self.earlier.push(std::mem::replace(&mut self.current, key));
        self
    }

    /// The key of new values.
    #[must_use]
    pub fn current(&self) -> &Key {
        &self.current
    }

    /// The key with that id.
    #[must_use]
    pub fn key(&self, id: KeyId) -> Option<&Key> {
        self.all().find(|key| key.id() == id)
    }

    /// All keys, the oldest first, the current one last.
    pub fn all(&self) -> impl Iterator<Item = &Key> {
        self.earlier.iter().chain([&self.current])
    }

    /// Removes all earlier keys but these; the current one stays. Returns the ids of the removed ones.
    pub fn retain(&mut self, needed: &[KeyId]) -> Vec<KeyId> {
        let (kept, removed) = self.earlier.drain(..).partition(|key| needed.contains(&key.id()));
        self.earlier = kept;
        removed.iter().map(Key::id).collect()
    }
}
