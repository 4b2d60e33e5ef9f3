//! Which payment providers there are, and their settings.

use super::{ConfigError, Sources};
use crate::domain::PaymentProvider;
use crate::payments::provider::Providers;
use crate::payments::stripe::config::{ApiUrl, StripeConfig, api_key, webhook_secrets};
use std::net::SocketAddr;
use url::Url;

/// The keys of Stripe's settings. Of the first two there are no flags: every user of the machine can read command lines.
const STRIPE_KEYS: [&str; 4] = ["stripe_secret_key", "stripe_webhook_secret", "stripe_api_url", "stripe_return_url"];

/// Clients from other machines may take orders for real ones: the operator has to confirm that they are not.
pub(super) fn providers(sources: &Sources, bind: SocketAddr) -> Result<Providers, ConfigError> {
    match sources.read("payments", str::parse)? {
        Some(providers) => Ok(providers),
        None if bind.ip().to_canonical().is_loopback() => Ok(Providers::sandbox()),
        None => Err(ConfigError(format!(
            "payments: must be set for a server that listens beyond loopback ({bind}): `--payments stripe` takes money, `--payments sandbox` takes play money only, `--payments none` sells only what is free"
        ))),
    }
}

/// Stripe's settings, if it is one of the providers.
pub(super) fn stripe(sources: &Sources, providers: &Providers) -> Result<Option<StripeConfig>, ConfigError> {
    if !providers.has(PaymentProvider::Stripe) {
        for key in STRIPE_KEYS {
            if sources.find(key)?.is_some() {
                return Err(ConfigError(format!("{key}: has no effect, because payments does not name stripe")));
            }
        }
        return Ok(None);
    }
    let missing = || ConfigError("stripe_secret_key: is missing, and payments names stripe".to_owned());
    let key = sources.read("stripe_secret_key", api_key)?.ok_or_else(missing)?;
    let mut config = StripeConfig::new(key);
    config.webhook_secrets = sources.read("stripe_webhook_secret", webhook_secrets)?.unwrap_or_default();
    config.api = sources.read("stripe_api_url", str::parse::<ApiUrl>)?.unwrap_or_default();
    config.return_url = sources.read("stripe_return_url", return_url)?;
    Ok(Some(config))
}

fn return_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host());
    url.ok_or_else(|| "must be https://<host>/<path>, a page of the shop".to_owned())
}
