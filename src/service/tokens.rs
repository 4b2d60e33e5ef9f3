//! Access tokens (short-lived, verified without the database) and refresh tokens (opaque, stored only as a hash).

use super::Outage;
use super::revocations::Revocations;
use super::{Code, Failure, clock::Clock};
use crate::domain::{Login, Timestamp, UserId};
use crate::storage::RefreshToken;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::sync::Arc;
use uuid::Uuid;

/// `iss` of every access token.
const ISSUER: &str = "livedrop";
/// The longest access token that is verified; issued ones have about 250 bytes.
const ACCESS_TOKEN_BYTES_MAX: usize = 1_024;
/// How long an unused refresh token is valid: 30 days, in milliseconds.
const REFRESH_TOKEN_MS: i64 = 30 * 24 * 3_600 * 1_000;
/// How long a used refresh token may be repeated, in milliseconds: its answer may have been lost (RFC 9700, section
/// 4.14).
pub const REFRESH_GRACE_MS: i64 = 10_000;

/// The rights of an account beyond its own objects.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A buyer or creator, without further rights.
    User,
    /// An operator of the platform.
    Admin,
}

impl Role {
    /// The name in tokens and in SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
        }
    }

    /// The role of that name; an unknown one gives no rights.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        if name == "admin" { Self::Admin } else { Self::User }
    }
}

/// The contents of a valid access token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    pub user: UserId,
    pub role: Role,
    /// The login that it was issued to.
    pub login: Login,
    /// When it was issued, by the steady clock.
    pub issued_at: Timestamp,
    /// When it expires or has to be checked again, by the steady clock.
    pub expires_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: UserId,
    iat: i64,
    exp: i64,
    role: Role,
    /// The login. A token without one is from a version that could not revoke it.
    sid: Option<Uuid>,
    /// The account's token version.
    #[serde(default)]
    ver: u32,
    #[serde(default, skip_deserializing)]
    iss: &'static str,
}

/// Issues and verifies tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    access_seconds: u32,
    clock: Clock,
    revocations: Revocations,
}

impl Tokens {
    /// `secret`: at least 32 bytes. `access_seconds`: at most `ACCESS_TOKEN_SECONDS_MAX`.
    #[must_use]
    pub fn new(secret: &[u8], access_seconds: u32, clock: Clock) -> Self {
        Self::with(secret, access_seconds, clock, Outage::default())
    }

