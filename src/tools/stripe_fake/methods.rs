//! The payment methods of Stripe's test mode, by name, and how a bank answers to each.

/// How a confirmation ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The bank agrees.
    Approved,
    /// The bank refuses: Stripe's error code and the bank's own.
    Declined(&'static str, Option<&'static str>),
    /// The bank's answer takes days.
    Processing,
}

/// A payment method.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Method {
    /// Such as `card`.
    pub kind: &'static str,
    /// Whether the money can be taken later than it is authorized.
    pub captured_later: bool,
    /// Whether the buyer has to authenticate first (3-D Secure).
    pub authenticates: bool,
    pub outcome: Outcome,
    /// Whether the bank refuses a refund afterwards.
    pub refunds_fail: bool,
}

const CARD: Method = Method {
    kind: "card",
    captured_later: true,
    authenticates: false,
    outcome: Outcome::Approved,
    refunds_fail: false,
};
const BANK: Method = Method { kind: "us_bank_account", captured_later: false, ..CARD };

fn declined(decline_code: &'static str) -> Method {
    Method { outcome: Outcome::Declined("card_declined", Some(decline_code)), ..CARD }
}

fn failed(code: &'static str) -> Method {
    Method { outcome: Outcome::Declined(code, None), ..CARD }
}

/// The method with this name, if test mode has it.
#[must_use]
pub fn find(name: &str) -> Option<Method> {
    let name = name.strip_prefix("pm_")?;
    Some(match name {
        "card_visa"
        | "card_visa_debit"
        | "card_mastercard"
        | "card_mastercard_debit"
        | "card_amex"
        | "card_discover"
        | "card_diners"
        | "card_jcb"
        | "card_unionpay"
        | "card_us"
        | "card_de"
        | "card_threeDSecureOptional" => CARD,
        "card_authenticationRequired"
        | "card_authenticationRequiredOnSetup"
        | "card_threeDSecure2Required"
        | "card_threeDSecureRequired" => Method { authenticates: true, ..CARD },
        "card_authenticationRequiredChargeDeclinedInsufficientFunds" | "card_threeDSecureRequiredChargeDeclined" => {
            Method { authenticates: true, ..declined("insufficient_funds") }
        }
        "card_chargeDeclined" | "card_visa_chargeDeclined" => declined("generic_decline"),
        "card_chargeDeclinedInsufficientFunds" | "card_visa_chargeDeclinedInsufficientFunds" => {
            declined("insufficient_funds")
        }
        "card_visa_chargeDeclinedLostCard" => declined("lost_card"),
        "card_visa_chargeDeclinedStolenCard" => declined("stolen_card"),
        "card_chargeDeclinedFraudulent" => declined("fraudulent"),
        "card_visa_chargeDeclinedVelocityLimitExceeded" => declined("card_velocity_exceeded"),
        "card_chargeDeclinedExpiredCard" => failed("expired_card"),
        "card_chargeDeclinedIncorrectCvc" => failed("incorrect_cvc"),
        "card_chargeDeclinedProcessingError" => failed("processing_error"),
        "card_refundFail" => Method { refunds_fail: true, ..CARD },
        "usBankAccount_success" => BANK,
        "usBankAccount_processing" => Method { outcome: Outcome::Processing, ..BANK },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_stripes_own() {
        assert_eq!(find("pm_card_visa"), Some(CARD));
        assert!(find("pm_card_authenticationRequired").is_some_and(|method| method.authenticates));
        assert!(find("pm_usBankAccount_success").is_some_and(|method| !method.captured_later));
        for unknown in ["", "pm_", "card_visa", "pm_card_VISA", "pm_sandbox_ok"] {
            assert_eq!(find(unknown), None, "{unknown}");
        }
    }
}
