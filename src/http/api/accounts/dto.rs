//! Bodies of requests and answers about accounts.

use crate::domain::{Timestamp, UserId};
use crate::http::openapi::schema;
use crate::service::AuditRow;
use crate::service::accounts::{
    Account, AccountChangeInput, DeletionInput, LoginInput, PasswordInput, RefreshInput, RegistrationInput, SignedIn,
};
use crate::service::input::Field;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// The address, password and public name of a new account.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = Registration, examples(json!({"email": "ada@example.com", "password": "open sesame, please", "display_name": "Ada"})))]
pub struct RegisterBody {
    #[schema(required = true, schema_with = schema::email)]
    email: Field<String>,
    #[schema(required = true, schema_with = schema::new_password)]
    password: Field<String>,
    #[schema(required = true, schema_with = schema::name)]
    display_name: Field<String>,
}

impl From<RegisterBody> for RegistrationInput {
    fn from(RegisterBody { email, password, display_name }: RegisterBody) -> Self {
        Self { email, password, display_name }
    }
}

/// The address and password of an account.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = Login, examples(json!({"email": "ada@example.com", "password": "open sesame, please"})))]
pub struct LoginBody {
    #[schema(required = true, schema_with = schema::known_email)]
    email: Field<String>,
    #[schema(required = true, schema_with = schema::known_password)]
    password: Field<String>,
}

impl From<LoginBody> for LoginInput {
    fn from(LoginBody { email, password }: LoginBody) -> Self {
        Self { email, password }
    }
}

/// The refresh token of a login, as the last answer with tokens gave it.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = Refresh, examples(json!({"refresh_token": "Zk1hc3RlciBvZiBhbGwgcmVmcmVzaCB0b2tlbnMu"})))]
pub struct RefreshBody {
    #[schema(required = true, schema_with = schema::refresh_token)]
    refresh_token: Field<String>,
}

impl From<RefreshBody> for RefreshInput {
    fn from(RefreshBody { refresh_token }: RefreshBody) -> Self {
        Self { refresh_token }
    }
}

/// A change of one's own account; omitted fields and `null` leave it as it is.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = AccountChange, examples(json!({"display_name": "Ada Lovelace", "private_follows": false})))]
pub struct AccountChangeBody {
    #[schema(schema_with = schema::name_or_null)]
    display_name: Field<String>,
    #[schema(schema_with = schema::flag_or_null)]
    private_follows: Field<bool>,
}

impl From<AccountChangeBody> for AccountChangeInput {
    fn from(AccountChangeBody { display_name, private_follows }: AccountChangeBody) -> Self {
        Self { display_name, private_follows }
    }
}

/// The current password and a new one.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = PasswordChange, examples(json!({"current_password": "open sesame, please", "new_password": "close sesame, please"})))]
pub struct PasswordBody {
    #[schema(required = true, schema_with = schema::known_password)]
    current_password: Field<String>,
    #[schema(required = true, schema_with = schema::new_password)]
    new_password: Field<String>,
}

impl From<PasswordBody> for PasswordInput {
    fn from(PasswordBody { current_password, new_password }: PasswordBody) -> Self {
        Self { current_password, new_password }
    }
}

/// The current password, which confirms the deletion.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = AccountDeletion, examples(json!({"password": "close sesame, please"})))]
pub struct DeleteAccountBody {
    #[schema(required = true, schema_with = schema::known_password)]
    password: Field<String>,
}

impl From<DeleteAccountBody> for DeletionInput {
    fn from(DeleteAccountBody { password }: DeleteAccountBody) -> Self {
        Self { password }
    }
}

/// A line of the audit trail. `actor_id` is `null` for operators and anonymous clients, `origin` if no address is
/// known.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub struct AuditBody<'a> {
    id: Uuid,
    at: Timestamp,
    #[schema(required = true)]
    actor_id: Option<UserId>,
    #[schema(example = "admin")]
    role: &'a str,
    #[schema(required = true)]
    origin: Option<&'a str>,
    #[schema(example = "drop_cancelled")]
    act: &'a str,
    #[schema(example = "drop")]
    object_kind: &'a str,
    #[schema(required = true)]
    object_id: Option<Uuid>,
    #[schema(value_type = Object)]
    detail: &'a serde_json::value::RawValue,
    #[schema(example = "4bf92f3577b34da6a3ce929d0e0e4736")]
    trace_id: String,
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
            // The database has only details written by this program, always as JSON.
            detail: serde_json::from_str(&row.detail).unwrap_or(serde_json::value::RawValue::NULL),
            trace_id: row.trace.to_string(),
        }
    }
}

/// The caller's own account.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
pub struct UserBody<'a> {
    id: UserId,
    #[schema(example = "ada@example.com")]
    email: &'a str,
    display_name: &'a str,
    #[schema(example = "user")]
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

/// The account with a new pair of tokens; `expires_in` is in seconds.
#[derive(Serialize, ToSchema)]
#[schema(as = SignedIn)]
pub struct SignedInBody<'a> {
    user: UserBody<'a>,
    access_token: &'a str,
    refresh_token: &'a str,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    #[schema(minimum = 1, example = 900)]
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
    use crate::http::extract::json::pointers;
    use crate::service::input::Unvalidated;
    use serde_json::json;

    #[test]
    fn registrations_are_checked_field_by_field() {
        let register = |json| pointers::<RegisterBody, RegistrationInput>(&json);
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
            ["/role"]
        );
        let long = "x".repeat(1_000);
        assert_eq!(
            register(json!({"email": format!("{long}@b"), "password": long, "display_name": long})),
            ["/email", "/password", "/display_name"]
        );
        for bad in ["", "a", "@", "a@", "@b", "a@b@c", "a b@c", "a@b..c", "a@.b", "a@b\n"] {
            let pointers = register(json!({"email": bad, "password": "12345678", "display_name": "A"}));
            // White space around an address is trimmed.
            assert_eq!(pointers.is_empty(), bad.trim() == "a@b", "{bad:?}");
        }
    }

    #[test]
    fn passwords_keep_their_white_space() {
        let body: RegisterBody =
            serde_json::from_value(json!({"email": "a@b", "password": "  1234  ", "display_name": "A"})).unwrap();
        assert_eq!(Unvalidated::from(body).validate::<RegistrationInput>().ok().unwrap().password, "  1234  ");
    }
}
