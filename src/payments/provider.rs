//! The gateways that a server has, by provider.

use super::gateway::PaymentGateway;
use super::sandbox::Sandbox;
use crate::domain::{PaymentMethod, PaymentProvider};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// The providers that a server is configured with; none if nothing that costs money can be bought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Providers(Vec<PaymentProvider>);

impl Providers {
    /// Play money alone.
    #[must_use]
    pub fn sandbox() -> Self {
        Self(vec![PaymentProvider::Sandbox])
    }

    /// What the choice means for buyers, for the log.
    #[must_use]
    pub fn meaning(&self) -> &'static str {
        match self.0[..] {
            [] => "nothing that costs money can be bought",
            [PaymentProvider::Sandbox] => "play money: nobody is charged",
            [PaymentProvider::Stripe] => "buyers are charged",
            _ => "buyers are charged, or pay with play money as they like",
        }
    }

    /// Whether a provider is one of them.
    #[must_use]
    pub fn has(&self, provider: PaymentProvider) -> bool {
        self.0.contains(&provider)
    }

    /// New gateways of these providers. `stripe`: that of Stripe, which needs settings.
    #[must_use]
    pub fn gateways(&self, stripe: Option<Arc<dyn PaymentGateway>>) -> Gateways {
        let gateway = |provider: &PaymentProvider| match provider {
            PaymentProvider::Sandbox => Some((*provider, Arc::new(Sandbox) as Arc<dyn PaymentGateway>)),
            PaymentProvider::Stripe => Some((*provider, stripe.clone()?)),
        };
        Gateways::new(self.0.iter().filter_map(gateway))
    }
}

impl fmt::Display for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let names: Vec<&str> = self.0.iter().map(|provider| provider.as_str()).collect();
        f.write_str(&names.join(","))
    }
}

impl FromStr for Providers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(Vec::new()));
        }
        let wrong = || "must be stripe, sandbox, both with a comma between, or none".to_owned();
        let mut providers = Vec::new();
        for name in text.split(',') {
            let provider = PaymentProvider::parse(name.trim()).ok_or_else(wrong)?;
            if providers.contains(&provider) {
                return Err(wrong());
            }
            providers.push(provider);
        }
        Ok(Self(providers))
    }
}

/// A table of gateways. An order keeps the provider that it was paid with. Cheap to clone.
#[derive(Clone)]
pub struct Gateways(Arc<[(PaymentProvider, Arc<dyn PaymentGateway>)]>);

impl Gateways {
    /// Methods are offered to these gateways in this order.
    #[must_use]
    pub fn new(gateways: impl IntoIterator<Item = (PaymentProvider, Arc<dyn PaymentGateway>)>) -> Self {
        Self(gateways.into_iter().collect())
    }

    /// Whether nothing can be paid.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All gateways.
    pub fn all(&self) -> impl Iterator<Item = &Arc<dyn PaymentGateway>> {
        self.0.iter().map(|(_, gateway)| gateway)
    }

    /// A provider's gateway; absent if the server is not configured with it any more.
    #[must_use]
    pub fn get(&self, provider: PaymentProvider) -> Option<&Arc<dyn PaymentGateway>> {
        self.0.iter().find(|(other, _)| *other == provider).map(|(_, gateway)| gateway)
    }

    /// How long a provider cannot be asked to authorize anything, see [`PaymentGateway::unavailable_for`].
    #[must_use]
    pub fn unavailable_for(&self, provider: PaymentProvider) -> Option<Duration> {
        self.get(provider)?.unavailable_for()
    }

    /// The provider that accepts a method.
    #[must_use]
    pub fn accepting(&self, method: &str) -> Option<PaymentProvider> {
        self.0.iter().find(|(_, gateway)| gateway.accepts(method)).map(|(provider, _)| *provider)
    }

    /// A method with its provider, if one accepts it.
    #[must_use]
    pub fn method(&self, name: &str) -> Option<PaymentMethod> {
        Some(PaymentMethod { provider: self.accepting(name)?, name: name.into() })
    }

    /// Whether any of them takes real money.
    #[must_use]
    pub fn are_real(&self) -> bool {
        self.0.iter().any(|(provider, _)| !provider.is_test())
    }
}
