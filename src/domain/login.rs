//! Logins, and the revocation of their access tokens.

use uuid::Uuid;

/// The login that an access token was issued for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Login {
    /// The login: the family of its refresh tokens.
    pub id: Uuid,
    /// The account's token version when the token was issued.
    pub version: u32,
}

/// A set of an account's access tokens that are no longer valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revocation {
    /// Those of a version below this one, after a new password, a logout everywhere or a deletion.
    Below(u32),
    /// Those of one login, after its logout.
    Login(Uuid),
}

impl Revocation {
    /// Whether a token of that login is in the set.
    #[must_use]
    pub fn covers(self, login: Login) -> bool {
        match self {
            Self::Below(version) => login.version < version,
            Self::Login(id) => login.id == id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_covers_older_versions_or_one_login() {
        let login = Login { id: Uuid::from_u128(1), version: 3 };
        assert!(Revocation::Below(4).covers(login) && !Revocation::Below(3).covers(login));
        assert!(Revocation::Login(login.id).covers(login));
        assert!(!Revocation::Login(Uuid::from_u128(2)).covers(login));
    }
}
