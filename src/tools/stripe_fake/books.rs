//! The books of the fake: payments, refunds and events, and how they change. Pure but for ids, which are counted.

use super::limits::{EVENTS_MAX, PAYMENTS_MAX};
use super::methods::{self, Method, Outcome};
use super::model::{Capture, NewPayment, Payment, Refund, Refusal};
use super::render;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// Everything that the fake knows.
#[derive(Debug, Default)]
pub struct Books {
    payments: Vec<Payment>,
    index: HashMap<String, usize>,
    refunds: Vec<Refund>,
    /// Events in the order in which they happened, as they are sent.
    events: Vec<Value>,
    next: u64,
    /// Where the fake is, for the pages that its answers name.
    pub base: String,
}

impl Books {
    fn id(&mut self, kind: &str) -> String {
        self.next += 1;
        format!("{kind}_fake{:012}", self.next)
    }

    /// The payments, oldest first.
    #[must_use]
    pub fn payments(&self) -> &[Payment] {
        &self.payments
    }

    /// The refunds, oldest first.
    #[must_use]
    pub fn refunds(&self) -> &[Refund] {
        &self.refunds
    }

    /// The events, oldest first.
    #[must_use]
    pub fn events(&self) -> &[Value] {
        &self.events
    }

    /// A payment.
    ///
    /// # Errors
    /// 404.
    pub fn payment(&self, id: &str) -> Result<&Payment, Refusal> {
        let found = self.index.get(id).map(|index| &self.payments[*index]);
        found.ok_or_else(|| Refusal::missing("payment_intent", id, "intent"))
    }

    fn change(&mut self, id: &str, change: impl FnOnce(&mut Payment)) {
        if let Some(index) = self.index.get(id) {
            change(&mut self.payments[*index]);
        }
    }

    /// Makes a payment, and confirms it if that is asked for.
    ///
    /// # Errors
    /// 400 for a method that cannot be captured later, 402 for a decline: the payment exists then.
    pub fn create(&mut self, new: NewPayment, now: i64) -> Result<String, Refusal> {
        if self.payments.len() >= PAYMENTS_MAX {
            let full = Refusal::invalid("rate_limit", None, "the fake's books are full".to_owned());
            return Err(Refusal { status: 429, ..full });
        }
        let method = new.method.as_deref().map(|name| {
            methods::find(name)
                .ok_or_else(|| Refusal { status: 400, ..Refusal::missing("PaymentMethod", name, "payment_method") })
        });
        let method = method.transpose()?;
        if new.capture == Capture::Manual && method.is_some_and(|method| !method.captured_later) {
            let message = "This payment method does not support manual capture.".to_owned();
            return Err(Refusal::invalid(
                "payment_intent_incompatible_payment_method",
                Some("capture_method"),
                message,
            ));
        }
        let id = self.id("pi");
        let NewPayment { amount, currency, capture, method: name, confirm, metadata, description, return_url } = new;
        let status = if method.is_some() { "requires_confirmation" } else { "requires_payment_method" };
        self.index.insert(id.clone(), self.payments.len());
        self.payments.push(Payment {
            id: id.clone(),
            amount,
            currency,
            capture,
            status,
            method: name,
            metadata,
            description,
            return_url,
            failure: None,
            cancellation_reason: None,
            amount_received: 0,
            created: now,
            charged: false,
        });
        self.tell("payment_intent.created", &id, now);
        match method.filter(|_| confirm) {
            Some(Method { authenticates: true, .. }) => {
                self.change(&id, |payment| payment.status = "requires_action");
                self.tell("payment_intent.requires_action", &id, now);
            }
            Some(Method { outcome, .. }) => self.conclude(&id, outcome, now)?,
            None => {}
        }
        Ok(id)
    }

    /// Ends the buyer's action: the bank knows the buyer, or not.
    ///
    /// # Errors
    /// 404, or 400 if there is nothing to do. A decline is none: nobody waits for it.
    pub fn act(&mut self, id: &str, completed: bool, now: i64) -> Result<(), Refusal> {
        let payment = self.payment(id)?;
        if payment.status != "requires_action" {
            return Err(Refusal::state(payment, "authenticate"));
        }
        let method = payment.method.as_deref().and_then(methods::find);
        let outcome = match method {
            Some(method) if completed => method.outcome,
            _ => Outcome::Declined("payment_intent_authentication_failure", None),
        };
        let _ = self.conclude(id, outcome, now);
        Ok(())
    }

    /// The bank's late answer to a payment in processing.
    ///
    /// # Errors
    /// 404, or 400 in another state.
    pub fn process(&mut self, id: &str, good: bool, now: i64) -> Result<(), Refusal> {
        let payment = self.payment(id)?;
        if payment.status != "processing" {
            return Err(Refusal::state(payment, "process"));
        }
        let bad = Outcome::Declined("card_declined", Some("generic_decline"));
        let _ = self.conclude(id, if good { Outcome::Approved } else { bad }, now);
        Ok(())
    }

