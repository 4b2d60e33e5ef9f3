//! The authenticated caller, with role and address: authorization and audit lines depend on it.

use super::{Code, Failure, tokens::Role};
use crate::domain::{CreatorId, Login, Principal, Timestamp, TraceId, UserId};
use crate::storage::AuditRow;
use std::net::{IpAddr, Ipv6Addr};
use uuid::Uuid;

/// A user with a valid access token.
#[derive(Clone, Debug)]
pub struct Caller {
    pub user: UserId,
    pub role: Role,
    /// The login of the access token.
    pub login: Login,
    /// The client's address, if it is known.
    pub origin: Option<IpAddr>,
    /// The trace id of the request.
    pub trace: TraceId,
}

/// A client that is not authenticated.
#[derive(Clone, Copy, Debug)]
pub struct Visitor {
    /// The client's address, if it is known.
    pub origin: Option<IpAddr>,
    /// The trace id of the request.
    pub trace: TraceId,
}

/// The network that counts as one client: an IPv4 address, or the /64 from which an IPv6 client picks its addresses.
#[must_use]
pub fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() & (u128::MAX << 64),
    }
}

/// The network of clients without a known address.
const UNKNOWN_NETWORK: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

impl Visitor {
    #[must_use]
    pub fn network(&self) -> u128 {
        network(self.origin.unwrap_or(UNKNOWN_NETWORK))
    }
}

/// The object of an audited act.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    /// `user`, `creator`, `product`, `drop` or `order`.
    pub kind: &'static str,
    pub id: Uuid,
}

impl Caller {
    #[must_use]
    pub fn network(&self) -> u128 {
        network(self.origin.unwrap_or(UNKNOWN_NETWORK))
    }

    /// Checks that the caller is the creator or an admin.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn may_manage(&self, creator: CreatorId) -> Result<(), Failure> {
        if CreatorId::from(self.user) == creator || self.role == Role::Admin {
            Ok(())
        } else {
            Err(Failure::with(Code::Forbidden, "This belongs to another creator"))
        }
    }

    /// Checks that the caller is an admin.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn must_be_admin(&self) -> Result<(), Failure> {
        if self.role == Role::Admin {
            Ok(())
        } else {
            Err(Failure::with(Code::Forbidden, "Only administrators may do this"))
        }
    }

    /// The caller in the form of the journal.
    #[must_use]
    pub fn actor(&self) -> Principal {
        Principal { user: self.user, admin: self.role == Role::Admin, origin: self.origin().into(), trace: self.trace }
    }

    /// An audit line about an act of this caller at `at`. `detail`: a JSON object.
    #[must_use]
    pub fn audit(&self, at: Timestamp, act: &str, object: Object, detail: &serde_json::Value) -> AuditRow {
        AuditRow {
            actor: Some(self.user),
            role: self.role.as_str().to_owned(),
            origin: self.origin(),
            trace: self.trace,
            ..operators_audit(at, act, object, detail)
        }
    }

    /// Empty if it is not known.
    fn origin(&self) -> String {
        self.origin.map(|address| address.to_string()).unwrap_or_default()
    }
}

/// The detail of an audit line about a change: the names of the changed fields, never their contents, because the trail
/// outlives the account.
#[must_use]
pub fn changed_fields(fields: &[(&str, bool)]) -> serde_json::Value {
    let changed = fields.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name);
    serde_json::json!({"fields": changed.collect::<Vec<_>>()})
}

/// An audit line about an act of a client that is not signed in.
#[must_use]
pub fn visitors_audit(
    at: Timestamp,
    visitor: &Visitor,
    act: &str,
    object: Option<Uuid>,
    detail: &serde_json::Value,
) -> AuditRow {
    let nobody = Object { kind: "user", id: Uuid::nil() };
    AuditRow {
        role: "visitor".to_owned(),
        origin: visitor.origin.map(|address| address.to_string()).unwrap_or_default(),
        object,
        trace: visitor.trace,
        ..operators_audit(at, act, nobody, detail)
    }
}

/// An audit line about an act of the operator at the command line.
#[must_use]
pub fn operators_audit(at: Timestamp, act: &str, object: Object, detail: &serde_json::Value) -> AuditRow {
    AuditRow {
        id: Uuid::now_v7(),
        at,
        actor: None,
        role: "operator".to_owned(),
        origin: String::new(),
        act: act.to_owned(),
        object_kind: object.kind.to_owned(),
        object: Some(object.id),
        detail: detail.to_string(),
        trace: TraceId::random(),
    }
}

#[cfg(test)]
mod tests {
    use super::network;

    #[test]
    fn ipv6_clients_are_their_network() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
