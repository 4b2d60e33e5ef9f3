//! Stripe: PaymentIntents with manual capture.
//!
//! - *Which payment is an order's?* An attempt to pay is one PaymentIntent. It is made and confirmed by one request, whose
//!   idempotency key is the order and the attempt, and which carries both as metadata.
//! - *The answer was lost.* Repeating the request returns its first answer while Stripe keeps the key (see the module `lookup`).
//! - *Declined is final.* Stripe would let a declined payment be tried with another card; here that is the next attempt,
//!   so a payment whose secret the buyer's page has is cancelled when it was declined.
//! - *Not every method can be captured later.* One that cannot is charged at once, and refunded if it came too late.

pub mod amount;
pub mod api;
mod books;
pub mod config;
pub mod intent;
pub mod limits;
mod lookup;
mod refund;
pub mod secret;
pub mod signature;
pub mod webhook;

use self::api::{Api, ApiError, CallError, Form};
use self::config::StripeConfig;
use self::intent::{ABANDONED, ATTEMPT, ORDER_ID, PaymentIntent, Status};
use self::limits::ROUNDS_MAX;
use crate::domain::limits::PAYMENT_METHOD_CHARS_MAX;
use crate::domain::{Money, OrderId, Timestamp};
use crate::payments::gateway::{
    Charge, DeclineReason, GatewayError, GatewayHealth, ListedPayment, PaymentGateway, PaymentPage, PaymentStatus,
};
use async_trait::async_trait;
use serde::Deserialize;
use std::sync::Arc;

/// The provider's name in configuration, records and metrics.
pub const NAME: &str = "stripe";

/// The time of day.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Types of payment methods that Stripe can authorize first and capture later, by the API's description.
const CAPTURED_LATER: [&str; 20] = [
    "affirm",
    "afterpay_clearpay",
    "alma",
    "amazon_pay",
    "billie",
    "card",
    "cashapp",
    "kakao_pay",
    "klarna",
    "kr_card",
    "link",
    "mobilepay",
    "naver_pay",
    "payco",
    "paypal",
    "revolut_pay",
    "samsung_pay",
    "satispay",
    "scalapay",
    "sunbit",
];

/// When the money is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Capture {
    /// Later, by us.
    Manual,
    /// At once.
    Automatic,
}

/// The gateway of one Stripe account.
#[derive(Clone)]
pub struct Stripe {
    api: Api,
    now: Now,
}

