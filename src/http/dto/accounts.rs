//! Accounts on the wire.

use crate::domain::limits::{EMAIL_CHARS_MAX, NAME_CHARS_MAX, PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN};
use crate::domain::{Timestamp, TraceId, UserId};
use crate::http::field::{Checks, Field};
use crate::service::accounts::{Account, AccountChange, NewAccount, SignedIn};
use crate::service::{AuditRow, Failure};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Characters of a refresh token, with room for what we may issue one day.
const REFRESH_TOKEN_CHARS_MAX: usize = 512;

/// `POST /auth/register`.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct RegisterBody {
    email: Field<String>,
    password: Field<String>,
    display_name: Field<String>,
}

impl RegisterBody {
    /// # Errors
    /// `validation_failed`.
    pub fn validate(self) -> Result<NewAccount, Failure> {
        let mut checks = Checks::default();
        let email = checks.required("/email", self.email);
        let email = checks.line("/email", email, 3..=EMAIL_CHARS_MAX);
        if email.as_deref().is_some_and(|email| !is_address(email)) {
            checks.wrong("/email", "must be an e-mail address");
        }
        let password = new_password(&mut checks, "/password", self.password);
        let display_name = checks.required("/display_name", self.display_name);
        let display_name = checks.line("/display_name", display_name, 1..=NAME_CHARS_MAX);
        let account = match (email, password, display_name) {
            (Some(email), Some(password), Some(display_name)) => Some(NewAccount { email, password, display_name }),
            _ => None,
        };
        checks.finish(account)
    }
}

fn new_password(checks: &mut Checks, pointer: &str, password: Field<String>) -> Option<String> {
    checks.required(pointer, password).filter(|password| {
        let fits = (PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX).contains(&password.chars().count());
        if !fits {
            checks.wrong(pointer, format!("must have {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters"));
        }
        fits
    })
}

/// A password to be compared. Its form is not checked, only that hashing it is not an attack.
fn known_password(checks: &mut Checks, pointer: &str, password: Field<String>) -> Option<String> {
    checks.required(pointer, password).filter(|password| {
        let fits = password.chars().count() <= PASSWORD_CHARS_MAX;
        if !fits {
            checks.wrong(pointer, format!("must have at most {PASSWORD_CHARS_MAX} characters"));
        }
        fits
    })
}

/// Something before one `@` and something after it, without white space: whether mail arrives there, only mail tells.
fn is_address(email: &str) -> bool {
    match email.split_once('@') {
        Some((local, domain)) => {
            let dots = domain.starts_with('.') || domain.ends_with('.') || domain.contains("..");
            !local.is_empty()
                && !domain.is_empty()
                && !domain.contains('@')
                && !dots
                && !email.contains(char::is_whitespace)
        }
        None => false,
    }
}

/// `POST /auth/login`.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct LoginBody {
    email: Field<String>,
    password: Field<String>,
}

impl LoginBody {
    /// The address and the password. Their form is not checked: what no account can have is a wrong credential.
    ///
    /// # Errors
    /// `validation_failed`.
    pub fn validate(self) -> Result<(String, String), Failure> {
        let mut checks = Checks::default();
        let email = checks.required("/email", self.email);
        let password = known_password(&mut checks, "/password", self.password);
        checks.finish(email.zip(password))
    }
}

/// `POST /auth/refresh`, `POST /auth/logout`.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct RefreshBody {
    refresh_token: Field<String>,
}

impl RefreshBody {
    /// # Errors
    /// `validation_failed`.
    pub fn validate(self) -> Result<String, Failure> {
        let mut checks = Checks::default();
        let token = checks.required("/refresh_token", self.refresh_token);
        let token = checks.line("/refresh_token", token, 1..=REFRESH_TOKEN_CHARS_MAX);
        checks.finish(token)
    }
}

/// `PATCH /users/me`.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct AccountChangeBody {
    display_name: Field<String>,
    private_follows: Field<bool>,
}

impl AccountChangeBody {
    /// # Errors
    /// `validation_failed`.
    pub fn validate(self) -> Result<AccountChange, Failure> {
        let mut checks = Checks::default();
        let display_name = checks.optional("/display_name", self.display_name);
        let display_name = checks.line("/display_name", display_name, 1..=NAME_CHARS_MAX);
        let private_follows = checks.optional("/private_follows", self.private_follows);
        checks.finish(Some(AccountChange { display_name, private_follows }))
    }
}

/// `POST /users/me/password`.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct PasswordBody {
    current_password: Field<String>,
    new_password: Field<String>,
}

