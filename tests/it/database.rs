//! Sales on Postgres, and outages of the database.

use crate::postgres::PrivatePostgres;
use crate::server::{Account, SOON, Server, livedrop, problem};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_on_postgres_ends_with_a_clean_audit() {
    let mut server = Server::with(Some(crate::postgres::fresh_database().await), &[]).await;
    let (_, drop) = server.live_drop(10, json!({"per_buyer_limit": 1})).await;
    // A text that Postgres cannot store.
    let nobody = json!({"email": "ann\u{0}@example.com", "password": "correct horse"});
    problem(server.post("/auth/login", None, nobody).await, 401, "invalid_credentials");
    let buyers = futures_util::future::join_all((0..20).map(|_| server.account("buyer"))).await;
    let body = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    let answers = futures_util::future::join_all(buyers.iter().map(|buyer| server.order(buyer, "k", &body))).await;
    assert_eq!(answers.iter().filter(|(status, _)| status.as_u16() == 201).count(), 10);
    server.kill();
    server.restart();
    assert_eq!(server.stock(&drop).await, (0, 0, 10));
    for (buyer, (status, first)) in buyers.iter().zip(&answers) {
        let again = server.order(buyer, "k", &body).await;
        match status.as_u16() {
            201 => assert_eq!(again, (*status, first.clone())),
            // A refusal is that of now, with a trace of its own.
            _ => _ = problem(again, 409, "sold_out"),
        }
    }
    assert_eq!(server.terminate(), Some(0));
    let (code, report) = server.verify();
    assert_eq!((code, &report["database"]), (Some(0), &json!("postgres")), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_go_on_while_the_database_is_down() {
    let mut postgres = PrivatePostgres::new();
    let mut server = Server::with(Some(postgres.fresh_database().await), &[]).await;
    let (_, drop) = server.live_drop(100, json!({"hold_seconds": 600})).await;
    let ann = server.account("ann").await;
    postgres.stop();
    let body = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    for n in 0..20 {
        let (status, order) = server.order(&ann, &format!("k{n}"), &body).await;
        assert_eq!(status, 201, "{order}");
    }
    assert_eq!(server.stock(&drop).await, (80, 0, 20));
    // A list that may lack orders is refused. A single order is read from its drop.
    problem(server.get("/users/me/orders?limit=50", Some(&ann)).await, 503, "database_unavailable");
    let register = json!({"email": "x@example.com", "password": "correct horse", "display_name": "x"});
    problem(server.post("/auth/register", None, register).await, 503, "database_unavailable");
    server.until("degraded", async || server.readiness().await.1["status"] == "degraded").await;
    postgres.start();
    server.until("caught up", async || server.readiness().await.1["status"] == "ready").await;
    let (status, mine) = server.get("/users/me/orders?limit=50", Some(&ann)).await;
    assert_eq!((status.as_u16(), mine["items"].as_array().map(Vec::len)), (200, Some(20)), "{mine}");
    assert_eq!(server.terminate(), Some(0));
    let (code, report) = server.verify();
    assert_eq!((code, &report["unprojected_records"]), (Some(0), &json!(0)), "{report}");
}

/// Without the database no token can be renewed, and an outage may last longer than a token: signed-in buyers go on
/// buying.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_three_lifetimes_of_a_token_stops_no_buyer() {
    const LIFETIME: Duration = Duration::from_secs(3);
    let mut postgres = PrivatePostgres::new();
    let seconds = LIFETIME.as_secs().to_string();
    let url = postgres.fresh_database().await;
    let mut server = Server::with(Some(url), &["--access-token-seconds", &seconds]).await;
    let (maker, drop) = server.live_drop(1_000, json!({"hold_seconds": 600})).await;
    let past = server.account("past").await;
    // Its token expires, and the server pings the database once more: it does so each second.
    server.until("ended", async || server.get("/users/me", Some(&past)).await.0 == 401).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut ann = server.account("ann").await;
    let stopping = tokio::task::spawn_blocking(move || {
        postgres.stop();
        postgres
    });
    // The last token issued before the outage: it was valid when the outage began.
    loop {
        let (status, body) = server.post("/auth/refresh", None, json!({"refresh_token": ann.refresh})).await;
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        let (Some(token), Some(refresh)) = (text("access_token"), text("refresh_token")) else {
            assert_eq!(status, 503, "{body}");
            break;
        };
        (ann.token, ann.refresh) = (token, refresh);
    }
    let mut postgres = stopping.await.expect("it stops");
    let mut listener = crate::listener::Listener::connect(&server).await;
    server.until("known", async || server.readiness().await.1["checks"]["database"]["status"] == "unavailable").await;
    listener.send(json!({"op": "auth", "token": ann.token})).await;
    listener.until("authenticated").await;
    let body = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    let (began, mut orders) = (std::time::Instant::now(), 0);
    while began.elapsed() < LIFETIME * 3 {
        let (status, order) = server.order(&ann, &format!("k{orders}"), &body).await;
        assert_eq!(status, 201, "after {:?}: {order}", began.elapsed());
        orders += 1;
        problem(server.order(&past, "k", &body).await, 401, "token_expired");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.stock(&drop).await, (1_000 - orders, 0, orders));
    listener.send(json!({"op": "ping"})).await;
    listener.until("pong").await;
    let (status, _) = server.call(Method::POST, "/notifications/ticket", Some(&ann), None).await;
    assert_eq!(status, 201);
    // Drops on sale are listed.
    let creators = format!("/creators/{}/drops?phase=live", maker.id);
    for path in ["/drops?phase=live", "/drops?status=live&limit=1", &creators] {
        let (status, page) = server.get(path, None).await;
        assert_eq!((status.as_u16(), &page["items"][0]["id"]), (200, &json!(drop)), "{path}: {page}");
    }
    assert_eq!(server.get("/drops?status=sold_out", None).await.1["items"], json!([]));
    assert_eq!(server.get(&format!("/drops/{drop}"), None).await.0, 200);
    problem(server.get("/drops", None).await, 503, "database_unavailable");
    postgres.start();
    server.until("caught up", async || server.readiness().await.1["status"] == "ready").await;
    let login = json!({"email": ann.email, "password": "correct horse"});
    assert_eq!(server.post("/auth/login", None, login).await.0, 200);
    assert_eq!(server.terminate(), Some(0));
    let (code, report) = server.verify();
    assert_eq!((code, &report["unprojected_records"]), (Some(0), &json!(0)), "{report}");
}

/// As after a standby that was promoted too early, or a database that does not sync.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_forgets_is_filled_again_from_the_journal() {
    const TABLES: [&str; 4] = ["watermarks", "drops", "drop_variants", "orders"];
    let url = crate::postgres::fresh_database().await;
    let mut server = Server::with(Some(url.clone()), &[]).await;
    let (_, drop) = server.live_drop(10, json!({"hold_seconds": 600})).await;
    let ann = server.account("ann").await;
    let body = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    let mut sql = PgConnection::connect(&url).await.expect("postgres answers");
    let projected = async |sql: &mut PgConnection, orders: i64| {
        let query = "SELECT count(*) FROM orders WHERE status = 'confirmed'";
        let deadline = tokio::time::Instant::now() + SOON;
        while sqlx::query_scalar::<_, i64>(query).fetch_one(&mut *sql).await.expect("a count") != orders {
            assert!(tokio::time::Instant::now() < deadline, "still not {orders} orders");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    server.order(&ann, "1", &body).await;
    projected(&mut sql, 1).await;
    let keep = TABLES.map(|table| format!("CREATE TABLE kept_{table} AS SELECT * FROM {table};")).concat();
    sql.execute(AssertSqlSafe(keep)).await.expect("a copy");
    server.order(&ann, "2", &body).await;
    projected(&mut sql, 2).await;
    let back = TABLES.map(|table| format!("INSERT INTO {table} SELECT * FROM kept_{table};")).concat();
    let forget = format!("BEGIN; TRUNCATE {}; {back} COMMIT;", TABLES.join(", "));
    sql.execute(AssertSqlSafe(forget)).await.expect("the copy goes back");
    server.order(&ann, "3", &body).await;
    projected(&mut sql, 3).await;
    assert_eq!(server.terminate(), Some(0));
    let (code, report) = server.verify();
    assert_eq!((code, &report["unprojected_records"]), (Some(0), &json!(0)), "{report}");
}

/// Two servers that sold the same drops would oversell them.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_belongs_to_one_server() {
    let url = crate::postgres::fresh_database().await;
    let mut first = Server::with(Some(url.clone()), &[]).await;
    let (_, drop) = first.live_drop(10, json!({"hold_seconds": 600})).await;
    let ann = first.account("ann").await;
    let body = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    assert_eq!(first.order(&ann, "1", &body).await.0, 201);
    let mut sql = PgConnection::connect(&url).await.expect("postgres answers");
    first
        .until("projected", async || {
            let mut sql = PgConnection::connect(&url).await.expect("postgres answers");
            sqlx::query_scalar::<_, i64>("SELECT count(*) FROM orders").fetch_one(&mut sql).await.expect("a count") == 1
        })
        .await;

    let elsewhere = tempfile::TempDir::new().expect("a folder");
    let run = |task: &[&str]| {
        let mut command = livedrop();
        command.args(task).args(["--bind", "127.0.0.1:0", "--database-url", &url, "--data-dir"]).arg(elsewhere.path());
        command.output().expect("livedrop runs")
    };
    let refused = run(&["serve"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!((refused.status.code(), told.lines().count()), (Some(1), 1), "{told}");
    assert!(told.contains("a server lives on this database"), "{told}");
    assert_eq!(first.order(&ann, "2", &body).await.0, 201, "whoever has it goes on");

    let refused = run(&["adopt", "--yes"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!((refused.status.code(), told.lines().count()), (Some(1), 1), "{told}");
    assert!(told.contains("a server lives on this database"), "{told}");
    // A server that hangs and comes back; not in the middle of a transaction, which others would wait for.
    first.until("projected", async || projector_lag(&first).await == 0).await;
    first.signal("STOP");
    sql.execute("UPDATE heartbeats SET at = at - 60000").await.expect("a minute passes");
    let refused = run(&["serve"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!((refused.status.code(), told.lines().count()), (Some(1), 1), "{told}");
    assert!(told.contains("the database belongs to journal") && told.contains("livedrop adopt"), "{told}");
    assert_eq!(run(&["adopt"]).status.code(), Some(1), "only when it is meant");
    assert_eq!(run(&["adopt", "--yes"]).status.code(), Some(0));
    let second = Server::with(Some(url.clone()), &[]).await;
    assert_eq!(second.stock(&drop).await.2, sold(&mut sql).await);
    first.signal("CONT");
    let _ = first.order_raw(&ann, "3", &body).await;
    assert_eq!(first.wait(), Some(1), "the server that lost the database stops selling");
}

async fn sold(sql: &mut PgConnection) -> u64 {
    let query = "SELECT CAST(sum(sold) AS BIGINT) FROM drop_variants";
    sqlx::query_scalar::<_, i64>(query).fetch_one(sql).await.expect("a sum").unsigned_abs()
}

/// A drop that ended before the crash is not in memory after it. Until SQL has its end, it is not answered at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_tells_nothing_of_what_sql_has_not_caught_up_with() {
    let url = crate::postgres::fresh_database().await;
    let mut server = Server::with(Some(url.clone()), &[]).await;
    let (maker, drop) = server.live_drop(10, json!({})).await;
    let ann = server.account("ann").await;
    let mut sql = PgConnection::connect(&url).await.expect("postgres answers");
    let mut lock = sql.begin().await.expect("a transaction");
    // Reads go on, the projection waits.
    lock.execute("LOCK TABLE orders IN EXCLUSIVE MODE").await.expect("a lock");
    let body = json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"});
    let first = server.order(&ann, "1", &body).await;
    assert_eq!(first.0, 201);
    let path = format!("/drops/{drop}");
    server.call(Method::POST, &format!("{path}/end"), Some(&maker), None).await;
    server.kill();
    // Postgres would notice only after the waiting statement that its client is gone.
    let killed = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                  WHERE application_name = 'livedrop' AND datname = current_database()";
    lock.execute(killed).await.expect("the dead server's sessions end");
    server.restart();
    for path in [&path, "/drops", "/users/me/orders"] {
        problem(server.get(path, Some(&ann)).await, 503, "database_unavailable");
    }
    problem(server.order(&ann, "1", &body).await, 503, "database_unavailable");
    lock.rollback().await.expect("the lock is gone");
    server.until("caught up", async || server.get(&path, None).await.0 == 200).await;
    assert_eq!(server.get(&path, None).await.1["status"], "ended");
    assert_eq!(server.order(&ann, "1", &body).await, first);
}

/// A server that was killed while Postgres executed its commit. Postgres continues: the test decides when the commit
/// ends.
struct LateCommit {
    url: String,
    server: Server,
    drop: String,
    ann: Account,
    answers: Vec<(StatusCode, Value)>,
    /// Holds the lock that the commit waits for.
    holding: PgConnection,
}

const AT_COMMIT: &str = "
    CREATE FUNCTION wait_at_commit() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON watermarks DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION wait_at_commit();
    SELECT pg_advisory_lock(1)";

impl LateCommit {
    async fn new() -> Self {
        let url = crate::postgres::fresh_database().await;
        let mut server = Server::with(Some(url.clone()), &[]).await;
        let (_, drop) = server.live_drop(10, json!({"hold_seconds": 600})).await;
        let ann = server.account("ann").await;
        let mut holding = PgConnection::connect(&url).await.expect("postgres answers");
        let mut answers = vec![server.order(&ann, "0", &Self::body(&drop)).await];
        server.until("projected", async || projector_lag(&server).await == 0).await;
        holding.execute(AT_COMMIT).await.expect("a trigger");
        answers.push(server.order(&ann, "1", &Self::body(&drop)).await);
        waits_for(&url, "locktype = 'advisory'").await;
        server.kill();
        Self { url, server, drop, ann, answers, holding }
    }

    fn body(drop: &str) -> Value {
        json!({"drop_id": drop, "quantity": 1, "payment_method": "pm_sandbox_ok"})
    }

    /// Releases the commit once a session waits for such a lock.
    fn ends_once_waits(mut holding: PgConnection, url: String, lock: &'static str) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            waits_for(&url, lock).await;
            holding.execute("SELECT pg_advisory_unlock(1)").await.expect("the commit ends");
        })
    }
}

async fn projector_lag(server: &Server) -> u64 {
    server.readiness().await.1["checks"]["projector"]["lag_records"].as_u64().expect("a number")
}

/// Waits until a session waits for a lock with this property.
async fn waits_for(url: &str, lock: &str) {
    let mut sql = PgConnection::connect(url).await.expect("postgres answers");
    let waiting = "pg_locks JOIN pg_stat_activity USING (pid) WHERE datname = current_database() AND NOT granted";
    let count = format!("SELECT count(*) FROM {waiting} AND {lock}");
    let deadline = tokio::time::Instant::now() + SOON;
    while sqlx::query_scalar::<_, i64>(AssertSqlSafe(count.as_str())).fetch_one(&mut sql).await.expect("a count") == 0 {
        assert!(tokio::time::Instant::now() < deadline, "nobody waits for a lock: {lock}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Rows read earlier would be folded with records that the commit already contains.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_the_commit_that_a_killed_server_left_behind() {
    let LateCommit { url, mut server, drop, ann, answers, holding } = LateCommit::new().await;
    // The killed server has the watermark's row locked until its transaction ends.
    let ends = LateCommit::ends_once_waits(holding, url, "locktype = 'transactionid'");
    server.restart();
    ends.await.expect("the commit ends");
    assert_eq!(server.stock(&drop).await, (8, 0, 2));
    for (n, first) in answers.iter().enumerate() {
        assert_eq!(server.order(&ann, &n.to_string(), &LateCommit::body(&drop)).await, *first);
    }
    assert_eq!(server.order(&ann, "2", &LateCommit::body(&drop)).await.0, 201);
    assert_eq!(server.terminate(), Some(0));
    let (code, report) = server.verify();
    assert_eq!((code, &report["unprojected_records"]), (Some(0), &json!(0)), "{report}");
}

/// Only consistent rows can be compared with the journal at one watermark.
#[tokio::test(flavor = "multi_thread")]
async fn an_audit_begins_again_where_a_commit_ends_in_its_middle() {
    let LateCommit { url, server, holding, .. } = LateCommit::new().await;
    // Reads of orders wait behind this lock from now on, and this lock waits for the commit.
    let between = tokio::spawn({
        let url = url.clone();
        async move {
            let mut sql = PgConnection::connect(&url).await.expect("postgres answers");
            let mut lock = sql.begin().await.expect("a transaction");
            lock.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").await.expect("a lock");
        }
    });
    waits_for(&url, "mode = 'AccessExclusiveLock'").await;
    let ends = LateCommit::ends_once_waits(holding, url, "mode = 'AccessShareLock'");
    let (code, report) = server.verify();
    ends.await.expect("the commit ends");
    between.await.expect("the lock is gone");
    assert_eq!((code, &report["unprojected_records"]), (Some(0), &json!(0)), "{report}");
}
