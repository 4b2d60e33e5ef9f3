//! A creator with millions of followers, on Postgres: pages of followers at any depth, follow and unfollow, the count.
//!
//! `cargo bench --bench followers` fills a throw-away Postgres with 10 million followers (pass another count as an
//! argument), which takes some minutes and 4 GB of disk; `cargo test` runs it once on a small crowd. Each call is one
//! call of the store, timed by the caller.

use futures_util::future::join_all;
use hdrhistogram::Histogram;
use livedrop::domain::{CreatorId, Timestamp, UserId};
use livedrop::storage::{self, Store};
use postgres::PrivatePostgres;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use support::{START_MS, measuring};
use uuid::Uuid;

#[path = "../tests/support/packages.rs"]
mod packages;
#[path = "../tests/support/postgres.rs"]
mod postgres;
mod support;

/// The longest page, plus the row that shows whether more follow.
const PAGE: u32 = 101;
/// Further creators that the first users follow, so that the table holds more than one creator.
const OTHERS: i64 = 50;
const SAMPLE: i64 = 10_000;

fn main() {
    let asked = std::env::args().skip(1).find_map(|argument| argument.parse::<i64>().ok());
    let (followers, calls) = if measuring() { (asked.unwrap_or(10_000_000), 20_000) } else { (20_000, 200) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(bench(followers, calls));
}

async fn bench(followers: i64, calls: usize) {
    let server = PrivatePostgres::new();
    let url = server.fresh_database().await;
    let store = storage::connect(&url).await.expect("a store");
    store.migrate().await.expect("a schema");
    let mut sql = PgConnection::connect(&url).await.expect("postgres answers");
    let began = Instant::now();
    let star = fill(&mut sql, followers).await;
    println!("{followers} followers filled in {:.0} s", began.elapsed().as_secs_f64());
    println!("{}", plan(&mut sql, star).await);
    let crowd = Arc::new(Crowd { star, sample: sample(&mut sql, star).await, store });
    println!("| call | callers | calls/s | p50 ms | p99 ms | max ms |\n|---|---|---|---|---|---|");
    for callers in [1, 16] {
        for call in [Call::Page, Call::Follows, Call::Count, Call::UnfollowAndFollow] {
            println!("{}", measure(&crowd, call, callers, calls).await);
        }
    }
    let stayed = crowd.store.creator(star).await.expect("an answer").expect("the star").follower_count;
    assert_eq!(stayed, followers, "whoever left came back");
}

struct Crowd {
    star: CreatorId,
    /// Followers at every depth of the list.
    sample: Vec<UserId>,
    store: Arc<dyn Store>,
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Page,
    Follows,
    Count,
    UnfollowAndFollow,
}

impl Crowd {
    async fn call(&self, call: Call, n: usize) {
        let (store, star, fan) = (&self.store, self.star, self.sample[n % self.sample.len()]);
        match call {
            Call::Page => {
                let page = store.followers(star, Some(fan), PAGE).await.expect("a page");
                assert!(page.iter().all(|next| *next > fan));
            }
            Call::Follows => assert!(store.follows(fan, star).await.expect("an answer")),
            Call::Count => assert!(store.creator(star).await.expect("an answer").is_some()),
            Call::UnfollowAndFollow => {
                assert!(store.unfollow(fan, star).await.expect("an answer"));
                assert!(store.follow(fan, star, Timestamp::from_millis(START_MS)).await.expect("an answer"));
            }
        }
    }
}

/// A row of the table: `calls` calls by `callers` callers, each with its next call after its last answer.
async fn measure(crowd: &Arc<Crowd>, call: Call, callers: usize, calls: usize) -> String {
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let callers_of = (0..callers).map(|_| {
        let (crowd, next) = (Arc::clone(crowd), Arc::clone(&next));
        tokio::spawn(async move {
            let mut micros = Histogram::<u64>::new(3).expect("a histogram");
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= calls {
                    return micros;
                }
                let asked = Instant::now();
                crowd.call(call, n).await;
                micros.record(asked.elapsed().as_micros() as u64).expect("a duration");
            }
        })
    });
    let mut micros = Histogram::<u64>::new(3).expect("a histogram");
    for of_one in join_all(callers_of).await {
        micros.add(of_one.expect("nobody panics")).expect("the same precision");
    }
    let per_second = calls as f64 / began.elapsed().as_secs_f64();
    let ms = |micros: u64| micros as f64 / 1_000.0;
    let (p50, p99, max) = (micros.value_at_quantile(0.5), micros.value_at_quantile(0.99), micros.max());
    format!("| {call:?} | {callers} | {per_second:.0} | {:.2} | {:.2} | {:.2} |", ms(p50), ms(p99), ms(max))
}

