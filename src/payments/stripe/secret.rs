//! Keys of a Stripe account, which are never shown.

use std::fmt;

/// A secret key or a signing secret.
#[derive(Clone, PartialEq, Eq)]
pub struct StripeSecret(String);

impl StripeSecret {
    /// Wraps a text; surrounding space, such as a file's last newline, is no part of it.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text.trim().to_owned())
    }

    /// The text itself; keep it out of logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is a key of Stripe's test mode, which takes no real money.
    #[must_use]
    pub fn is_for_tests(&self) -> bool {
        self.0.starts_with("sk_test_") || self.0.starts_with("rk_test_")
    }
}

impl fmt::Debug for StripeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_and_knows_its_mode() {
        let secret = StripeSecret::new("sk_test_abc\n".to_owned());
        assert_eq!((format!("{secret:?}").as_str(), secret.expose()), ("(secret)", "sk_test_abc"));
        for (key, test) in [("sk_test_1", true), ("rk_test_1", true), ("sk_live_1", false), ("rk_live_1", false)] {
            assert_eq!(StripeSecret::new(key.to_owned()).is_for_tests(), test, "{key}");
        }
    }
}
