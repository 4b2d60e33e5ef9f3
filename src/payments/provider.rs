//! Every provider of payments that a server can have.

use super::gateway::PaymentGateway;
use super::sandbox::Sandbox;
use std::str::FromStr;
use std::sync::Arc;

/// The gateway of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PaymentProvider {
    /// [`Sandbox`]: no real money.
    Sandbox,
}

impl PaymentProvider {
    /// The provider's name in the configuration, in `/readyz` and in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
        }
    }

    /// What the choice means for buyers, for the log.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Sandbox => "play money: nobody is charged",
        }
    }

    /// A new gateway of this provider.
    #[must_use]
    pub fn gateway(self) -> Arc<dyn PaymentGateway> {
        match self {
            Self::Sandbox => Arc::new(Sandbox),
        }
    }
}

impl FromStr for PaymentProvider {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sandbox" => Ok(Self::Sandbox),
            _ => Err("must be sandbox".to_owned()),
        }
    }
}
