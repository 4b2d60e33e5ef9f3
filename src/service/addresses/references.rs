//! References of addresses: what an order names an address with.
//!
//! A reference carries what prices depend on and is signed, so placing an order reads no address and asks no database. It is
//! bound to a user, a version of an address, its country, and a time.

use crate::domain::limits::ADDRESS_REFERENCE_MS;
use crate::domain::{AddressVersionId, Country, Timestamp, UserId};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use uuid::Uuid;

type HmacSha256 = Hmac<Sha256>;

/// The first byte of a reference.
const FORM: u8 = 1;
/// Form, version, country, end.
const CLAIM_BYTES: usize = 1 + 16 + 2 + 8;
/// As many bytes of the HMAC as nobody guesses.
const TAG_BYTES: usize = 16;

/// What a valid reference says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Referenced {
    pub address: AddressVersionId,
    pub country: Country,
    /// From then on it is refused, except for the order that was placed with it.
    pub expires_at: Timestamp,
}

/// Makes and checks references. Cheap to clone.
#[derive(Clone)]
pub struct References {
    key: HmacSha256,
}

impl References {
    /// `secret`: the server's signing secret. The key of references is derived from it, and is no other's.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        let key = keyed(secret).chain_update(b"livedrop references of addresses").finalize().into_bytes();
        Self { key: keyed(&key) }
    }

    /// A reference that is good for a day, and when it ends.
    #[must_use]
    pub fn issue(
        &self,
        user: UserId,
        address: AddressVersionId,
        country: Country,
        now: Timestamp,
    ) -> (String, Timestamp) {
        let expires_at = now.plus_millis(ADDRESS_REFERENCE_MS);
        let mut bytes = Vec::with_capacity(CLAIM_BYTES + TAG_BYTES);
        bytes.push(FORM);
        bytes.extend_from_slice(address.0.as_bytes());
        bytes.extend_from_slice(country.as_str().as_bytes());
        bytes.extend_from_slice(&expires_at.as_millis().to_be_bytes());
        let tag = self.mac(user, &bytes).finalize().into_bytes();
        bytes.extend_from_slice(&tag[..TAG_BYTES]);
        (URL_SAFE_NO_PAD.encode(bytes), expires_at)
    }

    /// What a reference says; `None` if it was not made for this user, or was altered. It may have ended. Neither asks nor
    /// allocates anything.
    #[must_use]
    pub fn read(&self, user: UserId, reference: &str) -> Option<Referenced> {
        let mut bytes = [0; CLAIM_BYTES + TAG_BYTES];
        // Some bytes more than it decodes to: the decoder wants room for whole groups.
        let mut decoded = [0; CLAIM_BYTES + TAG_BYTES + 3];
        let length = URL_SAFE_NO_PAD.decode_slice(reference, &mut decoded).ok()?;
        bytes.copy_from_slice(decoded.get(..length).filter(|read| read.len() == CLAIM_BYTES + TAG_BYTES)?);
        let (claim, tag) = bytes.split_at(CLAIM_BYTES);
        self.mac(user, claim).verify_truncated_left(tag).ok()?;
        let (form, rest) = claim.split_first()?;
        let (address, rest) = rest.split_first_chunk::<16>()?;
        let (country, expires) = rest.split_first_chunk::<2>()?;
        Some(Referenced {
            address: AddressVersionId(Uuid::from_bytes(*address)),
            country: std::str::from_utf8(country).ok()?.parse().ok()?,
            expires_at: Timestamp::from_millis(i64::from_be_bytes(expires.try_into().ok()?)),
        })
        .filter(|_| *form == FORM)
    }

    fn mac(&self, user: UserId, claim: &[u8]) -> HmacSha256 {
        self.key.clone().chain_update(user.0.as_bytes()).chain_update(claim)
    }
}

fn keyed(secret: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(secret).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::EPOCH;

    fn references() -> References {
        References::new(&[7; 32])
    }

    #[test]
    fn a_reference_says_what_it_was_made_for() {
        let (user, address, country) = (UserId::new(), AddressVersionId::new(), "DE".parse().unwrap());
        let (reference, expires_at) = references().issue(user, address, country, NOW);
        assert_eq!(expires_at, NOW.plus_millis(ADDRESS_REFERENCE_MS));
        assert_eq!(references().read(user, &reference), Some(Referenced { address, country, expires_at }));
        assert!(reference.len() <= crate::domain::limits::ADDRESS_REFERENCE_CHARS_MAX, "{}", reference.len());
    }

    #[test]
    fn nobody_elses_and_no_altered_one_is_taken() {
        let (user, country) = (UserId::new(), "DE".parse().unwrap());
        let (reference, _) = references().issue(user, AddressVersionId::new(), country, NOW);
        assert_eq!(references().read(UserId::new(), &reference), None, "another user's");
        assert_eq!(References::new(&[8; 32]).read(user, &reference), None, "another server's");
        for at in 0..reference.len() {
            let mut altered = reference.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(references().read(user, std::str::from_utf8(&altered).unwrap()), None, "{at}");
            assert_eq!(references().read(user, &reference[..at]), None, "{at}");
        }
        for text in ["", "A", "=", "ü", &"A".repeat(58), &"A".repeat(1_000), &format!("{reference}A")] {
            assert_eq!(references().read(user, text), None, "{text}");
        }
    }
}
