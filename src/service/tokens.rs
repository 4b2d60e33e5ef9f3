//! Access tokens (short-lived, verified without the database) and refresh tokens (opaque, kept only as a hash).

use super::{Code, Failure, clock::Clock};
use crate::domain::{Timestamp, UserId};
use crate::storage::RefreshToken;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use uuid::Uuid;

/// `iss` of every access token.
const ISSUER: &str = "livedrop";
/// The longest access token that we look at; ours are about 250 bytes.
const ACCESS_TOKEN_BYTES_MAX: usize = 1_024;
/// How long a refresh token is good for when nobody uses it: 30 days.
const REFRESH_TOKEN_MS: i64 = 30 * 24 * 3_600 * 1_000;
/// How long a used refresh token may come again: its answer may have been lost on the way (RFC 9700, section 4.14).
pub const REFRESH_GRACE_MS: i64 = 10_000;

/// What an account may do beyond its own things.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Buyers and creators.
    User,
    /// Those who run the platform.
    Admin,
}

impl Role {
    /// Its name.
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

/// What a valid access token says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Whose it is.
    pub user: UserId,
    /// What they may do.
    pub role: Role,
    /// When it ends, by the clock that never steps.
    pub expires_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: UserId,
    iat: i64,
    exp: i64,
    role: Role,
    #[serde(default, skip_deserializing)]
    iss: &'static str,
}

/// Issues and verifies. Cheap to clone.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    access_seconds: u32,
    clock: Clock,
}

impl Tokens {
    /// `secret`: at least 32 bytes. `access_seconds`: at most 900.
    #[must_use]
    pub fn new(secret: &[u8], access_seconds: u32, clock: Clock) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "sub", "iss"]);
        // Expiry is ours to check: with our clock, and with an answer of its own.
        validation.validate_exp = false;
        validation.validate_aud = false;
        Self(Arc::new(Inner {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            validation,
            access_seconds,
            clock,
        }))
    }

    /// The time of day, for what is recorded of accounts.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// The time by which tokens last: a clock that never steps. A wall clock that is set ahead ends no session, and one that is set back makes
    /// none longer.
    #[must_use]
    pub fn steady(&self) -> Timestamp {
        self.0.clock.steady()
    }

    /// How long an access token lasts.
    #[must_use]
    pub fn access_seconds(&self) -> u32 {
        self.0.access_seconds
    }

    /// A new access token.
    #[must_use]
    pub fn issue(&self, user: UserId, role: Role) -> String {
        let iat = self.steady().as_millis() / 1_000;
        let claims = Claims { sub: user, iat, exp: iat + i64::from(self.0.access_seconds), role, iss: ISSUER };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.0.encoding)
            .expect("claims of plain fields always sign")
    }

    /// What the token says, if we signed it and it has not ended. No I/O.
    ///
    /// # Errors
    /// `token_expired`, or `unauthenticated` for anything else that is wrong with it.
    pub fn verify(&self, token: impl AsRef<[u8]>) -> Result<Access, Failure> {
        let token = token.as_ref();
        let invalid = || Failure::with(Code::Unauthenticated, "The access token is not valid");
        if token.len() > ACCESS_TOKEN_BYTES_MAX {
            return Err(invalid());
        }
        let claims =
            jsonwebtoken::decode::<Claims>(token, &self.0.decoding, &self.0.validation).map_err(|_| invalid())?.claims;
        let expires_at = Timestamp::from_millis(claims.exp.saturating_mul(1_000));
        self.still(Access { user: claims.sub, role: claims.role, expires_at })
    }

    /// What was said by a token that was verified before, if it has not ended since.
    ///
    /// # Errors
    /// `token_expired`.
    pub fn still(&self, access: Access) -> Result<Access, Failure> {
        if self.steady() >= access.expires_at { Err(Failure::new(Code::TokenExpired)) } else { Ok(access) }
    }
}

/// A fresh refresh token: its text for the client, its row for the store.
#[must_use]
pub fn new_refresh(user: UserId, family: Uuid, now: Timestamp) -> (String, RefreshToken) {
    let text = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let row = RefreshToken {
        hash: refresh_hash(&text),
        family,
        user_id: user,
        created_at: now,
        expires_at: now.plus_millis(REFRESH_TOKEN_MS),
        used_at: None,
        revoked_at: None,
    };
    (text, row)
}

/// By what the store finds a refresh token. A plain hash will do: 256 random bits need no salt and no slowness.
#[must_use]
pub fn refresh_hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

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
        let token = tokens.issue(user, Role::Admin);
        clock.shift(890_000);
        let access = tokens.verify(&token).unwrap();
        assert_eq!((access.user, access.role), (user, Role::Admin));
        assert!(access.expires_at.millis_since(tokens.steady()) <= 10_000);
        // Nobody gets older or younger because a clock is set.
        clock.step(3_600_000);
        assert!(tokens.verify(&token).is_ok());
        clock.step(-7_200_000);
        clock.shift(10_000);
        assert_eq!(code(&tokens, &token), Code::TokenExpired);
    }

    #[test]
    fn another_secret_another_algorithm_and_no_signature_are_refused() {
        let (tokens, clock) = tokens();
        let other = Tokens::new(b"another secret, as long as it ought to be", 900, clock);
        assert_eq!(code(&tokens, &other.issue(UserId::new(), Role::User)), Code::Unauthenticated);

        let exp = tokens.steady().as_millis() / 1_000 + 60;
        let claims =
            format!(r#"{{"sub":"{}","iat":{exp},"exp":{exp},"role":"admin","iss":"livedrop"}}"#, UserId::new());
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
        let good = serde_json::json!({"sub": user, "iat": 1, "exp": exp, "role": "user", "iss": "livedrop"});
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
    fn noise_is_refused() {
        let (tokens, _) = tokens();
        let good = tokens.issue(UserId::new(), Role::User);
        let long = "a".repeat(ACCESS_TOKEN_BYTES_MAX + 1);
        for noise in ["", ".", "..", "a.b.c", "Bearer", "é.é.é", &good[..good.len() - 1], long.as_str()] {
            assert_eq!(code(&tokens, noise), Code::Unauthenticated, "{noise}");
        }
    }

    #[test]
    fn refresh_tokens_differ_and_only_their_hash_is_kept() {
        let (user, family) = (UserId::new(), Uuid::now_v7());
        let (first, row) = new_refresh(user, family, Clock::default().now());
        let (second, _) = new_refresh(user, family, Clock::default().now());
        assert_ne!(first, second);
        assert_eq!(first.len(), 43);
        assert_eq!(row.hash, refresh_hash(&first));
        assert_eq!(row.expires_at.millis_since(row.created_at), REFRESH_TOKEN_MS);
    }
}
