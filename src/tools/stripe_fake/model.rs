//! What the fake's books are about, and its errors.

use std::collections::BTreeMap;

/// When the money is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capture {
    Manual,
    Automatic,
}

impl Capture {
    /// Stripe's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Automatic => "automatic",
        }
    }
}

/// A payment.
#[derive(Clone, Debug)]
pub struct Payment {
    pub id: String,
    pub amount: i64,
    pub currency: String,
    pub capture: Capture,
    /// Stripe's name of the state.
    pub status: &'static str,
    pub method: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub description: Option<String>,
    pub return_url: Option<String>,
    /// Error code and the bank's code of the last failure.
    pub failure: Option<(&'static str, Option<&'static str>)>,
    pub cancellation_reason: Option<String>,
    pub amount_received: i64,
    /// Seconds since 1970.
    pub created: i64,
    /// Whether the bank has ever agreed, so that there is a charge.
    pub charged: bool,
}

/// A refund.
#[derive(Clone, Debug)]
pub struct Refund {
    pub id: String,
    pub payment: String,
    pub amount: i64,
    pub currency: String,
    pub status: &'static str,
    pub metadata: BTreeMap<String, String>,
    pub created: i64,
}

/// An error as the API answers it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub status: u16,
    pub kind: &'static str,
    pub code: &'static str,
    pub message: String,
    pub param: Option<&'static str>,
    pub decline_code: Option<&'static str>,
    /// The payment that it is about.
    pub payment: Option<String>,
}

impl Refusal {
    /// A request that is wrong.
    #[must_use]
    pub fn invalid(code: &'static str, param: Option<&'static str>, message: String) -> Self {
        let kind = "invalid_request_error";
        Self { status: 400, kind, code, message, param, decline_code: None, payment: None }
    }

    /// An object that does not exist.
    #[must_use]
    pub fn missing(what: &str, id: &str, param: &'static str) -> Self {
        Self { status: 404, ..Self::invalid("resource_missing", Some(param), format!("No such {what}: '{id}'")) }
    }

    /// A call that does not fit the payment's state.
    #[must_use]
    pub fn state(payment: &Payment, verb: &str) -> Self {
        let message = format!("You cannot {verb} this PaymentIntent because it has a status of {}.", payment.status);
        let payment = Some(payment.id.clone());
        Self { payment, ..Self::invalid("payment_intent_unexpected_state", None, message) }
    }
}

/// A payment to make.
#[derive(Clone, Debug)]
pub struct NewPayment {
    pub amount: i64,
    pub currency: String,
    pub capture: Capture,
    pub method: Option<String>,
    pub confirm: bool,
    pub metadata: BTreeMap<String, String>,
    pub description: Option<String>,
    pub return_url: Option<String>,
}