    fn conclude(&mut self, id: &str, outcome: Outcome, now: i64) -> Result<(), Refusal> {
        let capture = self.payment(id)?.capture;
        let kind = match outcome {
            Outcome::Approved if capture == Capture::Manual => {
                self.change(id, |payment| (payment.status, payment.charged) = ("requires_capture", true));
                "payment_intent.amount_capturable_updated"
            }
            Outcome::Approved => {
                self.change(id, |payment| {
                    (payment.status, payment.charged, payment.amount_received) = ("succeeded", true, payment.amount);
                });
                "payment_intent.succeeded"
            }
            Outcome::Processing => {
                self.change(id, |payment| payment.status = "processing");
                "payment_intent.processing"
            }
            Outcome::Declined(code, decline_code) => {
                self.change(id, |payment| {
                    (payment.status, payment.failure) = ("requires_payment_method", Some((code, decline_code)));
                });
                "payment_intent.payment_failed"
            }
        };
        self.tell(kind, id, now);
        let Outcome::Declined(code, decline_code) = outcome else { return Ok(()) };
        let declined = Refusal::invalid(code, None, "Your card was declined.".to_owned());
        Err(Refusal { status: 402, kind: "card_error", decline_code, payment: Some(id.to_owned()), ..declined })
    }

    /// Takes the money of an authorization, or a part of it.
    ///
    /// # Errors
    /// 404, or 400 in another state or for too much.
    pub fn capture(&mut self, id: &str, amount: Option<i64>, now: i64) -> Result<(), Refusal> {
        let payment = self.payment(id)?;
        if payment.status != "requires_capture" {
            return Err(Refusal::state(payment, "capture"));
        }
        let amount = amount.unwrap_or(payment.amount);
        if !(1..=payment.amount).contains(&amount) {
            let message = "The amount to capture is not within the authorized amount.".to_owned();
            return Err(Refusal::invalid("amount_too_large", Some("amount_to_capture"), message));
        }
        self.change(id, |payment| (payment.status, payment.amount_received) = ("succeeded", amount));
        self.tell("payment_intent.succeeded", id, now);
        Ok(())
    }

    /// Cancels a payment that was not taken. `reason`: Stripe's name; `automatic` is that of an authorization that ended.
    ///
    /// # Errors
    /// 404, or 400 in another state.
    pub fn cancel(&mut self, id: &str, reason: Option<String>, now: i64) -> Result<(), Refusal> {
        let payment = self.payment(id)?;
        if matches!(payment.status, "succeeded" | "canceled" | "processing") {
            return Err(Refusal::state(payment, "cancel"));
        }
        self.change(id, |payment| (payment.status, payment.cancellation_reason) = ("canceled", reason));
        self.tell("payment_intent.canceled", id, now);
        Ok(())
    }

    /// What is left of a payment to refund.
    #[must_use]
    pub fn refunded(&self, payment: &str) -> i64 {
        let of = self.refunds.iter().filter(|refund| refund.payment == payment && refund.status != "failed");
        of.map(|refund| refund.amount).sum()
    }

    /// Gives money back.
    ///
    /// # Errors
    /// 404, or 400 if nothing was taken, or less.
    pub fn refund(
        &mut self,
        id: &str,
        amount: Option<i64>,
        metadata: BTreeMap<String, String>,
        now: i64,
    ) -> Result<Refund, Refusal> {
        let payment = self.payment(id)?.clone();
        if payment.status != "succeeded" {
            let message = "This PaymentIntent does not have a successful charge to refund.".to_owned();
            return Err(Refusal::invalid("payment_intent_unexpected_state", Some("payment_intent"), message));
        }
        let left = payment.amount_received - self.refunded(id);
        let amount = amount.unwrap_or(left);
        if left == 0 {
            let message = "The charge has already been refunded.".to_owned();
            return Err(Refusal::invalid("charge_already_refunded", None, message));
        }
        if !(1..=left).contains(&amount) {
            let message = format!("Refund amount ({amount}) is greater than unrefunded amount on charge ({left})");
            return Err(Refusal::invalid("amount_too_large", Some("amount"), message));
        }
        let (refund_id, currency) = (self.id("re"), payment.currency);
        let refund = Refund {
            id: refund_id,
            payment: id.to_owned(),
            amount,
            currency,
            status: "succeeded",
            metadata,
            created: now,
        };
        self.refunds.push(refund.clone());
        self.tell_refund("refund.created", &refund, now);
        if payment.method.as_deref().and_then(methods::find).is_some_and(|method| method.refunds_fail) {
            // The API's answer says `succeeded`: the bank's refusal comes later.
            let failed = Refund { status: "failed", ..refund.clone() };
            if let Some(last) = self.refunds.last_mut() {
                *last = failed.clone();
            }
            self.tell_refund("refund.failed", &failed, now);
        }
        Ok(refund)
    }

    fn tell(&mut self, kind: &str, id: &str, now: i64) {
        if let Ok(payment) = self.payment(id) {
            let object = render::payment(payment, &self.base, None);
            self.event(kind, &object, now);
        }
    }

    fn tell_refund(&mut self, kind: &str, refund: &Refund, now: i64) {
        let object = render::refund(refund);
        self.event(kind, &object, now);
    }