impl PasswordBody {
    /// The current password and the new one.
    ///
    /// # Errors
    /// `validation_failed`.
    pub fn validate(self) -> Result<(String, String), Failure> {
        let mut checks = Checks::default();
        let current = known_password(&mut checks, "/current_password", self.current_password);
        let new = new_password(&mut checks, "/new_password", self.new_password);
        checks.finish(current.zip(new))
    }
}

/// `DELETE /users/me`.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct DeleteAccountBody {
    password: Field<String>,
}

impl DeleteAccountBody {
    /// # Errors
    /// `validation_failed`.
    pub fn validate(self) -> Result<String, Failure> {
        let mut checks = Checks::default();
        let password = known_password(&mut checks, "/password", self.password);
        checks.finish(password)
    }
}

/// A line of the audit trail.
#[derive(Serialize)]
pub struct AuditBody<'a> {
    id: Uuid,
    at: Timestamp,
    actor_id: Option<UserId>,
    role: &'a str,
    origin: Option<&'a str>,
    act: &'a str,
    object_kind: &'a str,
    object_id: Option<Uuid>,
    detail: &'a serde_json::value::RawValue,
    trace_id: TraceId,
}

impl<'a> From<&'a AuditRow> for AuditBody<'a> {
    fn from(row: &'a AuditRow) -> Self {
        Self {
            id: row.id,
            at: row.at,
            actor_id: row.actor,
            role: &row.role,
            origin: Some(row.origin.as_str()).filter(|origin| !origin.is_empty()),
            act: &row.act,
            object_kind: &row.object_kind,
            object_id: row.object,
            // Only we write it, and always as JSON.
            detail: serde_json::from_str(&row.detail).unwrap_or(serde_json::value::RawValue::NULL),
            trace_id: row.trace,
        }
    }
}

/// A user, to themselves.
#[derive(Serialize)]
pub struct UserBody<'a> {
    id: UserId,
    email: &'a str,
    display_name: &'a str,
    role: &'a str,
    is_creator: bool,
    private_follows: bool,
    created_at: Timestamp,
}

impl<'a> From<&'a Account> for UserBody<'a> {
    fn from(Account { user, is_creator }: &'a Account) -> Self {
        Self {
            id: user.id,
            email: &user.email,
            display_name: &user.display_name,
            role: &user.role,
            is_creator: *is_creator,
            private_follows: user.private_follows,
            created_at: user.created_at,
        }
    }
}

/// What signing in answers.
#[derive(Serialize)]
pub struct SignedInBody<'a> {
    user: UserBody<'a>,
    access_token: &'a str,
    refresh_token: &'a str,
    token_type: &'static str,
    expires_in: u32,
}

impl<'a> From<&'a SignedIn> for SignedInBody<'a> {
    fn from(signed_in: &'a SignedIn) -> Self {
        Self {
            user: (&signed_in.account).into(),
            access_token: &signed_in.access_token,
            refresh_token: &signed_in.refresh_token,
            token_type: "Bearer",
            expires_in: signed_in.expires_in,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::dto::pointers;
    use serde_json::json;

    #[test]
    fn registrations_are_checked_field_by_field() {
        let register = |json| pointers(&json, RegisterBody::validate);
        let none: [&str; 0] = [];
        assert_eq!(register(json!({"email": "a@b", "password": "12345678", "display_name": "A"})), none);
        assert_eq!(
            register(json!({"email": "ä@bücher.example", "password": "🐎🐎🐎🐎🐎🐎🐎🐎", "display_name": "名"})),
            none
        );
        assert_eq!(register(json!({})), ["/email", "/password", "/display_name"]);
        assert_eq!(
            register(json!({"email": 1, "password": [], "display_name": null})),
            ["/email", "/password", "/display_name"]
        );
        assert_eq!(
            register(json!({"email": "a@b", "password": "short", "display_name": " "})),
            ["/password", "/display_name"]
        );
        assert_eq!(
            register(json!({"email": "a@b", "password": "12345678", "display_name": "A", "role": "admin"})),
            [""]
        );
        let long = "x".repeat(1_000);
        assert_eq!(
            register(json!({"email": format!("{long}@b"), "password": long, "display_name": long})),
            ["/email", "/password", "/display_name"]
        );
        for bad in ["", "a", "@", "a@", "@b", "a@b@c", "a b@c", "a@b..c", "a@.b", "a@b\n"] {
            let pointers = register(json!({"email": bad, "password": "12345678", "display_name": "A"}));
            // White space around an address is forgiven.
            assert_eq!(pointers.is_empty(), bad.trim() == "a@b", "{bad:?}");
        }
    }

    #[test]
    fn passwords_keep_their_white_space() {
        let body: RegisterBody =
            serde_json::from_value(json!({"email": "a@b", "password": "  1234  ", "display_name": "A"})).unwrap();
        assert_eq!(body.validate().ok().unwrap().password, "  1234  ");
    }
}
