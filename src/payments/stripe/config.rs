//! What a merchant configures of Stripe.

use super::limits::{CALL_TIMEOUT, SECRETS_MAX};
use super::secret::StripeSecret;
use std::str::FromStr;
use std::time::Duration;
use url::{Host, Url};

/// The settings of a Stripe account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StripeConfig {
    /// A secret or restricted key. A restricted one needs: PaymentIntents and refunds (write), payment methods (read).
    pub key: StripeSecret,
    /// The signing secrets of the webhook endpoint: the current one, and the former one while it is replaced.
    pub webhook_secrets: Vec<StripeSecret>,
    /// Where the API is.
    pub api: ApiUrl,
    /// Where a bank's page sends the buyer back to. Without it, the buyer's page completes 3-D Secure by Stripe.js, with
    /// the client secret.
    pub return_url: Option<Url>,
    /// How long one call may take, with all its tries.
    pub call_timeout: Duration,
}

impl StripeConfig {
    /// Stripe's own API with this key, and the usual limits.
    #[must_use]
    pub fn new(key: StripeSecret) -> Self {
        Self { key, webhook_secrets: Vec::new(), api: ApiUrl::default(), return_url: None, call_timeout: CALL_TIMEOUT }
    }
}

/// The address of an API: HTTPS, or HTTP on this machine (a fake).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiUrl {
    /// Without a slash at the end.
    base: String,
    loopback: bool,
}

impl ApiUrl {
    /// The address of a path such as `/v1/refunds`.
    #[must_use]
    pub fn of(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Whether it is this machine, so that no proxy is asked.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }
}

impl Default for ApiUrl {
    fn default() -> Self {
        Self { base: "https://api.stripe.com".to_owned(), loopback: false }
    }
}

impl FromStr for ApiUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "must be https://<host>[:<port>], or http:// on this machine".to_owned();
        let url = Url::parse(text).map_err(|_| wrong())?;
        let loopback = match url.host().ok_or_else(wrong)? {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        };
        let plain = url.username().is_empty() && url.password().is_none();
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let scheme = url.scheme() == "https" || (url.scheme() == "http" && loopback);
        if !(plain && bare && scheme) {
            return Err(wrong());
        }
        Ok(Self { base: url.as_str().trim_end_matches('/').to_owned(), loopback })
    }
}

/// The signing secrets in a text, separated by commas: the current one, then the one that it replaces.
///
/// # Errors
/// One line that says what they must be; never the text.
pub fn webhook_secrets(text: &str) -> Result<Vec<StripeSecret>, String> {
    let secrets: Vec<StripeSecret> = text.split(',').map(|one| StripeSecret::new(one.to_owned())).collect();
    let valid = secrets.iter().all(|secret| secret.expose().starts_with("whsec_") && secret.expose().len() >= 16);
    if secrets.len() > SECRETS_MAX || !valid {
        return Err("must be one or two signing secrets (whsec_…), separated by a comma".to_owned());
    }
    Ok(secrets)
}

/// A secret key of the API.
///
/// # Errors
/// One line that says what it must be; never the text.
pub fn api_key(text: &str) -> Result<StripeSecret, String> {
    let key = StripeSecret::new(text.to_owned());
    let text = key.expose();
    let kind = ["sk_test_", "sk_live_", "rk_test_", "rk_live_"].iter().any(|kind| text.starts_with(kind));
    if !kind || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err("must be a secret key (sk_…) or a restricted one (rk_…)".to_owned());
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_not_leave_this_machine_unencrypted() {
        for good in ["https://api.stripe.com", "https://api.stripe.com/", "http://127.0.0.1:1", "http://[::1]:12111"] {
            assert_eq!(good.parse::<ApiUrl>().unwrap().of("/v1/x"), format!("{}/v1/x", good.trim_end_matches('/')));
        }
        for wrong in [
            "",
            "api.stripe.com",
            "http://api.stripe.com",
            "http://10.0.0.1",
            "https://me:key@api.stripe.com",
            "https://api.stripe.com/v1",
            "https://api.stripe.com/?a",
            "ftp://127.0.0.1",
        ] {
            assert!(wrong.parse::<ApiUrl>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_are_told_from_what_is_no_key() {
        assert!(api_key("sk_test_51Abc\n").is_ok() && api_key("rk_live_9").is_ok());
        for wrong in ["", "pk_test_1", "whsec_1", "sk_test_a b", "sk_test_a\r\nx: y", "sk_1"] {
            assert!(api_key(wrong).is_err(), "{wrong}");
        }
        assert_eq!(webhook_secrets("whsec_1234567890").unwrap().len(), 1);
        assert_eq!(webhook_secrets("whsec_1234567890, whsec_0987654321").unwrap().len(), 2);
        let three = ["whsec_1234567890"; 3].join(",");
        for wrong in ["", "whsec_1", "sk_test_1234567890123", "whsec_1234567890,", three.as_str()] {
            assert!(webhook_secrets(wrong).is_err(), "{wrong}");
        }
    }
}
