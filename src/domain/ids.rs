//! Identifiers. All are UUIDv7 (RFC 9562), so they sort by the time they were made.

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use std::{fmt, str::FromStr};
use uuid::{Builder, Uuid};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh id, made from the wall clock and randomness: call it at the edge, never in the engine.
            #[must_use]
            #[allow(clippy::new_without_default, reason = "a default that differs on every call would mislead")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id!(
    /// An account, of a buyer or a creator.
    UserId
);
id!(
    /// A creator profile. It is the id of the account that owns it: one account has at most one profile.
    CreatorId
);
id!(
    /// A product of a creator's catalogue.
    ProductId
);
id!(
    /// One sale of one product: a fixed stock and a start time.
    DropId
);
id!(
    /// A size, a colour …: the unit with its own stock within a drop. A product's variant is the same one in all its
    /// drops.
    VariantId
);
id!(
    /// An order. Its last 32 bits repeat its drop's, see [`OrderId::for_drop`].
    OrderId
);

id!(
    /// An address of a user; the same one through all its versions.
    AddressId
);
id!(
    /// A version of an address, which never changes.
    AddressVersionId
);

impl From<UserId> for CreatorId {
    fn from(user: UserId) -> Self {
        Self(user.0)
    }
}

impl CreatorId {
    /// The account behind the profile.
    #[must_use]
    pub fn owner(self) -> UserId {
        UserId(self.0)
    }
}

impl DropId {
    /// The 32 bits that lead from an order id to its drop.
    #[must_use]
    pub fn tag(self) -> u32 {
        low_bits(self.0)
    }
}

impl OrderId {
    /// The tag of the drop that this order belongs to.
    #[must_use]
    pub fn drop_tag(self) -> u32 {
        low_bits(self.0)
    }
}

fn low_bits(id: Uuid) -> u32 {
    (id.as_u128() & u128::from(u32::MAX)) as u32
}

/// 122 bits of digest of one buyer's idempotency key. The buyer is part of it, so two buyers may use the same text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyDigest(pub Uuid);

impl KeyDigest {
    /// Digests `key` in the namespace of its buyer.
    #[must_use]
    pub fn of(buyer: UserId, key: &str) -> Self {
        Self(named(buyer.0, &[key.as_bytes()]))
    }
}

/// A UUIDv5 (RFC 9562, section 5.5) of a name, given in pieces, in a namespace.
fn named(namespace: Uuid, name: &[&[u8]]) -> Uuid {
    let mut hash = Sha1::new_with_prefix(namespace.as_bytes());
    name.iter().for_each(|piece| hash.update(piece));
    let hash = hash.finalize();
    Builder::from_sha1_bytes(std::array::from_fn(|n| hash[n])).into_uuid()
}

/// 64 bits of digest of a request's fields: the same key with another fingerprint is a client's mistake.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// Digests the fields of an order request, in their parsed form (white space and field order do not count).
    #[must_use]
    pub fn of_order(drop: DropId, variant: VariantId, quantity: u32, payment_method: Option<&str>) -> Self {
        let (mut text, mut digits) = ([0; uuid::fmt::Hyphenated::LENGTH], itoa::Buffer::new());
        let variant = variant.0.hyphenated().encode_lower(&mut text).as_bytes();
        let quantity = digits.format(quantity).as_bytes();
        let method = payment_method.unwrap_or("-").as_bytes();
        Self(named(drop.0, &[variant, b"|", quantity, b"|", method]).as_u64_pair().0)
    }

    /// The digest of the same request for an order that is sent to this address: not of the reference, which is another
    /// one each time.
    #[must_use]
    pub fn sent_to(self, address: AddressVersionId) -> Self {
        Self(named(address.0, &[&self.0.to_be_bytes()]).as_u64_pair().0)
    }
}

/// A W3C trace id (32 hex digits). Kept with a failed payment, so that its replay is the same answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TraceId(pub Uuid);

impl TraceId {
    /// A fresh random trace id.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_id_leads_back_to_its_drop_and_stays_a_v7() {
        let drop = DropId::new();
        let order = OrderId::for_drop(drop);
        assert_eq!(order.drop_tag(), drop.tag());
        assert_eq!(order.0.get_version_num(), 7);
        assert_ne!(order, OrderId::for_drop(drop));
    }

    #[test]
    fn a_key_belongs_to_its_buyer() {
        let (alice, bob) = (UserId::new(), UserId::new());
        assert_eq!(KeyDigest::of(alice, "k"), KeyDigest::of(alice, "k"));
        assert_ne!(KeyDigest::of(alice, "k"), KeyDigest::of(bob, "k"));
    }

    #[test]
    fn names_are_what_the_standard_says() {
        // RFC 9562, appendix A.4.
        let expected: Uuid = "2ed6657d-e927-568b-95e1-2665a8aea6a2".parse().unwrap();
        assert_eq!(named(Uuid::NAMESPACE_DNS, &[b"www.example.com"]), expected);
        assert_eq!(named(Uuid::NAMESPACE_DNS, &[b"www", b"", b".example.", b"com"]), expected);
    }

    #[test]
    fn a_fingerprint_stays_the_same_from_version_to_version() {
        let (drop, variant) = (DropId(Uuid::from_u128(7)), VariantId(Uuid::from_u128(8)));
        let said = |text: &str| Fingerprint(named(drop.0, &[text.as_bytes()]).as_u64_pair().0);
        let variant_text = "00000000-0000-0000-0000-000000000008";
        assert_eq!(Fingerprint::of_order(drop, variant, 12, None), said(&format!("{variant_text}|12|-")));
        assert_eq!(Fingerprint::of_order(drop, variant, 1, Some("pm")), said(&format!("{variant_text}|1|pm")));
    }

    #[test]
    fn a_fingerprint_tells_every_field_apart() {
        let (drop, variant) = (DropId::new(), VariantId::new());
        let base = Fingerprint::of_order(drop, variant, 1, None);
        assert_eq!(base, Fingerprint::of_order(drop, variant, 1, None));
        assert_ne!(base, Fingerprint::of_order(DropId::new(), variant, 1, None));
        assert_ne!(base, Fingerprint::of_order(drop, VariantId::new(), 1, None));
        assert_ne!(base, Fingerprint::of_order(drop, variant, 2, None));
        assert_ne!(base, Fingerprint::of_order(drop, variant, 1, Some("pm_sandbox_ok")));
    }
}
