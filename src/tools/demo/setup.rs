//! Before the rush: creates a creator, a product, a drop, and all accounts, through the HTTP API.

use super::{
    DemoError,
    client::{Answer, Call, Client},
    counters::Counters,
    options::{DemoOptions, HOLD_SECONDS},
    wire::{BASE, Made, Session},
};
use crate::actors::clock::system_time;
use crate::domain::{CreatorId, DropId, ProductId};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Concurrent calls while the accounts are created.
const SETUP_CONCURRENCY: usize = 64;
/// Time limit of one call, waits included.
const CALL_PATIENCE: Duration = Duration::from_secs(30);

/// All participants. Tokens last 15 minutes, longer than any demo.
pub struct Participants {
    pub creator: Arc<str>,
    pub drop_id: DropId,
    pub buyers: Vec<Arc<str>>,
    pub followers: Vec<Arc<str>>,
}

/// The client and the state of the setup.
struct Desk<'a> {
    client: &'a Client,
    counters: &'a Counters,
    /// Makes e-mail addresses and handles unique among runs against one database.
    run: String,
}

/// Registers all accounts, schedules the drop and creates the follows.
///
/// # Errors
/// [`DemoError::Setup`] with the first refused call.
pub async fn gather(client: &Client, counters: &Counters, options: &DemoOptions) -> Result<Participants, DemoError> {
    // The random end of a UUID; its beginning is the time and would be the same for two concurrent runs.
    let run = uuid::Uuid::new_v4().simple().to_string().split_off(20);
    let desk = Desk { client, counters, run };
    counters.enter("gathering the crowd", u64::from(options.buyers) + 2 * u64::from(options.followers));
    let creator = desk.register("creator", 0).await?;
    let (creator_id, drop_id) = desk.put_up_drop(&creator, options).await?;
    let followers = desk.register_all("follower", options.followers).await?;
    stream::iter(&followers)
        .map(|token| desk.follow(token, creator_id))
        .buffer_unordered(SETUP_CONCURRENCY)
        .try_collect::<Vec<()>>()
        .await?;
    let buyers = desk.register_all("buyer", options.buyers).await?;
    Ok(Participants { creator, drop_id, buyers, followers })
}

impl Desk<'_> {
    async fn register_all(&self, role: &'static str, count: u32) -> Result<Vec<Arc<str>>, DemoError> {
        stream::iter(0..count)
            .map(|number| async move {
                let token = self.register(role, number).await;
                self.counters.step();
                token
            })
            .buffered(SETUP_CONCURRENCY)
            .try_collect()
            .await
    }

    async fn register(&self, role: &str, number: u32) -> Result<Arc<str>, DemoError> {
        let email = format!("{role}-{number}.{}@demo.livedrop.test", self.run);
        let password = "correct horse battery staple";
        let body = json!({"email": email, "password": password, "display_name": format!("{role} {number}")});
        let mut answer = self.ask(Call::post(format!("{BASE}/auth/register"), None, Some(&body))).await?;
        // An earlier attempt with a lost answer has registered it.
        if answer.code() == "email_taken" {
            let body = json!({"email": email, "password": password});
            answer = self.ask(Call::post(format!("{BASE}/auth/login"), None, Some(&body))).await?;
        }
        let session: Session = read("register an account", &answer)?;
        Ok(session.access_token.into())
    }

    async fn put_up_drop(&self, creator: &Arc<str>, options: &DemoOptions) -> Result<(CreatorId, DropId), DemoError> {
        let body = json!({"handle": format!("demo_{}", self.run), "display_name": "The demo's creator"});
        let made: Made<CreatorId> = self.make("/creators", "become a creator", creator, &body).await?;
        let price = json!({"amount": 1999, "currency": "USD"});
        let body = json!({"name": "Winter jacket", "description": "Only today", "price": price});
        let product: Made<ProductId> = self.make("/products", "add a product", creator, &body).await?;
        // The demo starts it by hand when the crowd is ready, long before this.
        let starts_at = system_time().plus_millis(24 * 3_600_000);
        let body = json!({
            "product_id": product.id,
            "title": "Winter jacket",
            "starts_at": starts_at,
            "per_buyer_limit": options.per_buyer_limit(),
            "low_stock_threshold": options.stock / 10,
            "hold_seconds": HOLD_SECONDS,
            "stock": options.stock,
        });
        let drop: Made<DropId> = self.make("/drops", "schedule a drop", creator, &body).await?;
        Ok((made.id, drop.id))
    }

    async fn follow(&self, token: &Arc<str>, creator: CreatorId) -> Result<(), DemoError> {
        let answer = self.ask(Call::post(format!("{BASE}/creators/{creator}/follow"), Some(token), None)).await?;
        self.counters.step();
        if answer.is_success() { Ok(()) } else { Err(refused("follow the creator", &answer)) }
    }

    async fn make<T: DeserializeOwned>(
        &self,
        path: &str,
        what: &'static str,
        token: &Arc<str>,
        body: &serde_json::Value,
    ) -> Result<T, DemoError> {
        read(what, &self.ask(Call::post(format!("{BASE}{path}"), Some(token), Some(body))).await?)
    }

    async fn ask(&self, call: Call) -> Result<Answer, DemoError> {
        let answer = self.client.send_patiently(&call, Instant::now() + CALL_PATIENCE, self.counters).await;
        answer.ok_or(DemoError::Setup { what: "get an answer", why: call.path })
    }
}

fn read<T: DeserializeOwned>(what: &'static str, answer: &Answer) -> Result<T, DemoError> {
    if !answer.is_success() {
        return Err(refused(what, answer));
    }
    answer.json().map_err(|why| DemoError::Setup { what, why })
}

fn refused(what: &'static str, answer: &Answer) -> DemoError {
    DemoError::Setup { what, why: answer.text() }
}
