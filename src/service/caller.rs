//! Who asks, as what, and from where; and everything that depends on it: what they may do, and what is noted of it.

use super::{Code, Failure, tokens::Role};
use crate::domain::{CreatorId, Login, Principal, Timestamp, TraceId, UserId};
use crate::storage::AuditRow;
use std::net::{IpAddr, Ipv6Addr};
use uuid::Uuid;

/// Somebody who is signed in.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub user: UserId,
    /// As what.
    pub role: Role,
    /// By which login.
    pub login: Login,
    /// From which address, if it is known.
    pub origin: Option<IpAddr>,
    /// The trace of the request.
    pub trace: TraceId,
}

/// Somebody who has yet to sign in.
#[derive(Clone, Copy, Debug)]
pub struct Visitor {
    /// From which address, if it is known.
    pub origin: Option<IpAddr>,
    /// The trace of the request.
    pub trace: TraceId,
}

/// What counts as one client: an IPv4 address, or the /64 that an IPv6 client picks its addresses from.
#[must_use]
pub fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() & (u128::MAX << 64),
    }
}

/// The network of those whose address is not known.
const UNKNOWN_NETWORK: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

impl Visitor {
    /// Where it comes from, as one client.
    #[must_use]
    pub fn network(&self) -> u128 {
        network(self.origin.unwrap_or(UNKNOWN_NETWORK))
    }
}

/// What something was done to.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    /// `user`, `creator`, `product`, `drop` or `order`.
    pub kind: &'static str,
    /// Which.
    pub id: Uuid,
}

impl Caller {
    /// Where they come from, as one client.
    #[must_use]
    pub fn network(&self) -> u128 {
        network(self.origin.unwrap_or(UNKNOWN_NETWORK))
    }

    /// Whether this is the creator, or an admin.
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

    /// Whether this is an admin.
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

    /// As whom the journal notes this caller.
    #[must_use]
    pub fn actor(&self) -> Principal {
        Principal { user: self.user, admin: self.role == Role::Admin, origin: self.origin().into(), trace: self.trace }
    }

    /// A line of the audit trail about something that this caller does now. `detail`: a JSON object.
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

    /// Empty where it is not known.
    fn origin(&self) -> String {
        self.origin.map(|address| address.to_string()).unwrap_or_default()
    }
}

/// What a line of the audit trail says about a change: which fields, and never what was in them, for the trail is not deleted with an account.
#[must_use]
pub fn changed_fields(fields: &[(&str, bool)]) -> serde_json::Value {
    let changed = fields.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name);
    serde_json::json!({"fields": changed.collect::<Vec<_>>()})
}

/// A line of the audit trail about something that somebody did who is not signed in.
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

/// A line of the audit trail about something that the operator does at the command line.
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