    /// Like [`Self::new`], with the state of `outage`, in which tokens last longer.
    #[must_use]
    pub fn with(secret: &[u8], access_seconds: u32, clock: Clock, outage: Outage) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "sub", "iss"]);
        // Expiry is checked separately: with this clock, and with its own failure code.
        validation.validate_exp = false;
        validation.validate_aud = false;
        Self(Arc::new(Inner {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            validation,
            access_seconds,
            revocations: Revocations::new(clock.clone(), outage),
            clock,
        }))
    }

    /// The revocations that tokens are checked against.
    #[must_use]
    pub fn revocations(&self) -> &Revocations {
        &self.0.revocations
    }

    /// The wall clock, for timestamps of accounts.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// The steady clock, by which token lifetimes are measured. Setting the wall clock ends no session and prolongs
    /// none.
    #[must_use]
    pub fn steady(&self) -> Timestamp {
        self.0.clock.steady()
    }

    /// Lifetime of an access token.
    #[must_use]
    pub fn access_seconds(&self) -> u32 {
        self.0.access_seconds
    }

    /// Signs a new access token.
    #[must_use]
    pub fn issue(&self, user: UserId, role: Role, login: Login) -> String {
        let now = self.steady();
        let iat = now.as_millis() / 1_000;
        // Rounded up to whole seconds: it is valid at least as long as announced.
        let exp = now.plus_millis(i64::from(self.0.access_seconds) * 1_000 + 999).as_millis() / 1_000;
        let claims = Claims { sub: user, iat, exp, role, sid: Some(login.id), ver: login.version, iss: ISSUER };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.0.encoding)
            .expect("claims of plain fields always sign")
    }

    /// Verifies a token's signature, expiry and revocation. No I/O.
    ///
    /// # Errors
    /// `token_expired`, `token_revoked`, or `unauthenticated` for any other fault.
    pub fn verify(&self, token: impl AsRef<[u8]>) -> Result<Access, Failure> {
        let token = token.as_ref();
        let invalid = || Failure::with(Code::Unauthenticated, "The access token is not valid");
        if token.len() > ACCESS_TOKEN_BYTES_MAX {
            return Err(invalid());
        }
        let claims =
            jsonwebtoken::decode::<Claims>(token, &self.0.decoding, &self.0.validation).map_err(|_| invalid())?.claims;
        let time = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1_000));
        let id = claims.sid.ok_or_else(|| Failure::new(Code::TokenExpired))?;
        let login = Login { id, version: claims.ver };
        let (issued_at, expires_at) = (time(claims.iat), time(claims.exp));
        self.still(Access { user: claims.sub, role: claims.role, login, issued_at, expires_at })
    }

    /// Checks a token that was verified before: whether it has expired or was revoked since.
    ///
    /// # Errors
    /// `token_expired`, `token_revoked`.
    pub fn still(&self, access: Access) -> Result<Access, Failure> {
        let access = self.unexpired(access)?;
        let revocations = &self.0.revocations;
        if revocations.covers(access.user, access.login) {
            return Err(Failure::new(Code::TokenRevoked));
        }
        if revocations.forgot(access.issued_at) { Err(Failure::new(Code::TokenExpired)) } else { Ok(access) }
    }

    /// Like [`Self::still`]. `seen` is [`Revocations::generation`] at the last check: revocations are searched only if
    /// there are new ones.
    ///
    /// # Errors
    /// As [`Tokens::still`].
    pub fn still_since(&self, access: Access, seen: &Cell<u64>) -> Result<Access, Failure> {
        let generation = self.0.revocations.generation();
        if generation == seen.get() {
            return self.unexpired(access);
        }
        let access = self.still(access)?;
        seen.set(generation);
        Ok(access)
    }

    /// While the database is away, a token that has expired since stays valid, for a limited time per check.
    fn unexpired(&self, access: Access) -> Result<Access, Failure> {
        let now = self.steady();
        if now < access.expires_at {
            return Ok(access);
        }
        let prolonged = self.0.revocations.outage().prolongs(access.expires_at, access.login, now);
        let expires_at = prolonged.ok_or_else(|| Failure::new(Code::TokenExpired))?;
        Ok(Access { expires_at, ..access })
    }

    /// The successor of a refresh token. It is the same on each call, so that a lost answer can be repeated; without
    /// the secret it cannot be told from a random one.
    #[must_use]
    pub fn successor(&self, refresh_token: &str) -> String {
        // No access token is signed over such a text: it has a space.
        let text = format!("successor of {refresh_token}");
        jsonwebtoken::crypto::sign(text.as_bytes(), &self.0.encoding, Algorithm::HS256).expect("any text can be signed")
    }
}

/// The first refresh token of a login: its text for the client, its row for the store.
#[must_use]
pub fn new_refresh(user: UserId, family: Uuid, now: Timestamp) -> (String, RefreshToken) {
    let text = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let row = refresh_row(&text, user, family, now);
    (text, row)
}

/// The row of a refresh token of that text.
#[must_use]
pub fn refresh_row(text: &str, user: UserId, family: Uuid, now: Timestamp) -> RefreshToken {
    RefreshToken {
        hash: refresh_hash(text),
        family,
        user_id: user,
        created_at: now,
        expires_at: now.plus_millis(REFRESH_TOKEN_MS),
        used_at: None,
        revoked_at: None,
    }
}

