//! E-mail addresses and passwords. The same rules hold for registrations, logins, password changes and the operator's
//! command line.
//!
//! The same address or password can be typed in several forms that look alike. Each has one normal form, by RFC 8265
//! (PRECIS) and IDNA, in which it is compared.

use super::text::{self, Reason};
use crate::domain::UserId;
use crate::domain::limits::{EMAIL_CHARS_MAX, EMAIL_CHARS_MIN, PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN};
use crate::storage::{Store, StoreError};
use precis_profiles::precis_core::profile::PrecisFastInvocation;
use precis_profiles::{OpaqueString, UsernameCaseMapped};
use std::borrow::Cow;
use unicode_normalization::UnicodeNormalization;
use unicode_security::RestrictionLevelDetection;
use unicode_security::restriction_level::RestrictionLevel;
use zxcvbn::{Score, zxcvbn};

/// A valid address of an account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Email {
    /// The form for display and for sending mail.
    pub address: String,
    /// The unique form, see [`email_key`].
    pub key: String,
}

/// Validates a new account's address.
///
/// # Errors
/// The fault.
pub fn new_email(email: String) -> Result<Email, Reason> {
    let wrong = || Reason::from("must be an e-mail address");
    let email = text::line(email, EMAIL_CHARS_MIN..=EMAIL_CHARS_MAX)?;
    // Whether the address receives mail can only be found out by sending mail.
    let (local, domain) = email.split_once('@').ok_or_else(wrong)?;
    let local = local_part(local).ok_or_else(wrong)?;
    let ascii = idna::domain_to_ascii_strict(domain).map_err(|_| wrong())?;
    let (domain, _) = idna::domain_to_unicode(&ascii);
    if ![local.as_str()].into_iter().chain(domain.split('.')).all(is_of_one_script) {
        return Err("must not mix letters of several alphabets".into());
    }
    let key = format!("{}@{ascii}", folded(&local));
    if key.len() > EMAIL_CHARS_MAX {
        return Err(format!("must have at most {EMAIL_CHARS_MAX} characters in its normal form").into());
    }
    Ok(Email { address: format!("{local}@{domain}"), key })
}

/// The unique form of an address: the local part without differences of case, width and composition, the domain in
/// ASCII (IDNA). RFC 5321 makes the local part case-sensitive, but no common mail server does; two accounts that differ
/// only in case would be a trap. An address that is invalid for new accounts is at least lower-cased.
#[must_use]
pub fn email_key(email: &str) -> String {
    let email = email.trim();
    let Some((local, domain)) = email.rsplit_once('@') else { return plain(email) };
    let local = local_part(local).unwrap_or_else(|| plain(local));
    let domain = idna::domain_to_ascii(domain).unwrap_or_else(|_| plain(domain));
    format!("{}@{domain}", folded(&local))
}

/// The form in which addresses were stored before keys existed.
#[must_use]
pub fn plain(email: &str) -> String {
    email.trim().to_lowercase()
}

/// The normal form of the part before the `@`; `None` if it has characters that are not allowed in names.
fn local_part(local: &str) -> Option<String> {
    // One pass is enough for nearly all; RFC 8264, section 7, requires a stable form.
    let mut form = local.to_owned();
    for _ in 0..3 {
        let next = UsernameCaseMapped::enforce(form.as_str()).ok()?.into_owned();
        if next == form {
            return Some(form);
        }
        form = next;
    }
    None
}

/// A sigma at the end of a word is the same letter.
fn folded(local: &str) -> String {
    local.replace('ς', "σ")
}

/// Whether the text mixes no scripts with letters that look alike (UTS 39). Combinations in common use, such as Latin
/// with Japanese, count as one.
fn is_of_one_script(text: &str) -> bool {
    let letters: String = text.chars().filter(|c| c.is_alphanumeric()).collect();
    letters.as_str().check_restriction_level(RestrictionLevel::HighlyRestrictive)
}

/// Validates a new password and returns its normal form. Surrounding white space belongs to it.
///
/// # Errors
/// The fault.
pub fn new_password(password: String) -> Result<String, Reason> {
    let fits = (PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX).contains(&password.chars().count());
    if !fits {
        return Err(format!("must have {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters").into());
    }
    match OpaqueString::enforce(password.as_str()) {
        Ok(form) => Ok(form.into_owned()),
        Err(_) => Err("must not have control characters, invisible ones or ones that Unicode does not know".into()),
    }
}

/// The normal form of a password to verify. One that is invalid for new accounts stays as it is.
#[must_use]
pub fn password_form(password: &str) -> Cow<'_, str> {
    OpaqueString::enforce(password).unwrap_or(Cow::Borrowed(password))
}

/// Characters of a password that the strength check examines: its work grows with their square.
const GUESSED_CHARS_MAX: usize = 48;

/// Refuses a password among the first million guesses: common ones, keyboard patterns, and the account's own names.
/// `about`: the account's address and name.
///
/// # Errors
/// The fault.
pub fn hard_to_guess(password: &str, about: &[&str]) -> Result<(), Reason> {
    let same = |text: &str| !text.is_empty() && text.nfkc().eq(password.nfkc());
    let lower = password.to_lowercase();
    let parts = || about.iter().flat_map(|text| text.split(['@', ' ', '.']).chain(text.split('@')).chain([*text]));
    if parts().any(|part| same(part) || part.to_lowercase() == lower) {
        return Err("must not be the account's own address or name".into());
    }
    let cut = password.char_indices().nth(GUESSED_CHARS_MAX).map_or(password, |(end, _)| &password[..end]);
    let known: Vec<&str> = parts().filter(|part| part.chars().count() >= 3).chain(["livedrop"]).collect();
    if zxcvbn(cut, &known).score() < Score::Two {
        return Err("is too easy to guess: it is a common password, a pattern, or about the account".into());
    }
    Ok(())
}

