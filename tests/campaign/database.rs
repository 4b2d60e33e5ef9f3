//! Postgres crashes and restarts while orders flow.

use crate::crowd::{Counts, Crowd, Sale, becomes_ready, ends_clean};
use crate::postgres::PrivatePostgres;
use crate::progress::{Progress, counted};
use crate::server::{SOON, Server};
use crate::{Outcome, Row, Scale, kills};
use sqlx::{Connection, Executor, PgConnection};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// The journal's tail in memory, with some slack of the allocator.
const TAIL_KIB_MAX: u64 = 32 << 10;
/// Memory of one key in a drop, its order and its index entries, with the allocator's slack.
const KEY_KIB_MAX: u64 = 2;

pub fn rows() -> Vec<Row> {
    vec![
        Row::new("Postgres killed in the middle of a batch", |scale: Scale| killed(scale.of(50, 500))),
        Row::new("Postgres down for the whole drop and beyond", |scale: Scale| outage(scale.of(10, 600))),
        Row::new("killed while Postgres is down, started without it", |scale: Scale| without(scale.of(10, 100))),
    ]
}

async fn killed(kills: u64) -> Outcome {
    let postgres = PrivatePostgres::new();
    let url = postgres.fresh_database().await;
    let postgres = Arc::new(Mutex::new(postgres));
    let (mut server, mut crowd) = kills::crowded(Some(url.clone())).await;
    let (mut counts, mut within) = (Counts::default(), 0);
    let mut done = 0;
    let mut progress = Progress::of(kills);
    while done < kills {
        progress.at(done);
        let mut sale = crowd.open(&server, 100_000).await;
        let stop = AtomicBool::new(false);
        let ten = async {
            for n in done..kills.min(done + 10) {
                // Every other time while a transaction is certainly running: it waits for the test's lock.
                within += u64::from(n % 2 == 0 && wait_for_a_batch(&url).await);
                apart(&postgres, PrivatePostgres::stop).await;
                tokio::time::sleep(Duration::from_millis(20 + n % 5 * 30)).await;
                apart(&postgres, PrivatePostgres::start).await;
                takes_rows_again(&url).await;
            }
            stop.store(true, Ordering::Relaxed);
        };
        tokio::join!(sale.rush(&crowd, &server, &stop), ten);
        counts += sale.audit(&crowd, &server).await;
        becomes_ready(&server).await;
        crowd.renew(&server).await;
        done += 10;
    }
    ends_clean(&mut server);
    let said = format!(
        "{within} of them with a batch certainly under way; {} orders flowed on; the rows are what the journal says, record by \
         record, watermark at its end",
        counts.keys
    );
    Outcome::of(format!("{kills} kills"), said)
}

/// Postgres goes away under a crowd, then the server is killed. It starts without Postgres and sells on.
async fn without(kills: u64) -> Outcome {
    let postgres = PrivatePostgres::new();
    let url = postgres.fresh_database().await;
    let postgres = Arc::new(Mutex::new(postgres));
    let (mut server, mut crowd) = kills::crowded(Some(url)).await;
    let (mut counts, mut sold_out) = (Counts::default(), 0);
    for n in counted(kills) {
        // Enough for what is sold before and after the start, in most runs.
        let mut sale = crowd.open(&server, 800).await;
        let prepared =
            async || ["claim", "revocations", "checkpoint/manifest"].iter().all(|file| server.data.join(file).exists());
        server.until("a start could do without", prepared).await;
        let killer = async {
            tokio::time::sleep(Duration::from_millis(40 + (n * 379) % 460)).await;
            apart(&postgres, PrivatePostgres::stop).await;
            tokio::time::sleep(Duration::from_millis((n * 131) % 200)).await;
            server.signal("KILL");
        };
        tokio::join!(sale.rush_until_gone(&crowd, &server), killer);
        server.kill();
        server.restart();
        let (_, told) = server.readiness().await;
        assert_eq!(told["checks"]["database"]["status"], "unavailable", "{told}");
        counts += sale.audit(&crowd, &server).await;
        sale.rush_for(&crowd, &server, 150).await;
        assert_eq!(sale.told("database_unavailable"), 0, "orders do not need it");
        apart(&postgres, PrivatePostgres::start).await;
        becomes_ready(&server).await;
        counts += sale.audit(&crowd, &server).await;
        sold_out += u64::from(sale.told("sold_out") > 0);
        crowd.renew(&server).await;
    }
    ends_clean(&mut server);
    let Counts { acknowledged, keys, .. } = counts;
    let said = format!(
        "{acknowledged} acknowledged answers of {keys} keys all given again to the letter, without Postgres and with it, none twice, stock \
         exact ({sold_out} sold out); verify clean"
    );
    Outcome::of(format!("{kills} kills"), said)
}

