//! How the fake delivers its events.

use crate::payments::stripe::secret::StripeSecret;
use serde::Deserialize;
use std::time::Duration;

/// How events are delivered.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Where to; nowhere if absent.
    pub url: Option<String>,
    pub secret: StripeSecret,
    /// How often each event is sent.
    pub copies: u32,
    /// How long after it happened.
    pub delay: Duration,
    /// Whether none is sent for now.
    pub paused: bool,
}

/// A change of [`Delivery`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    #[serde(default)]
    pub url: Option<String>,
    #[serde(default)]
    pub copies: Option<u32>,
    #[serde(default)]
    pub delay_ms: Option<u64>,
    #[serde(default)]
    pub paused: Option<bool>,
}

impl Delivery {
    /// Applies a change.
    pub fn change(&mut self, Change { url, copies, delay_ms, paused }: Change) {
        self.url = url.or(self.url.take());
        self.copies = copies.unwrap_or(self.copies).min(10);
        self.delay = delay_ms.map_or(self.delay, Duration::from_millis);
        self.paused = paused.unwrap_or(self.paused);
    }
}
