//! The command `livedrop admin create`.

use crate::actors::Clock;
use crate::config::Config;
use crate::service::accounts::{Accounts, NewAccount, RegistrationInput};
use crate::service::activity::{AccountLocks, Nothing};
use crate::service::identity::{self, Email};
use crate::service::input::{Field, Unvalidated};
use crate::service::passwords::Passwords;
use crate::service::tokens::Tokens;
use crate::service::{Failure, FieldError};
use crate::storage::{Store, User};
use std::sync::Arc;

/// An administrator to create. Every field is valid.
pub struct NewAdmin {
    account: NewAccount,
    promote_existing: bool,
}

/// The result of creating an administrator.
pub enum AdminMade {
    /// The address was new.
    Created(User),
    /// The address had an account: it has the new password, and all its logins have ended.
    Promoted(User),
}

/// The first field that is not valid, as the command line calls it.
fn line(failure: &Failure) -> String {
    let Some(FieldError { pointer, detail }) = failure.fields.first() else { return failure.to_string() };
    match pointer.as_str() {
        "/email" => format!("--email {detail}"),
        "/display_name" => format!("--display-name {detail}"),
        _ => format!("the password {detail}"),
    }
}

impl NewAdmin {
    /// Validates the fields. `promote_existing`: whether an existing account of the address is promoted.
    ///
    /// # Errors
    /// One readable line about the first invalid field.
    pub fn new(email: String, display_name: String, password: String, promote_existing: bool) -> Result<Self, String> {
        let given = RegistrationInput {
            email: Field::Given(email),
            password: Field::Given(password),
            display_name: Field::Given(display_name),
        };
        let account = Unvalidated::from(given).validate::<RegistrationInput>().map_err(|failure| line(&failure))?;
        let about = [account.email.address.as_str(), account.display_name.as_str()];
        identity::hard_to_guess(&account.password, &about).map_err(|why| format!("the password {why}"))?;
        Ok(Self { account, promote_existing })
    }

    /// Validates the address alone, before a password is asked for.
    ///
    /// # Errors
    /// One readable line.
    pub fn email(email: String) -> Result<Email, String> {
        identity::new_email(email).map_err(|why| format!("--email {why}"))
    }

    /// Creates or promotes the administrator.
    ///
    /// # Errors
    /// One readable line: the address has an account and promotion was not requested, or a database error.
    pub async fn make(self, config: &Config, store: Arc<dyn Store>) -> Result<AdminMade, String> {
        let tokens = Tokens::new(&[0; 32], config.access_token_seconds, Clock::default());
        let passwords = Passwords::new(config.password_hashing);
        let accounts = Accounts::new(store, passwords, tokens, Arc::new(Nothing), AccountLocks::default());
        let Self { account, promote_existing } = self;
        let known = accounts.known(&account.email.address).await.map_err(|failure| failure.to_string())?;
        match known {
            None => accounts.create_admin(account).await.map(AdminMade::Created),
            Some(known) if promote_existing => {
                accounts.promote_to_admin(known, account.password).await.map(AdminMade::Promoted)
            }
            Some(known) => {
                return Err(format!(
                    "{} has an account already, of whoever registered it: --promote-existing makes it an administrator, \
                     sets this password and ends every login of it",
                    known.email
                ));
            }
        }
        .map_err(|failure| failure.to_string())
    }
}