/// Users with random ids (the worst order for an index), and a creator whom all of them follow.
async fn fill(sql: &mut PgConnection, followers: i64) -> CreatorId {
    let script = format!(
        "SET session_replication_role = replica;
         INSERT INTO users (id, email, display_name, password_hash, role, created_at)
         SELECT md5('user' || n)::uuid, 'user' || n || '@example.com', 'Someone', '', 'user', {START_MS}
         FROM generate_series(1, {followers} + {OTHERS} + 1) AS n;
         INSERT INTO creators (id, handle, display_name, bio, follower_count, created_at)
         SELECT md5('user' || n)::uuid, 'creator' || n, 'Someone', '', CASE n WHEN {followers} + 1 THEN {followers} ELSE 0 END, {START_MS}
         FROM generate_series({followers} + 1, {followers} + 1 + {OTHERS}) AS n;
         INSERT INTO follows (creator_id, user_id, created_at, listed)
         SELECT md5('user' || {followers} + 1)::uuid, md5('user' || n)::uuid, {START_MS}, 1 FROM generate_series(1, {followers}) AS n;
         INSERT INTO follows (creator_id, user_id, created_at)
         SELECT md5('user' || {followers} + 1 + other)::uuid, md5('user' || n)::uuid, {START_MS}
         FROM generate_series(1, {OTHERS}) AS other, generate_series(1, {followers} / 100) AS n;
         SET session_replication_role = DEFAULT;"
    );
    sql.execute(AssertSqlSafe(script)).await.expect("rows");
    sql.execute("VACUUM ANALYZE follows; ").await.expect("statistics");
    let star = format!("SELECT md5('user' || {followers} + 1)::uuid");
    let row = sql.fetch_one(AssertSqlSafe(star)).await.expect("a row");
    CreatorId(row.get::<Uuid, _>(0))
}

async fn sample(sql: &mut PgConnection, star: CreatorId) -> Vec<UserId> {
    let some = "SELECT user_id FROM follows WHERE creator_id = $1 ORDER BY md5(user_id::text) LIMIT $2";
    let rows = sqlx::query(some).bind(star.0).bind(SAMPLE).fetch_all(sql).await.expect("rows");
    rows.iter().map(|row| UserId(row.get::<Uuid, _>(0))).collect()
}

/// Postgres' plan for a page. Fails unless it uses one partition's index alone.
async fn plan(sql: &mut PgConnection, star: CreatorId) -> String {
    let page = format!(
        "EXPLAIN SELECT user_id FROM follows WHERE creator_id = '{}' AND user_id > '80000000-0000-0000-0000-000000000000'
         AND listed = 1 ORDER BY user_id LIMIT {PAGE}",
        star.0
    );
    let rows = sql.fetch_all(AssertSqlSafe(page)).await.expect("a plan");
    let plan: Vec<String> = rows.iter().map(|row| row.get::<String, _>(0)).collect();
    let scans: Vec<&String> = plan.iter().filter(|line| line.contains("Scan")).collect();
    assert!(scans.len() == 1 && scans[0].contains("Index Only Scan"), "{plan:#?}");
    assert!(!plan.iter().any(|line| line.contains("Sort")), "{plan:#?}");
    plan.join("\n")
}