/// The key of a refresh token in the store. A plain hash is enough: 256 random bits need neither a salt nor a slow
/// hash.
#[must_use]
pub fn refresh_hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Revocation;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    const LOGIN: Login = Login { id: Uuid::from_u128(7), version: 2 };

    fn tokens() -> (Tokens, Clock) {
        let clock = Clock::default();
        (Tokens::new(SECRET, 900, clock.clone()), clock)
    }
    fn code(tokens: &Tokens, token: &str) -> Code {
        tokens.verify(token).unwrap_err().code
    }
    fn forged(header: &str, claims: &str) -> String {
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_token_says_whose_it_is_until_it_ends() {
        let (tokens, clock) = tokens();
        let user = UserId::new();
        let token = tokens.issue(user, Role::Admin, LOGIN);
        clock.shift(890_000);
        let access = tokens.verify(&token).unwrap();
        assert_eq!((access.user, access.role), (user, Role::Admin));
        assert_eq!(access.login, LOGIN);
        assert!((9_900..11_000).contains(&access.expires_at.millis_since(tokens.steady())));
        // Setting the wall clock changes no lifetime.
        clock.step(3_600_000);
        assert!(tokens.verify(&token).is_ok());
        clock.step(-7_200_000);
        clock.shift(11_000);
        assert_eq!(code(&tokens, &token), Code::TokenExpired);
    }

    #[test]
    fn another_secret_another_algorithm_and_no_signature_are_refused() {
        let (tokens, clock) = tokens();
        let other = Tokens::new(b"another secret, as long as it ought to be", 900, clock);
        assert_eq!(code(&tokens, &other.issue(UserId::new(), Role::User, LOGIN)), Code::Unauthenticated);

        let exp = tokens.steady().as_millis() / 1_000 + 60;
        let claims = format!(
            r#"{{"sub":"{}","iat":{exp},"exp":{exp},"role":"admin","sid":"{}","iss":"livedrop"}}"#,
            UserId::new(),
            LOGIN.id
        );
        for header in [r#"{"alg":"none","typ":"JWT"}"#, r#"{"alg":"None"}"#, r#"{"alg":"HS256","typ":"JWT"}"#] {
            assert_eq!(code(&tokens, &forged(header, &claims)), Code::Unauthenticated, "{header}");
        }
        let stronger: Claims = serde_json::from_str(&claims).unwrap();
        let hs512 = jsonwebtoken::encode(
            &Header::new(Algorithm::HS512),
            &Claims { iss: ISSUER, ..stronger },
            &EncodingKey::from_secret(SECRET),
        );
        assert_eq!(code(&tokens, &hs512.unwrap()), Code::Unauthenticated);
    }

    #[test]
    fn a_foreign_issuer_and_a_missing_expiry_are_refused() {
        let (tokens, _) = tokens();
        let sign = |claims: serde_json::Value| {
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET)).unwrap()
        };
        let exp = tokens.steady().as_millis() / 1_000 + 60;
        let user = UserId::new();
        let good =
            serde_json::json!({"sub": user, "iat": 1, "exp": exp, "role": "user", "sid": LOGIN.id, "iss": "livedrop"});
        assert!(tokens.verify(sign(good.clone())).is_ok());
        for (field, value) in [("iss", Some("elsewhere")), ("iss", None), ("exp", None), ("sub", Some("me"))] {
            let mut bad = good.clone();
            let map = bad.as_object_mut().unwrap();
            match value {
                Some(value) => drop(map.insert(field.into(), value.into())),
                None => drop(map.remove(field)),
            }
            assert_eq!(code(&tokens, &sign(bad)), Code::Unauthenticated, "{field} {value:?}");
        }
    }

    #[test]
    fn a_token_of_an_older_version_has_to_be_renewed() {
        let (tokens, _) = tokens();
        let exp = tokens.steady().as_millis() / 1_000 + 60;
        let old = serde_json::json!({"sub": UserId::new(), "iat": 1, "exp": exp, "role": "user", "iss": "livedrop"});
        let old = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &old, &EncodingKey::from_secret(SECRET));
        assert_eq!(code(&tokens, &old.unwrap()), Code::TokenExpired);
    }

    #[test]
    fn a_revoked_token_is_refused_also_by_who_has_verified_it() {
        let (tokens, _) = tokens();
        let user = UserId::new();
        let [old, other] = [2, 3].map(|version| tokens.issue(user, Role::User, Login { version, ..LOGIN }));
        let seen = Cell::new(tokens.revocations().generation());
        let access = tokens.verify(&old).unwrap();
        assert_eq!(tokens.still_since(access, &seen).unwrap(), access);
        tokens.revocations().add(user, Revocation::Below(3));
        assert_eq!(tokens.still_since(access, &seen).unwrap_err().code, Code::TokenRevoked);
        assert_eq!(tokens.still_since(access, &seen).unwrap_err().code, Code::TokenRevoked);
        assert_eq!(code(&tokens, &old), Code::TokenRevoked);
        let newer = tokens.verify(&other).unwrap();
        assert_eq!(tokens.still_since(newer, &seen).unwrap(), newer);
        tokens.revocations().add(user, Revocation::Login(LOGIN.id));
        assert_eq!(tokens.still_since(newer, &seen).unwrap_err().code, Code::TokenRevoked);
    }

    /// Three token lifetimes without a database, by a clock that the test moves.
    #[test]
    fn tokens_last_through_an_outage_unless_they_are_revoked() {
        let (clock, outage) = (Clock::default(), Outage::default());
        let tokens = Tokens::with(SECRET, 2, clock.clone(), outage.clone());
        let (user, other) = (UserId::new(), UserId::new());
        let token = |user| tokens.issue(user, Role::User, LOGIN);
        let past = token(user);
        clock.shift(3_000);
        let answered = tokens.steady();
        let [good, ended, seen] = [token(user), token(other), token(user)];
        let known = tokens.verify(&seen).unwrap();
        let cell = Cell::new(tokens.revocations().generation());
        outage.observe(true, answered, tokens.steady());
        tokens.revocations().add(other, Revocation::Below(LOGIN.version + 1));
        clock.shift(1_000);
        outage.observe(false, tokens.steady(), tokens.steady());
        for _ in 0..60 {
            clock.shift(100);
            outage.observe(false, tokens.steady(), tokens.steady());
            let access = tokens.verify(&good).unwrap();
            assert!(access.user == user && access.expires_at > tokens.steady());
            assert!(tokens.still_since(known, &cell).unwrap().expires_at > tokens.steady());
            assert_eq!(code(&tokens, &past), Code::TokenExpired, "it had ended before");
            assert_eq!(code(&tokens, &ended), Code::TokenRevoked);
        }
        // Revocations are kept for any length of the outage.
        clock.shift(i64::from(crate::domain::limits::ACCESS_TOKEN_SECONDS_MAX) * 2_000);
        tokens.revocations().add(UserId::new(), Revocation::Below(1));
        assert!(tokens.verify(&good).is_ok());
        assert_eq!(code(&tokens, &ended), Code::TokenRevoked);
        outage.observe(true, tokens.steady(), tokens.steady());
        clock.shift(60_000);
        assert_eq!(code(&tokens, &good), Code::TokenExpired);
    }

    #[test]
    fn a_successor_is_the_same_each_time_and_nobody_elses_guess() {
        let (tokens, clock) = tokens();
        let (first, row) = new_refresh(UserId::new(), LOGIN.id, clock.steady());
        let next = tokens.successor(&first);
        assert_eq!(next, tokens.successor(&first));
        assert_eq!((next.len(), first.len()), (43, 43));
        assert_ne!(next, tokens.successor(&next));
        let other = Tokens::new(b"another secret, as long as it ought to be", 900, clock.clone());
        assert_ne!(next, other.successor(&first));
        assert_ne!(refresh_row(&next, row.user_id, row.family, clock.steady()).hash, row.hash);
    }

    #[test]
    fn noise_is_refused() {
        let (tokens, _) = tokens();
        let good = tokens.issue(UserId::new(), Role::User, LOGIN);
        let long = "a".repeat(ACCESS_TOKEN_BYTES_MAX + 1);
        for noise in ["", ".", "..", "a.b.c", "Bearer", "é.é.é", &good[..good.len() - 1], long.as_str()] {
            assert_eq!(code(&tokens, noise), Code::Unauthenticated, "{noise}");
        }
    }

    #[test]
    fn refresh_tokens_differ_and_only_their_hash_is_kept() {
        let (user, family) = (UserId::new(), Uuid::now_v7());
        let (first, row) = new_refresh(user, family, Clock::default().steady());
        let (second, _) = new_refresh(user, family, Clock::default().steady());
        assert_ne!(first, second);
        assert_eq!(first.len(), 43);
        assert_eq!(row.hash, refresh_hash(&first));
        assert_eq!(row.expires_at.millis_since(row.created_at), REFRESH_TOKEN_MS);
    }
}
