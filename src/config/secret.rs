//! The key that signs access tokens.

use crate::whole_file;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// HS256 wants a key as long as its hash (RFC 7518, section 3.2).
pub(super) const SECRET_BYTES_MIN: usize = 32;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Secret {
    /// The text itself; keep it out of logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// The key that signs access tokens.
pub struct SigningSecret {
    pub bytes: Vec<u8>,
    /// Whether it was created just now, so that all earlier tokens are invalid.
    pub made: bool,
}

/// Reads the key's file, or creates one with a new key, readable by its owner only.
pub(super) fn load_or_make(path: &Path) -> io::Result<SigningSecret> {
    match fs::read(path) {
        Ok(bytes) if bytes.len() >= SECRET_BYTES_MIN => Ok(SigningSecret { bytes, made: false }),
        Ok(_) => {
            let reason = format!("{} is shorter than {SECRET_BYTES_MIN} bytes: remove it", path.display());
            Err(io::Error::new(ErrorKind::InvalidData, reason))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => make(path),
        Err(error) => Err(error),
    }
}

/// Written as a whole: a crash leaves no partial key.
fn make(path: &Path) -> io::Result<SigningSecret> {
    let secret: [u8; 32] = rand::random();
    whole_file::replace(path, &secret)?;
    Ok(SigningSecret { bytes: secret.to_vec(), made: true })
}
