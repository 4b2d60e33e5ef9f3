//! What the payments of all providers have in common.

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