    /// Adds an event. At the bound the oldest half is forgotten.
    pub fn event(&mut self, kind: &str, object: &Value, now: i64) {
        if self.events.len() >= EVENTS_MAX {
            self.events.drain(..EVENTS_MAX / 2);
        }
        let id = self.id("evt");
        self.events.push(render::event(&id, kind, object, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(method: &str, capture: Capture) -> NewPayment {
        NewPayment {
            amount: 1_999,
            currency: "usd".to_owned(),
            capture,
            method: Some(method.to_owned()),
            confirm: true,
            metadata: BTreeMap::new(),
            description: None,
            return_url: None,
        }
    }

    fn status<'a>(books: &'a Books, id: &str) -> &'a str {
        books.payment(id).unwrap().status
    }

    fn kinds(books: &Books) -> Vec<&str> {
        books.events().iter().filter_map(|event| event["type"].as_str()).collect()
    }

    #[test]
    fn an_authorization_is_captured_once_or_cancelled() {
        let mut books = Books::default();
        let id = books.create(new("pm_card_visa", Capture::Manual), 1).unwrap();
        assert_eq!((status(&books, &id), books.payment(&id).unwrap().amount_received), ("requires_capture", 0));
        assert!(books.capture(&id, Some(2_000), 2).is_err());
        books.capture(&id, None, 2).unwrap();
        assert_eq!(books.payment(&id).unwrap().amount_received, 1_999);
        assert_eq!(books.capture(&id, None, 3).unwrap_err().code, "payment_intent_unexpected_state");
        assert_eq!(books.cancel(&id, None, 3).unwrap_err().code, "payment_intent_unexpected_state");
        let other = books.create(new("pm_card_visa", Capture::Manual), 1).unwrap();
        books.cancel(&other, None, 2).unwrap();
        assert!(books.capture(&other, None, 3).is_err());
        let expected = [
            "payment_intent.created",
            "payment_intent.amount_capturable_updated",
            "payment_intent.succeeded",
            "payment_intent.created",
            "payment_intent.amount_capturable_updated",
            "payment_intent.canceled",
        ];
        assert_eq!(kinds(&books), expected);
    }

    #[test]
    fn no_more_is_given_back_than_was_taken() {
        let mut books = Books::default();
        let id = books.create(new("pm_card_visa", Capture::Automatic), 1).unwrap();
        books.refund(&id, Some(1_000), BTreeMap::new(), 2).unwrap();
        assert_eq!(books.refund(&id, Some(1_000), BTreeMap::new(), 2).unwrap_err().code, "amount_too_large");
        books.refund(&id, None, BTreeMap::new(), 2).unwrap();
        assert_eq!(books.refunded(&id), 1_999);
        assert_eq!(books.refund(&id, None, BTreeMap::new(), 2).unwrap_err().code, "charge_already_refunded");
        let failing = books.create(new("pm_card_refundFail", Capture::Automatic), 1).unwrap();
        assert_eq!(books.refund(&failing, None, BTreeMap::new(), 2).unwrap().status, "succeeded");
        assert_eq!((books.refunded(&failing), kinds(&books).last().copied()), (0, Some("refund.failed")));
    }

    #[test]
    fn buyers_authenticate_or_do_not() {
        let mut books = Books::default();
        let mut made = |method| books.create(new(method, Capture::Manual), 1).unwrap();
        let (good, bad) = (made("pm_card_authenticationRequired"), made("pm_card_authenticationRequired"));
        let poor = made("pm_card_authenticationRequiredChargeDeclinedInsufficientFunds");
        for id in [&good, &bad, &poor] {
            assert_eq!(status(&books, id), "requires_action");
            books.act(id, *id != bad, 2).unwrap();
            assert!(books.act(id, true, 3).is_err(), "it is done");
        }
        assert_eq!(status(&books, &good), "requires_capture");
        for (id, code) in [(&bad, "payment_intent_authentication_failure"), (&poor, "card_declined")] {
            let payment = books.payment(id).unwrap();
            assert_eq!((payment.status, payment.failure.unwrap().0), ("requires_payment_method", code));
        }
    }

    #[test]
    fn banks_decline_and_some_methods_are_charged_at_once() {
        let mut books = Books::default();
        let declined = books.create(new("pm_card_chargeDeclined", Capture::Manual), 1).unwrap_err();
        assert_eq!(
            (declined.status, declined.code, declined.decline_code),
            (402, "card_declined", Some("generic_decline"))
        );
        assert_eq!(status(&books, &declined.payment.unwrap()), "requires_payment_method");
        let bank = books.create(new("pm_usBankAccount_success", Capture::Manual), 1).unwrap_err();
        assert_eq!((bank.status, bank.param), (400, Some("capture_method")));
        let slow = books.create(new("pm_usBankAccount_processing", Capture::Automatic), 1).unwrap();
        assert_eq!(status(&books, &slow), "processing");
        books.process(&slow, true, 2).unwrap();
        assert_eq!(status(&books, &slow), "succeeded");
    }
}