/// Runs a blocking function on another thread: the crowd goes on meanwhile.
async fn apart(postgres: &Arc<Mutex<PrivatePostgres>>, what: fn(&mut PrivatePostgres)) {
    let postgres = Arc::clone(postgres);
    let done = tokio::task::spawn_blocking(move || what(&mut postgres.lock().expect("nobody panicked")));
    done.await.expect("postgres does as it is told");
}

/// Blocks the projector's transaction in its middle, and returns once it is blocked. Its connection dies with the
/// server.
async fn wait_for_a_batch(url: &str) -> bool {
    let mut ours = PgConnection::connect(url).await.expect("postgres answers");
    ours.execute("BEGIN; LOCK TABLE orders IN SHARE MODE").await.expect("a lock");
    let deadline = Instant::now() + SOON;
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut ours).await.expect("a count") == 0 {
        assert!(Instant::now() < deadline, "the projector writes nothing");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Dropping the connection would release the batch.
    std::mem::forget(ours);
    true
}

/// Waits until the projector has reconnected and moved on.
async fn takes_rows_again(url: &str) {
    let deadline = Instant::now() + SOON;
    let mut sql = PgConnection::connect(url).await.expect("postgres answers");
    let mut watermark = async || {
        let query = "SELECT max(sequence) FROM watermarks";
        sqlx::query_scalar::<_, Option<i64>>(query).fetch_one(&mut sql).await.expect("a watermark")
    };
    let before = watermark().await;
    while watermark().await == before {
        assert!(Instant::now() < deadline, "the projector does not come back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn outage(seconds: u64) -> Outcome {
    let mut postgres = PrivatePostgres::new();
    let (mut server, crowd) = kills::crowded(Some(postgres.fresh_database().await)).await;
    // One-time allocations of the process are not measured here.
    sell(&crowd, &server, 2).await;
    let mut sale = crowd.open(&server, 10_000_000).await;
    postgres.stop();
    let (before, journal_before) = (server.resident_kib(), journal_kib(&server));
    rushes(&mut sale, &crowd, &server, seconds).await;
    let (status, told) = server.readiness().await;
    assert_eq!((status, &told["status"]), (200, &"degraded".into()), "{told}");
    assert_eq!((sale.told("database_unavailable"), sale.cut()), (0, 0), "orders do not need it");
    let (_, stock) = server.get(&format!("/drops/{}/stock", sale.drop), None).await;
    assert!(stock["sold"].as_u64() > Some(0), "{stock}");
    let end = server.call(reqwest::Method::POST, &format!("/drops/{}/end", sale.drop), Some(&crowd.maker), None).await;
    assert_eq!(end.0, 200, "the drop ends without it: {}", end.1);
    let keys = sale.asked() as u64;
    let (grown, bound) = (server.resident_kib().saturating_sub(before), TAIL_KIB_MAX + keys * KEY_KIB_MAX);
    assert!(grown < bound, "{grown} KiB more for {keys} keys");
    let journal = journal_kib(&server) - journal_before;
    postgres.start();
    let since = Instant::now();
    becomes_ready(&server).await;
    let took = since.elapsed();
    ends_clean(&mut server);
    let said = format!(
        "{keys} keys answered meanwhile, drop ended, /readyz degraded, then ready {:.1} s after it was back; {} MiB of journal \
         files, resident memory +{:.1} MiB (bound: 32 MiB of tail and 2 KiB a key); verify clean",
        took.as_secs_f64(),
        journal >> 10,
        grown as f64 / 1024.0
    );
    Outcome::of(format!("{seconds} s"), said)
}

/// Orders for this many seconds. A long time has a rush every five seconds: still more journal than fits into the tail
/// in memory, and no more answers than this process can remember.
async fn rushes(sale: &mut Sale, crowd: &Crowd, server: &Server, seconds: u64) {
    if seconds <= 60 {
        return sale.rush_for(crowd, server, seconds * 1_000).await;
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        sale.rush_for(crowd, server, 500).await;
        tokio::time::sleep(Duration::from_millis(4_500)).await;
    }
}

async fn sell(crowd: &Crowd, server: &Server, seconds: u64) {
    let mut sale = crowd.open(server, 100_000).await;
    sale.rush_for(crowd, server, seconds * 1_000).await;
}

/// KiB of frames in the journal's files: their size on disk is reserved ahead.
fn journal_kib(server: &Server) -> u64 {
    let files = std::fs::read_dir(server.data.join("journal")).expect("the journal");
    let segments =
        files.map(|file| file.expect("a file").path()).filter(|path| path.extension().is_some_and(|e| e == "seg"));
    segments
        .map(|path| {
            let bytes = std::fs::read(path).expect("a segment");
            bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1) >> 10
        })
        .sum()
}
