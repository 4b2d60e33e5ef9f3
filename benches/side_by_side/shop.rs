//! The peers: the same small service of the usual kind over Postgres or Redis, behind the HTTP server that LiveDrop
//! uses.
//!
//! A peer has as much of LiveDrop's API as `livedrop load` needs, so the same crowd drives and audits both. It does
//! what a careful team would write in a week: no overselling, a unique idempotency key, the first answer again for a
//! known key. It checks no token (a token is the buyer's id), no buyer's limit, no sale's times; nothing expires and
//! nothing is published.

use super::on_postgres::{OnPostgres, Way};
use super::on_redis::OnRedis;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;

const PEER: &str = "SIDE_BY_SIDE_PEER";
const DATABASE: &str = "SIDE_BY_SIDE_DATABASE";
const HOLD_MS: i64 = 300_000;

/// An order, as requested and as stored.
#[derive(Clone)]
pub struct Order {
    pub id: Uuid,
    pub drop: Uuid,
    pub buyer: Uuid,
    pub key: String,
    pub quantity: i32,
    pub created_ms: i64,
}

/// The result of an order.
pub enum Placed {
    /// Stored, on disk if this peer is durable.
    New,
    /// The key was known: the id and time of its first order.
    Again(Uuid, i64),
    SoldOut,
}

/// The stock and orders of a peer: a connection or a pool of them.
#[derive(Clone)]
pub enum Shop {
    Postgres(OnPostgres),
    Redis(OnRedis),
}

impl Shop {
    async fn open(&self, drop: Uuid, stock: i32) {
        match self {
            Self::Postgres(shop) => shop.open(drop, stock).await,
            Self::Redis(shop) => shop.open(drop, stock).await,
        }
    }

    async fn place(&self, order: &Order) -> Placed {
        match self {
            Self::Postgres(shop) => shop.place(order).await,
            Self::Redis(shop) => shop.place(order).await,
        }
    }

    /// Total and available units.
    async fn stock(&self, drop: Uuid) -> (i64, i64) {
        match self {
            Self::Postgres(shop) => shop.stock(drop).await,
            Self::Redis(shop) => shop.stock(drop).await,
        }
    }
}

/// The peer that this process runs, with its connection settings.
#[derive(Clone)]
enum Plan {
    Postgres(String, Way),
    Redis(u16),
}

impl Plan {
    fn of(name: &str, database: String) -> Self {
        match name {
            "postgres" => Self::Postgres(database, Way::Transaction),
            "postgres-statement" => Self::Postgres(database, Way::Statement),
            "redis" => Self::Redis(database.parse().expect("a port")),
            _ => panic!("there is no peer {name}"),
        }
    }

    async fn shop(&self) -> Shop {
        match self {
            Self::Postgres(url, way) => Shop::Postgres(OnPostgres::connect(url, *way).await),
            Self::Redis(port) => Shop::Redis(OnRedis::connect(*port).await),
        }
    }
}

/// The command that starts this program as a peer. The peer prints its address.
pub fn command(name: &str, database: &str) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().expect("this program"));
    command.env(PEER, name).env(DATABASE, database);
    command
}

/// Runs as a peer if the environment says so; returns whether it did.
pub fn become_peer() -> bool {
    let Ok(name) = std::env::var(PEER) else { return false };
    let plan = Plan::of(&name, std::env::var(DATABASE).expect("a database"));
    actix_web::rt::System::new().block_on(async {
        if let Shop::Postgres(shop) = plan.shop().await {
            shop.migrate().await;
        }
        // Each worker has its own connection or pool, so no answer crosses a thread.
        let server = HttpServer::new(move || {
            let plan = plan.clone();
            let shop = move || {
                let plan = plan.clone();
                async move { Ok::<_, std::convert::Infallible>(plan.shop().await) }
            };
            App::new().data_factory(shop).service(
                web::scope("/api/v1")
                    .route("/auth/register", web::post().to(register))
                    .route("/creators", web::post().to(anything))
                    .route("/products", web::post().to(anything))
                    .route("/drops", web::post().to(open))
                    .route("/drops/{id}/stock", web::get().to(stock))
                    .route("/orders", web::post().to(order)),
            )
        });
        let server = server.bind("127.0.0.1:0").expect("a port");
        println!("listening on http://{}", server.addrs()[0]);
        server.run().await.expect("it runs");
    });
    true
}

/// The body is read although nothing needs it: the server would close the connection otherwise.
async fn register(_: web::Bytes) -> HttpResponse {
    HttpResponse::Created().json(json!({"access_token": Uuid::new_v4()}))
}

async fn anything(_: web::Bytes) -> HttpResponse {
    HttpResponse::Created().json(json!({"id": Uuid::now_v7()}))
}

#[derive(Deserialize)]
struct NewDrop {
    stock: i32,
}

async fn open(shop: web::Data<Shop>, new: web::Json<NewDrop>) -> HttpResponse {
    let id = Uuid::now_v7();
    shop.open(id, new.stock).await;
    HttpResponse::Created().json(json!({"id": id}))
}

async fn stock(shop: web::Data<Shop>, drop: web::Path<Uuid>) -> HttpResponse {
    let (total, available) = shop.stock(*drop).await;
    HttpResponse::Ok().json(json!({"total": total, "available": available, "held": total - available, "sold": 0}))
}

#[derive(Deserialize)]
struct NewOrder {
    drop_id: Uuid,
    quantity: i32,
}

#[derive(Serialize)]
struct OrderBody {
    id: Uuid,
    drop_id: Uuid,
    quantity: i32,
    unit_price: Money,
    total: Money,
    status: &'static str,
    created_at: i64,
    expires_at: i64,
}

#[derive(Serialize)]
struct Money {
    amount: i64,
    currency: &'static str,
}

async fn order(request: HttpRequest, shop: web::Data<Shop>, new: web::Json<NewOrder>) -> HttpResponse {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let buyer = header(AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer ")?.parse().ok());
    let (Some(buyer), Some(key)) = (buyer, header("idempotency-key")) else {
        return HttpResponse::Unauthorized().finish();
    };
    if new.quantity <= 0 {
        return HttpResponse::UnprocessableEntity().json(json!({"code": "validation_failed"}));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_millis();
    let (id, created_ms) = (Uuid::now_v7(), i64::try_from(now).expect("a time"));
    let order = Order { id, drop: new.drop_id, buyer, key: key.to_owned(), quantity: new.quantity, created_ms };
    match shop.place(&order).await {
        Placed::New => HttpResponse::Created().json(body(&order, id, created_ms)),
        Placed::Again(id, created_ms) => {
            HttpResponse::Created().insert_header(("idempotency-replayed", "true")).json(body(&order, id, created_ms))
        }
        Placed::SoldOut => HttpResponse::Conflict().json(json!({"code": "sold_out"})),
    }
}

fn body(order: &Order, id: Uuid, created_ms: i64) -> OrderBody {
    let money = |amount| Money { amount, currency: "USD" };
    OrderBody {
        id,
        drop_id: order.drop,
        quantity: order.quantity,
        unit_price: money(1_999),
        total: money(1_999 * i64::from(order.quantity)),
        status: "reserved",
        created_at: created_ms,
        expires_at: created_ms + HOLD_MS,
    }
}
