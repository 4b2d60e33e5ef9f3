//! What the payments of all providers have in common.

use super::Money;
use serde::{Deserialize, Serialize};

named!(
    /// Why a provider declined a payment, as far as its buyer may know and can do something about it.
    DeclineReason {
        /// The account does not have the money.
        InsufficientFunds = "insufficient_funds",
        /// The amount is beyond a limit of the card or the account.
        LimitExceeded = "limit_exceeded",
        ExpiredCard = "expired_card",
        IncorrectCvc = "incorrect_cvc",
        IncorrectNumber = "incorrect_number",
        /// The buyer's bank asked a question (3-D Secure), and got no right answer.
        AuthenticationFailed = "authentication_failed",
        /// The card does not support this kind of purchase or this currency.
        NotSupported = "not_supported",
        /// The provider or the bank failed; the same card may work later.
        ProcessingError = "processing_error",
        /// The payment method does not exist, or cannot be used any more.
        MethodUnusable = "method_unusable",
        /// The bank gives no reason, or one that must not be passed on.
        CardDeclined = "card_declined",
    }
);

impl DeclineReason {
    /// The stable code of the reason.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.as_str()
    }

    /// A sentence for the buyer.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::InsufficientFunds => "the card has insufficient funds",
            Self::LimitExceeded => "the amount is beyond the card's limit",
            Self::ExpiredCard => "the card has expired",
            Self::IncorrectCvc => "the card's security code is incorrect",
            Self::IncorrectNumber => "the card's number is incorrect",
            Self::AuthenticationFailed => "the bank could not authenticate the buyer",
            Self::NotSupported => "the card does not support this purchase",
            Self::ProcessingError => "the bank could not process the payment; try again, or use another card",
            Self::MethodUnusable => "the payment method cannot be used",
            Self::CardDeclined => "the bank declined the card",
        }
    }
}

named!(
    /// Who takes the money. A new provider is appended, and needs the next version of the journal's records.
    PaymentProvider {
        /// Play money.
        Sandbox = "sandbox",
        Stripe = "stripe",
    }
);

impl PaymentProvider {
    /// Whether its payments move no money.
    #[must_use]
    pub fn is_test(self) -> bool {
        self == Self::Sandbox
    }

    /// Whether a declined payment ends the hold. A buyer with a real card may try another one while the hold lasts.
    #[must_use]
    pub fn releases_declined(self) -> bool {
        self == Self::Sandbox
    }
}

/// A payment method: its provider, and its name there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PaymentMethod {
    pub provider: PaymentProvider,
    /// Such as `pm_sandbox_ok`.
    pub name: Box<str>,
}

/// A method of the sandbox, as all methods were before there were several providers.
impl<T: Into<Box<str>>> From<T> for PaymentMethod {
    fn from(name: T) -> Self {
        Self { provider: PaymentProvider::Sandbox, name: name.into() }
    }
}

/// A payment that a provider has authorized or captured.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Payment {
    pub provider: PaymentProvider,
    /// From 1: which attempt to pay the order.
    pub attempt: u32,
    /// The provider's reference.
    pub reference: Box<str>,
    /// Absent in records from before amounts were recorded: the order's total.
    pub amount: Option<Money>,
    /// Whether the money was taken; otherwise it is only authorized.
    pub captured: bool,
}

/// A captured payment of the sandbox, as all payments were before there were several providers.
impl<T: Into<Box<str>>> From<T> for Payment {
    fn from(reference: T) -> Self {
        let (provider, reference) = (PaymentProvider::Sandbox, reference.into());
        Self { provider, attempt: 1, reference, amount: None, captured: true }
    }
}

/// How an attempt ended without money.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PaymentEnd {
    Declined(DeclineReason),
    /// The authorization was cancelled.
    Cancelled,
    /// The provider does not know it, and never will.
    NotMade,
}

impl PaymentEnd {
    /// Why it was declined, if it was.
    #[must_use]
    pub fn declined(self) -> Option<DeclineReason> {
        match self {
            Self::Declined(reason) => Some(reason),
            Self::Cancelled | Self::NotMade => None,
        }
    }
}

named!(
    /// A step of a payment, and so its status after it; an order's status is another thing.
    PaymentStep {
        /// The provider is about to be asked, or works on it.
        Pending = "pending",
        /// The buyer has to act.
        RequiresAction = "requires_action",
        Authorized = "authorized",
        Captured = "captured",
        Declined = "declined",
        /// The authorization was cancelled: nobody was charged.
        Cancelled = "cancelled",
        /// The provider was never asked, or does not know it.
        NotMade = "not_made",
        /// What was authorized or taken goes back.
        RefundDue = "refund_due",
        /// It went back: an authorization was cancelled, or money refunded.
        Refunded = "refunded",
    }
);

named!(
    /// What a provider tells of a payment when it is settled, and its seller has to know.
    PaymentIncident {
        /// The bank has refused a refund: the buyer does not have the money.
        RefundFailed = "refund_failed",
        /// The buyer disputes the payment at the bank: somebody has to answer in the provider's dashboard.
        DisputeOpened = "dispute_opened",
        /// The bank has decided the dispute.
        DisputeClosed = "dispute_closed",
    }
);

/// What an order keeps of its payments.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PaymentFacts {
    /// The provider of the last attempt.
    pub provider: Option<PaymentProvider>,
    /// How many attempts have begun.
    pub attempts: u32,
    /// Whether the order is confirmed and its authorized money was not taken yet.
    pub capture_due: bool,
    /// Why the last attempt was declined, if it was and the order is still held.
    pub declined: Option<DeclineReason>,
}

impl PaymentFacts {
    /// The facts of an order for which none are kept: one attempt with play money if there was any, as all orders of older
    /// journals and databases have.
    #[must_use]
    pub fn assumed(was_tried: bool) -> Self {
        let provider = was_tried.then_some(PaymentProvider::Sandbox);
        Self { provider, attempts: u32::from(was_tried), capture_due: false, declined: None }
    }

    /// An attempt begins.
    #[must_use]
    pub fn started(self, provider: PaymentProvider, attempt: u32) -> Self {
        let attempts = self.attempts.max(attempt).max(1);
        Self { provider: Some(provider), attempts, declined: None, ..self }
    }

    /// An attempt ended without money. Records from before attempts were counted have 0, and leave nothing.
    #[must_use]
    pub fn ended(self, attempt: u32, end: PaymentEnd) -> Self {
        if attempt == 0 { Self::default() } else { Self { declined: end.declined(), ..self } }
    }

    /// A payment confirmed the order.
    #[must_use]
    pub fn paid(self, payment: &Payment) -> Self {
        Self { capture_due: !payment.captured, ..self.started(payment.provider, payment.attempt) }
    }

    /// What was paid goes back.
    #[must_use]
    pub fn owed(self, payment: Option<&Payment>) -> Self {
        Self { capture_due: false, ..payment.map_or(self, |payment| self.paid(payment)) }
    }

    /// The hold ended because a payment failed.
    #[must_use]
    pub fn failed(self) -> Self {
        if self.attempts == 0 { Self::assumed(true) } else { self }
    }

    /// The authorized money was taken.
    #[must_use]
    pub fn captured(self) -> Self {
        Self { capture_due: false, ..self }
    }
}
