//! Vendure, a shop in TypeScript, from npm: one process over a Postgres that syncs its commits.
//!
//! Its stock is taken when an order is paid. A guest needs two requests for that: one into the cart, and one with
//! everything else (name, address, shipping, payment), the fewest that its API allows.

use super::packages::need;
use super::postgres::{PrivatePostgres, free_port};
use super::support::Serving;
use super::{Figures, Row, Scale};
use futures_util::future::join_all;
use hdrhistogram::Histogram;
use reqwest::Client;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, Row as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Ignores later versions of Vendure's dependencies, so that every run installs the same.
const BEFORE: &str = "--before=2026-06-01";
const STOCK: u32 = 1_000_000;
/// Connections to Vendure's database.
const POOL: u32 = 20;

const CART: &str = r#"mutation { addItemToOrder(productVariantId: "1", quantity: 1) { __typename } }"#;
const CHECKOUT: &str = r#"mutation ($email: String!) {
    setCustomerForOrder(input: {firstName: "Ann", lastName: "Buyer", emailAddress: $email}) { __typename }
    setOrderShippingAddress(input: {streetLine1: "1 Street", countryCode: "AT"}) { __typename }
    setOrderShippingMethod(shippingMethodId: ["1"]) { __typename }
    transitionOrderToState(state: "ArrangingPayment") { __typename }
    addPaymentToOrder(input: {method: "sandbox", metadata: {}}) { __typename ... on Order { state } }
}"#;

/// Vendure's rows of the table.
pub fn rows(scale: &Scale) -> Vec<Row> {
    let folder = install();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let database = PrivatePostgres::durable();
    let url = runtime.block_on(database.fresh_database());
    let server = start(&folder, &url);
    // Vendure closes a connection after five idle seconds; the client closes it before, so that no request meets a
    // closed one.
    let client = Client::builder().pool_idle_timeout(Duration::from_secs(2)).build().expect("a client");
    let shop = Shop { client, url: format!("http://{}/shop-api", server.address) };
    runtime.block_on(async {
        shop.crowd(scale, 2, true).await;
        let before = allocated(&url).await;
        let (orders, paid, lost) = shop.crowd(scale, scale.seconds, true).await;
        let taken = allocated(&url).await - before;
        let (cart, _, _) = shop.crowd(scale, scale.seconds, false).await;
        let orders = Row {
            name: "Vendure 3.6, guest checkout",
            notes: format!(
                "on disk; no key: a retry orders again; {paid} orders paid ({lost} without an answer), and its stock says {taken} units \
                 taken; a whole shop: prices, taxes, shipping, payment"
            ),
            rounds: vec![orders],
        };
        let cart = Row { name: "Vendure 3.6, into the cart", notes: "takes no stock yet".to_owned(), rounds: vec![cart] };
        vec![orders, cart]
    })
}

/// Installs Vendure from the npm registry, once.
fn install() -> PathBuf {
    need("node", "nodejs");
    need("npm", "npm");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vendure");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("package.json"), include_str!("vendure/package.json")).expect("a file");
    fs::write(folder.join("server.cjs"), include_str!("vendure/server.cjs")).expect("a file");
    println!("Vendure is installed from npm into {}", folder.display());
    let mut npm = Command::new("npm");
    npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", BEFORE]).current_dir(&folder);
    assert!(npm.stdout(Stdio::null()).status().is_ok_and(|status| status.success()), "npm could not install Vendure");
    folder
}

fn start(folder: &Path, database: &str) -> Serving {
    let database = url::Url::parse(database).expect("an address");
    let port = free_port();
    let mut command = Command::new("node");
    command.arg("server.cjs").current_dir(folder).env("NODE_ENV", "production");
    command.env("PGHOST", database.host_str().expect("a host")).env("PGUSER", database.username());
    command.env("PGPORT", database.port().expect("a port").to_string());
    command.env("PGDATABASE", database.path().trim_start_matches('/'));
    command.env("SHOP_PORT", port.to_string()).env("SHOP_STOCK", STOCK.to_string()).env("SHOP_POOL", POOL.to_string());
    Serving::start(&mut command)
}

/// The units taken by orders, read from Vendure's database.
async fn allocated(url: &str) -> i64 {
    let mut sql = PgConnection::connect(url).await.expect("postgres answers");
    let row = sqlx::query(r#"SELECT "stockAllocated" FROM stock_level"#).fetch_one(&mut sql).await.expect("a row");
    row.get::<i32, _>(0).into()
}

struct Shop {
    client: Client,
    url: String,
}

impl Shop {
    /// `scale.connections` guests at once, each with the next order after the last. Returns their figures, the accepted
    /// orders, and the orders without an answer.
    async fn crowd(&self, scale: &Scale, seconds: u64, pays: bool) -> (Figures, i64, i64) {
        let (began, run) = (Instant::now(), rand::random::<u32>());
        let guests = (0..scale.connections).map(async |guest| {
            let mut micros = Histogram::<u64>::new(3).expect("a histogram");
            let (mut orders, mut lost) = (0, 0);
            while began.elapsed() < Duration::from_secs(seconds) {
                let asked = Instant::now();
                let email = format!("guest-{run}-{guest}-{orders}@example.com");
                match self.order(&email, pays).await {
                    Ok(true) => micros.record(asked.elapsed().as_micros() as u64).expect("a duration"),
                    Ok(false) => {}
                    Err(_) => lost += 1,
                }
                orders += 1;
            }
            (micros, lost)
        });
        let mut micros = Histogram::<u64>::new(3).expect("a histogram");
        let mut lost = 0;
        for (of_one, lost_by_one) in join_all(guests).await {
            micros.add(of_one).expect("the same precision");
            lost += lost_by_one;
        }
        let ms = |quantile| micros.value_at_quantile(quantile) as f64 / 1_000.0;
        let per_second = micros.len() as f64 / began.elapsed().as_secs_f64();
        let accepted = i64::try_from(micros.len()).expect("a count");
        (Figures { per_second, p50_ms: ms(0.5), p99_ms: ms(0.99) }, accepted, lost)
    }

    /// Whether the order was accepted.
    async fn order(&self, email: &str, pays: bool) -> reqwest::Result<bool> {
        let request = self.client.post(&self.url).json(&json!({"query": CART}));
        let answer = request.send().await?;
        let token = answer.headers().get("vendure-auth-token").cloned();
        let cart: Value = answer.json().await?;
        let (Some(token), true) = (token, cart["data"]["addItemToOrder"]["__typename"] == "Order") else {
            return Ok(false);
        };
        if !pays {
            return Ok(true);
        }
        let token = token.to_str().expect("text");
        let request = self.client.post(&self.url).bearer_auth(token);
        let request = request.json(&json!({"query": CHECKOUT, "variables": {"email": email}}));
        let answer: Value = request.send().await?.json().await?;
        Ok(answer["data"]["addPaymentToOrder"]["state"] == "PaymentAuthorized")
    }
}