/// Accounts updated in one transaction.
const KEYED_AT_ONCE: u32 = 1_000;

/// Sets the keys of addresses without one, the oldest account first. Returns how many stay without a key because an
/// older account has the same: they sign in with the exact address that they registered.
///
/// # Errors
/// [`StoreError`].
pub async fn key_accounts(store: &dyn Store) -> Result<usize, StoreError> {
    let (mut twins, mut after) = (0, None::<UserId>);
    loop {
        let found = store.accounts_without_key(after, KEYED_AT_ONCE).await?;
        let Some((last, _)) = found.last() else { return Ok(twins) };
        after = Some(*last);
        let keys: Vec<(UserId, String)> = found.iter().map(|(id, email)| (*id, email_key(email))).collect();
        twins += keys.len() - store.set_email_keys(&keys).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(email: &str) -> String {
        let new = new_email(email.to_owned()).unwrap_or_else(|why| panic!("{email:?}: {why}"));
        assert_eq!(new.key, email_key(email), "whoever registers finds the account again");
        assert_eq!(new.key, email_key(&new.address), "in the form that is shown, too");
        new.key
    }

    #[test]
    fn one_address_in_several_forms_has_one_key() {
        for forms in [
            &["Ada@Example.COM", " ada@example.com ", "ａｄａ@example.com", "ada@ｅｘａｍｐｌｅ.com"][..],
            &["caf\u{e9}@example.com", "cafe\u{301}@example.com", "CAFE\u{301}@EXAMPLE.com"],
            &["a@münchen.de", "a@MÜNCHEN.de", "a@mu\u{308}nchen.de", "a@xn--mnchen-3ya.de", "a@XN--MNCHEN-3YA.de"],
            &["ΑΣ@example.com", "ας@example.com", "ασ@example.com"],
            &["a@example。com", "a@example.com"],
        ] {
            let keys: Vec<String> = forms.iter().map(|form| key(form)).collect();
            assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        }
        assert_eq!(key("a@MÜNCHEN.de"), "a@xn--mnchen-3ya.de");
        assert_eq!(new_email("A@XN--MNCHEN-3YA.de".into()).unwrap().address, "a@münchen.de");
        assert_ne!(key("a.b+c@example.com"), key("ab@example.com"));
        assert_ne!(key("strasse@example.com"), key("straße@example.com"));
    }

    #[test]
    fn addresses_of_people_are_taken_and_twins_are_not() {
        for good in [
            "a@b",
            "o'neil+tag.x@localhost",
            "ä@bücher.example",
            "名前@例え.jp",
            "иван@пример.рф",
            "x_1@a-b.c",
            "a@192.0.2.1",
        ] {
            key(good);
        }
        for bad in [
            "",
            "a",
            "@",
            "a@",
            "@b",
            "a@b@c",
            "a b@c",
            "a@b..c",
            "a@.b",
            "a@b.",
            "a@b。",
            "a@[127.0.0.1]",
            "a@b/c",
            "a@-b",
            "a@xn--",
            "a\u{200b}@example.com",
            "a@exam\u{200b}ple.com",
            "a\u{202e}b@example.com",
            "🐎@example.com",
            "a@\u{ad}",
            // Cyrillic letters among Latin ones.
            "\u{430}dmin@example.com",
            "admin@ex\u{430}mple.com",
        ] {
            assert!(new_email(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_nobody_may_register_has_a_key_all_the_same() {
        for (email, key) in
            [("", ""), ("Nobody", "nobody"), ("🐎@Example.com", "🐎@example.com"), ("a b@[X]", "a b@[x]")]
        {
            assert_eq!(email_key(email), key);
        }
        assert_eq!(email_key("cafe\u{301}@[X]"), "caf\u{e9}@[x]");
    }

    #[test]
    fn a_password_is_the_same_however_it_is_composed() {
        let form = |text: &str| new_password(text.to_owned());
        assert_eq!(form("cafe\u{301} cafe\u{301}"), form("caf\u{e9} caf\u{e9}"));
        assert_eq!(password_form("cafe\u{301}"), "caf\u{e9}");
        assert_eq!(form("one\u{a0}two\u{3000}three").unwrap(), "one two three");
        assert_eq!(form("  1234  ").unwrap(), "  1234  ");
        assert_ne!(form("Password"), form("password"));
        for bad in
            ["pass\0word", "pass\u{200b}word", "short", "\u{378}\u{378}\u{378}\u{378}\u{378}\u{378}\u{378}\u{378}"]
        {
            assert!(form(bad).is_err(), "{bad:?}");
            assert_eq!(password_form(bad), bad);
        }
    }

    #[test]
    fn common_passwords_and_ones_own_names_are_refused() {
        let about = ["ada.lovelace@example.com", "Ada Lovelace"];
        for bad in [
            "12345678",
            "password",
            "Password1",
            "qwertyuiop",
            "iloveyou",
            "aaaaaaaa",
            "ada.lovelace@example.com",
            "Ada.Lovelace@Example.com",
            "ada.lovelace",
            "Lovelace",
            "lovelace1",
            "ada lovelace",
            "livedrop",
            "passw0rd",
        ] {
            assert!(hard_to_guess(bad, &about).is_err(), "{bad:?}");
        }
        for good in ["correct horse", "open sesame, please", "a rehearsal only", "🐎🐎🐄🐖🐑🐓🐈🐕", "battery staple"]
        {
            assert_eq!(hard_to_guess(good, &about), Ok(()), "{good:?}");
        }
        assert_eq!(hard_to_guess(&"correct horse battery staple ".repeat(8), &about), Ok(()));
    }
}
