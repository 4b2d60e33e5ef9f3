//! A full disk, and a failing one.

use crate::crowd::{Crowd, becomes_ready, ends_clean, verified};
use crate::kills::{CLIENTS, crowded, room};
use crate::progress::counted;
use crate::server::{SOON, Server, Setup};
use crate::{Outcome, Row, Scale};
use futures_util::future::join_all;
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection, SqliteConnection};
use std::{
    any::Any,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const DISK_MIB: u64 = 192;
/// The record of one [`Crowd::ballast`] drop has at least this many bytes.
const BALLAST_BYTES: usize = 30_000;

pub fn rows() -> Vec<Row> {
    vec![
        Row::new("disk full, the database elsewhere (Postgres)", async |scale: Scale| {
            full(Some(crate::postgres::fresh_database().await), scale.of(10, 100)).await
        }),
        Row::new("disk full, the database on it (SQLite)", |scale: Scale| full(None, scale.of(10, 100))),
    ]
}

pub fn failing_rows() -> Vec<Row> {
    vec![Row::new("a sync fails while serving", |scale: Scale| failing(scale.of(20, 200)))]
}

/// A small file system in memory; unmounted on drop.
struct SmallDisk {
    place: TempDir,
    ballast: PathBuf,
}

impl SmallDisk {
    fn mount() -> Result<Self, String> {
        let place = TempDir::new().expect("a temporary folder");
        let size = format!("size={DISK_MIB}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(place.path()).output();
        match mount {
            Ok(done) if done.status.success() => Ok(Self { ballast: place.path().join("ballast"), place }),
            Ok(done) => Err(String::from_utf8_lossy(&done.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Fills the disk to the last byte.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(&self.ballast).expect("a file");
        for step in [1 << 20, 4096] {
            while file.write_all(&vec![1; step]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(&self.ballast).expect("the ballast goes");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: after a failed assertion a server may still have files open.
        let _ = Command::new("umount").arg("-l").arg(self.place.path()).status();
    }
}

async fn full(database_url: Option<String>, cycles: u64) -> Outcome {
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(why) => return Outcome::of("0 cycles", format!("not possible here: cannot mount a tmpfs: {why}")),
    };
    // Checkpoints hold segments, and let go of them at a time of their own: this disk is to stay full.
    let extra = ["--journal-segment-mib", "8", "--checkpoint-seconds", "0"].map(str::to_owned).to_vec();
    let data = disk.place.path().join("data");
    let mut server = Server::set_up(Setup {
        database_url: database_url.clone(),
        extra,
        data: Some(data.clone()),
        quiet: true,
        ..Setup::default()
    });
    let crowd = Crowd::gather(&server, CLIENTS).await;
    for cycle in counted(cycles) {
        one_cycle(&disk, &server, &crowd, &data, database_url.as_deref())
            .await
            .unwrap_or_else(|why| panic!("cycle {cycle}: {why}\n{}", server.log()));
    }
    ends_clean(&mut server);
    let said = "reservations 503 disk_full, payments of holds, reads and /readyz (degraded) go on; with space they are taken \
                again; verify clean";
    Outcome::of(format!("{cycles} cycles, tmpfs of {DISK_MIB} MiB"), said)
}

async fn one_cycle(
    disk: &SmallDisk,
    server: &Server,
    crowd: &Crowd,
    data: &Path,
    database: Option<&str>,
) -> Result<(), String> {
    let mut sale = crowd.open(server, 100_000).await;
    sale.rush_for(crowd, server, 30).await;
    let buyer = &crowd.buyers[0];
    let body = json!({"drop_id": sale.drop, "quantity": 1});
    let (status, hold) = server.order(buyer, &format!("hold-{}", sale.drop), &body).await;
    assert_eq!(status, 201, "{hold}");
    reserved(data).await;
    let held = hold_up_the_projector(database, data).await;
    disk.fill();
    // The journal continues in its reserved segment, and finds no space to reserve another one.
    let ballast = load(server, crowd, room(&active_segment(data)) / BALLAST_BYTES + 10).await;
    let deadline = Instant::now() + SOON;
    while server.readiness().await.1["checks"]["journal"]["status"] != "degraded" {
        if Instant::now() > deadline {
            return Err("the journal does not find the disk full".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (status, told) = server.order(buyer, &format!("full-{}", sale.drop), &body).await;
    if (status.as_u16(), told["code"].as_str()) != (503, Some("disk_full")) {
        return Err(format!("a reservation: {status} {told}"));
    }
    let path = format!("/orders/{}", hold["id"].as_str().expect("an id"));
    let (status, paid) =
        server.post(&format!("{path}/pay"), Some(buyer), json!({"payment_method": "pm_sandbox_ok"})).await;
    if status != 200 {
        return Err(format!("a payment: {status} {paid}"));
    }
    let (status, read) = server.get(&path, Some(buyer)).await;
    if (status.as_u16(), &read["status"]) != (200, &json!("confirmed")) {
        return Err(format!("a read: {status} {read}"));
    }
    server.stock(&sale.drop).await;
    let (status, _) = server.readiness().await;
    assert_eq!(status, 200, "a degraded server takes traffic");
    drop(held);
    // Gives a database on the same disk time to notice it.
    tokio::time::sleep(Duration::from_millis(300)).await;
    disk.make_room();
    becomes_ready(server).await;
    let (status, told) = server.order(buyer, &format!("full-{}", sale.drop), &body).await;
    if status != 201 {
        return Err(format!("with space again: {status} {told}"));
    }
    clear(server, crowd, &sale.drop, ballast).await;
    Ok(())
}

/// A projector that keeps up releases a segment for each new one: then the disk never fills up. This one is blocked
/// until the returned guard is dropped.
async fn hold_up_the_projector(postgres: Option<&str>, data: &Path) -> Box<dyn Any> {
    if let Some(url) = postgres {
        let mut ours = PgConnection::connect(url).await.expect("postgres answers");
        ours.execute("BEGIN; LOCK TABLE watermarks IN ACCESS EXCLUSIVE MODE").await.expect("a lock");
        return Box::new(ours);
    }
    let url = format!("sqlite://{}", data.join("livedrop.db").display());
    let mut ours = SqliteConnection::connect(&url).await.expect("a database");
    ours.execute("PRAGMA busy_timeout = 5000; BEGIN IMMEDIATE").await.expect("a lock");
    Box::new(ours)
}

/// Schedules drops that fill the journal, all at once: while the projector is blocked, each takes its time.
async fn load(server: &Server, crowd: &Crowd, count: usize) -> Vec<String> {
    let made = join_all((0..count).map(|_| crowd.ballast(server))).await;
    made.into_iter().map(|drop| drop.expect("drops are no reservations: they go on")).collect()
}

fn active_segment(data: &Path) -> PathBuf {
    let files = fs::read_dir(data.join("journal")).expect("the journal").map(|file| file.expect("a file").path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).max().expect("a segment")
}

/// Waits until the next segment is prepared.
async fn reserved(data: &Path) {
    let deadline = Instant::now() + SOON;
    let prepared = || {
        let files = fs::read_dir(data.join("journal")).expect("the journal");
        let ready = |path: PathBuf| {
            path.to_string_lossy().ends_with(".seg.tmp") && fs::metadata(path).is_ok_and(|file| file.len() == 8 << 20)
        };
        files.filter_map(Result::ok).any(|file| ready(file.path()))
    };
    while !prepared() {
        assert!(Instant::now() < deadline, "no segment is prepared");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The file has its size before all its zeros are written.
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// Ends the drops of this cycle, so that they leave memory.
async fn clear(server: &Server, crowd: &Crowd, drop: &str, ballast: Vec<String>) {
    let drops: Vec<&str> = ballast.iter().map(String::as_str).chain([drop]).collect();
    for some in drops.chunks(32) {
        join_all(some.iter().map(async |drop| {
            let (status, told) = server.post(&format!("/drops/{drop}/cancel"), Some(&crowd.maker), json!({})).await;
            assert_eq!(status, 200, "{told}");
        }))
        .await;
    }
}

/// A device error in the middle of a rush: waiting requests are answered, the process ends, a restart serves.
async fn failing(runs: u64) -> Outcome {
    let (mut server, mut crowd) = crowded(None).await;
    let (mut unknown, mut cut, mut slowest) = (0, 0, Duration::ZERO);
    for run in counted(runs) {
        let mut sale = crowd.open(&server, 100_000).await;
        server.arm(&format!("journal.before_sync=error@{}", 1 + run * 3));
        let started = Instant::now();
        sale.rush_until_gone(&crowd, &server).await;
        let status = server.ended();
        assert_eq!(status.code(), Some(1), "{status}: {}", server.log());
        slowest = slowest.max(started.elapsed());
        assert!(sale.told("outcome_unknown") + sale.cut() > 0, "somebody waited:\n{}", server.log());
        unknown += sale.told("outcome_unknown");
        // See "A failed sync, precisely" in docs/RELIABILITY.md.
        assert_eq!(sale.cut_while("outcome_unknown"), 0, "they had begun to ask and heard nothing:\n{}", server.log());
        cut += sale.cut();
        server.disarm();
        server.restart();
        sale.audit(&crowd, &server).await;
        crowd.renew(&server).await;
    }
    assert_eq!(server.terminate(), Some(0));
    verified(&server);
    let said = format!(
        "{unknown} waiting callers told outcome_unknown; none of those who had begun to ask by then was cut, {cut} that came later were; exit 1 within {:.1} s of the first request; a \
         restart serves, all answers given again, verify clean",
        slowest.as_secs_f64()
    );
    Outcome::of(format!("{runs} failures"), said)
}