impl Stripe {
    /// A gateway with these settings; `now` is the time of day. Asks Stripe nothing yet.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(config: StripeConfig, now: Now) -> Result<Self, String> {
        Ok(Self { api: Api::new(config)?, now })
    }

    async fn create(&self, charge: &Charge, amount: i64, capture: Capture) -> Result<PaymentIntent, CallError> {
        let key = authorize_key(charge.order, charge.attempt, capture);
        self.api.post("/v1/payment_intents", &self.form_of(charge, amount, capture), &key).await
    }

    fn form_of(&self, charge: &Charge, amount: i64, capture: Capture) -> Form {
        let back = self.api.config().return_url.as_ref();
        let text = |text: &str| text.to_owned();
        let mut form = vec![
            ("amount", amount.to_string()),
            ("currency", charge.amount.currency.as_str().to_ascii_lowercase()),
            ("payment_method", charge.method.clone()),
            ("confirm", text("true")),
            ("capture_method", text(if capture == Capture::Manual { "manual" } else { "automatic" })),
            ("automatic_payment_methods[enabled]", text("true")),
            ("automatic_payment_methods[allow_redirects]", text(if back.is_some() { "always" } else { "never" })),
            ("description", format!("Order {}", charge.order)),
            ("metadata[order_id]", charge.order.to_string()),
            ("metadata[attempt]", charge.attempt.to_string()),
            ("expand[]", text("latest_charge")),
        ];
        form.extend(back.map(|url| ("return_url", url.to_string())));
        form
    }

    /// Charges a method at once that cannot be captured later, if `refused` may be about that.
    async fn charge_at_once(
        &self,
        charge: &Charge,
        amount: i64,
        refused: CallError,
    ) -> Result<PaymentIntent, CallError> {
        #[derive(Deserialize)]
        struct Method {
            #[serde(rename = "type")]
            kind: String,
        }
        let may_help = refused.answer().is_some_and(|error| error.status == 400 && !error.is_other_request());
        if !may_help {
            return Err(refused);
        }
        let path = format!("/v1/payment_methods/{}", charge.method);
        let Ok(Method { kind }) = self.api.get(&path, &Form::new()).await else { return Err(refused) };
        if CAPTURED_LATER.contains(&kind.as_str()) {
            return Err(refused);
        }
        self.create(charge, amount, Capture::Automatic).await
    }

    async fn retrieve(&self, reference: &str) -> Result<Option<PaymentIntent>, GatewayError> {
        let path = path_of(reference)?;
        match self.api.get(&path, &vec![("expand[]", "latest_charge".to_owned())]).await {
            Ok(intent) => Ok(Some(intent)),
            Err(error) if error.answer().is_some_and(|error| error.status == 404) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The order and the attempt of a payment, from its metadata; `None` if it is no payment of ours.
    ///
    /// # Errors
    /// If Stripe cannot be asked.
    pub async fn order_of(&self, reference: &str) -> Result<Option<(OrderId, u32)>, GatewayError> {
        let intent = self.retrieve(reference).await?;
        Ok(intent.and_then(|intent| {
            let value = |name: &str| intent.metadata.get(name);
            Some((value(ORDER_ID)?.parse().ok()?, value(ATTEMPT)?.parse().ok()?))
        }))
    }

    /// Closes a payment, so that nobody can pay it any more. Returns its state, which may not be cancelled: it may have
    /// been paid in between.
    async fn close(&self, reference: &str, reason: Option<&str>) -> Result<PaymentIntent, GatewayError> {
        let path = format!("{}/cancel", path_of(reference)?);
        let form = reason.map(|reason| ("cancellation_reason", reason.to_owned())).into_iter().collect();
        match self.api.advance(&path, &form).await {
            Ok(intent) => Ok(intent),
            // Stripe answers so if it is over already, too.
            Err(error) if changed_meanwhile(&error) => {
                self.retrieve(reference).await?.ok_or_else(|| unknown_payment(reference))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What a payment means, with a declined one closed.
    async fn settled(&self, intent: PaymentIntent) -> Result<PaymentStatus, GatewayError> {
        if intent.status != Status::RequiresPaymentMethod {
            return Ok(intent.meaning());
        }
        let closed = self.close(&intent.id, Some(ABANDONED)).await?;
        match closed.status {
            // Its error may be gone from the answer.
            Status::Canceled => Ok(intent.meaning()),
            _ => Ok(closed.meaning()),
        }
    }
}

#[async_trait]
impl PaymentGateway for Stripe {
    fn name(&self) -> &'static str {
        NAME
    }

    fn accepts(&self, method: &str) -> bool {
        let plain = method.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        plain
            && method.len() <= PAYMENT_METHOD_CHARS_MAX
            && method.starts_with("pm_")
            && !method.starts_with("pm_sandbox_")
    }

    async fn authorize(&self, charge: &Charge) -> Result<PaymentStatus, GatewayError> {
        if !self.accepts(&charge.method) {
            return Err(refused("the payment method's name is none of Stripe's"));
        }
        let amount = amount::to_stripe(charge.amount).map_err(|error| refused(&error.to_string()))?;
        let made = match self.create(charge, amount, Capture::Manual).await {
            Err(error) => self.charge_at_once(charge, amount, error).await,
            made => made,
        };
        match made {
            Ok(intent) => Ok(intent.meaning()),
            Err(error) => declined(error),
        }
    }

    async fn look_up(
        &self,
        order: OrderId,
        attempt: u32,
        reference: Option<&str>,
    ) -> Result<PaymentStatus, GatewayError> {
        let found = match reference {
            Some(reference) => self.retrieve(reference).await?,
            None => self.find(order, attempt).await?,
        };
        match found {
            Some(intent) => self.settled(intent).await,
            None => Ok(PaymentStatus::Unknown),
        }
    }

    async fn capture(&self, _: OrderId, reference: &str, amount: Money) -> Result<(), GatewayError> {
        let path = format!("{}/capture", path_of(reference)?);
        let amount = amount::to_stripe(amount).map_err(|error| refused(&error.to_string()))?;
        let form = vec![("amount_to_capture", amount.to_string())];
        match self.api.advance::<PaymentIntent>(&path, &form).await {
            Ok(_) => Ok(()),
            Err(error) if changed_meanwhile(&error) => {
                let intent = self.retrieve(reference).await?.ok_or_else(|| unknown_payment(reference))?;
                captured(&intent, amount)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn give_back(
        &self,
        order: OrderId,
        reference: &str,
        amount: Option<Money>,
        refund: &str,
    ) -> Result<(), GatewayError> {
        for _ in 0..ROUNDS_MAX {
            let intent = self.retrieve(reference).await?.ok_or_else(|| unknown_payment(reference))?;
            match intent.status {
                Status::Canceled => return Ok(()),
                Status::Succeeded => return self.refund(order, &intent, amount, refund).await,
                // A part of what is not taken yet cannot be given back: it is asked again after the capture.
                Status::RequiresCapture if amount.is_some_and(|part| is_part(&intent, part)) => {
                    return Err(later("the payment is not captured yet"));
                }
                Status::Processing | Status::Other => return Err(later("the payment is still being worked on")),
                // Paid between the two calls: the next round refunds it.
                _ if self.close(reference, None).await?.status == Status::Canceled => return Ok(()),
                _ => {}
            }
        }
        Err(later("the payment changes its state"))
    }

    async fn list(&self, from: Timestamp, to: Timestamp, after: Option<&str>) -> Result<PaymentPage, GatewayError> {
        self.page(from, to, after).await
    }

    async fn payment(&self, reference: &str) -> Result<Option<ListedPayment>, GatewayError> {
        Ok(self.retrieve(reference).await?.and_then(PaymentIntent::listed))
    }

    fn health(&self) -> GatewayHealth {
        GatewayHealth::Up
    }
}

fn authorize_key(order: OrderId, attempt: u32, capture: Capture) -> String {
    match capture {
        Capture::Manual => format!("livedrop-{order}-{attempt}"),
        Capture::Automatic => format!("livedrop-{order}-{attempt}-at-once"),
    }
}

/// The path of a payment. A reference comes from our own records and from webhooks: it must not become another path.
fn path_of(reference: &str) -> Result<String, GatewayError> {
    let plain = reference.len() <= 100 && reference.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !plain || !reference.starts_with("pi_") {
        return Err(refused("the reference is none of a payment of Stripe's"));
    }
    Ok(format!("/v1/payment_intents/{reference}"))
}

/// Whether a call came too late, or for the second time.
fn changed_meanwhile(error: &CallError) -> bool {
    let state = |error: &ApiError| error.is("payment_intent_unexpected_state") || error.is("charge_already_captured");
    error.answer().is_some_and(state)
}

fn is_part(intent: &PaymentIntent, part: Money) -> bool {
    amount::to_stripe(part).is_ok_and(|part| part < intent.amount)
}

fn captured(intent: &PaymentIntent, amount: i64) -> Result<(), GatewayError> {
    match intent.status {
        Status::Succeeded if intent.amount_received == amount => Ok(()),
        Status::Succeeded => Err(refused(&format!("{} was captured, and not {amount}", intent.amount_received))),
        Status::Canceled => Err(refused("the authorization has ended: nothing was captured, and nothing can be")),
        _ => Err(later("the payment cannot be captured yet")),
    }
}

/// The meaning of an authorization's error: most declines are one.
fn declined(error: CallError) -> Result<PaymentStatus, GatewayError> {
    let Some(answer) = error.answer() else { return Err(error.into()) };
    let of_card = answer.status == 402 || answer.kind == "card_error";
    // A payment method that does not exist, was used up or belongs to somebody else.
    let of_method = answer.param.as_deref() == Some("payment_method") && matches!(answer.status, 400 | 404);
    if of_card {
        let reason = intent::reason(answer.code.as_deref(), answer.decline_code.as_deref());
        let reference = answer.payment_intent.as_ref().and_then(|intent| Some(intent.get("id")?.as_str()?.to_owned()));
        return Ok(PaymentStatus::Declined { reference, reason });
    }
    if of_method && !answer.is_other_request() && !error.may_have_happened {
        return Ok(PaymentStatus::Declined { reference: None, reason: DeclineReason::MethodUnusable });
    }
    if answer.is_other_request() {
        // An attempt with this number was made before, with other parameters: only a look-up tells what became of it.
        return Err(later("this attempt was made before, with other parameters"));
    }
    Err(error.into())
}

fn unknown_payment(reference: &str) -> GatewayError {
    refused(&format!("Stripe knows no payment {reference}: is the key one of another account, or of test mode?"))
}

/// An error that no repetition changes.
fn refused(reason: &str) -> GatewayError {
    GatewayError::Refused { reason: reason.to_owned(), retry_after: None }
}

/// An answer that a repetition may change.
fn later(reason: &str) -> GatewayError {
    GatewayError::NotYet { reason: reason.to_owned() }
}
