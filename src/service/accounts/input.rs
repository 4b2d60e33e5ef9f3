//! What accounts are asked with.

use crate::domain::UserId;
use crate::domain::limits::{NAME_CHARS_MAX, PASSWORD_CHARS_MAX, REFRESH_TOKEN_CHARS_MAX};
use crate::service::identity::{self, Email};
use crate::service::input::{Checks, Field, Input};
use crate::storage::AuditFilter;
use uuid::Uuid;

/// An account to make.
#[derive(Default)]
pub struct RegistrationInput {
    /// Required.
    pub email: Field<String>,
    /// White space around it belongs to it. Required.
    pub password: Field<String>,
    /// One line, 1 to `NAME_CHARS_MAX` characters. Required.
    pub display_name: Field<String>,
}

/// A [`RegistrationInput`] that is valid. How easily the password is guessed is not looked at yet: that takes work.
pub struct NewAccount {
    /// Where they are reached.
    pub email: Email,
    /// In its normal form, and in the clear for as long as it takes to hash it.
    pub password: String,
    /// What others see.
    pub display_name: String,
}

impl Input for RegistrationInput {
    type Valid = NewAccount;

    fn check(self, checks: &mut Checks) -> Option<NewAccount> {
        let email = checks.required("/email", self.email);
        let email = email.and_then(|email| checks.accept("/email", identity::new_email(email)));
        let password = new_password(checks, "/password", self.password);
        let display_name = checks.required("/display_name", self.display_name);
        let display_name = checks.line("/display_name", display_name, 1..=NAME_CHARS_MAX);
        Some(NewAccount { email: email?, password: password?, display_name: display_name? })
    }
}

fn new_password(checks: &mut Checks, pointer: &str, password: Field<String>) -> Option<String> {
    let password = checks.required(pointer, password)?;
    checks.accept(pointer, identity::new_password(password))
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

/// An account to sign in to. The form is not checked: what no account can have is a wrong credential.
#[derive(Default)]
pub struct LoginInput {
    /// Required.
    pub email: Field<String>,
    /// Required.
    pub password: Field<String>,
}

impl Input for LoginInput {
    /// The address and the password.
    type Valid = (String, String);

    fn check(self, checks: &mut Checks) -> Option<(String, String)> {
        let email = checks.required("/email", self.email);
        let password = known_password(checks, "/password", self.password);
        email.zip(password)
    }
}

/// A login to go on with, or to end.
#[derive(Default)]
pub struct RefreshInput {
    /// Required.
    pub refresh_token: Field<String>,
}

impl Input for RefreshInput {
    /// The token.
    type Valid = String;

    fn check(self, checks: &mut Checks) -> Option<String> {
        let token = checks.required("/refresh_token", self.refresh_token);
        checks.line("/refresh_token", token, 1..=REFRESH_TOKEN_CHARS_MAX)
    }
}

/// What to change in an account; what is absent stays.
#[derive(Debug, Default)]
pub struct AccountChangeInput {
    /// One line, 1 to `NAME_CHARS_MAX` characters.
    pub display_name: Field<String>,
    /// Whether only the account itself may see whom it follows.
    pub private_follows: Field<bool>,
}

/// An [`AccountChangeInput`] that is valid.
#[derive(Clone, Debug, Default)]
pub struct AccountChange {
    /// What others see.
    pub display_name: Option<String>,
    /// Whether only the account itself may see whom it follows.
    pub private_follows: Option<bool>,
}

impl Input for AccountChangeInput {
    type Valid = AccountChange;

    fn check(self, checks: &mut Checks) -> Option<AccountChange> {
        let display_name = checks.optional("/display_name", self.display_name);
        let display_name = checks.line("/display_name", display_name, 1..=NAME_CHARS_MAX);
        let private_follows = checks.optional("/private_follows", self.private_follows);
        Some(AccountChange { display_name, private_follows })
    }
}

/// Another password for an account.
#[derive(Default)]
pub struct PasswordInput {
    /// Required.
    pub current_password: Field<String>,
    /// Required.
    pub new_password: Field<String>,
}

impl Input for PasswordInput {
    /// The current password and the new one.
    type Valid = (String, String);

    fn check(self, checks: &mut Checks) -> Option<(String, String)> {
        let current = known_password(checks, "/current_password", self.current_password);
        let new = new_password(checks, "/new_password", self.new_password);
        current.zip(new)
    }
}

/// An account to delete.
#[derive(Default)]
pub struct DeletionInput {
    /// The account's. Required.
    pub password: Field<String>,
}

impl Input for DeletionInput {
    /// The password.
    type Valid = String;

    fn check(self, checks: &mut Checks) -> Option<String> {
        known_password(checks, "/password", self.password)
    }
}

/// Which lines of the audit trail to list.
#[derive(Debug, Default)]
pub struct AuditListInput {
    /// Whose.
    pub actor_id: Field<UserId>,
    /// Of which drop, product, creator or user.
    pub object_id: Field<Uuid>,
}

impl Input for AuditListInput {
    type Valid = AuditFilter;

    fn check(self, checks: &mut Checks) -> Option<AuditFilter> {
        let actor = checks.optional("/actor_id", self.actor_id);
        let object = checks.optional("/object_id", self.object_id);
        Some(AuditFilter { actor, object })
    }
}
