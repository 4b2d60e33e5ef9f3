//! What an account is known by: its e-mail address and its password. One rule for registrations, password changes and
//! the operator's command line.

use super::text::{self, Reason};
use crate::domain::limits::{EMAIL_CHARS_MAX, EMAIL_CHARS_MIN, PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN};

/// A new account's address, without the white space around it.
///
/// # Errors
/// What is wrong with it.
pub fn new_email(email: String) -> Result<String, Reason> {
    let email = text::line(email, EMAIL_CHARS_MIN..=EMAIL_CHARS_MAX)?;
    if is_address(&email) { Ok(email) } else { Err("must be an e-mail address".into()) }
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

/// The form in which an address is unique. The local part is case-sensitive by the letter of RFC 5321, and nowhere in
/// practice; two accounts that differ in case alone would be a trap.
#[must_use]
pub fn normalise_email(email: &str) -> String {
    email.trim().to_lowercase()
}

/// A password that is to be set. White space around it belongs to it.
///
/// # Errors
/// What is wrong with it.
pub fn new_password(password: String) -> Result<String, Reason> {
    let fits = (PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX).contains(&password.chars().count());
    let wrong = || format!("must have {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters");
    if fits { Ok(password) } else { Err(wrong().into()) }
}
