//! Delivers the fake's events to a webhook endpoint, signed as Stripe signs them: late, doubled or again, as a test asks.

use super::limits::{DELIVERIES_AT_ONCE_MAX, DELIVERY_PAUSE, DELIVERY_PAUSE_MAX, DELIVERY_TIMEOUT, DELIVERY_TRIES_MAX};
use super::shared::Shared;
use crate::actors::clock::system_time;
use crate::payments::stripe::secret::StripeSecret;
use crate::payments::stripe::signature::sign;
use futures_util::{StreamExt, stream};
use reqwest::{Client, header};
use serde_json::Value;
use std::sync::Arc;
use tokio::time::sleep;

/// Sends events as they happen. Never ends.
pub(super) async fn run(shared: Arc<Shared>) {
    let Ok(http) = Client::builder().no_proxy().timeout(DELIVERY_TIMEOUT).build() else { return };
    let mut sent = 0;
    loop {
        // Asked for before the look, so that nothing that happens in between is missed.
        let changed = shared.changed.notified();
        let delivery = shared.delivery();
        let event = if delivery.paused { None } else { shared.event(sent) };
        match (event, &delivery.url) {
            (Some(event), Some(url)) => {
                sleep(delivery.delay).await;
                for _ in 0..delivery.copies {
                    deliver(&http, url, &delivery.secret, &event).await;
                }
                sent += 1;
            }
            (Some(_), None) => sent += 1,
            (None, _) => changed.await,
        }
    }
}

/// Sends all events once more, the newest first and several at once. Returns how many were accepted.
pub(super) async fn repeat(shared: Arc<Shared>) -> usize {
    let delivery = shared.delivery();
    let (Ok(http), Some(url)) = (Client::builder().no_proxy().timeout(DELIVERY_TIMEOUT).build(), delivery.url) else {
        return 0;
    };
    let (mut events, mut index) = (Vec::new(), 0);
    while let Some(event) = shared.event(index) {
        events.push(event);
        index += 1;
    }
    let sending = events.into_iter().rev().map(|event| {
        let (http, url, secret) = (http.clone(), url.clone(), delivery.secret.clone());
        async move { deliver(&http, &url, &secret, &event).await }
    });
    let sent = stream::iter(sending).buffer_unordered(DELIVERIES_AT_ONCE_MAX);
    sent.fold(0, async |taken, accepted| taken + usize::from(accepted)).await
}

/// Sends one event until it is accepted or has been refused too often. Returns whether it was accepted.
async fn deliver(http: &Client, url: &str, secret: &StripeSecret, event: &Value) -> bool {
    let body = event.to_string();
    let mut pause = DELIVERY_PAUSE;
    for _ in 0..DELIVERY_TRIES_MAX {
        let request = http.post(url).header(header::CONTENT_TYPE, "application/json; charset=utf-8");
        let signature = sign(body.as_bytes(), secret, system_time());
        let answer = request.header("Stripe-Signature", signature).body(body.clone()).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return true;
        }
        sleep(pause).await;
        pause = (pause * 2).min(DELIVERY_PAUSE_MAX);
    }
    false
}
