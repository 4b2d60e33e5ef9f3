//! A fake of Stripe's API that keeps books: `livedrop stripe-fake`, and a part of tests.
//!
//! It answers the calls that [`crate::payments::stripe`] makes as Stripe documents them, with the payment methods of
//! Stripe's test mode, and sends signed webhooks. Beside the API it has `/fake/…` (`control`): the bank's page of 3-D
//! Secure, faults, and the books for an audit. Everything is in memory; it takes no real money and asks nobody.

pub mod api;
pub mod books;
mod control;
mod delivery;
pub mod faults;
pub mod limits;
pub mod methods;
pub mod model;
mod params;
mod render;
mod server;
mod shared;
mod webhooks;

use self::delivery::Delivery;
use self::shared::Shared;
use crate::payments::stripe::secret::StripeSecret;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

/// The signing secret of webhooks, unless another is given.
pub const WEBHOOK_SECRET: &str = "whsec_fake_of_livedrop";

/// Options of `livedrop stripe-fake`.
#[derive(Clone, Debug, clap::Args)]
pub struct StripeFakeOptions {
    /// The address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:12111")]
    pub bind: SocketAddr,
    /// Where webhooks go, such as <http://127.0.0.1:8080/webhooks/stripe>; none are sent without it
    #[arg(long, value_name = "URL")]
    pub webhook_url: Option<String>,
    /// The file with the signing secret of webhooks [default: a well-known one]
    #[arg(long, value_name = "FILE")]
    pub webhook_secret_file: Option<std::path::PathBuf>,
}

/// A running fake. It ends when this is dropped.
pub struct StripeFake {
    /// Where it listens.
    pub address: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl StripeFake {
    /// Starts a fake on the current runtime. `webhook_url`: where events are sent; none are sent without it.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start(bind: SocketAddr, webhook_url: Option<String>, secret: StripeSecret) -> io::Result<Self> {
        let listener = TcpListener::bind(bind).await?;
        let address = listener.local_addr()?;
        let delivery = Delivery { url: webhook_url, secret, copies: 1, delay: Duration::ZERO, paused: false };
        let shared = Arc::new(Shared::new(format!("http://{address}"), delivery));
        let serving = tokio::spawn(server::run(Arc::clone(&shared), listener));
        let delivering = tokio::spawn(webhooks::run(shared));
        Ok(Self { address, tasks: [serving, delivering] })
    }

    /// The base of its addresses.
    #[must_use]
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for StripeFake {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Runs the fake until the process is interrupted. `listening` is called with its address once it listens.
///
/// # Errors
/// One line: the secret's file cannot be read, or the address is in use.
pub async fn run(options: StripeFakeOptions, listening: impl FnOnce(&str)) -> Result<(), String> {
    let StripeFakeOptions { bind, webhook_url, webhook_secret_file } = options;
    let secret = match webhook_secret_file {
        None => WEBHOOK_SECRET.to_owned(),
        Some(file) => {
            std::fs::read_to_string(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))?
        }
    };
    let fake = StripeFake::start(bind, webhook_url, StripeSecret::new(secret)).await;
    let fake = fake.map_err(|error| format!("cannot listen on {bind}: {error}"))?;
    listening(&fake.base());
    let told = async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            told = tokio::signal::ctrl_c() => told,
            _ = terminate.recv() => Ok(()),
        }
    };
    told.await.map_err(|error: io::Error| format!("cannot wait for a signal: {error}"))
}
